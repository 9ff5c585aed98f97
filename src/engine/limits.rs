//! The limits of a queue, and the rule for when a further batch starts.

use std::time::Duration;

/// The number of orders for which a further batch starts beside a running one. A transaction costs
/// PostgreSQL about as much as sixteen orders in it, so fewer orders are cheaper in the batch after
/// the running one.
const MIN_ORDERS_FOR_FURTHER_BATCH: usize = 16;
/// A batch that has run for longer does not delay the start of a further one: it waits for
/// something, and may do so for long.
pub(super) const USUAL_DURATION: Duration = Duration::from_millis(50);
/// The limit of batches that wait for a player's row. They do not count as workers.
const MAX_LINES: usize = 2;

/// The limits of one queue.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The limit of unanswered orders, waiting or running. A further order fails with
    /// `OVERLOADED`.
    pub queue: usize,
    /// The limit of orders in one transaction.
    pub batch: usize,
    /// The limit of batches that run at the same time.
    pub workers: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            queue: 4096,
            batch: 128,
            workers: 4,
        }
    }
}

/// The numbers of running batches of one queue.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Running {
    /// All batches, except the ones that wait for a row.
    pub(super) batches: usize,
    /// Of these, the batches that have run for less than [`USUAL_DURATION`].
    pub(super) recent: usize,
    /// Of the recent batches, the ones that have no transaction yet. They take orders when they have
    /// one.
    pub(super) starting: usize,
    /// The batches that wait for a row.
    pub(super) lines: usize,
}

impl Limits {
    /// Whether a further batch should start now. `ready` is the number of orders that may run.
    ///
    /// An idle engine starts at once, so a lone caller never waits. Under load, batches get larger
    /// instead of more numerous. A batch that is starting will take the waiting orders, so no
    /// further batch starts beside it.
    pub(super) fn allow_batch(self, running: Running, ready: usize) -> bool {
        ready > 0
            && running.batches < self.workers
            && (running.recent == 0
                || running.starting == 0 && ready >= MIN_ORDERS_FOR_FURTHER_BATCH.min(self.batch))
    }

    /// Whether a batch that waits for a row may be started now.
    pub(super) fn allow_line(running: Running) -> bool {
        running.lines < MAX_LINES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn running(batches: usize, recent: usize, starting: usize) -> Running {
        Running {
            batches,
            recent,
            starting,
            lines: 0,
        }
    }

    #[test]
    fn an_idle_engine_starts_at_once() {
        assert!(Limits::default().allow_batch(running(0, 0, 0), 1));
        assert!(!Limits::default().allow_batch(running(0, 0, 0), 0));
    }

    #[test]
    fn a_further_batch_starts_for_sixteen_orders() {
        let limits = Limits::default();
        assert!(!limits.allow_batch(running(1, 1, 0), 15));
        assert!(limits.allow_batch(running(1, 1, 0), 16));
        assert!(
            !limits.allow_batch(running(4, 4, 0), 4000),
            "no worker is free"
        );
    }

    #[test]
    fn where_a_batch_holds_fewer_orders_a_full_one_is_enough() {
        let limits = Limits {
            batch: 2,
            ..Limits::default()
        };
        assert!(!limits.allow_batch(running(1, 1, 0), 1));
        assert!(limits.allow_batch(running(1, 1, 0), 2));
    }

    #[test]
    fn orders_wait_for_a_batch_that_is_starting() {
        assert!(!Limits::default().allow_batch(running(1, 1, 1), 100));
    }

    #[test]
    fn a_batch_that_hangs_delays_no_other_batch() {
        assert!(Limits::default().allow_batch(running(1, 0, 0), 1));
        assert!(Limits::default().allow_batch(running(3, 0, 1), 1));
    }
}
