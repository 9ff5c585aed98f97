//! The variables of the templates. `docs/email.md` describes them for operators.

use serde::Serialize;
use time::OffsetDateTime;
use url::Url;

use crate::domain::notification::{Details, Notification};

/// Maximum number of notifications that a digest lists. The others are counted.
const MAX_LISTED: usize = 50;

/// All variables.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Content {
    /// The kind of the notification, or `digest`.
    pub(super) kind: &'static str,
    pub(super) language: String,
    player: String,
    /// Newest first.
    items: Vec<Item>,
    /// Number of notifications.
    count: usize,
    /// Number of notifications beyond [`MAX_LISTED`].
    unlisted: usize,
    link: Option<String>,
    unsubscribe_url: Option<String>,
}

/// One notification.
#[derive(Clone, Debug, Serialize)]
struct Item {
    kind: &'static str,
    /// The name of the other player. `None`: the account was deleted.
    other: Option<String>,
    /// Points stolen or lost.
    points: i32,
    /// The player's points after the event, or tokens for `token_earned`.
    after: i32,
    protection_ends_at: Option<Moment>,
    created_at: Moment,
}

/// A time in UTC, to the minute.
#[derive(Clone, Copy, Debug, Serialize)]
struct Moment {
    year: i32,
    month: u8,
    day: u8,
    hour: u8,
    minute: u8,
}

/// The kind of an e-mail with several notifications.
pub(super) const DIGEST: &str = "digest";

impl Content {
    pub(super) fn new(
        language: &str,
        player: &str,
        notifications: &[Notification],
        link_base: Option<&Url>,
        unsubscribe_url: Option<&str>,
    ) -> Self {
        let kind = match notifications {
            [only] => kind(&only.details),
            _ => DIGEST,
        };
        Self {
            kind,
            language: language.to_owned(),
            player: on_one_line(player),
            items: (notifications.iter().rev().take(MAX_LISTED))
                .map(Item::new)
                .collect(),
            count: notifications.len(),
            unlisted: notifications.len().saturating_sub(MAX_LISTED),
            link: link_base.map(|base| link(base, notifications)),
            unsubscribe_url: unsubscribe_url.map(str::to_owned),
        }
    }
}

impl Item {
    fn new(notification: &Notification) -> Self {
        let (other, points, after, protection_ends_at) = match &notification.details {
            Details::HeistSuccess {
                victim_name,
                points_stolen,
                points_after,
                ..
            } => (victim_name, *points_stolen, *points_after, None),
            Details::HeistVictim {
                attacker_name,
                points_lost,
                points_after,
                protection_ends_at,
                ..
            } => (
                attacker_name,
                *points_lost,
                *points_after,
                *protection_ends_at,
            ),
            Details::TokenEarned {
                referred_name,
                balance_after,
                ..
            } => (referred_name, 0, *balance_after, None),
        };
        Self {
            kind: kind(&notification.details),
            other: other.as_deref().map(on_one_line),
            points,
            after,
            protection_ends_at: protection_ends_at.map(Moment::new),
            created_at: Moment::new(notification.created_at),
        }
    }
}

impl Moment {
    fn new(time: OffsetDateTime) -> Self {
        Self {
            year: time.year(),
            month: time.month().into(),
            day: time.day(),
            hour: time.hour(),
            minute: time.minute(),
        }
    }
}

fn kind(details: &Details) -> &'static str {
    match details {
        Details::HeistSuccess { .. } => "heist_success",
        Details::HeistVictim { .. } => "heist_victim",
        Details::TokenEarned { .. } => "token_earned",
    }
}

fn link(base: &Url, notifications: &[Notification]) -> String {
    let base = base.as_str().trim_end_matches('/');
    match notifications {
        [only] => format!("{base}/notifications/{}", only.id),
        _ => format!("{base}/notifications"),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_on_one_line_and_lose_invisible_characters() {
        for (name, expected) in [
            (" Ada ", "Ada"),
            ("Eve\r\nBcc: all@example.com", "Eve  Bcc: all@example.com"),
            ("\u{202e}nimda\u{202c}", "nimda"),
            ("A\u{200b}d\u{2066}a\u{feff}", "Ada"),
            ("Zoë Зоя 🦊", "Zoë Зоя 🦊"),
            ("\u{2028}", ""),
        ] {
            assert_eq!(on_one_line(name), expected);
        }
    }
}
