//! The worker loop: claim e-mails that are due, send them, record the outcomes.
//!
//! One task makes all database calls, on one connection at a time, so that a long queue does not
//! take connections from callers. Each e-mail is sent in its own task. The worker claims only as
//! many e-mails as it can send at once, so that a replica that is killed leaves at most
//! [`MAX_IN_FLIGHT`] e-mails with an unknown outcome.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::Notify,
    task::{JoinError, JoinSet},
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{Options, Templates, attempt::Attempt, claim, outcome::ProviderFailure};
use crate::{
    domain::mailing::{Mailing, MailingNow},
    store::{
        ObservedExt as _, PgConnection, PgPool, StoreError,
        emails::{self, ClaimedEmail, Settlement},
        pool,
    },
    telemetry::metrics::METRICS,
    watched::Watched,
};

/// Maximum number of e-mails that this replica sends concurrently.
pub(super) const MAX_IN_FLIGHT: usize = 8;
/// Interval between polls of the queue. Polling finds e-mails that other replicas queued, and
/// retries that became due.
const POLL_INTERVAL: Duration = Duration::from_secs(2);
/// Minimum time between two polls. Under load, wake-ups arrive continuously.
const MIN_POLL_INTERVAL: Duration = Duration::from_millis(100);
/// Interval between scans for expired claims.
const EXPIRY_INTERVAL: Duration = Duration::from_secs(10);
/// Interval between counts of the queue for the metrics. It matches the usual scrape interval.
const COUNT_INTERVAL: Duration = Duration::from_secs(15);
/// Time limit of all database calls between two waits. A connection that exceeds it is discarded.
const DATABASE_TIMEOUT: Duration = Duration::from_secs(15);

pub(super) struct Worker {
    pool: PgPool,
    options: Arc<Options>,
    templates: Watched<Templates>,
    now: MailingNow,
    wake: Arc<Notify>,
    stopping: CancellationToken,
    in_flight: JoinSet<Attempt>,
    /// Attempts that ended and whose outcomes are not recorded yet.
    unrecorded: Vec<Attempt>,
    /// `true` while the provider's last known answer was a failure of the provider.
    provider_fails: bool,
    last_poll: Instant,
    next_poll: Instant,
    next_expiry: Instant,
    next_count: Instant,
}

impl Worker {
    pub(super) fn new(
        pool: PgPool,
        (options, templates): (Options, Watched<Templates>),
        now: MailingNow,
        wake: Arc<Notify>,
        stopping: CancellationToken,
    ) -> Self {
        Self {
            pool,
            options: Arc::new(options),
            templates,
            now,
            wake,
            stopping,
            in_flight: JoinSet::new(),
            unrecorded: Vec::new(),
            provider_fails: false,
            last_poll: Instant::now(),
            next_poll: Instant::now(),
            next_expiry: Instant::now(),
            next_count: Instant::now(),
        }
    }

    /// Runs until the server stops and the outcomes of all attempts are recorded.
    pub(super) async fn run(mut self) {
        while !self.is_finished() {
            self.wait().await;
            if let Err(error) = self.work_in_time().await {
                tracing::warn!(event = "EMAILS_WAIT", %error, "the e-mail worker waits for the database");
                self.next_poll = Instant::now() + POLL_INTERVAL;
                self.next_count = Instant::now() + COUNT_INTERVAL;
            }
        }
    }

    fn is_finished(&self) -> bool {
        self.stopping.is_cancelled() && self.in_flight.is_empty() && self.unrecorded.is_empty()
    }

    /// Waits for the next event. This makes no database calls.
    async fn wait(&mut self) {
        let stopping = self.stopping.clone();
        let running = !stopping.is_cancelled();
        let may_claim =
            running && self.in_flight.len() < MAX_IN_FLIGHT && self.unrecorded.is_empty();
        tokio::select! {
            Some(ended) = self.in_flight.join_next() => self.collect(ended),
            () = self.wake.notified(), if may_claim => {
                self.next_poll = self.next_poll.min(self.last_poll + MIN_POLL_INTERVAL);
            }
            () = sleep_until(self.next_poll), if may_claim || !self.unrecorded.is_empty() => {}
            // The queue is counted even while hanging attempts occupy all places.
            () = sleep_until(self.next_count), if running => {}
            () = stopping.cancelled(), if running => {}
        }
        while let Some(ended) = self.in_flight.try_join_next() {
            self.collect(ended);
        }
    }

    fn collect(&mut self, ended: Result<Attempt, JoinError>) {
        match ended {
            Ok(attempt) => self.unrecorded.push(attempt),
            // The e-mail becomes UNKNOWN when its claim expires.
            Err(panic) => tracing::error!(error = %panic, "the task of an attempt panicked"),
        }
    }

    /// Works with one connection, within a time limit. When the limit is exceeded the connection is
    /// closed instead of returned to the pool, because its state is unknown.
    async fn work_in_time(&mut self) -> Result<(), StoreError> {
        let now = Instant::now();
        let nothing_is_due = self.next_count > now && self.next_poll > now;
        if self.unrecorded.is_empty() && (self.stopping.is_cancelled() || nothing_is_due) {
            return Ok(());
        }
        let mut connection = self.pool.acquire().await?;
        match timeout(DATABASE_TIMEOUT, self.work(&mut connection)).await {
            Ok(result) => result,
            Err(_elapsed) => {
                connection.discard_generation();
                Err(StoreError::timed_out())
            }
        }
    }

    /// Records outcomes, then claims further e-mails.
    async fn work(&mut self, connection: &mut PgConnection) -> Result<(), StoreError> {
        self.settle(connection).await?;
        if self.stopping.is_cancelled() {
            return Ok(());
        }
        if self.next_count <= Instant::now() {
            count(connection).await?;
            self.next_count = Instant::now() + COUNT_INTERVAL;
        }
        if self.next_expiry <= Instant::now() {
            claim::expire(connection).await?;
            self.next_expiry = Instant::now() + EXPIRY_INTERVAL;
        }
        if self.next_poll <= Instant::now() && self.in_flight.len() < MAX_IN_FLIGHT {
            self.last_poll = Instant::now();
            self.next_poll = self.last_poll + self.poll(connection).await?;
        }
        Ok(())
    }

    async fn settle(&mut self, connection: &mut PgConnection) -> Result<(), StoreError> {
        if self.unrecorded.is_empty() {
            return Ok(());
        }
        // The pause is recorded first, so that no replica claims one of these e-mails before it.
        self.record_provider_state(connection).await?;
        let settlements: Vec<(&ClaimedEmail, Settlement<'_>)> = (self.unrecorded.iter())
            .map(|it| (&it.email, it.outcome.settlement(&it.email, rand::random())))
            .collect();
        let mut transaction = pool::begin_on(connection).await?;
        let settled = emails::settle(&mut transaction, &settlements).await?;
        transaction.commit().observed("commit").await?;
        self.unrecorded.retain(|attempt| !attempt.report(&settled));
        if !self.unrecorded.is_empty() {
            // Another transaction holds their rows.
            self.next_poll = Instant::now() + MIN_POLL_INTERVAL;
        }
        Ok(())
    }

    /// Records for all replicas whether the provider works. Any answer of the provider that is not
    /// a failure of the provider shows that it works.
    async fn record_provider_state(
        &mut self,
        connection: &mut PgConnection,
    ) -> Result<(), StoreError> {
        let provider = self.options.provider.name();
        let failures = (self.unrecorded.iter())
            .filter_map(|it| Some((it.outcome.provider_failure()?, it.outcome.reason()?)));
        let worst = failures.max_by_key(|(failure, _)| failure.pause);
        if let Some((failure, reason)) = worst {
            tracing::warn!(
                event = "EMAILS_PAUSED",
                email.provider = provider,
                email.reason = reason,
                pause_s = failure.pause.as_secs(),
                "sending e-mails pauses: the provider fails"
            );
            emails::pause(connection, provider, failure.pause, reason).await?;
            self.provider_fails = true;
        } else if self.provider_fails
            && (self.unrecorded.iter()).any(|it| it.outcome.proves_that_the_provider_works())
        {
            if emails::works(connection, provider, ProviderFailure::UNREACHABLE.pause).await? {
                tracing::info!(
                    event = "EMAILS_RESUMED",
                    email.provider = provider,
                    "the e-mail provider works again"
                );
            }
            self.provider_fails = false;
        }
        Ok(())
    }

    /// Sets aside what cannot be sent, claims e-mails that can, and starts sending them. Returns
    /// the time until the next poll.
    async fn poll(&mut self, connection: &mut PgConnection) -> Result<Duration, StoreError> {
        let Some(mailing) = (self.now)() else {
            return Ok(POLL_INTERVAL);
        };
        if claim::set_aside(connection, mailing).await? {
            return Ok(Duration::ZERO);
        }
        self.claim(connection, mailing).await
    }

    async fn claim(
        &mut self,
        connection: &mut PgConnection,
        mailing: Mailing,
    ) -> Result<Duration, StoreError> {
        let free = MAX_IN_FLIGHT - self.in_flight.len();
        let templates = self.templates.newest();
        let claim = match claim::claim(connection, &self.options, &templates, mailing, free).await?
        {
            claim::Poll::Claimed(claim) => claim,
            claim::Poll::Taken => return Ok(MIN_POLL_INTERVAL),
            claim::Poll::Nothing => return Ok(POLL_INTERVAL),
            claim::Poll::RateReached(wait) => {
                return Ok(wait.clamp(MIN_POLL_INTERVAL, POLL_INTERVAL));
            }
        };
        self.provider_fails = claim.provider_fails;
        let claimed_at = Instant::now();
        for (email, rendered) in claim.sendable {
            let options = Arc::clone(&self.options);
            let stopping = self.stopping.clone();
            self.in_flight.spawn(Attempt::make(
                options, email, rendered, claimed_at, stopping,
            ));
        }
        Ok(Duration::ZERO)
    }
}

/// Updates the metrics of the queue, which all replicas share.
async fn count(connection: &mut PgConnection) -> Result<(), StoreError> {
    let counts = emails::queue_counts(connection).await?;
    for (count, state) in [
        (counts.waiting, "waiting"),
        (counts.due, "due"),
        (counts.sending, "sending"),
        (counts.failed, "failed"),
        (counts.unknown, "unknown"),
    ] {
        METRICS.emails_queued(count, state);
    }
    METRICS.emails_oldest_due(counts.oldest_due);
    Ok(())
}
