//! One log line for each attempt to change the books, whatever came of it: also where the caller
//! was not let in, sent bytes that are no message, or did not wait for the answer. The id of the
//! request and its trace are added to it as to every line.
//!
//! The lines have a target of their own, `heist::audit`, to filter them or send them elsewhere.
//! What callers wrote is logged as values of fields, never as part of the message: both formats
//! quote and escape those, so that a line break in one cannot pass for another line.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::time::Instant;
use tonic::{Request, Status, codegen::http, transport::server::TcpConnectInfo};
use tonic_types::StatusExt as _;
use uuid::Uuid;

use super::access::Rpc;
use crate::{
    auth::Caller,
    domain::{eligibility::Eligibility, ids::UserId, rules::Refusal},
    pb, telemetry,
};

const TARGET: &str = "heist::audit";

/// An attempt that has begun. Its line is written when it is dropped, so that there always is one.
pub(super) struct Attempt {
    kind: Kind,
    begun: Instant,
    /// Empty where nobody knows.
    caller: String,
    ip_address: Option<String>,
    record: Mutex<Record>,
}

/// What is audited.
#[derive(Clone, Copy)]
enum Kind {
    Heist,
    Award,
    Adjustment,
}

/// What is known of an attempt.
#[derive(Default)]
pub(super) struct Record {
    outcome: Option<Outcome>,
    attacker_id: Option<i32>,
    victim_id: Option<i32>,
    points_stolen: Option<i32>,
    referrer_id: Option<i32>,
    referred_id: Option<i32>,
    already_awarded: Option<bool>,
    user_id: Option<i32>,
    delta: Option<i32>,
    why: Option<String>,
    replayed: Option<bool>,
    request_id: Option<String>,
}

enum Outcome {
    Done,
    Refused { reason: String },
}

/// A request or an answer of an RPC that is audited.
pub(super) trait Audited {
    fn tell(&self, record: &mut Record);
}

impl Attempt {
    /// `None` where such calls change nothing that counts.
    pub(super) fn begin<B>(
        rpc: &Rpc,
        begun: Instant,
        caller: Option<&Caller>,
        request: &http::Request<B>,
    ) -> Option<Arc<Self>> {
        let kind = match rpc.path {
            "/heist.v1.HeistService/ExecuteHeist" => Kind::Heist,
            "/heist.v1.TokenService/AwardToken" => Kind::Award,
            "/heist.v1.TokenService/AdjustBalance" => Kind::Adjustment,
            _ => return None,
        };
        telemetry::request::mark_audited();
        let tcp: Option<&TcpConnectInfo> = request.extensions().get();
        Some(Arc::new(Self {
            kind,
            begun,
            caller: caller
                .map(|caller| caller.who.to_string())
                .unwrap_or_default(),
            ip_address: (tcp.and_then(TcpConnectInfo::remote_addr))
                .map(|address| address.ip().to_string()),
            record: Mutex::default(),
        }))
    }

    /// The attempt that a request is, now that it is known what it asks.
    pub(super) fn of<Q: Audited>(request: &Request<Q>) -> Arc<Self> {
        let attempt: &Arc<Self> = (request.extensions().get())
            .expect("the door begins an attempt for each RPC that is audited");
        attempt.change(|record| request.get_ref().tell(record));
        Arc::clone(attempt)
    }

    pub(super) fn ended<A: Audited>(&self, result: &Result<A, Status>) {
        match result {
            Ok(answer) => self.change(|record| {
                answer.tell(record);
                record.outcome = Some(Outcome::Done);
            }),
            Err(status) => self.refused(status),
        }
    }

    pub(super) fn refused(&self, status: &Status) {
        self.change(|record| {
            record.outcome.get_or_insert_with(|| Outcome::Refused {
                reason: reason(status),
            });
        });
    }

    fn change(&self, change: impl FnOnce(&mut Record)) {
        change(&mut self.record.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn duration_ms(&self) -> f64 {
        const MS_PER_S: f64 = 1000.0;
        self.begun.elapsed().as_secs_f64() * MS_PER_S
    }
}

/// What a player is told that they could do: no attempt, and only for who wants to know it all.
pub(super) fn eligibility_checked(attacker: UserId, eligibility: &Eligibility) {
    tracing::debug!(
        event = "ELIGIBILITY_CHECKED",
        attackerId = attacker.get(),
        victimId = eligibility.victim_id.get(),
        eligible = eligibility.verdict.is_ok(),
        reason = eligibility.verdict.as_ref().err().map(Refusal::reason),
    );
}

/// Writes the line, with those of its fields that are known.
macro_rules! write_line {
    ($level:expr, $attempt:ident, $record:ident, $event:expr, $reason:expr) => {
        tracing::event!(
            target: TARGET,
            $level,
            event = $event,
            reason = $reason,
            caller = $attempt.caller,
            attackerId = $record.attacker_id,
            victimId = $record.victim_id,
            pointsStolen = $record.points_stolen,
            referrerId = $record.referrer_id,
            referredId = $record.referred_id,
            alreadyAwarded = $record.already_awarded,
            userId = $record.user_id,
            delta = $record.delta,
            why = $record.why,
            replayed = $record.replayed,
            idempotencyKey = $record.request_id,
            ipAddress = $attempt.ip_address,
            duration_ms = $attempt.duration_ms(),
        )
    };
}

impl Drop for Attempt {
    fn drop(&mut self) {
        let record = self
            .record
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        let record = std::mem::take(record);
        let (done, refused, abandoned) = self.kind.events();
        match &record.outcome {
            Some(Outcome::Done) => {
                write_line!(tracing::Level::INFO, self, record, done, None::<&str>);
            }
            Some(Outcome::Refused { reason }) => {
                write_line!(
                    tracing::Level::WARN,
                    self,
                    record,
                    refused,
                    Some(reason.as_str())
                );
            }
            None => {
                write_line!(tracing::Level::WARN, self, record, abandoned, None::<&str>);
            }
        }
    }
}

impl Kind {
    /// What an attempt is called that succeeded, that was refused, and whose caller had gone
    /// before it was known which.
    fn events(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Heist => ("HEIST_SUCCESS", "HEIST_REFUSED", "HEIST_ABANDONED"),
            Self::Award => ("TOKEN_AWARDED", "AWARD_REFUSED", "AWARD_ABANDONED"),
            Self::Adjustment => (
                "BALANCE_ADJUSTED",
                "ADJUSTMENT_REFUSED",
                "ADJUSTMENT_ABANDONED",
            ),
        }
    }
}

impl Audited for pb::ExecuteHeistRequest {
    fn tell(&self, record: &mut Record) {
        record.attacker_id = Some(self.attacker_id);
        record.victim_id = Some(self.victim_id);
        record.request_id = request_id(&self.request_id);
    }
}

impl Audited for pb::ExecuteHeistResponse {
    fn tell(&self, record: &mut Record) {
        record.points_stolen = self.heist.as_ref().map(|heist| heist.points_stolen);
        record.replayed = Some(self.replayed);
    }
}

impl Audited for pb::AwardTokenRequest {
    fn tell(&self, record: &mut Record) {
        record.referrer_id = Some(self.referrer_id);
        record.referred_id = Some(self.referred_id);
    }
}

impl Audited for pb::AwardTokenResponse {
    fn tell(&self, record: &mut Record) {
        record.already_awarded = Some(self.already_awarded);
    }
}

impl Audited for pb::AdjustBalanceRequest {
    fn tell(&self, record: &mut Record) {
        record.user_id = Some(self.user_id);
        record.delta = Some(self.delta);
        record.request_id = request_id(&self.request_id);
        record.why = Some(without_addresses(&self.reason));
    }
}

impl Audited for pb::AdjustBalanceResponse {
    fn tell(&self, record: &mut Record) {
        record.replayed = Some(self.replayed);
    }
}

/// A request id that is one: anything else a caller could fill the log with.
fn request_id(asked: &str) -> Option<String> {
    Uuid::try_parse(asked).ok().map(|id| id.to_string())
}

/// What somebody wrote for people, without e-mail addresses, which have no place in a log, and no
/// longer than the contract allows.
fn without_addresses(text: &str) -> String {
    const MAX_CHARS: usize = 500;
    let text: String = text.chars().take(MAX_CHARS).collect();
    let words = text.split(' ').map(|word| {
        let is_address = word.trim_matches('@').contains('@');
        if is_address { "[e-mail]" } else { word }
    });
    words.collect::<Vec<_>>().join(" ")
}

/// The reason of a refusal; the code where there is none.
fn reason(status: &Status) -> String {
    status
        .get_details_error_info()
        .map_or_else(|| format!("{:?}", status.code()), |info| info.reason)
}
