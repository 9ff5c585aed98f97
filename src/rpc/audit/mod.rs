//! Writes one log line for each attempt to change the books, whatever its outcome. Attempts of
//! unauthenticated callers, requests that do not decode, and calls whose caller hangs up have a
//! line, too. Like every other line, it has the id and the trace of its call.
//!
//! The lines have the target `heist::audit`, so that they can be filtered or sent elsewhere. Texts
//! from callers are logged as field values, never as part of the message. Both log formats quote and
//! escape field values, so that a line break in a text cannot forge a line.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tokio::time::Instant;
use tonic::{Request, Status};
use tonic_types::StatusExt as _;

use super::{client_address::ClientAddress, methods::Audited, status};
use crate::{
    auth::Caller,
    domain::{eligibility::Eligibility, ids::UserId, rules::Refusal},
    fault::Fault,
    telemetry::{self, Part, metrics::METRICS},
};

mod recorded;

use self::recorded::Event;
pub(super) use self::recorded::Recorded;

const TARGET: &str = telemetry::AUDIT_TARGET;
/// Reasons of refusals that cost their caller nothing.
const CHEAP_REFUSALS: [&str; 2] = ["PERMISSION_DENIED", "RATE_LIMITED"];

/// An attempt in progress. Its line is written when the last reference is dropped.
pub(super) struct Attempt {
    begun: Instant,
    /// Unset if the caller is not authenticated.
    caller: OnceLock<KnownCaller>,
    /// Where the call comes from, as far as the network alone tells.
    address: Option<ClientAddress>,
    record: Mutex<Record>,
}

struct KnownCaller {
    name: String,
    /// Where the call comes from, by the caller's word if it may forward addresses.
    address: Option<ClientAddress>,
}

struct Record {
    event: Event,
    outcome: Outcome,
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
    pub(super) fn begin(kind: Audited, begun: Instant, address: Option<ClientAddress>) -> Self {
        Self {
            begun,
            caller: OnceLock::new(),
            address,
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
    /// for each event and address, and [`CHEAP_REFUSALS`] for each event and caller; then their
    /// number is.
    fn is_logged(&self, event: &'static str, reason: &str) -> bool {
        match self.caller.get() {
            Some(caller) if CHEAP_REFUSALS.contains(&reason) => {
                telemetry::permits_repetition(event, reason, &caller.name)
            }
            Some(_) => true,
            None => {
                let address = self.address.map(|address| address.client);
                telemetry::permits_stranger(Part::Audit, event, reason, address)
            }
        }
    }

    pub(super) fn set_caller(&self, caller: &Caller, address: Option<ClientAddress>) {
        let name = caller.who.to_string();
        let _ = self.caller.set(KnownCaller { name, address });
    }

    fn address(&self) -> Option<ClientAddress> {
        (self.caller.get()).map_or(self.address, |caller| caller.address)
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
            caller = $attempt.caller.get().map_or("", |caller| caller.name.as_str()),
            $($field = $value,)+
            ipAddress = $attempt.address().map(|address| tracing::field::display(address.client)),
            proxyAddress = $attempt.address().and_then(|address| address.proxy())
                .map(tracing::field::display),
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
