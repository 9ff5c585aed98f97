//! What became of an attempt at sending a mail.

use std::time::Duration;

use crate::store::emails::{ClaimedMail, Settlement};

/// The pause before the second attempt is about this, and doubles from there.
const FIRST_DELAY: Duration = Duration::from_secs(30);
const LONGEST_DELAY: Duration = Duration::from_hours(1);

/// Reasons are for operators: they name codes and fields, and never an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The provider took it.
    Sent,
    /// It surely did not leave, and may do so later.
    NotSent {
        reason: String,
        trouble: Option<Trouble>,
    },
    /// It did not leave, and never will.
    Refused { reason: String },
    /// It may have left: nobody can tell.
    Unknown {
        reason: String,
        trouble: Option<Trouble>,
    },
    /// There is nowhere to send it to.
    NoAddress,
    /// It was not begun: the server stops, or stood still since the claim.
    Released,
}

/// The provider does not work, for this mail or any other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Trouble {
    /// How long it is left alone.
    pub(super) pause: Duration,
}

impl Trouble {
    /// It cannot be reached, or does not answer in time.
    pub(super) const AWAY: Self = Self {
        pause: Duration::from_secs(15),
    };
    /// It does not accept us: somebody has to change a setting.
    pub(super) const CLOSED: Self = Self {
        pause: Duration::from_mins(5),
    };
}

impl Outcome {
    /// Nothing left because the provider could not be reached.
    pub(super) fn unreachable(why: impl std::fmt::Display) -> Self {
        Self::NotSent {
            reason: format!("the provider cannot be reached: {why}"),
            trouble: Some(Trouble::AWAY),
        }
    }

    /// Nothing left because the provider does not accept us.
    pub(super) fn closed(why: impl std::fmt::Display) -> Self {
        Self::NotSent {
            reason: format!("the provider does not accept us, check the settings: {why}"),
            trouble: Some(Trouble::CLOSED),
        }
    }

    /// Everything may have left, and there was no answer to tell.
    pub(super) fn no_answer(why: impl std::fmt::Display) -> Self {
        Self::Unknown {
            reason: format!("no answer after it was sent: {why}"),
            trouble: Some(Trouble::AWAY),
        }
    }

    /// How it is written down. `luck`, from 0 to 1, keeps mails that failed together from
    /// coming back together.
    pub(super) fn settlement(&self, mail: &ClaimedMail, luck: f64) -> Settlement<'_> {
        match self {
            Self::Sent => Settlement::Sent,
            Self::NotSent { reason, trouble } => {
                let pause = trouble.map_or(Duration::ZERO, |trouble| trouble.pause);
                let after = delay_after(mail.attempts, luck).max(pause);
                Settlement::Again { after, reason }
            }
            Self::Refused { reason } => Settlement::Failed { reason },
            Self::Unknown { reason, .. } => Settlement::Unknown { reason },
            Self::NoAddress => Settlement::Skipped,
            Self::Released => Settlement::Again {
                after: Duration::ZERO,
                reason: "it was claimed, and not begun",
            },
        }
    }

    pub(super) fn trouble(&self) -> Option<Trouble> {
        match self {
            Self::NotSent { trouble, .. } | Self::Unknown { trouble, .. } => *trouble,
            _ => None,
        }
    }

    pub(super) fn reason(&self) -> Option<&str> {
        match self {
            Self::NotSent { reason, .. }
            | Self::Refused { reason }
            | Self::Unknown { reason, .. } => Some(reason),
            Self::Sent | Self::NoAddress | Self::Released => None,
        }
    }
}

fn delay_after(attempts: u32, luck: f64) -> Duration {
    let doublings = attempts.saturating_sub(1).min(16);
    let delay = (FIRST_DELAY.saturating_mul(1 << doublings)).min(LONGEST_DELAY);
    delay.mul_f64(0.5 + luck)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_to_an_hour_and_are_spread() {
        let seconds = |attempts, luck| delay_after(attempts, luck).as_secs();
        assert_eq!([1, 2, 3, 4].map(|it| seconds(it, 0.5)), [30, 60, 120, 240]);
        assert_eq!([8, 9, u32::MAX].map(|it| seconds(it, 0.5)), [3600; 3]);
        assert_eq!((seconds(1, 0.0), seconds(1, 1.0)), (15, 45));
    }
}
