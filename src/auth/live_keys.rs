//! The keys that verify bearer tokens, in their newest version.

use std::sync::Arc;

use super::{keys::KeySet, provider::ProviderKeys};
use crate::watched::Watched;

/// The keys of a file, or of an identity provider.
pub(super) enum Keys {
    File(Watched<KeySet>),
    Provider(ProviderKeys),
}

impl Keys {
    pub(super) fn newest(&self) -> Arc<KeySet> {
        match self {
            Self::File(keys) => keys.newest(),
            Self::Provider(keys) => keys.newest(),
        }
    }
}
