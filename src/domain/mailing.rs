//! When notifications are sent by e-mail.

use std::{sync::Arc, time::Duration};

use time::{OffsetDateTime, Time, UtcOffset};

const DAY: Duration = Duration::from_hours(24);

/// Digests start this long after the window opens, so that transactions that began before the
/// opening have committed and their notifications are in the same digest.
const SETTLING: Duration = Duration::from_mins(1);

/// How notifications are sent by e-mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mailing {
    /// One e-mail per notification, immediately after the commit.
    Immediate,
    /// One e-mail a day per player, within this window, with all notifications from before it.
    Digest(Window),
}

/// Returns the mode at this moment. `None`: e-mail is switched off.
pub type MailingNow = Arc<dyn Fn() -> Option<Mailing> + Send + Sync>;

/// A daily period in UTC, from 15 minutes to less than 24 hours long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    opens: Time,
    length: Duration,
}

impl Mailing {
    /// When the e-mail of a notification that is written `now` is due.
    #[must_use]
    pub fn first_attempt(self, now: OffsetDateTime) -> OffsetDateTime {
        match self {
            Self::Immediate => now,
            Self::Digest(window) => window.last_opening(now) + DAY,
        }
    }

    /// Whether e-mails may be sent `now`.
    #[must_use]
    pub fn is_open(self, now: OffsetDateTime) -> bool {
        match self {
            Self::Immediate => true,
            Self::Digest(window) => {
                let open_for = now - window.last_opening(now);
                open_for >= SETTLING && open_for < window.length
            }
        }
    }

    /// How long after its due time an e-mail is retried: 24 hours, or for a digest until the next
    /// day's window closes.
    #[must_use]
    pub fn patience(self) -> Duration {
        match self {
            Self::Immediate => DAY,
            Self::Digest(window) => DAY + window.length,
        }
    }
}

impl Window {
    const SHORTEST: Duration = Duration::from_mins(15);

    /// `None` if the period is shorter than 15 minutes. It may include midnight.
    #[must_use]
    pub fn new(opens: Time, closes: Time) -> Option<Self> {
        // A negative difference means that the window closes on the next day.
        let difference = closes - opens;
        let length = if difference.is_negative() {
            DAY.checked_sub(difference.unsigned_abs())?
        } else {
            difference.unsigned_abs()
        };
        (length >= Self::SHORTEST).then_some(Self { opens, length })
    }

    /// The most recent opening, at or before `now`.
    fn last_opening(self, now: OffsetDateTime) -> OffsetDateTime {
        let now = now.to_offset(UtcOffset::UTC);
        let today = now.replace_time(self.opens);
        if today <= now { today } else { today - DAY }
    }
}

#[cfg(test)]
mod tests {
    use time::macros::{datetime, time};

    use super::*;

    fn daily(opens: Time, closes: Time) -> Mailing {
        Mailing::Digest(Window::new(opens, closes).unwrap())
    }

    #[test]
    fn immediate_means_now_and_retries_for_a_day() {
        let now = datetime!(2026-11-23 17:59:59 UTC);
        assert_eq!(Mailing::Immediate.first_attempt(now), now);
        assert!(Mailing::Immediate.is_open(now));
        assert_eq!(Mailing::Immediate.patience(), Duration::from_hours(24));
    }

    #[test]
    fn notifications_from_before_the_opening_are_due_today_and_later_ones_tomorrow() {
        let mailing = daily(time!(18:00), time!(20:00));
        let today = datetime!(2026-11-23 18:00 UTC);
        let tomorrow = datetime!(2026-11-24 18:00 UTC);
        for (now, expected) in [
            (datetime!(2026-11-23 00:00 UTC), today),
            (datetime!(2026-11-23 17:59:59.999 UTC), today),
            (datetime!(2026-11-23 18:00 UTC), tomorrow),
            (datetime!(2026-11-23 19:00 UTC), tomorrow),
            (datetime!(2026-11-23 23:59 UTC), tomorrow),
            (datetime!(2026-11-23 18:59 +01:00), today),
            (datetime!(2026-11-23 19:00 +01:00), tomorrow),
        ] {
            assert_eq!(mailing.first_attempt(now), expected, "{now}");
        }
    }

    #[test]
    fn digests_are_sent_within_the_window_except_its_first_minute() {
        let mailing = daily(time!(18:00), time!(20:00));
        for (now, expected) in [
            (datetime!(2026-11-23 17:59 UTC), false),
            (datetime!(2026-11-23 18:00:59 UTC), false),
            (datetime!(2026-11-23 18:01 UTC), true),
            (datetime!(2026-11-23 19:59:59 UTC), true),
            (datetime!(2026-11-23 20:00 UTC), false),
        ] {
            assert_eq!(mailing.is_open(now), expected, "{now}");
        }
        assert_eq!(mailing.patience(), Duration::from_hours(26));
    }

    #[test]
    fn a_window_may_include_midnight() {
        let mailing = daily(time!(23:00), time!(01:00));
        let opening = datetime!(2026-11-23 23:00 UTC);
        assert_eq!(
            mailing.first_attempt(datetime!(2026-11-23 12:00 UTC)),
            opening
        );
        assert_eq!(
            mailing.first_attempt(datetime!(2026-11-24 00:30 UTC)),
            opening + DAY
        );
        assert!(mailing.is_open(datetime!(2026-11-24 00:59 UTC)));
        assert!(!mailing.is_open(datetime!(2026-11-24 01:00 UTC)));
        assert_eq!(mailing.patience(), Duration::from_hours(26));
    }

    #[test]
    fn a_window_lasts_at_least_15_minutes() {
        assert_eq!(Window::new(time!(18:00), time!(18:14)), None);
        assert_eq!(Window::new(time!(18:00), time!(18:00)), None);
        assert!(Window::new(time!(18:00), time!(18:15)).is_some());
        assert!(Window::new(time!(18:00), time!(17:59)).is_some());
    }
}
