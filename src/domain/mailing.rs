//! When notifications are sent by e-mail.

use std::{sync::Arc, time::Duration};

use time::{OffsetDateTime, Time, UtcOffset, macros::time};

const DAY: Duration = Duration::from_hours(24);

/// Digests start this long after the window opens, so that transactions that began before the
/// opening have committed and their notifications are in the same digest.
const SETTLING: Duration = Duration::from_mins(1);

/// How notifications are sent by e-mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mailing {
    /// The mode for players without a preference.
    pub default_mode: EmailMode,
    /// The period in which digests are sent.
    pub window: Window,
}

/// How the notifications of one player are grouped into e-mails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EmailMode {
    /// One e-mail per notification, immediately after the commit.
    Immediate,
    /// One e-mail a day with all notifications from before the window opened.
    Digest,
}

/// A player's choice. A player without a choice has the service's default mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EmailPreference {
    Immediate,
    Digest,
    Never,
}

/// Returns the settings at this moment. `None`: e-mail is switched off.
pub type MailingNow = Arc<dyn Fn() -> Option<Mailing> + Send + Sync>;

/// A daily period in UTC, from 15 minutes to less than 24 hours long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    opens: Time,
    length: Duration,
}

/// The digest of a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digest {
    /// The most recent opening of the window. Notifications from before it are in the digest.
    pub opened_at: OffsetDateTime,
    /// The time at which digests are first sent after that opening.
    pub starts_at: OffsetDateTime,
    /// Whether digests may be sent at the moment.
    pub is_open: bool,
    /// The next time that digests start.
    pub next_start: OffsetDateTime,
}

/// The facts about a due e-mail that decide whether it is sent now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    pub mode: EmailMode,
    pub due_at: OffsetDateTime,
    /// Whether an attempt to send it was made.
    pub attempted: bool,
}

impl Mailing {
    /// One e-mail per notification, for players without a preference.
    #[must_use]
    pub fn immediate() -> Self {
        Self {
            default_mode: EmailMode::Immediate,
            window: Window::DEFAULT,
        }
    }

    /// One e-mail a day within the window, for players without a preference.
    #[must_use]
    pub fn digest(window: Window) -> Self {
        Self {
            default_mode: EmailMode::Digest,
            window,
        }
    }

    /// The mode of a player with this preference. `None`: the player receives no e-mail.
    #[must_use]
    pub fn mode_of(self, preference: Option<EmailPreference>) -> Option<EmailMode> {
        match preference {
            None => Some(self.default_mode),
            Some(EmailPreference::Immediate) => Some(EmailMode::Immediate),
            Some(EmailPreference::Digest) => Some(EmailMode::Digest),
            Some(EmailPreference::Never) => None,
        }
    }

    /// The time after its due time for which an e-mail is retried: 24 hours, or for a digest until
    /// the next day's window closes.
    #[must_use]
    pub fn retry_for(self, mode: EmailMode) -> Duration {
        match mode {
            EmailMode::Immediate => DAY,
            EmailMode::Digest => DAY + self.window.length,
        }
    }
}

impl Digest {
    /// The time to which a due e-mail is deferred. `None`: it may be sent now.
    ///
    /// A digest contains the notifications that were written before the window opened, deferred to
    /// this digest, or attempted before. Later notifications wait for the next digest. Otherwise
    /// the player would get a second digest on the same day.
    #[must_use]
    pub fn deferral(self, email: Due) -> Option<OffsetDateTime> {
        let is_in_digest =
            email.attempted || email.due_at <= self.opened_at || email.due_at == self.starts_at;
        match email.mode {
            EmailMode::Digest if !(self.is_open && is_in_digest) => Some(self.next_start),
            _ => None,
        }
    }
}

impl Window {
    /// From 18:00 to 20:00.
    pub const DEFAULT: Self = Self {
        opens: time!(18:00),
        length: Duration::from_hours(2),
    };

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

    /// The digest at this moment.
    #[must_use]
    pub fn digest_at(self, now: OffsetDateTime) -> Digest {
        let opened_at = self.last_opening(now);
        let starts_at = opened_at + SETTLING;
        Digest {
            opened_at,
            starts_at,
            is_open: now >= starts_at && now < opened_at + self.length,
            next_start: if now < starts_at {
                starts_at
            } else {
                starts_at + DAY
            },
        }
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

    fn window(opens: Time, closes: Time) -> Window {
        Window::new(opens, closes).unwrap()
    }

    fn fresh(due_at: OffsetDateTime) -> Due {
        Due {
            mode: EmailMode::Digest,
            due_at,
            attempted: false,
        }
    }

    #[test]
    fn an_immediate_email_is_never_deferred() {
        let now = datetime!(2026-11-23 17:59:59 UTC);
        let email = Due {
            mode: EmailMode::Immediate,
            ..fresh(now)
        };
        assert_eq!(Window::DEFAULT.digest_at(now).deferral(email), None);
    }

    #[test]
    fn notifications_from_before_the_opening_are_in_todays_digest_and_later_ones_in_tomorrows() {
        let today = datetime!(2026-11-23 18:01 UTC);
        let tomorrow = datetime!(2026-11-24 18:01 UTC);
        for (written_at, now, expected) in [
            (
                datetime!(2026-11-23 00:00 UTC),
                datetime!(2026-11-23 00:00 UTC),
                Some(today),
            ),
            (
                datetime!(2026-11-23 17:59 UTC),
                datetime!(2026-11-23 18:00:30 UTC),
                Some(today),
            ),
            (
                datetime!(2026-11-23 17:59 UTC),
                datetime!(2026-11-23 18:01 UTC),
                None,
            ),
            (
                datetime!(2026-11-23 18:00 UTC),
                datetime!(2026-11-23 19:00 UTC),
                None,
            ),
            (
                datetime!(2026-11-23 18:02 UTC),
                datetime!(2026-11-23 19:00 UTC),
                Some(tomorrow),
            ),
            (
                datetime!(2026-11-23 17:59 UTC),
                datetime!(2026-11-23 20:00 UTC),
                Some(tomorrow),
            ),
            (
                datetime!(2026-11-23 18:59 +01:00),
                datetime!(2026-11-23 18:01 UTC),
                None,
            ),
            // Deferred to today's digest.
            (today, datetime!(2026-11-23 19:00 UTC), None),
        ] {
            let digest = Window::DEFAULT.digest_at(now);
            assert_eq!(
                digest.deferral(fresh(written_at)),
                expected,
                "{written_at} at {now}"
            );
        }
    }

    #[test]
    fn a_failed_digest_is_retried_within_the_window_and_then_on_the_next_day() {
        let retry = Due {
            attempted: true,
            ..fresh(datetime!(2026-11-23 18:30 UTC))
        };
        let digest_at = |now| Window::DEFAULT.digest_at(now);
        assert_eq!(
            digest_at(datetime!(2026-11-23 19:59 UTC)).deferral(retry),
            None
        );
        assert_eq!(
            digest_at(datetime!(2026-11-23 20:00 UTC)).deferral(retry),
            Some(datetime!(2026-11-24 18:01 UTC))
        );
    }

    #[test]
    fn digests_are_sent_within_the_window_except_its_first_minute() {
        for (now, expected) in [
            (datetime!(2026-11-23 17:59 UTC), false),
            (datetime!(2026-11-23 18:00:59 UTC), false),
            (datetime!(2026-11-23 18:01 UTC), true),
            (datetime!(2026-11-23 19:59:59 UTC), true),
            (datetime!(2026-11-23 20:00 UTC), false),
        ] {
            assert_eq!(Window::DEFAULT.digest_at(now).is_open, expected, "{now}");
        }
        let mailing = Mailing::digest(Window::DEFAULT);
        assert_eq!(
            mailing.retry_for(EmailMode::Digest),
            Duration::from_hours(26)
        );
        assert_eq!(mailing.retry_for(EmailMode::Immediate), DAY);
    }

    #[test]
    fn a_window_may_include_midnight() {
        let window = window(time!(23:00), time!(01:00));
        let digest = window.digest_at(datetime!(2026-11-24 00:59 UTC));
        assert!(digest.is_open);
        assert_eq!(digest.opened_at, datetime!(2026-11-23 23:00 UTC));
        assert_eq!(digest.next_start, datetime!(2026-11-24 23:01 UTC));
        assert!(!window.digest_at(datetime!(2026-11-24 01:00 UTC)).is_open);
    }

    #[test]
    fn a_window_lasts_at_least_15_minutes() {
        assert_eq!(Window::new(time!(18:00), time!(18:14)), None);
        assert_eq!(Window::new(time!(18:00), time!(18:00)), None);
        assert!(Window::new(time!(18:00), time!(18:15)).is_some());
        assert!(Window::new(time!(18:00), time!(17:59)).is_some());
        assert_eq!(window(time!(18:00), time!(20:00)), Window::DEFAULT);
    }

    #[test]
    fn a_preference_overrides_the_default_mode() {
        let mailing = Mailing::digest(Window::DEFAULT);
        for (preference, expected) in [
            (None, Some(EmailMode::Digest)),
            (Some(EmailPreference::Immediate), Some(EmailMode::Immediate)),
            (Some(EmailPreference::Digest), Some(EmailMode::Digest)),
            (Some(EmailPreference::Never), None),
        ] {
            assert_eq!(mailing.mode_of(preference), expected);
        }
    }
}
