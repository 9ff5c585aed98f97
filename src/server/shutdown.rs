//! The order in which the parts of a server stop.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

use super::assembly::Server;
use crate::rpc::Traffic;

/// The time limit, after all calls have been answered, for sending the answers and the last
/// messages of streams. A stream whose reader does not read would never end.
const DRAIN_TIME: Duration = Duration::from_secs(2);
/// The interval between checks whether all calls have been answered.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// The time limit for orders that remain when all calls have been answered. Their callers were told
/// that the outcome is unknown, and PostgreSQL decides the outcome without the server.
const SETTLE_TIME: Duration = Duration::from_secs(2);
/// The time limit for signalling the last changes to the other replicas. If it is exceeded, for
/// example because the database is unavailable, the other replicas resynchronise by themselves.
const SIGNAL_TIME: Duration = Duration::from_secs(2);
/// The time limit for closing the connections to the database. A connection whose peer is gone
/// would not close before the grace period ends.
const CLOSE_TIME: Duration = Duration::from_secs(1);

impl Server {
    /// Reports the server as not ready and continues to serve for `delay`, so that load balancers
    /// notice and send new calls elsewhere.
    pub async fn withdraw(&mut self, delay: Duration) {
        self.health.withdraw().await;
        sleep(delay).await;
    }

    /// Stops the server, in this order:
    /// - reports the server as not ready, ends streams, and accepts no more connections and calls;
    /// - waits for calls in progress;
    /// - waits for the orders in the engine, signals the last changes to the other replicas, and
    ///   waits for the e-mails in progress;
    /// - closes the connections to the database.
    ///
    /// It takes `grace` at most, which is `HEIST_SHUTDOWN_GRACE`. Work that is unfinished then is abandoned.
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

/// Resolves when no call has been in progress for [`DRAIN_TIME`]. This includes calls that arrive
/// after the server began to stop. Open streams do not count.
async fn calls_drained(traffic: &Traffic) {
    let mut idle_since = Instant::now();
    while idle_since.elapsed() < DRAIN_TIME {
        sleep(LOOK_INTERVAL).await;
        if !traffic.is_idle() {
            idle_since = Instant::now();
        }
    }
}
