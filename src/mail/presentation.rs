//! What all e-mails have in common.

use lettre::message::Mailbox;
use url::Url;

use super::Unsubscribe;

/// The sender and the links of all e-mails.
#[derive(Clone, Debug)]
pub struct Presentation {
    pub from: Mailbox,
    /// Base URL of the application, to which link paths are appended. `None`: e-mails have no
    /// links.
    pub link_base: Option<Url>,
    pub unsubscribe: Option<Unsubscribe>,
}
