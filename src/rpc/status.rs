//! The one place where refusals and faults become `tonic::Status`.
//!
//! Every refusal carries `google.rpc.ErrorInfo` with a reason that programs can compare;
//! messages are for people and may change.

use std::{collections::HashMap, time::Duration};

use time::OffsetDateTime;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt as _};

use super::render;
use crate::{
    auth::Scope,
    domain::{
        award::AwardRefusal,
        ids::{HeistId, NotificationId, UserId},
        rules::Refusal,
    },
    engine::EngineError,
};

/// The domain of every `ErrorInfo`.
const DOMAIN: &str = "heist.v1";
/// When to come back to a full queue. It drains within milliseconds.
const OVERLOAD_RETRY: Duration = Duration::from_millis(100);

type Facts<'a> = &'a [(&'a str, String)];

pub(super) fn feature_disabled() -> Status {
    refuse(
        Code::FailedPrecondition,
        "FEATURE_DISABLED",
        "Heists are switched off.",
        &[],
    )
}

/// Nobody knows who calls.
pub(super) fn unauthenticated(message: &str) -> Status {
    refuse(Code::Unauthenticated, "UNAUTHENTICATED", message, &[])
}

/// A service lacks the scope of an RPC.
pub(super) fn scope_needed(scope: Scope) -> Status {
    let scope = scope.name();
    forbidden(
        &format!("The scope {scope} is needed."),
        &[("scope", scope.to_owned())],
    )
}

/// A player calls what only services may.
pub(super) fn not_for_players() -> Status {
    forbidden("This is not for players.", &[])
}

/// A player acts for somebody else.
pub(super) fn only_for_oneself() -> Status {
    forbidden("Players act only for themselves.", &[])
}

fn forbidden(message: &str, facts: Facts<'_>) -> Status {
    refuse(Code::PermissionDenied, "PERMISSION_DENIED", message, facts)
}

pub(super) fn invalid_request(violations: Vec<FieldViolation>) -> Status {
    let summary: Vec<String> = violations
        .iter()
        .map(|violation| format!("{} {}", violation.field, violation.description))
        .collect();
    let mut details = info("INVALID_REQUEST", &[]);
    details.set_bad_request(violations);
    with_details(
        Code::InvalidArgument,
        &format!("Invalid request: {}.", summary.join("; ")),
        details,
    )
}

pub(super) fn invalid_page_token() -> Status {
    let mut details = info("INVALID_PAGE_TOKEN", &[]);
    details.add_bad_request_violation("page_token", "must come from the page before");
    with_details(
        Code::InvalidArgument,
        "The page token does not belong to this request.",
        details,
    )
}

pub(super) fn user_not_found(user_id: UserId) -> Status {
    refuse(
        Code::NotFound,
        "USER_NOT_FOUND",
        &format!("There is no player {user_id}."),
        &[("user_id", user_id.to_string())],
    )
}

pub(super) fn heist_not_found(heist_id: HeistId) -> Status {
    refuse(
        Code::NotFound,
        "HEIST_NOT_FOUND",
        &format!("There is no heist {heist_id}."),
        &[("heist_id", heist_id.to_string())],
    )
}

/// A revocation would take a balance below zero.
pub(super) fn too_few_to_revoke(balance: i32) -> Status {
    refuse(
        Code::FailedPrecondition,
        "INSUFFICIENT_TOKENS",
        &format!("The player has only {balance} tokens."),
        &[("balance", balance.to_string())],
    )
}

pub(super) fn request_id_reused() -> Status {
    refuse(
        Code::AlreadyExists,
        "REQUEST_ID_REUSED",
        "The request id belongs to an earlier call that asked for something else.",
        &[],
    )
}

/// Why a heist is not allowed, `now` being the time of the decision.
pub(super) fn heist_refused(refusal: &Refusal, now: OffsetDateTime) -> Status {
    let message = render::refusal_message(refusal);
    match refusal {
        Refusal::SelfTarget => refuse(Code::InvalidArgument, "SELF_TARGET", &message, &[]),
        Refusal::AttackerNotFound => refuse(Code::NotFound, "ATTACKER_NOT_FOUND", &message, &[]),
        Refusal::TargetNotFound => refuse(Code::NotFound, "TARGET_NOT_FOUND", &message, &[]),
        Refusal::InsufficientTokens => refuse(
            Code::FailedPrecondition,
            "INSUFFICIENT_TOKENS",
            &message,
            &[("tokens_required", "1".to_owned())],
        ),
        Refusal::CooldownActive { ends_at } => refuse_until(
            "COOLDOWN_ACTIVE",
            &message,
            ("cooldown_end_time", *ends_at),
            now,
        ),
        Refusal::InsufficientPoints { points, required } => refuse(
            Code::FailedPrecondition,
            "INSUFFICIENT_POINTS",
            &message,
            &[
                ("victim_points", points.to_string()),
                ("points_required", required.to_string()),
            ],
        ),
        Refusal::TargetProtected { ends_at } => refuse_until(
            "TARGET_PROTECTED",
            &message,
            ("protection_end_time", *ends_at),
            now,
        ),
    }
}

pub(super) fn award_refused(refusal: &AwardRefusal) -> Status {
    match refusal {
        AwardRefusal::SelfReferral => refuse(
            Code::InvalidArgument,
            "SELF_REFERRAL",
            "Players cannot refer themselves.",
            &[],
        ),
        AwardRefusal::UserNotFound(user_id) => user_not_found(*user_id),
        AwardRefusal::ReferralMismatch => refuse(
            Code::FailedPrecondition,
            "REFERRAL_MISMATCH",
            "The referred player was referred by somebody else.",
            &[],
        ),
        AwardRefusal::ReferralAlreadyAwarded => refuse(
            Code::AlreadyExists,
            "REFERRAL_ALREADY_AWARDED",
            "The token for this player was earned by somebody else.",
            &[],
        ),
    }
}

/// What a caller learns of a fault: whether to come back, and under which id it was logged.
pub(super) fn fault(error: &EngineError) -> Status {
    match error {
        EngineError::Overloaded => {
            let mut details = info("OVERLOADED", &[]);
            details.set_retry_info(Some(OVERLOAD_RETRY));
            with_details(
                Code::Unavailable,
                "Too many calls are waiting. Try again, with the same request id.",
                details,
            )
        }
        EngineError::Unavailable => refuse(
            Code::Unavailable,
            "DATABASE_UNAVAILABLE",
            "The database is unavailable. Try again, with the same request id.",
            &[],
        ),
        EngineError::Contention => refuse(
            Code::Aborted,
            "CONTENTION",
            "Too many conflicting calls. Try again, with the same request id.",
            &[],
        ),
        EngineError::DeadlineExceeded => {
            Status::deadline_exceeded("The call took longer than it was given.")
        }
        EngineError::Internal { incident } => {
            Status::internal(format!("Internal error {incident}."))
        }
    }
}

/// A stream that ends because the server stops.
pub(super) fn shutting_down() -> Status {
    refuse(
        Code::Unavailable,
        "SHUTTING_DOWN",
        "The server stops. Open the stream again.",
        &[],
    )
}

/// A stream of notifications that ends because its reader does not keep up.
pub(super) fn slow_reader(last_id: NotificationId) -> Status {
    let NotificationId(last_id) = last_id;
    refuse(
        Code::Aborted,
        "SLOW_READER",
        &format!("The stream was not read. Open it again after notification {last_id}."),
        &[("last_id", last_id.to_string())],
    )
}

/// A stream of points that ends because its reader does not keep up.
pub(super) fn slow_watcher() -> Status {
    refuse(
        Code::Aborted,
        "SLOW_READER",
        "The stream was not read. Open it again.",
        &[],
    )
}

/// A fault of ours that is not one of the database.
pub(super) fn internal(error: &str, doing: &str) -> Status {
    fault(&EngineError::internal(&error, doing))
}

fn refuse(code: Code, reason: &str, message: &str, facts: Facts<'_>) -> Status {
    with_details(code, message, info(reason, facts))
}

/// A refusal that time lifts.
fn refuse_until(
    reason: &str,
    message: &str,
    (fact, ends_at): (&str, OffsetDateTime),
    now: OffsetDateTime,
) -> Status {
    let mut details = info(reason, &[(fact, render::rfc3339(ends_at))]);
    details.set_retry_info(Some((ends_at - now).unsigned_abs()));
    with_details(Code::FailedPrecondition, message, details)
}

fn info(reason: &str, facts: Facts<'_>) -> ErrorDetails {
    let metadata: HashMap<String, String> = facts
        .iter()
        .map(|(name, value)| ((*name).to_owned(), value.clone()))
        .collect();
    ErrorDetails::with_error_info(reason, DOMAIN, metadata)
}

fn with_details(code: Code, message: &str, details: ErrorDetails) -> Status {
    Status::with_error_details(code, message, details)
}
