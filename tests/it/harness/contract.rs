//! The contract as reflection tells it, so that a new RPC or field is in a test by itself.

use std::sync::LazyLock;

use heist::pb;
use prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, Value};

use super::wire::Method;

static CONTRACT: LazyLock<DescriptorPool> =
    LazyLock::new(|| DescriptorPool::decode(pb::FILE_DESCRIPTOR_SET).expect("our descriptors"));

/// What a method asks for.
pub fn request_of(method: &Method) -> MessageDescriptor {
    let (service, name) = (method.path.trim_start_matches('/').split_once('/')).expect("a path");
    let service = CONTRACT.get_service_by_name(service).expect("a service");
    let method = service.methods().find(|it| it.name() == name);
    method.expect("a method").input()
}

/// A request with this id in every field for one.
pub fn with_all_ids(method: &Method, id: i32) -> Vec<u8> {
    let descriptor = request_of(method);
    let mut request = DynamicMessage::new(descriptor.clone());
    for field in descriptor.fields().filter(|it| it.name().ends_with("_id")) {
        // Some ids are not numbers.
        let _ = request.try_set_field(&field, Value::I32(id));
    }
    request.encode_to_vec()
}
