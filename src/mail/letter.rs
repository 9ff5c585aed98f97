//! What a mail says: the facts of notifications, in plain text and in HTML.

use askama::Template;
use lettre::Address;
use time::OffsetDateTime;

use super::{
    Presentation,
    unsubscribe::{Unsubscribe, WayOut},
};
use crate::{
    domain::notification::{Details, Notification},
    store::emails::ClaimedMail,
};

/// More are counted, and not told one by one.
const MOST_TOLD: usize = 50;

/// A mail to one player, ready to be sent.
#[derive(Clone, Debug)]
pub(super) struct Letter {
    pub(super) to: Address,
    pub(super) subject: String,
    pub(super) text: String,
    pub(super) html: String,
    /// `player/notification`, by which operators know it.
    pub(super) reference: String,
    way_out: Option<WayOut>,
}

#[derive(Template)]
#[template(path = "mail.txt", escape = "none")]
struct Text<'a>(&'a Content);

#[derive(Template)]
#[template(path = "mail.html")]
struct Html<'a>(&'a Content);

/// What both forms of a mail tell.
struct Content {
    heading: String,
    greeting: String,
    /// Newest first.
    items: Vec<Item>,
    /// What else happened, and is not told.
    untold: usize,
    link: Option<String>,
    way_out: Option<String>,
}

struct Item {
    title: &'static str,
    message: String,
    /// What follows from it.
    consequence: String,
    time: String,
    /// For whom it is good news.
    good: bool,
}

impl Letter {
    pub(super) fn compose(
        mail: &ClaimedMail,
        to: Address,
        presentation: &Presentation,
    ) -> Result<Self, askama::Error> {
        let way_out = (presentation.unsubscribe.as_ref())
            .map(|unsubscribe: &Unsubscribe| unsubscribe.of(mail.user_id));
        let heading = heading(&mail.notifications);
        let newest_first = mail.notifications.iter().rev();
        let content = Content {
            greeting: format!("Hi {},", on_one_line(&mail.user_name)),
            items: newest_first.take(MOST_TOLD).map(Item::new).collect(),
            untold: mail.notifications.len().saturating_sub(MOST_TOLD),
            link: link(mail, presentation),
            way_out: way_out.as_ref().map(|it| it.url.clone()),
            heading,
        };
        Ok(Self {
            to,
            text: Text(&content).render()?,
            html: Html(&content).render()?,
            subject: content.heading,
            reference: reference(mail),
            way_out,
        })
    }

    /// Those that a library does not know how to write.
    pub(super) fn headers(&self) -> Vec<(&'static str, String)> {
        // No answers from programs that are away: RFC 3834.
        let mut headers = vec![("Auto-Submitted", "auto-generated".to_owned())];
        if let Some(way_out) = &self.way_out {
            headers.push(("List-Unsubscribe", format!("<{}>", way_out.url)));
            if way_out.one_click {
                let one_click = "List-Unsubscribe=One-Click".to_owned();
                headers.push(("List-Unsubscribe-Post", one_click));
            }
        }
        headers
    }
}

/// How operators know a mail: `player/notification`, the first that it tells of.
pub(super) fn reference(mail: &ClaimedMail) -> String {
    format!("{}/{}", mail.user_id, mail.first_id())
}

impl Item {
    fn new(notification: &Notification) -> Self {
        let details = &notification.details;
        Self {
            title: details.title(),
            message: on_one_line(&details.message()),
            consequence: consequence(details),
            time: for_people(notification.created_at),
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
                Some(end) => format!("{points} Nobody can rob you until {}.", for_people(*end)),
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

fn link(mail: &ClaimedMail, presentation: &Presentation) -> Option<String> {
    let base = presentation.link_base.as_ref()?.as_str();
    let base = base.trim_end_matches('/');
    Some(match mail.notifications.as_slice() {
        [only] => format!("{base}/notifications/{}", only.id.get()),
        _ => format!("{base}/notifications"),
    })
}

/// Names are the players' own: none may begin a line of ours.
fn on_one_line(text: &str) -> String {
    let spaces = text.replace(
        |it: char| it.is_control() || "\u{2028}\u{2029}".contains(it),
        " ",
    );
    spaces.trim().to_owned()
}

/// A time as people read it, to the minute, in UTC.
fn for_people(time: OffsetDateTime) -> String {
    format!(
        "{} {} {}, {:02}:{:02} UTC",
        time.day(),
        time.month(),
        time.year(),
        time.hour(),
        time.minute()
    )
}
