//! Claims what is due, sends it, and writes what became of it, over and over.
//!
//! One task does everything that needs the database, a connection at a time, so that a long queue
//! takes nothing from those who call. Mails are sent in tasks of their own, a few at a time, and as
//! many are claimed as can be sent now: a replica that dies leaves few of which nobody knows.

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
    letter::{Letter, reference},
    outcome::{Outcome, Trouble},
};
use crate::{
    domain::mailing::{Mailing, MailingNow},
    store::{
        ObservedExt as _, PgPool, StoreError,
        emails::{self, Claim, ClaimedMail, EmailState, Moved, Settlement},
        pool,
    },
    telemetry::{metrics::METRICS, traces},
};

/// Mails on their way at a time.
const AT_A_TIME: usize = 8;
/// How often the queue is looked at without being told to: what other replicas queued, and what
/// is to be tried again.
const LOOK: Duration = Duration::from_secs(2);
/// How soon it is looked at again when something is queued: under load there is something in every
/// moment.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// How often it is looked for claims that ran out.
const LOOK_FOR_EXPIRED: Duration = Duration::from_secs(10);
/// How often the queue is counted for the metrics: as often as they are usually scraped.
const COUNT: Duration = Duration::from_secs(15);
/// A claim lasts for an attempt, and so much longer to write what became of it.
const TIME_TO_SETTLE: Duration = Duration::from_mins(1);
/// What is begun later after its claim may have lost it. A process that was stopped for a while
/// finds out here.
const TIME_TO_BEGIN: Duration = Duration::from_secs(30);

pub(super) struct Worker {
    pool: PgPool,
    options: Arc<Options>,
    now: MailingNow,
    wake: Arc<Notify>,
    stopping: CancellationToken,
    sending: JoinSet<Delivery>,
    /// Those whose outcome is not written yet.
    delivered: Vec<Delivery>,
    /// As far as we know.
    troubled: bool,
    last_look: Instant,
    next_look: Instant,
    next_look_for_expired: Instant,
    next_count: Instant,
}

/// A mail that was claimed, and what became of it.
struct Delivery {
    mail: ClaimedMail,
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
            sending: JoinSet::new(),
            delivered: Vec::new(),
            troubled: false,
            last_look: Instant::now(),
            next_look: Instant::now(),
            next_look_for_expired: Instant::now(),
            next_count: Instant::now(),
        }
    }

    /// Runs until it is told to stop and everything that was begun is written down.
    pub(super) async fn run(mut self) {
        while !self.is_finished() {
            self.wait().await;
            if let Err(error) = self.work().await {
                tracing::warn!(event = "EMAILS_WAIT", %error, "the mail has to wait for the database");
                self.next_look = Instant::now() + LOOK;
                self.next_count = Instant::now() + COUNT;
            }
        }
    }

    fn is_finished(&self) -> bool {
        self.stopping.is_cancelled() && self.sending.is_empty() && self.delivered.is_empty()
    }

    /// Waits for something to do. Nothing in here talks to the database.
    async fn wait(&mut self) {
        let stopping = self.stopping.clone();
        let running = !stopping.is_cancelled();
        let may_claim = running && self.sending.len() < AT_A_TIME && self.delivered.is_empty();
        tokio::select! {
            Some(ended) = self.sending.join_next() => self.note(ended),
            () = self.wake.notified(), if may_claim => {
                self.next_look = self.next_look.min(self.last_look + LOOK_AGAIN);
            }
            () = sleep_until(self.next_look), if may_claim || !self.delivered.is_empty() => {}
            // Also while a provider that hangs keeps all that can be sent at a time.
            () = sleep_until(self.next_count), if running => {}
            () = stopping.cancelled(), if running => {}
        }
        while let Some(ended) = self.sending.try_join_next() {
            self.note(ended);
        }
    }

    fn note(&mut self, ended: Result<Delivery, tokio::task::JoinError>) {
        match ended {
            Ok(delivery) => self.delivered.push(delivery),
            // Its claim runs out, and then it counts as unknown.
            Err(panic) => tracing::error!(error = %panic, "sending a mail panicked"),
        }
    }

    /// Writes what became of mails, and then claims others.
    async fn work(&mut self) -> Result<(), StoreError> {
        self.settle().await?;
        if self.stopping.is_cancelled() {
            return Ok(());
        }
        if self.next_count <= Instant::now() {
            self.count().await?;
            self.next_count = Instant::now() + COUNT;
        }
        if self.next_look_for_expired <= Instant::now() {
            self.expire().await?;
            self.next_look_for_expired = Instant::now() + LOOK_FOR_EXPIRED;
        }
        if self.next_look <= Instant::now() && self.sending.len() < AT_A_TIME {
            self.last_look = Instant::now();
            self.next_look = self.last_look + self.claim().await?;
        }
        Ok(())
    }

    async fn settle(&mut self) -> Result<(), StoreError> {
        if self.delivered.is_empty() {
            return Ok(());
        }
        // First, so that none of them is claimed again before the pause.
        self.note_trouble().await?;
        let settlements: Vec<(&ClaimedMail, Settlement<'_>)> = (self.delivered.iter())
            .map(|it| (&it.mail, it.outcome.settlement(&it.mail, rand::random())))
            .collect();
        let moved = emails::settle(&self.pool, &settlements).await?;
        for delivery in self.delivered.drain(..) {
            delivery.tell(&moved);
        }
        Ok(())
    }

    /// Tells all replicas whether the provider works.
    async fn note_trouble(&mut self) -> Result<(), StoreError> {
        let provider = self.options.provider.name();
        let troubles = (self.delivered.iter())
            .filter_map(|it| Some((it.outcome.trouble()?, it.outcome.reason()?)));
        let worst = troubles.max_by_key(|(trouble, _)| trouble.pause);
        if let Some((trouble, reason)) = worst {
            tracing::warn!(
                event = "EMAILS_PAUSED",
                email.provider = provider,
                email.reason = reason,
                pause_s = trouble.pause.as_secs(),
                "mail pauses: the provider does not work"
            );
            emails::pause(&self.pool, provider, trouble.pause, reason).await?;
            self.troubled = true;
        } else if self.troubled && self.delivered.iter().any(|it| it.outcome == Outcome::Sent) {
            if emails::works(&self.pool, provider).await? {
                tracing::info!(
                    event = "EMAILS_RESUMED",
                    email.provider = provider,
                    "the mail provider works again"
                );
            }
            self.troubled = false;
        }
        Ok(())
    }

    async fn expire(&mut self) -> Result<(), StoreError> {
        for moved in emails::expire(&self.pool, self.options.mailing.patience()).await? {
            let outcome = outcome_name(moved.state);
            METRICS.emails(1, outcome);
            tracing::error!(
                event = "EMAIL_PARKED",
                email.outcome = outcome,
                email.mail = format!("{}/{}", moved.user_id, moved.id),
                "an e-mail was parked: its time ran out"
            );
        }
        Ok(())
    }

    /// Tells the metrics how long the queue is. It is that of all replicas.
    async fn count(&self) -> Result<(), StoreError> {
        let backlog = emails::backlog(&self.pool).await?;
        for (count, state) in [
            (backlog.waiting, "waiting"),
            (backlog.due, "due"),
            (backlog.sending, "sending"),
            (backlog.failed, "failed"),
            (backlog.unknown, "unknown"),
        ] {
            METRICS.emails_queued(count, state);
        }
        METRICS.emails_oldest_due(backlog.oldest_due);
        Ok(())
    }

    /// Claims what can be sent now, and begins to send it. Says how long to wait until there may
    /// be more.
    async fn claim(&mut self) -> Result<Duration, StoreError> {
        let Options {
            mailing,
            provider,
            rate,
            ..
        } = &*self.options;
        if (self.now)().is_none() {
            return Ok(LOOK);
        }
        let mut transaction = pool::begin(&self.pool).await?;
        let Some(turn) = emails::take_turn(&mut transaction, provider.name()).await? else {
            transaction.rollback().await?;
            return Ok(LOOK_AGAIN);
        };
        self.troubled = turn.troubled;
        let free = AT_A_TIME - self.sending.len();
        // One is enough to see whether it works again.
        let most = if turn.troubled { 1 } else { free };
        let limit = most.min(rate.allowance(turn.ahead));
        if turn.paused || !mailing.is_open(turn.now) {
            transaction.rollback().await?;
            return Ok(LOOK);
        }
        if limit == 0 {
            transaction.rollback().await?;
            return Ok(rate.cost(1).clamp(LOOK_AGAIN, LOOK));
        }
        let claim = Claim {
            limit,
            one_mail_for_each_player: matches!(mailing, Mailing::Daily(_)),
            lasts: provider.timeout() + TIME_TO_BEGIN + TIME_TO_SETTLE,
            patience: mailing.patience(),
        };
        let mails = emails::claim(&mut transaction, claim).await?;
        if mails.is_empty() {
            transaction.rollback().await?;
            return Ok(LOOK);
        }
        let pause = if turn.troubled {
            Trouble::AWAY.pause
        } else {
            Duration::ZERO
        };
        emails::end_turn(
            &mut transaction,
            provider.name(),
            rate.cost(mails.len()),
            pause,
        )
        .await?;
        transaction.commit().observed("commit").await?;

        let claimed_at = Instant::now();
        for mail in mails {
            let options = Arc::clone(&self.options);
            let stopping = self.stopping.clone();
            self.sending.spawn(async move {
                let span = traces::mail(options.provider.name(), &mail.trace_parents);
                let outcome = deliver(&options, &mail, claimed_at, &stopping).await;
                traces::end_mail(span, outcome.reason().is_some());
                Delivery {
                    mail,
                    outcome,
                    took: claimed_at.elapsed(),
                }
            });
        }
        Ok(Duration::ZERO)
    }
}

async fn deliver(
    options: &Options,
    mail: &ClaimedMail,
    claimed_at: Instant,
    stopping: &CancellationToken,
) -> Outcome {
    let address = mail.address.as_deref().map(str::trim).unwrap_or_default();
    if address.is_empty() {
        return Outcome::NoAddress;
    }
    let Ok(to) = address.parse::<Address>() else {
        return Outcome::Refused {
            reason: "the player's address is none".to_owned(),
        };
    };
    let letter = match Letter::compose(mail, to, &options.presentation) {
        Ok(letter) => letter,
        Err(error) => {
            let reason = format!("it could not be written: {error}");
            return Outcome::Refused { reason };
        }
    };
    if claimed_at.elapsed() > TIME_TO_BEGIN {
        return Outcome::Released;
    }
    let from = &options.presentation.from;
    options.provider.send(from, &letter, stopping).await
}

impl Delivery {
    /// The one place where it is known what became of every mail that was begun.
    fn tell(&self, moved: &[Moved]) {
        let first_id = self.mail.first_id();
        let state = (moved.iter())
            .find(|it| it.user_id == self.mail.user_id.get() && it.id == first_id.get())
            .map(|it| it.state);
        let mail = reference(&self.mail);
        let notifications = self.mail.notifications.len();
        let attempts = self.mail.attempts;
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
                "an e-mail is done"
            ),
            Some(EmailState::Queued) => tracing::warn!(
                event = "EMAIL_DELAYED",
                email.outcome = outcome,
                email.mail = mail,
                email.notifications = notifications,
                email.attempts = attempts,
                email.reason = reason,
                duration_ms,
                "an e-mail is tried again later"
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
