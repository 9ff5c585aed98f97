//! One log line for each attempt to change the books, whatever came of it. The id of the request
//! and its trace are added to it as to every line.
//!
//! What callers wrote is logged as values of fields, never as part of the message: both formats
//! quote and escape those, so that a line break in one cannot pass for another line.

use tokio::time::Instant;
use tonic::{Request, Status};
use tonic_types::StatusExt as _;

use crate::{
    domain::{eligibility::Eligibility, ids::UserId, rules::Refusal},
    pb, telemetry,
};

/// An attempt that has begun.
pub(super) struct Attempt {
    begun: Instant,
    ip_address: Option<String>,
}

impl Attempt {
    pub(super) fn begin<T>(request: &Request<T>) -> Self {
        telemetry::request::mark_audited();
        Self {
            begun: Instant::now(),
            ip_address: request
                .remote_addr()
                .map(|address| address.ip().to_string()),
        }
    }

    pub(super) fn heist(
        &self,
        asked: &pb::ExecuteHeistRequest,
        result: &Result<pb::ExecuteHeistResponse, Status>,
    ) {
        match result {
            Ok(response) => tracing::info!(
                event = "HEIST_SUCCESS",
                attackerId = asked.attacker_id,
                victimId = asked.victim_id,
                pointsStolen = response.heist.as_ref().map(|heist| heist.points_stolen),
                replayed = response.replayed,
                idempotencyKey = given(&asked.request_id),
                ipAddress = self.ip_address,
                duration_ms = self.duration_ms(),
            ),
            Err(status) => tracing::warn!(
                event = "HEIST_REFUSED",
                reason = reason(status),
                attackerId = asked.attacker_id,
                victimId = asked.victim_id,
                idempotencyKey = given(&asked.request_id),
                ipAddress = self.ip_address,
                duration_ms = self.duration_ms(),
            ),
        }
    }

    pub(super) fn award(
        &self,
        asked: &pb::AwardTokenRequest,
        result: &Result<pb::AwardTokenResponse, Status>,
    ) {
        match result {
            Ok(response) => tracing::info!(
                event = "TOKEN_AWARDED",
                referrerId = asked.referrer_id,
                referredId = asked.referred_id,
                alreadyAwarded = response.already_awarded,
                ipAddress = self.ip_address,
                duration_ms = self.duration_ms(),
            ),
            Err(status) => tracing::warn!(
                event = "AWARD_REFUSED",
                reason = reason(status),
                referrerId = asked.referrer_id,
                referredId = asked.referred_id,
                ipAddress = self.ip_address,
                duration_ms = self.duration_ms(),
            ),
        }
    }

    pub(super) fn adjustment(
        &self,
        asked: &pb::AdjustBalanceRequest,
        result: &Result<pb::AdjustBalanceResponse, Status>,
    ) {
        match result {
            Ok(response) => tracing::info!(
                event = "BALANCE_ADJUSTED",
                userId = asked.user_id,
                delta = asked.delta,
                why = asked.reason,
                replayed = response.replayed,
                idempotencyKey = given(&asked.request_id),
                ipAddress = self.ip_address,
                duration_ms = self.duration_ms(),
            ),
            Err(status) => tracing::warn!(
                event = "ADJUSTMENT_REFUSED",
                reason = reason(status),
                userId = asked.user_id,
                delta = asked.delta,
                idempotencyKey = given(&asked.request_id),
                ipAddress = self.ip_address,
                duration_ms = self.duration_ms(),
            ),
        }
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
        attackerId = attacker.0,
        victimId = eligibility.victim_id.0,
        eligible = eligibility.verdict.is_ok(),
        reason = eligibility.verdict.as_ref().err().map(Refusal::reason),
    );
}

/// Nothing where the caller gave none.
fn given(key: &str) -> Option<&str> {
    Some(key).filter(|key| !key.is_empty())
}

/// The reason of a refusal; the code where there is none.
fn reason(status: &Status) -> String {
    status
        .get_details_error_info()
        .map_or_else(|| format!("{:?}", status.code()), |info| info.reason)
}
