//! The steps before an attempt: setting aside, claiming, and expiry of queued e-mails.
//!
//! An e-mail that cannot be sent says nothing about the provider. It is settled without a pause and
//! does not count against the rate, so that it never delays other e-mails.

use std::time::Duration;

use super::{
    Options, Templates,
    address::EmailAddress,
    attempt::{Attempt, TIME_TO_BEGIN, outcome_name},
    outcome::{Outcome, ProviderFailure},
    render::RenderedEmail,
};
use crate::{
    domain::mailing::{Digest, Due, EmailMode, Mailing},
    store::{
        ObservedExt as _, PgConnection, StoreError,
        emails::{
            self, ClaimRequest, ClaimedEmail, DueEmail, EmailState, SetAside, Settlement,
            StateChange,
        },
        pool,
    },
    telemetry::metrics::METRICS,
};

/// Maximum number of players whose changed preference one poll applies.
const RESCHEDULED: usize = 100;
/// Maximum number of claims in one transaction. The claim is repeated while claimed e-mails turn
/// out to be unsendable.
const MAX_CLAIMS: usize = 50;
/// Part of a claim's duration that is reserved for recording the outcome after the attempt.
const TIME_TO_SETTLE: Duration = Duration::from_mins(1);

const NO_EMAIL_WANTED: &str = "the player chose to receive no e-mail";
const INVALID_ADDRESS: &str = "the player's address is invalid";
const NO_ADDRESS: &str = "the player has no address";
const TOO_LATE: &str = "no attempt was possible within the time limit";

/// The result of a poll.
pub(super) enum Poll {
    Claimed(Claimed),
    /// Another replica claims at the moment.
    Taken,
    /// Nothing may be sent now.
    Nothing,
    /// The rate allows the next e-mail after this time.
    RateReached(Duration),
}

/// E-mails that this replica has to send.
pub(super) struct Claimed {
    pub(super) sendable: Vec<(ClaimedEmail, RenderedEmail)>,
    /// The provider's last known answer was a failure of the provider.
    pub(super) provider_fails: bool,
}

/// Sets aside the e-mails at the head of the queue that cannot be sent now. Returns whether there
/// may be more of them.
pub(super) async fn set_aside(
    connection: &mut PgConnection,
    mailing: Mailing,
) -> Result<bool, StoreError> {
    let rescheduled = emails::reschedule(&mut *connection, RESCHEDULED).await?;
    let head = emails::due(&mut *connection).await?;
    let Some(now) = head.now else {
        return Ok(false);
    };
    let examined = head.emails.len();
    let digest = mailing.window.digest_at(now);
    let unsendable: Vec<(DueEmail, SetAside)> = (head.emails.into_iter())
        .filter_map(|email| {
            let fate = fate(&email, mailing, digest)?;
            Some((email, fate))
        })
        .collect();
    if unsendable.is_empty() {
        return Ok(false);
    }
    let changes = emails::set_aside(&mut *connection, &unsendable, mailing).await?;
    report(&changes, "it cannot be sent");
    let is_full = rescheduled == RESCHEDULED as u64 || examined == emails::MAX_HEAD;
    Ok(is_full && !changes.is_empty())
}

/// Why a due e-mail cannot be sent now; `None` if it can be sent.
fn fate(email: &DueEmail, mailing: Mailing, digest: Digest) -> Option<SetAside> {
    let Some(mode) = mailing.mode_of(email.preference) else {
        return Some(SetAside::Skip(NO_EMAIL_WANTED));
    };
    let address = email.address.as_deref().unwrap_or_default();
    if address.trim().is_empty() {
        return Some(SetAside::Skip(NO_ADDRESS));
    }
    if EmailAddress::parse(address).is_none() {
        return Some(SetAside::Fail(INVALID_ADDRESS));
    }
    let next = digest.deferral(Due {
        mode,
        due_at: email.due_at,
        attempted: email.attempted,
    })?;
    match email.until {
        Some(until) if next > until => Some(SetAside::Fail(TOO_LATE)),
        _ => Some(SetAside::Defer(next)),
    }
}

/// Claims up to `free` e-mails that can be sent now.
pub(super) async fn claim(
    connection: &mut PgConnection,
    options: &Options,
    templates: &Templates,
    mailing: Mailing,
    free: usize,
) -> Result<Poll, StoreError> {
    let Options { provider, rate, .. } = options;
    let mut transaction = pool::begin_on(connection).await?;
    let Some(turn) = emails::take_turn(&mut transaction, provider.name()).await? else {
        transaction.rollback().await?;
        return Ok(Poll::Taken);
    };
    if turn.paused {
        transaction.rollback().await?;
        return Ok(Poll::Nothing);
    }
    // One attempt is enough to find out whether the provider works again.
    let most = if turn.provider_fails { 1 } else { free };
    let limit = most.min(rate.allowance(turn.ahead));
    if limit == 0 {
        transaction.rollback().await?;
        return Ok(Poll::RateReached(rate.cost(1)));
    }
    let mut sendable = Vec::new();
    let mut unsendable: Vec<Attempt> = Vec::new();
    for _ in 0..MAX_CLAIMS {
        let request = ClaimRequest {
            limit: limit - sendable.len(),
            mailing,
            digest: mailing.window.digest_at(turn.now),
            lasts: provider.timeout() + TIME_TO_BEGIN + TIME_TO_SETTLE,
        };
        let mut claimed = emails::claim(&mut transaction, request).await?;
        if let Some(column) = &options.templates.language_column {
            emails::add_languages(&mut transaction, column, &mut claimed).await?;
        }
        let is_last = claimed.is_empty();
        for email in claimed {
            match render(options, templates, &email) {
                Ok(rendered) => sendable.push((email, rendered)),
                Err(outcome) => unsendable.push(Attempt {
                    email,
                    outcome,
                    took: Duration::ZERO,
                }),
            }
        }
        if is_last || sendable.len() >= limit {
            break;
        }
    }
    if sendable.is_empty() && unsendable.is_empty() {
        transaction.rollback().await?;
        return Ok(Poll::Nothing);
    }
    let settled = if unsendable.is_empty() {
        Vec::new()
    } else {
        let settlements: Vec<(&ClaimedEmail, Settlement<'_>)> = (unsendable.iter())
            .map(|it| (&it.email, it.outcome.settlement(&it.email, 0.0)))
            .collect();
        emails::settle(&mut transaction, &settlements).await?
    };
    if !sendable.is_empty() {
        let pause = if turn.provider_fails {
            ProviderFailure::UNREACHABLE.pause
        } else {
            Duration::ZERO
        };
        let cost = rate.cost(sendable.len());
        emails::end_turn(&mut transaction, provider.name(), cost, pause).await?;
    }
    transaction.commit().observed("commit").await?;
    for attempt in &unsendable {
        attempt.report(&settled);
    }
    Ok(Poll::Claimed(Claimed {
        sendable,
        provider_fails: turn.provider_fails,
    }))
}

/// Renders a claimed e-mail, or returns why it cannot be sent.
fn render(
    options: &Options,
    templates: &Templates,
    email: &ClaimedEmail,
) -> Result<RenderedEmail, Outcome> {
    let address = email.address.as_deref().unwrap_or_default();
    if address.trim().is_empty() {
        return Err(Outcome::NoAddress);
    }
    let refused = |reason: String| Outcome::Refused { reason };
    let to = EmailAddress::parse(address).ok_or_else(|| refused(INVALID_ADDRESS.to_owned()))?;
    RenderedEmail::render(email, to, &options.presentation, templates)
        .map_err(|error| refused(format!("the templates failed: {error}")))
}

/// Parks e-mails with expired claims, and e-mails that no attempt reached in time.
pub(super) async fn expire(connection: &mut PgConnection) -> Result<(), StoreError> {
    let retry_for = Mailing::immediate().retry_for(EmailMode::Immediate);
    let changes = emails::expire(connection, retry_for).await?;
    report(&changes, "its claim or its time limit expired");
    Ok(())
}

/// Logs and counts e-mails that ended without an attempt.
fn report(changes: &[StateChange], why: &str) {
    for change in changes {
        let outcome = outcome_name(change.state);
        let mail = format!("{}/{}", change.user_id, change.id);
        match change.state {
            // Deferred to a digest.
            EmailState::Queued => continue,
            EmailState::Skipped => tracing::info!(
                event = "EMAIL_DONE",
                email.outcome = outcome,
                email.mail = mail,
                "an e-mail is finished: {why}"
            ),
            _ => tracing::error!(
                event = "EMAIL_PARKED",
                email.outcome = outcome,
                email.mail = mail,
                "an e-mail was parked: {why}"
            ),
        }
        METRICS.emails(1, outcome);
    }
}
