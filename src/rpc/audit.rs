//! One log line for each attempt to change the books, whatever its outcome: also for callers that
//! are not authenticated, for requests that do not decode, and for callers that hang up. The line
//! has the request id and the trace of its call, like every other line.
//!
//! The lines have the target `heist::audit`, so that they can be filtered or sent elsewhere. Texts
//! from callers are logged as field values, never as part of the message. Both log formats quote and
//! escape field values, so that a line break in a text cannot forge a line.

use std::{
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use tokio::time::Instant;
use tonic::{Request, Status};
use tonic_types::StatusExt as _;
use uuid::Uuid;

use super::methods::Audited;
use crate::{
    auth::Caller,
    domain::{eligibility::Eligibility, ids::UserId, rules::Refusal},
    pb,
};

const TARGET: &str = "heist::audit";

/// An attempt in progress. Its line is written when the last reference is dropped.
pub(super) struct Attempt {
    begun: Instant,
    /// Unset if the caller is not authenticated.
    caller: OnceLock<String>,
    ip_address: Option<IpAddr>,
    record: Mutex<Record>,
}

struct Record {
    event: Event,
    outcome: Outcome,
}

/// What is attempted. The request is `None` until it has been decoded, the answer until there is
/// one.
pub(super) enum Event {
    Heist(Option<HeistRequest>, Option<HeistAnswer>),
    Award(Option<AwardRequest>, Option<AwardAnswer>),
    Adjustment(Option<AdjustmentRequest>, Option<AdjustmentAnswer>),
}

pub(super) struct HeistRequest {
    attacker: i32,
    victim: i32,
    request_id: Option<String>,
}

pub(super) struct HeistAnswer {
    points_stolen: i32,
    replayed: bool,
}

pub(super) struct AwardRequest {
    referrer_id: i32,
    referred_id: i32,
}

pub(super) struct AwardAnswer {
    already_awarded: bool,
}

pub(super) struct AdjustmentRequest {
    user_id: i32,
    delta: i32,
    reason: String,
    request_id: Option<String>,
}

pub(super) struct AdjustmentAnswer {
    replayed: bool,
}

enum Outcome {
    /// The caller hung up before there was an answer.
    Abandoned,
    Done,
    Refused {
        reason: String,
    },
}

impl Attempt {
    pub(super) fn begin(kind: Audited, begun: Instant, ip_address: Option<IpAddr>) -> Self {
        Self {
            begun,
            caller: OnceLock::new(),
            ip_address,
            record: Mutex::new(Record {
                event: match kind {
                    Audited::Heist => Event::Heist(None, None),
                    Audited::Award => Event::Award(None, None),
                    Audited::Adjustment => Event::Adjustment(None, None),
                },
                outcome: Outcome::Abandoned,
            }),
        }
    }

    pub(super) fn set_caller(&self, caller: &Caller) {
        let _ = self.caller.set(caller.who.to_string());
    }

    /// The attempt of a decoded request, which it records.
    pub(super) fn of<Q: Recorded>(request: &Request<Q>) -> Arc<Self> {
        let attempt: &Arc<Self> = (request.extensions().get())
            .expect("the Audit layer begins an attempt for each audited method");
        request.get_ref().record(&mut attempt.record().event);
        Arc::clone(attempt)
    }

    pub(super) fn ended<A: Recorded>(&self, result: &Result<A, Status>) {
        match result {
            Ok(answer) => {
                let mut record = self.record();
                answer.record(&mut record.event);
                record.outcome = Outcome::Done;
            }
            Err(status) => self.refused(status),
        }
    }

    /// Records a refusal, unless an outcome is known already.
    pub(super) fn refused(&self, status: &Status) {
        let mut record = self.record();
        if matches!(record.outcome, Outcome::Abandoned) {
            record.outcome = Outcome::Refused {
                reason: reason(status),
            };
        }
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes the line of an attempt: the fields that every event has, and the event's own.
macro_rules! write_line {
    ($attempt:ident, $outcome:ident, [$done:literal, $refused:literal, $abandoned:literal],
     $($field:ident = $value:expr),+) => {
        match $outcome {
            Outcome::Done => {
                write_line!(@ INFO, $attempt, $done, None::<&str>, $($field = $value),+);
            }
            Outcome::Refused { reason } => {
                write_line!(@ WARN, $attempt, $refused, Some(reason.as_str()), $($field = $value),+);
            }
            Outcome::Abandoned => {
                write_line!(@ WARN, $attempt, $abandoned, None::<&str>, $($field = $value),+);
            }
        }
    };
    (@ $level:ident, $attempt:ident, $event:literal, $reason:expr, $($field:ident = $value:expr),+) => {
        tracing::event!(
            target: TARGET,
            tracing::Level::$level,
            event = $event,
            reason = $reason,
            caller = $attempt.caller.get().map_or("", String::as_str),
            $($field = $value,)+
            ipAddress = $attempt.ip_address.map(tracing::field::display),
            duration_ms = $attempt.begun.elapsed().as_secs_f64() * 1000.0,
        )
    };
}

impl Drop for Attempt {
    fn drop(&mut self) {
        let attempt = &*self;
        let record = attempt.record();
        let Record { event, outcome } = &*record;
        match event {
            Event::Heist(request, answer) => write_line!(
                attempt,
                outcome,
                ["HEIST_SUCCESS", "HEIST_REFUSED", "HEIST_ABANDONED"],
                attackerId = request.as_ref().map(|it| it.attacker),
                victimId = request.as_ref().map(|it| it.victim),
                pointsStolen = answer.as_ref().map(|it| it.points_stolen),
                replayed = answer.as_ref().map(|it| it.replayed),
                idempotencyKey = request.as_ref().and_then(|it| it.request_id.as_deref())
            ),
            Event::Award(request, answer) => write_line!(
                attempt,
                outcome,
                ["TOKEN_AWARDED", "AWARD_REFUSED", "AWARD_ABANDONED"],
                referrerId = request.as_ref().map(|it| it.referrer_id),
                referredId = request.as_ref().map(|it| it.referred_id),
                alreadyAwarded = answer.as_ref().map(|it| it.already_awarded)
            ),
            Event::Adjustment(request, answer) => write_line!(
                attempt,
                outcome,
                [
                    "BALANCE_ADJUSTED",
                    "ADJUSTMENT_REFUSED",
                    "ADJUSTMENT_ABANDONED"
                ],
                userId = request.as_ref().map(|it| it.user_id),
                delta = request.as_ref().map(|it| it.delta),
                why = request.as_ref().map(|it| it.reason.as_str()),
                replayed = answer.as_ref().map(|it| it.replayed),
                idempotencyKey = request.as_ref().and_then(|it| it.request_id.as_deref())
            ),
        }
    }
}

/// A request or an answer of an audited method.
pub(super) trait Recorded {
    fn record(&self, event: &mut Event);
}

impl Recorded for pb::ExecuteHeistRequest {
    fn record(&self, event: &mut Event) {
        if let Event::Heist(request, _) = event {
            *request = Some(HeistRequest {
                attacker: self.attacker_id,
                victim: self.victim_id,
                request_id: request_id(&self.request_id),
            });
        }
    }
}

impl Recorded for pb::ExecuteHeistResponse {
    fn record(&self, event: &mut Event) {
        if let Event::Heist(_, answer) = event {
            *answer = Some(HeistAnswer {
                points_stolen: self.heist.as_ref().map_or(0, |heist| heist.points_stolen),
                replayed: self.replayed,
            });
        }
    }
}

impl Recorded for pb::AwardTokenRequest {
    fn record(&self, event: &mut Event) {
        if let Event::Award(request, _) = event {
            *request = Some(AwardRequest {
                referrer_id: self.referrer_id,
                referred_id: self.referred_id,
            });
        }
    }
}

impl Recorded for pb::AwardTokenResponse {
    fn record(&self, event: &mut Event) {
        if let Event::Award(_, answer) = event {
            *answer = Some(AwardAnswer {
                already_awarded: self.already_awarded,
            });
        }
    }
}

impl Recorded for pb::AdjustBalanceRequest {
    fn record(&self, event: &mut Event) {
        if let Event::Adjustment(request, _) = event {
            *request = Some(AdjustmentRequest {
                user_id: self.user_id,
                delta: self.delta,
                reason: without_addresses(&self.reason),
                request_id: request_id(&self.request_id),
            });
        }
    }
}

impl Recorded for pb::AdjustBalanceResponse {
    fn record(&self, event: &mut Event) {
        if let Event::Adjustment(_, answer) = event {
            *answer = Some(AdjustmentAnswer {
                replayed: self.replayed,
            });
        }
    }
}

/// Logs the answer to an eligibility check at debug level. A check is no attempt.
pub(super) fn eligibility_checked(attacker: UserId, eligibility: &Eligibility) {
    tracing::debug!(
        event = "ELIGIBILITY_CHECKED",
        attackerId = attacker.get(),
        victimId = eligibility.victim_id.get(),
        eligible = eligibility.verdict.is_ok(),
        reason = eligibility.verdict.as_ref().err().map(Refusal::reason),
    );
}

/// The request id, if it is a UUID. Other texts could fill the log.
fn request_id(text: &str) -> Option<String> {
    Uuid::try_parse(text).ok().map(|id| id.to_string())
}

/// The text without e-mail addresses, cut to the length that the contract allows.
fn without_addresses(text: &str) -> String {
    const MAX_CHARS: usize = 500;
    let text: String = text.chars().take(MAX_CHARS).collect();
    let words = text.split(' ').map(|word| {
        let is_address = word.trim_matches('@').contains('@');
        if is_address { "[e-mail]" } else { word }
    });
    words.collect::<Vec<_>>().join(" ")
}

/// The reason of a refusal; the code if it has none.
fn reason(status: &Status) -> String {
    status
        .get_details_error_info()
        .map_or_else(|| format!("{:?}", status.code()), |info| info.reason)
}
