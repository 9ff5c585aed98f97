//! Sample data for each kind of e-mail, to try templates out and to preview them.

use time::macros::datetime;

use super::content::Content;
use crate::domain::{
    ids::{HeistId, NotificationId, UserId},
    notification::{Details, Notification},
};

/// One content for each kind, and a digest.
pub(super) fn contents(language: &str) -> Vec<Content> {
    let all = notifications();
    let base = "https://app.example.com".parse().ok();
    let unsubscribe = Some("https://app.example.com/unsubscribe?player=1&proof=0123456789abcdef");
    let content = |notifications: &[Notification]| {
        Content::new(language, "Ada", notifications, base.as_ref(), unsubscribe)
    };
    let single = all
        .iter()
        .take(3)
        .map(|it| content(std::slice::from_ref(it)));
    single.chain([content(&all)]).collect()
}

/// A content with as few facts as possible: no links, and a deleted player.
pub(super) fn bare_content(language: &str) -> Content {
    Content::new(language, "", &notifications()[3..], None, None)
}

fn notifications() -> Vec<Notification> {
    let user_id = UserId::MIN;
    let other = UserId::MIN;
    let heist_id = HeistId::MIN;
    let details = [
        Details::HeistSuccess {
            heist_id,
            victim_id: other,
            victim_name: Some("Ben".to_owned()),
            points_stolen: 50,
            points_after: 1060,
        },
        Details::HeistVictim {
            heist_id,
            attacker_id: other,
            attacker_name: Some("Cy <b>".to_owned()),
            points_lost: 48,
            points_after: 1012,
            protection_ends_at: Some(datetime!(2026-11-25 18:05 UTC)),
        },
        Details::TokenEarned {
            referred_id: other,
            referred_name: Some("Zoë".to_owned()),
            balance_after: 1,
        },
        Details::HeistVictim {
            heist_id,
            attacker_id: other,
            attacker_name: None,
            points_lost: 1,
            points_after: 1011,
            protection_ends_at: None,
        },
    ];
    let notification = |(id, details)| Notification {
        id: NotificationId::new(id).expect("ids begin at 1"),
        user_id,
        details,
        read: false,
        created_at: datetime!(2026-11-23 18:05 UTC),
    };
    (1..).zip(details).map(notification).collect()
}
