//! How much may be sent.

use std::time::Duration;

/// Unused rate is kept for this long, so that a quiet minute does not make a busy one wait.
const BURST: Duration = Duration::from_secs(1);

/// Mails in a minute at the most, of all replicas together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    per_minute: u32,
}

impl Rate {
    /// # Panics
    ///
    /// Where it is 0.
    #[must_use]
    pub fn per_minute(per_minute: u32) -> Self {
        assert!(per_minute > 0, "nothing could ever be sent");
        Self { per_minute }
    }

    /// How long so many mails take at this rate.
    pub(super) fn cost(self, mails: usize) -> Duration {
        let mails = u32::try_from(mails).unwrap_or(u32::MAX);
        Duration::from_mins(1).saturating_mul(mails) / self.per_minute
    }

    /// How many may be sent at once where those sent so far are so far ahead of the rate.
    pub(super) fn allowance(self, ahead: Duration) -> usize {
        let one = self.cost(1);
        let left = BURST.max(one).saturating_sub(ahead);
        // Whole ones: nanoseconds that are lost in rounding must not make it one less.
        let left = left + Duration::from_micros(1);
        usize::try_from(left.as_nanos() / one.as_nanos().max(1)).unwrap_or(usize::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_may_be_used_up_at_once() {
        let rate = Rate::per_minute(600);
        assert_eq!(rate.allowance(Duration::ZERO), 10);
        assert_eq!(rate.allowance(rate.cost(3)), 7);
        assert_eq!(rate.allowance(rate.cost(10)), 0);
        assert_eq!(rate.allowance(rate.cost(600)), 0);
    }

    #[test]
    fn a_slow_rate_still_sends_one_at_a_time() {
        let rate = Rate::per_minute(1);
        assert_eq!(rate.allowance(Duration::ZERO), 1);
        assert_eq!(rate.allowance(Duration::from_secs(1)), 0);
        assert_eq!(rate.cost(2), Duration::from_mins(2));
    }
}
