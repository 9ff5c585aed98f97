//! The limit of e-mails per minute.

use std::time::Duration;

/// Capacity of the token bucket, as time: after an idle period this much of the rate may be used at
/// once.
const BURST: Duration = Duration::from_secs(1);

/// The maximum number of e-mails per minute, for all replicas together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    per_minute: u32,
}

impl Rate {
    /// # Panics
    ///
    /// If the number is 0.
    #[must_use]
    pub fn per_minute(per_minute: u32) -> Self {
        assert!(per_minute > 0, "a rate of 0 would never allow an e-mail");
        Self { per_minute }
    }

    /// The time that this number of e-mails takes at this rate.
    pub(super) fn cost(self, mails: usize) -> Duration {
        let mails = u32::try_from(mails).unwrap_or(u32::MAX);
        Duration::from_mins(1).saturating_mul(mails) / self.per_minute
    }

    /// The number of e-mails that may be sent now, when those sent so far are `ahead` of the rate.
    pub(super) fn allowance(self, ahead: Duration) -> usize {
        let one = self.cost(1);
        let left = BURST.max(one).saturating_sub(ahead);
        // Compensates rounding of nanoseconds, which would reduce the result by one.
        let left = left + Duration::from_micros(1);
        usize::try_from(left.as_nanos() / one.as_nanos().max(1)).unwrap_or(usize::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_second_of_the_rate_may_be_used_at_once() {
        let rate = Rate::per_minute(600);
        assert_eq!(rate.allowance(Duration::ZERO), 10);
        assert_eq!(rate.allowance(rate.cost(3)), 7);
        assert_eq!(rate.allowance(rate.cost(10)), 0);
        assert_eq!(rate.allowance(rate.cost(600)), 0);
    }

    #[test]
    fn a_slow_rate_allows_one_at_a_time() {
        let rate = Rate::per_minute(1);
        assert_eq!(rate.allowance(Duration::ZERO), 1);
        assert_eq!(rate.allowance(Duration::from_secs(1)), 0);
        assert_eq!(rate.cost(2), Duration::from_mins(2));
    }
}
