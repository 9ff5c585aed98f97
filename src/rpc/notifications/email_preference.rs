//! E-mail preferences on the wire.

use crate::{domain::mailing::EmailPreference, pb};

/// The outer `None`: the value is not one of the contract, or unspecified. The inner `None`: the
/// player has no preference.
#[expect(
    clippy::option_option,
    reason = "an invalid value and a missing preference differ"
)]
pub(super) fn from_wire(value: i32) -> Option<Option<EmailPreference>> {
    match pb::EmailPreference::try_from(value).ok()? {
        pb::EmailPreference::Unspecified => None,
        pb::EmailPreference::Default => Some(None),
        pb::EmailPreference::Immediate => Some(Some(EmailPreference::Immediate)),
        pb::EmailPreference::Digest => Some(Some(EmailPreference::Digest)),
        pb::EmailPreference::Never => Some(Some(EmailPreference::Never)),
    }
}

pub(super) fn to_wire(preference: Option<EmailPreference>) -> pb::EmailPreference {
    match preference {
        None => pb::EmailPreference::Default,
        Some(EmailPreference::Immediate) => pb::EmailPreference::Immediate,
        Some(EmailPreference::Digest) => pb::EmailPreference::Digest,
        Some(EmailPreference::Never) => pb::EmailPreference::Never,
    }
}
