//! The order in which the parts of a server stop.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

use super::assembly::Server;
use crate::rpc::Traffic;

/// After all calls have been answered, the time in which answers leave and streams send their last
/// message. A stream whose reader does not read would never end.
const DRAIN_TIME: Duration = Duration::from_secs(2);
/// The interval of looking whether all calls have been answered.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// The time for orders that are left when all calls have been answered: their callers were told that
/// the outcome is unknown, and the database decides it without the server.
const SETTLE_TIME: Duration = Duration::from_secs(2);
/// The time for telling the other replicas of the last changes. They resynchronise by themselves when
/// it is too short, for example because the database is away.
const SIGNAL_TIME: Duration = Duration::from_secs(2);
/// The time for closing the connections to the database. A connection whose peer is gone would not
/// close before the grace period ends.
const CLOSE_TIME: Duration = Duration::from_secs(1);

impl Server {
    /// Reports the server as not ready, and goes on serving for `delay`: load balancers notice, and
    /// send new calls elsewhere.
    pub async fn withdraw(&mut self, delay: Duration) {
        self.health.withdraw().await;
        sleep(delay).await;
    }

    /// Stops in this order: reports the server as not ready, ends streams, accepts no more
    /// connections and calls, waits for calls in progress, for the orders in the engine and the
    /// e-mails in progress, and closes the database. Takes `grace` at most, after which it leaves
    /// the rest.
    pub async fn stop(mut self, grace: Duration) {
        let until = Instant::now() + grace;
        self.health.withdraw().await;
        self.events.end_streams();
        if let Some(mailer) = &self.mailer {
            mailer.stop();
        }
        let _ = self.listener.stop_accepting.send(());
        let finished = async {
            tokio::select! {
                _ = &mut self.listener.serving => {}
                () = calls_drained(&self.traffic) => {
                    tracing::info!("closing streams that are not read");
                }
            }
        };
        if timeout_at(until, finished).await.is_err() {
            tracing::warn!("closing calls that outlast the grace period");
        }
        self.listener.close_connections.cancel();
        let settled = until.min(Instant::now() + SETTLE_TIME);
        if timeout_at(settled, self.workers.finish()).await.is_err() {
            tracing::warn!("leaving orders without a caller whose outcome is unknown");
        }
        self.events.stop();
        let told = until.min(Instant::now() + SIGNAL_TIME);
        if timeout_at(told, self.event_tasks.finish()).await.is_err() {
            tracing::warn!("other replicas were not told of all changes");
        }
        if let Some(mailer) = self.mailer
            && timeout_at(until, mailer.finish()).await.is_err()
        {
            tracing::warn!("leaving e-mails whose outcome is unknown");
        }
        let until = until.min(Instant::now() + CLOSE_TIME);
        let _ = timeout_at(until, self.reads.close()).await;
        let _ = timeout_at(until, self.pool.close()).await;
    }
}

/// Resolves when no call has been in progress for [`DRAIN_TIME`], including calls that were on their
/// way when the server began to stop. Open streams do not count.
async fn calls_drained(traffic: &Traffic) {
    let mut idle_since = Instant::now();
    while idle_since.elapsed() < DRAIN_TIME {
        sleep(LOOK_INTERVAL).await;
        if !traffic.is_idle() {
            idle_since = Instant::now();
        }
    }
}
