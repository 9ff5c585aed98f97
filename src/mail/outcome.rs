//! The outcome of one attempt to send an e-mail.

use std::time::Duration;

use crate::store::emails::{ClaimedEmail, Settlement};

/// Base delay before the second attempt. It doubles with each further attempt.
const FIRST_DELAY: Duration = Duration::from_secs(30);
const LONGEST_DELAY: Duration = Duration::from_hours(1);

/// A `reason` is for operators. It contains status codes and field names, never an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The provider accepted the e-mail.
    Sent,
    /// The e-mail certainly did not leave. It is retried.
    NotSent {
        reason: String,
        provider_failure: Option<ProviderFailure>,
    },
    /// The provider refused the e-mail permanently.
    Refused { reason: String },
    /// The e-mail may have left. It is never retried automatically.
    Unknown {
        reason: String,
        provider_failure: Option<ProviderFailure>,
    },
    /// The player has no address.
    NoAddress,
    /// The attempt was not begun, because the server stops or was suspended after the claim.
    Released,
}

/// A failure of the provider, which concerns all e-mails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ProviderFailure {
    /// How long all replicas stop sending through the provider.
    pub(super) pause: Duration,
}

impl ProviderFailure {
    /// The provider cannot be reached, or does not answer in time.
    pub(super) const UNREACHABLE: Self = Self {
        pause: Duration::from_secs(15),
    };
    /// The provider rejects our credentials or sender: an operator has to change a setting.
    pub(super) const MISCONFIGURED: Self = Self {
        pause: Duration::from_mins(5),
    };
}

impl Outcome {
    /// The e-mail did not leave, because the provider could not be reached.
    pub(super) fn unreachable(why: impl std::fmt::Display) -> Self {
        Self::NotSent {
            reason: format!("the provider cannot be reached: {why}"),
            provider_failure: Some(ProviderFailure::UNREACHABLE),
        }
    }

    /// The e-mail did not leave, because the provider rejects our credentials or sender.
    pub(super) fn misconfigured(why: impl std::fmt::Display) -> Self {
        Self::NotSent {
            reason: format!("the provider rejects us, check the settings: {why}"),
            provider_failure: Some(ProviderFailure::MISCONFIGURED),
        }
    }

    /// The e-mail was handed over, at least in part, and no answer arrived.
    pub(super) fn no_answer(why: impl std::fmt::Display) -> Self {
        Self::Unknown {
            reason: format!("no answer after the e-mail was handed over: {why}"),
            provider_failure: Some(ProviderFailure::UNREACHABLE),
        }
    }

    /// How the outcome is recorded. `jitter`, from 0 to 1, spreads the next attempts of e-mails
    /// that failed together.
    pub(super) fn settlement(&self, email: &ClaimedEmail, jitter: f64) -> Settlement<'_> {
        match self {
            Self::Sent => Settlement::Sent,
            Self::NotSent {
                reason,
                provider_failure,
            } => {
                let pause = provider_failure.map_or(Duration::ZERO, |failure| failure.pause);
                let after = delay_after(email.attempts, jitter).max(pause);
                Settlement::Again { after, reason }
            }
            Self::Refused { reason } => Settlement::Failed { reason },
            Self::Unknown { reason, .. } => Settlement::Unknown { reason },
            Self::NoAddress => Settlement::Skipped,
            Self::Released => Settlement::Again {
                after: Duration::ZERO,
                reason: "claimed, but the attempt was not begun",
            },
        }
    }

    /// Whether the provider answered without a failure of the provider.
    pub(super) fn proves_that_the_provider_works(&self) -> bool {
        match self {
            Self::Sent | Self::Refused { .. } => true,
            Self::NotSent {
                provider_failure, ..
            } => provider_failure.is_none(),
            Self::Unknown { .. } | Self::NoAddress | Self::Released => false,
        }
    }

    pub(super) fn provider_failure(&self) -> Option<ProviderFailure> {
        match self {
            Self::NotSent {
                provider_failure, ..
            }
            | Self::Unknown {
                provider_failure, ..
            } => *provider_failure,
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

/// Exponential back-off with jitter: 30 s, 60 s, … up to an hour, each times 0.5 to 1.5.
fn delay_after(attempts: u32, jitter: f64) -> Duration {
    let doublings = attempts.saturating_sub(1).min(16);
    let delay = (FIRST_DELAY.saturating_mul(1 << doublings)).min(LONGEST_DELAY);
    delay.mul_f64(0.5 + jitter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_to_an_hour_and_are_spread() {
        let seconds = |attempts, jitter| delay_after(attempts, jitter).as_secs();
        assert_eq!([1, 2, 3, 4].map(|it| seconds(it, 0.5)), [30, 60, 120, 240]);
        assert_eq!([8, 9, u32::MAX].map(|it| seconds(it, 0.5)), [3600; 3]);
        assert_eq!((seconds(1, 0.0), seconds(1, 1.0)), (15, 45));
    }
}
