//! Writes one log line for each attempt to change the books, whatever its outcome. Attempts of
//! unauthenticated callers, requests that do not decode, and calls whose caller hangs up have a
//! line, too. Like every other line, it has the id and the trace of its call.
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

use super::{methods::Audited, status};
use crate::{
    auth::Caller,
    domain::{eligibility::Eligibility, ids::UserId, rules::Refusal},
    fault::Fault,
    pb,
    telemetry::{self, metrics::METRICS},
};

const TARGET: &str = telemetry::AUDIT_TARGET;

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

/// The attempted operation. The request is `None` until it has been decoded, and the answer is
/// `None` until the operation has succeeded.
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
    /// The engine has not been asked yet, or its answer is being rendered.
    Undecided,
    /// The engine is executing the order.
    InEngine,
    Done,
    Refused {
        reason: String,
    },
    /// The order may have been executed.
    Unknown {
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
                outcome: Outcome::Undecided,
            }),
        }
    }

    /// Whether a refusal is logged. Refusals of unauthenticated callers are logged once a minute
    /// for each event and address.
    fn is_logged(&self, event: &'static str, reason: &str) -> bool {
        self.caller.get().is_some() || telemetry::permits_stranger(event, reason, self.ip_address)
    }

    pub(super) fn set_caller(&self, caller: &Caller) {
        let _ = self.caller.set(caller.who.to_string());
    }

    /// Returns the attempt of a decoded request, and records the request in it.
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

    /// Waits for the engine. The outcome is recorded as unknown if the call ends before the engine
    /// has answered, or if the engine does not know whether it executed the order.
    pub(super) async fn in_engine<T>(
        &self,
        order: impl Future<Output = Result<T, Fault>>,
    ) -> Result<T, Status> {
        self.record().outcome = Outcome::InEngine;
        let result = order.await;
        let mut record = self.record();
        record.outcome = Outcome::Undecided;
        result.map_err(|fault| {
            let status = status::fault(&fault);
            if may_be_executed(&fault) {
                record.outcome = Outcome::Unknown {
                    reason: reason(&status),
                };
            }
            status
        })
    }

    /// Records that the call failed, unless its outcome is known already.
    pub(super) fn refused(&self, status: &Status) {
        let reason = reason(status);
        let mut record = self.record();
        match record.outcome {
            Outcome::Undecided => record.outcome = Outcome::Refused { reason },
            Outcome::InEngine => record.outcome = Outcome::Unknown { reason },
            Outcome::Done | Outcome::Refused { .. } | Outcome::Unknown { .. } => {}
        }
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The names of an attempt's events, by its outcome.
struct Names {
    operation: &'static str,
    done: &'static str,
    refused: &'static str,
    abandoned: &'static str,
    unknown: &'static str,
}

const HEIST: Names = Names {
    operation: "heist",
    done: "HEIST_SUCCESS",
    refused: "HEIST_REFUSED",
    abandoned: "HEIST_ABANDONED",
    unknown: "HEIST_UNKNOWN",
};
const AWARD: Names = Names {
    operation: "award",
    done: "TOKEN_AWARDED",
    refused: "AWARD_REFUSED",
    abandoned: "AWARD_ABANDONED",
    unknown: "AWARD_UNKNOWN",
};
const ADJUSTMENT: Names = Names {
    operation: "adjustment",
    done: "BALANCE_ADJUSTED",
    refused: "ADJUSTMENT_REFUSED",
    abandoned: "ADJUSTMENT_ABANDONED",
    unknown: "ADJUSTMENT_UNKNOWN",
};

/// Writes the line of an attempt: the fields that all events have, and the fields of this kind of
/// event.
macro_rules! write_line {
    ($attempt:ident, $outcome:ident, $names:ident, $($field:ident = $value:expr),+) => {
        match $outcome {
            Outcome::Done => {
                write_line!(@ INFO, $attempt, $names.done, None::<&str>, $($field = $value),+);
            }
            Outcome::Refused { reason } => {
                if $attempt.is_logged($names.refused, reason) {
                    let reason = Some(reason.as_str());
                    write_line!(@ WARN, $attempt, $names.refused, reason, $($field = $value),+);
                }
            }
            Outcome::Undecided | Outcome::InEngine => {
                write_line!(@ WARN, $attempt, $names.abandoned, None::<&str>, $($field = $value),+);
            }
            Outcome::Unknown { reason } => {
                METRICS.outcome_unknown(1, $names.operation);
                let reason = Some(reason.as_str());
                write_line!(@ ERROR, $attempt, $names.unknown, reason, $($field = $value),+);
            }
        }
    };
    (@ $level:ident, $attempt:ident, $event:expr, $reason:expr, $($field:ident = $value:expr),+) => {
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
                HEIST,
                attackerId = request.as_ref().map(|it| it.attacker),
                victimId = request.as_ref().map(|it| it.victim),
                pointsStolen = answer.as_ref().map(|it| it.points_stolen),
                replayed = answer.as_ref().map(|it| it.replayed),
                idempotencyKey = request.as_ref().and_then(|it| it.request_id.as_deref())
            ),
            Event::Award(request, answer) => write_line!(
                attempt,
                outcome,
                AWARD,
                referrerId = request.as_ref().map(|it| it.referrer_id),
                referredId = request.as_ref().map(|it| it.referred_id),
                alreadyAwarded = answer.as_ref().map(|it| it.already_awarded)
            ),
            Event::Adjustment(request, answer) => write_line!(
                attempt,
                outcome,
                ADJUSTMENT,
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

/// Logs the answer to an eligibility check at debug level. A check is not an attempt, so it has no
/// audit line.
pub(super) fn eligibility_checked(attacker: UserId, eligibility: &Eligibility) {
    tracing::debug!(
        event = "ELIGIBILITY_CHECKED",
        attackerId = attacker.get(),
        victimId = eligibility.victim_id.get(),
        eligible = eligibility.verdict.is_ok(),
        reason = eligibility.verdict.as_ref().err().map(Refusal::reason),
    );
}

/// The request id, if it is a UUID. Any other text is left out, because a caller could fill the log
/// with it.
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

/// Whether an order that ended with this fault may have been executed.
fn may_be_executed(fault: &Fault) -> bool {
    matches!(fault, Fault::Unknown | Fault::Internal)
}

/// The reason of a refusal, or its code if it has no reason.
fn reason(status: &Status) -> String {
    status
        .get_details_error_info()
        .map_or_else(|| format!("{:?}", status.code()), |info| info.reason)
}
