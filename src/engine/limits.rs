//! How much the engine takes on, and when a further batch pays.

use std::time::Duration;

/// A further batch starts beside a running one only when so many orders may run. Each transaction
/// costs PostgreSQL about as much as sixteen orders in it: with fewer, it is cheaper to let them
/// join the batch after the running one.
const WORTH_A_BATCH: usize = 16;
/// A batch that runs for longer does not count as running here: it waits for something, and the next
/// one may take as long.
pub(super) const USUAL_DURATION: Duration = Duration::from_millis(50);
/// Batches that wait for a row beside those that run.
const MAX_LINES: usize = 2;

/// How much one queue takes on.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Orders that wait at the most; one more is refused as overload.
    pub queue: usize,
    /// Orders in one transaction at the most.
    pub batch: usize,
    /// Batches that run at the same time at the most.
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

/// The batches of one queue that run.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Running {
    /// All of them, but for those that wait for a row.
    pub(super) batches: usize,
    /// Of these, the ones that have not run for longer than is usual.
    pub(super) young: usize,
    /// Of these, the ones that wait for a connection, and will take orders when they have it.
    pub(super) starting: usize,
    /// Batches that wait for a row.
    pub(super) lines: usize,
}

impl Limits {
    /// Whether a further batch is to be started now, for `ready` orders that may run.
    ///
    /// An idle engine starts at once, so a lone caller never waits. Under load, batches get larger
    /// instead of more numerous. A batch that has not taken its orders yet takes these as well.
    pub(super) fn allow_batch(self, running: Running, ready: usize) -> bool {
        ready > 0
            && running.batches < self.workers
            && (running.young == 0
                || running.starting == 0 && ready >= WORTH_A_BATCH.min(self.batch))
    }

    /// Whether a batch that waits for a row may be started now.
    pub(super) fn allow_line(running: Running) -> bool {
        running.lines < MAX_LINES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn running(batches: usize, young: usize, starting: usize) -> Running {
        Running {
            batches,
            young,
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
    fn a_batch_that_hangs_holds_nobody_up() {
        assert!(Limits::default().allow_batch(running(1, 0, 0), 1));
        assert!(Limits::default().allow_batch(running(3, 0, 1), 1));
    }
}
