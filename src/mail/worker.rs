//! The worker loop: claim e-mails that are due, send them, record the outcomes.
//!
//! One task makes all database calls, on one connection at a time, so that a long queue does not
//! take connections from callers. Each e-mail is sent in its own task. The worker claims only as
//! many e-mails as it can send at once, so that a replica that is killed leaves at most
//! [`MAX_IN_FLIGHT`] e-mails with an unknown outcome.

use std::{sync::Arc, time::Duration};

use lettre::Address;
use tokio::{
    sync::Notify,
    task::JoinSet,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{
    Options,
    outcome::{Outcome, ProviderFailure},
    render::RenderedEmail,
};
use crate::{
    domain::mailing::{Mailing, MailingNow},
    store::{
        ObservedExt as _, PgPool, StoreError,
        emails::{self, ClaimRequest, ClaimedEmail, EmailState, Settlement, StateChange},
        pool,
    },
    telemetry::{metrics::METRICS, traces},
};

/// E-mails that this replica sends concurrently.
const MAX_IN_FLIGHT: usize = 8;
/// Interval between polls of the queue. Polling finds e-mails that other replicas queued, and
/// retries that became due.
const POLL_INTERVAL: Duration = Duration::from_secs(2);
/// Minimum time between two polls. Under load, wake-ups arrive continuously.
const MIN_POLL_INTERVAL: Duration = Duration::from_millis(100);
/// Interval between scans for expired claims.
const EXPIRY_INTERVAL: Duration = Duration::from_secs(10);
/// Interval between counts of the queue for the metrics. It matches the usual scrape interval.
const COUNT_INTERVAL: Duration = Duration::from_secs(15);
/// Part of a claim's duration that is reserved for recording the outcome after the attempt.
const TIME_TO_SETTLE: Duration = Duration::from_mins(1);
/// An attempt that has not begun this long after its claim is released, because the claim may
/// expire during the attempt. This happens when the process was suspended.
const TIME_TO_BEGIN: Duration = Duration::from_secs(30);

pub(super) struct Worker {
    pool: PgPool,
    options: Arc<Options>,
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

/// A claimed e-mail and the outcome of the attempt to send it.
struct Attempt {
    email: ClaimedEmail,
    outcome: Outcome,
    took: Duration,
}

impl Worker {
    pub(super) fn new(
        pool: PgPool,
        options: Options,
        now: MailingNow,
        wake: Arc<Notify>,
        stopping: CancellationToken,
    ) -> Self {
        Self {
            pool,
            options: Arc::new(options),
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
            if let Err(error) = self.work().await {
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
            // Also while attempts that hang occupy all places.
            () = sleep_until(self.next_count), if running => {}
            () = stopping.cancelled(), if running => {}
        }
        while let Some(ended) = self.in_flight.try_join_next() {
            self.collect(ended);
        }
    }

    fn collect(&mut self, ended: Result<Attempt, tokio::task::JoinError>) {
        match ended {
            Ok(attempt) => self.unrecorded.push(attempt),
            // Its claim expires, and then the e-mail becomes UNKNOWN.
            Err(panic) => tracing::error!(error = %panic, "the task of an attempt panicked"),
        }
    }

    /// Records outcomes, then claims further e-claimed.
    async fn work(&mut self) -> Result<(), StoreError> {
        self.settle().await?;
        if self.stopping.is_cancelled() {
            return Ok(());
        }
        if self.next_count <= Instant::now() {
            self.count().await?;
            self.next_count = Instant::now() + COUNT_INTERVAL;
        }
        if self.next_expiry <= Instant::now() {
            self.expire().await?;
            self.next_expiry = Instant::now() + EXPIRY_INTERVAL;
        }
        if self.next_poll <= Instant::now() && self.in_flight.len() < MAX_IN_FLIGHT {
            self.last_poll = Instant::now();
            self.next_poll = self.last_poll + self.claim().await?;
        }
        Ok(())
    }

    async fn settle(&mut self) -> Result<(), StoreError> {
        if self.unrecorded.is_empty() {
            return Ok(());
        }
        // The pause is recorded first, so that no replica claims one of these e-mails before it.
        self.record_provider_state().await?;
        let settlements: Vec<(&ClaimedEmail, Settlement<'_>)> = (self.unrecorded.iter())
            .map(|it| (&it.email, it.outcome.settlement(&it.email, rand::random())))
            .collect();
        let changes = emails::settle(&self.pool, &settlements).await?;
        for attempt in self.unrecorded.drain(..) {
            attempt.report(&changes);
        }
        Ok(())
    }

    /// Records for all replicas whether the provider works.
    async fn record_provider_state(&mut self) -> Result<(), StoreError> {
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
            emails::pause(&self.pool, provider, failure.pause, reason).await?;
            self.provider_fails = true;
        } else if self.provider_fails
            && self.unrecorded.iter().any(|it| it.outcome == Outcome::Sent)
        {
            if emails::works(&self.pool, provider).await? {
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

    async fn expire(&mut self) -> Result<(), StoreError> {
        for change in emails::expire(&self.pool, self.options.mailing.patience()).await? {
            let outcome = outcome_name(change.state);
            METRICS.emails(1, outcome);
            tracing::error!(
                event = "EMAIL_PARKED",
                email.outcome = outcome,
                email.mail = format!("{}/{}", change.user_id, change.id),
                "an e-mail was parked: its claim or its time limit expired"
            );
        }
        Ok(())
    }

    /// Updates the metrics of the queue, which all replicas share.
    async fn count(&self) -> Result<(), StoreError> {
        let counts = emails::queue_counts(&self.pool).await?;
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

    /// Claims e-mails that can be sent now and starts sending them. Returns the time until the next
    /// poll.
    async fn claim(&mut self) -> Result<Duration, StoreError> {
        let Options {
            mailing,
            provider,
            rate,
            ..
        } = &*self.options;
        if (self.now)().is_none() {
            return Ok(POLL_INTERVAL);
        }
        let mut transaction = pool::begin(&self.pool).await?;
        let Some(turn) = emails::take_turn(&mut transaction, provider.name()).await? else {
            transaction.rollback().await?;
            return Ok(MIN_POLL_INTERVAL);
        };
        self.provider_fails = turn.provider_fails;
        let free = MAX_IN_FLIGHT - self.in_flight.len();
        // One attempt is enough to find out whether the provider works again.
        let most = if turn.provider_fails { 1 } else { free };
        let limit = most.min(rate.allowance(turn.ahead));
        if turn.paused || !mailing.is_open(turn.now) {
            transaction.rollback().await?;
            return Ok(POLL_INTERVAL);
        }
        if limit == 0 {
            transaction.rollback().await?;
            return Ok(rate.cost(1).clamp(MIN_POLL_INTERVAL, POLL_INTERVAL));
        }
        let claim = ClaimRequest {
            limit,
            one_email_per_player: matches!(mailing, Mailing::Digest(_)),
            lasts: provider.timeout() + TIME_TO_BEGIN + TIME_TO_SETTLE,
            patience: mailing.patience(),
        };
        let claimed = emails::claim(&mut transaction, claim).await?;
        if claimed.is_empty() {
            transaction.rollback().await?;
            return Ok(POLL_INTERVAL);
        }
        let pause = if turn.provider_fails {
            ProviderFailure::UNREACHABLE.pause
        } else {
            Duration::ZERO
        };
        emails::end_turn(
            &mut transaction,
            provider.name(),
            rate.cost(claimed.len()),
            pause,
        )
        .await?;
        transaction.commit().observed("commit").await?;

        let claimed_at = Instant::now();
        for email in claimed {
            let options = Arc::clone(&self.options);
            let stopping = self.stopping.clone();
            self.in_flight.spawn(async move {
                let span = traces::mail(options.provider.name(), &email.trace_parents);
                let outcome = attempt(&options, &email, claimed_at, &stopping).await;
                traces::end_mail(span, outcome.reason().is_some());
                Attempt {
                    email,
                    outcome,
                    took: claimed_at.elapsed(),
                }
            });
        }
        Ok(Duration::ZERO)
    }
}

async fn attempt(
    options: &Options,
    email: &ClaimedEmail,
    claimed_at: Instant,
    stopping: &CancellationToken,
) -> Outcome {
    let address = email.address.as_deref().map(str::trim).unwrap_or_default();
    if address.is_empty() {
        return Outcome::NoAddress;
    }
    let Ok(to) = address.parse::<Address>() else {
        return Outcome::Refused {
            reason: "the player's address is invalid".to_owned(),
        };
    };
    let rendered = match RenderedEmail::render(email, to, &options.presentation) {
        Ok(rendered) => rendered,
        Err(error) => {
            let reason = format!("the templates failed: {error}");
            return Outcome::Refused { reason };
        }
    };
    if claimed_at.elapsed() > TIME_TO_BEGIN {
        return Outcome::Released;
    }
    let from = &options.presentation.from;
    options.provider.send(from, &rendered, stopping).await
}

impl Attempt {
    /// Logs and counts the recorded outcome of an attempt.
    fn report(&self, changes: &[StateChange]) {
        let first_id = self.email.first_id();
        let state = (changes.iter())
            .find(|it| it.user_id == self.email.user_id.get() && it.id == first_id.get())
            .map(|it| it.state);
        let mail = self.email.reference();
        let notifications = self.email.notifications.len();
        let attempts = self.email.attempts;
        let reason = self.outcome.reason();
        let duration_ms = u64::try_from(self.took.as_millis()).unwrap_or(u64::MAX);
        let outcome = state.map_or("taken_over", outcome_name);
        METRICS.emails(1, outcome);
        match state {
            Some(EmailState::Sent | EmailState::Skipped) => tracing::info!(
                event = "EMAIL_DONE",
                email.outcome = outcome,
                email.mail = mail,
                email.notifications = notifications,
                email.attempts = attempts,
                duration_ms,
                "an e-mail is finished"
            ),
            Some(EmailState::Queued) => tracing::warn!(
                event = "EMAIL_DELAYED",
                email.outcome = outcome,
                email.mail = mail,
                email.notifications = notifications,
                email.attempts = attempts,
                email.reason = reason,
                duration_ms,
                "an e-mail is retried later"
            ),
            _ => tracing::error!(
                event = "EMAIL_PARKED",
                email.outcome = outcome,
                email.mail = mail,
                email.notifications = notifications,
                email.attempts = attempts,
                email.reason = reason,
                duration_ms,
                "an e-mail was parked"
            ),
        }
    }
}

fn outcome_name(state: EmailState) -> &'static str {
    match state {
        EmailState::Sent => "sent",
        EmailState::Skipped => "skipped",
        EmailState::Queued => "retried",
        EmailState::Failed => "failed",
        EmailState::Unknown => "unknown",
        EmailState::Sending | EmailState::Dropped => "taken_over",
    }
}
