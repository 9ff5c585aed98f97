//! Renders notifications as the subject, the plain text and the HTML of an e-mail.

mod content;
mod format;
mod preview;
mod sample;
mod templates;

use super::{
    Presentation,
    address::EmailAddress,
    unsubscribe::{Unsubscribe, UnsubscribeLink},
};
use crate::store::emails::ClaimedEmail;

use self::content::Content;
pub(super) use self::templates::TemplateFile;
pub use self::{
    preview::{Preview, previews},
    templates::Templates,
};

/// An e-mail to one player, ready to be sent.
#[derive(Clone, Debug)]
pub(super) struct RenderedEmail {
    pub(super) to: EmailAddress,
    pub(super) subject: String,
    pub(super) text: String,
    pub(super) html: String,
    /// `player/notification`, the name of the e-mail in `heist emails` and in the provider's log.
    pub(super) reference: String,
    unsubscribe_link: Option<UnsubscribeLink>,
}

impl RenderedEmail {
    /// # Errors
    ///
    /// Names the template and the line that failed, and nothing of the e-mail.
    pub(super) fn render(
        email: &ClaimedEmail,
        to: EmailAddress,
        presentation: &Presentation,
        templates: &Templates,
    ) -> Result<Self, String> {
        let unsubscribe_link = (presentation.unsubscribe.as_ref())
            .map(|unsubscribe: &Unsubscribe| unsubscribe.of(email.user_id));
        let language = templates.language_for(email.language.as_deref());
        let link_base = presentation.link_base.as_ref();
        let unsubscribe_url = unsubscribe_link.as_ref().map(|it| it.url.as_str());
        let content = Content::new(
            language,
            &email.user_name,
            &email.notifications,
            link_base,
            unsubscribe_url,
        );
        let (subject, text, html) = templates.render(&content)?;
        Ok(Self {
            to,
            subject,
            text,
            html,
            reference: email.reference(),
            unsubscribe_link,
        })
    }

    /// Headers besides those that the mail library writes.
    pub(super) fn headers(&self) -> Vec<(&'static str, String)> {
        // Prevents automatic replies such as out-of-office messages (RFC 3834).
        let mut headers = vec![("Auto-Submitted", "auto-generated".to_owned())];
        if let Some(link) = &self.unsubscribe_link {
            headers.push(("List-Unsubscribe", format!("<{}>", link.url)));
            if link.one_click {
                let one_click = "List-Unsubscribe=One-Click".to_owned();
                headers.push(("List-Unsubscribe-Post", one_click));
            }
        }
        headers
    }
}
