//! One attempt to send a claimed e-mail.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Options, outcome::Outcome, render::RenderedEmail};
use crate::{
    store::emails::{ClaimedEmail, EmailState, Settled},
    telemetry::{metrics::METRICS, traces},
};

/// The maximum time between a claim and the start of its attempt. The worker releases an e-mail
/// whose attempt would start later, because the claim could expire during the attempt. This happens
/// if the process was suspended.
pub(super) const TIME_TO_BEGIN: Duration = Duration::from_secs(30);

/// A claimed e-mail and the outcome of the attempt to send it.
pub(super) struct Attempt {
    pub(super) email: ClaimedEmail,
    pub(super) outcome: Outcome,
    pub(super) took: Duration,
}

impl Attempt {
    pub(super) async fn make(
        options: Arc<Options>,
        email: ClaimedEmail,
        rendered: RenderedEmail,
        claimed_at: Instant,
        stopping: CancellationToken,
    ) -> Self {
        let span = traces::mail(options.provider.name(), &email.trace_parents);
        let outcome = if claimed_at.elapsed() > TIME_TO_BEGIN {
            Outcome::Released
        } else {
            let from = &options.presentation.from;
            options.provider.send(from, &rendered, &stopping).await
        };
        traces::end_mail(span, outcome.reason().is_some());
        Self {
            email,
            outcome,
            took: claimed_at.elapsed(),
        }
    }

    /// Logs and counts the recorded outcome. Returns `false` if the outcome is not recorded yet.
    pub(super) fn report(&self, settled: &[Settled]) -> bool {
        let notification = |it: &&Settled| {
            let ids = &self.email.notifications;
            it.user_id == self.email.user_id.get() && ids.iter().any(|note| note.id.get() == it.id)
        };
        let rows: Vec<&Settled> = settled.iter().filter(notification).collect();
        if rows.iter().any(|it| it.state.is_none()) {
            return false;
        }
        let first_id = self.email.first_id().get();
        let state = (rows.iter())
            .find(|it| it.id == first_id)
            .and_then(|it| it.state);
        self.log(state);
        true
    }

    fn log(&self, state: Option<EmailState>) {
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

/// The value of `email.outcome` for a recorded state.
pub(super) fn outcome_name(state: EmailState) -> &'static str {
    match state {
        EmailState::Sent => "sent",
        EmailState::Skipped => "skipped",
        EmailState::Queued => "retried",
        EmailState::Failed => "failed",
        EmailState::Unknown => "unknown",
        EmailState::Sending | EmailState::Dropped => "taken_over",
    }
}
