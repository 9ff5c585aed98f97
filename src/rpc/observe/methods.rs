//! The methods of the contract, which bound what metrics and traces are labelled with.

use std::{collections::HashMap, sync::LazyLock};

use prost::Message as _;
use prost_types::FileDescriptorSet;

use crate::pb;

/// Every method of the contract, as `package.Service/Method`, by its path.
static METHODS: LazyLock<HashMap<String, String>> = LazyLock::new(|| {
    let files =
        FileDescriptorSet::decode(pb::FILE_DESCRIPTOR_SET).expect("our own descriptors are valid");
    let mut methods = HashMap::new();
    for file in &files.file {
        for service in &file.service {
            for method in &service.method {
                let name = format!("{}.{}/{}", file.package(), service.name(), method.name());
                methods.insert(format!("/{name}"), name);
            }
        }
    }
    methods
});

/// Stands for all that the contract does not have.
const OTHER: &str = "_OTHER";

/// What a call of `path` counts as; `None` for health and reflection.
pub(super) fn method_of(path: &str) -> Option<&'static str> {
    if path.starts_with("/grpc.") {
        return None;
    }
    Some(METHODS.get(path).map_or(OTHER, String::as_str))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_contract_makes_names() {
        let execute = "heist.v1.HeistService/ExecuteHeist";
        assert_eq!(method_of(&format!("/{execute}")), Some(execute));
        assert_eq!(METHODS.len(), 17);
        for made_up in ["/", "/heist.v1.HeistService/Rob", "/x/y", "", execute] {
            assert_eq!(method_of(made_up), Some(OTHER));
        }
        assert_eq!(method_of("/grpc.health.v1.Health/Check"), None);
    }
}
