//! Renders notifications as the subject, the plain text and the HTML of an e-mail.

use askama::Template;
use time::OffsetDateTime;

use super::{
    Presentation,
    address::EmailAddress,
    unsubscribe::{Unsubscribe, UnsubscribeLink},
};
use crate::{
    domain::notification::{Details, Notification},
    store::emails::ClaimedEmail,
};

/// Maximum number of notifications that a digest lists. The others are counted.
const MAX_LISTED: usize = 50;

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

#[derive(Template)]
#[template(path = "mail.txt", escape = "none")]
struct Text<'a>(&'a Content);

#[derive(Template)]
#[template(path = "mail.html")]
struct Html<'a>(&'a Content);

/// The variables of both templates.
struct Content {
    heading: String,
    greeting: String,
    /// Newest first.
    items: Vec<Item>,
    /// Number of notifications beyond [`MAX_LISTED`].
    unlisted: usize,
    link: Option<String>,
    unsubscribe_link: Option<String>,
}

struct Item {
    title: &'static str,
    message: String,
    /// The player's points or tokens after the event.
    consequence: String,
    time: String,
    /// Whether the event is good news for the player. Selects the colour.
    good: bool,
}

impl RenderedEmail {
    pub(super) fn render(
        email: &ClaimedEmail,
        to: EmailAddress,
        presentation: &Presentation,
    ) -> Result<Self, askama::Error> {
        let unsubscribe_link = (presentation.unsubscribe.as_ref())
            .map(|unsubscribe: &Unsubscribe| unsubscribe.of(email.user_id));
        let heading = heading(&email.notifications);
        let newest_first = email.notifications.iter().rev();
        let content = Content {
            greeting: format!("Hi {},", on_one_line(&email.user_name)),
            items: newest_first.take(MAX_LISTED).map(Item::new).collect(),
            unlisted: email.notifications.len().saturating_sub(MAX_LISTED),
            link: link(email, presentation),
            unsubscribe_link: unsubscribe_link.as_ref().map(|it| it.url.clone()),
            heading,
        };
        Ok(Self {
            to,
            text: Text(&content).render()?,
            html: Html(&content).render()?,
            subject: content.heading,
            reference: email.reference(),
            unsubscribe_link,
        })
    }

    /// Headers besides those that the mail library writes.
    pub(super) fn headers(&self) -> Vec<(&'static str, String)> {
        // Prevents automatic replies such as out-of-office messages (RFC 3834).
        let mut headers = vec![("Auto-Submitted", "auto-generated".to_owned())];
        if let Some(unsubscribe_link) = &self.unsubscribe_link {
            headers.push(("List-Unsubscribe", format!("<{}>", unsubscribe_link.url)));
            if unsubscribe_link.one_click {
                let one_click = "List-Unsubscribe=One-Click".to_owned();
                headers.push(("List-Unsubscribe-Post", one_click));
            }
        }
        headers
    }
}

impl Item {
    fn new(notification: &Notification) -> Self {
        let details = &notification.details;
        Self {
            title: details.title(),
            message: on_one_line(&details.message()),
            consequence: consequence(details),
            time: format_time(notification.created_at),
            good: !matches!(details, Details::HeistVictim { .. }),
        }
    }
}

fn heading(notifications: &[Notification]) -> String {
    match notifications {
        [only] => only.details.title().to_owned(),
        several => format!("{} things happened in your heists", several.len()),
    }
}

fn consequence(details: &Details) -> String {
    match details {
        Details::HeistSuccess { points_after, .. } => {
            format!("You have {} now.", counted(*points_after, "point"))
        }
        Details::HeistVictim {
            points_after,
            protection_ends_at,
            ..
        } => {
            let points = format!("You have {} left.", counted(*points_after, "point"));
            match protection_ends_at {
                Some(end) => format!("{points} You cannot be robbed until {}.", format_time(*end)),
                None => points,
            }
        }
        Details::TokenEarned { balance_after, .. } => {
            format!(
                "You have {} to spend.",
                counted(*balance_after, "heist token")
            )
        }
    }
}

fn counted(number: i32, thing: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {thing}{plural}")
}

fn link(email: &ClaimedEmail, presentation: &Presentation) -> Option<String> {
    let base = presentation.link_base.as_ref()?.as_str();
    let base = base.trim_end_matches('/');
    Some(match email.notifications.as_slice() {
        [only] => format!("{base}/notifications/{}", only.id.get()),
        _ => format!("{base}/notifications"),
    })
}

/// Replaces control characters and line breaks in a player's name by spaces, so that a name cannot
/// add lines to an e-mail, and removes invisible and direction-changing characters.
fn on_one_line(text: &str) -> String {
    let spaces = text.replace(
        |it: char| it.is_control() || "\u{2028}\u{2029}".contains(it),
        " ",
    );
    spaces.replace(is_invisible, "").trim().to_owned()
}

/// Characters without a glyph, and those that change the direction of the text around them.
fn is_invisible(character: char) -> bool {
    matches!(
        character,
        '\u{ad}'
            | '\u{34f}'
            | '\u{61c}'
            | '\u{115f}'
            | '\u{1160}'
            | '\u{17b4}'
            | '\u{17b5}'
            | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{3164}'
            | '\u{feff}'
            | '\u{ffa0}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}'
    )
}

/// Formats a time for players: to the minute, in UTC.
fn format_time(time: OffsetDateTime) -> String {
    format!(
        "{} {} {}, {:02}:{:02} UTC",
        time.day(),
        time.month(),
        time.year(),
        time.hour(),
        time.minute()
    )
}
