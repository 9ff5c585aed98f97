//! When notifications are sent by e-mail.

use std::{sync::Arc, time::Duration};

use time::{OffsetDateTime, Time, UtcOffset};

const DAY: Duration = Duration::from_hours(24);

/// After a window has opened it takes this long until it is used: what was decided before it
/// opened is in the books by then, and goes out with the same mail.
const SETTLING: Duration = Duration::from_mins(1);

/// How players are mailed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mailing {
    /// A mail for each notification, as soon as it is there.
    Immediate,
    /// One mail a day for each player, within this window, with all that happened before it.
    Daily(Window),
}

/// Tells how players are mailed at this moment; `None`: they are not.
pub type MailingNow = Arc<dyn Fn() -> Option<Mailing> + Send + Sync>;

/// A time of day in UTC, and how long it lasts: from a quarter of an hour to less than a day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    opens: Time,
    length: Duration,
}

impl Mailing {
    /// When a notification of `now` is to be sent.
    #[must_use]
    pub fn first_attempt(self, now: OffsetDateTime) -> OffsetDateTime {
        match self {
            Self::Immediate => now,
            Self::Daily(window) => window.last_opening(now) + DAY,
        }
    }

    /// Whether mail may be sent now.
    #[must_use]
    pub fn is_open(self, now: OffsetDateTime) -> bool {
        match self {
            Self::Immediate => true,
            Self::Daily(window) => {
                let open_for = now - window.last_opening(now);
                open_for >= SETTLING && open_for < window.length
            }
        }
    }

    /// How long after the time of the first attempt it is tried again: a day, and where there is
    /// a window, until the next day's closes.
    #[must_use]
    pub fn patience(self) -> Duration {
        match self {
            Self::Immediate => DAY,
            Self::Daily(window) => DAY + window.length,
        }
    }
}

impl Window {
    const SHORTEST: Duration = Duration::from_mins(15);

    /// `None` where it is shorter than a quarter of an hour. It may last over midnight.
    #[must_use]
    pub fn new(opens: Time, closes: Time) -> Option<Self> {
        // The difference of two times of day, and where it is negative, on the next day.
        let difference = closes - opens;
        let length = if difference.is_negative() {
            DAY.checked_sub(difference.unsigned_abs())?
        } else {
            difference.unsigned_abs()
        };
        (length >= Self::SHORTEST).then_some(Self { opens, length })
    }

    /// When it opened last, now at the latest.
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
        Mailing::Daily(Window::new(opens, closes).unwrap())
    }

    #[test]
    fn immediately_means_now_and_for_a_day() {
        let now = datetime!(2026-11-23 17:59:59 UTC);
        assert_eq!(Mailing::Immediate.first_attempt(now), now);
        assert!(Mailing::Immediate.is_open(now));
        assert_eq!(Mailing::Immediate.patience(), Duration::from_hours(24));
    }

    #[test]
    fn what_happens_before_the_window_opens_goes_out_today_and_the_rest_tomorrow() {
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
    fn mail_is_sent_within_the_window_alone_and_not_in_its_first_minute() {
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
    fn a_window_may_last_over_midnight() {
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
    fn a_window_lasts_a_quarter_of_an_hour_at_least() {
        assert_eq!(Window::new(time!(18:00), time!(18:14)), None);
        assert_eq!(Window::new(time!(18:00), time!(18:00)), None);
        assert!(Window::new(time!(18:00), time!(18:15)).is_some());
        assert!(Window::new(time!(18:00), time!(17:59)).is_some());
    }
}
