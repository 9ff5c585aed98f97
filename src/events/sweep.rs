//! Finds notifications whose signal was lost.

use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use super::Events;
use crate::store::{PgPool, notifications};

/// The interval of the sweep, and so the longest delay of a notification whose signal was lost.
const SWEEP_INTERVAL: Duration = Duration::from_secs(3);

/// Every 3 s, looks with one statement for new notifications of all players with an open stream,
/// and wakes their streams.
pub(super) async fn run(events: Events, pool: PgPool) {
    let mut ticks = interval(SWEEP_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = events.stopped.cancelled() => return,
        }
        let known = events.wakers.known();
        if known.is_empty() {
            continue;
        }
        match notifications::newer(&pool, &known).await {
            Ok(newer) => {
                for (user_id, newest) in newer {
                    events.wakers.wake_up_to(user_id, newest);
                }
            }
            Err(error) => tracing::warn!(%error, "could not look for missed notifications"),
        }
    }
}
