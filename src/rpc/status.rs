//! Renders refusals and faults as `tonic::Status`.
//!
//! Every refusal carries `google.rpc.ErrorInfo` with a reason for programs. Messages are for people
//! and may change.

use std::{collections::HashMap, num::NonZeroU32, time::Duration};

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
    fault::Fault,
    telemetry::request::{self, Request},
};

/// The domain of every `ErrorInfo`.
const DOMAIN: &str = "heist.v1";
/// The delay before a retry after a full queue, which drains within milliseconds.
const OVERLOAD_RETRY: Duration = Duration::from_millis(100);
/// The delay before a retry while the database is unavailable. A probe of the pool notices within
/// 200 ms that it is available again.
const DATABASE_RETRY: Duration = Duration::from_millis(500);
/// The delay before a retry after too many streams, which stay open for minutes to hours.
const STREAMS_RETRY: Duration = Duration::from_secs(5);

type Facts<'a> = &'a [(&'a str, String)];

pub(super) fn feature_disabled() -> Status {
    refuse(
        Code::FailedPrecondition,
        "FEATURE_DISABLED",
        "Heists are switched off.",
        &[],
    )
}

/// The caller is not authenticated.
pub(super) fn unauthenticated(message: &str) -> Status {
    refuse(Code::Unauthenticated, "UNAUTHENTICATED", message, &[])
}

/// The service does not have the scope of the method.
pub(super) fn scope_needed(scope: Scope) -> Status {
    let scope = scope.name();
    forbidden(
        &format!("The scope {scope} is required."),
        &[("scope", scope.to_owned())],
    )
}

/// A player calls a method that is for services only.
pub(super) fn not_for_players() -> Status {
    forbidden("Players may not call this method.", &[])
}

/// A player's request concerns another player.
pub(super) fn only_for_oneself() -> Status {
    forbidden("Players may act only for themselves.", &[])
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
    details.add_bad_request_violation("page_token", "must come from the previous page");
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

/// A revocation would make the balance negative.
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

/// The player's calls of the last minute have reached the limit.
pub(super) fn rate_limited(limit_per_minute: NonZeroU32, wait: Duration) -> Status {
    let facts = [("limit_per_minute", limit_per_minute.to_string())];
    with_wait(
        Code::ResourceExhausted,
        &format!("More than {limit_per_minute} calls in a minute for this player."),
        info("RATE_LIMITED", &facts),
        wait,
    )
}

/// The player has too many open streams.
pub(super) fn too_many_streams(limit: usize) -> Status {
    refuse(
        Code::ResourceExhausted,
        "TOO_MANY_STREAMS",
        &format!("The player has {limit} streams open. Close one of them."),
        &[("limit", limit.to_string())],
    )
}

/// The server has reached its limit of calls in progress or of their memory.
pub(super) fn overloaded() -> Status {
    with_wait(
        Code::Unavailable,
        "Too many calls are in progress. Try again with the same request id.",
        info("OVERLOADED", &[]),
        OVERLOAD_RETRY,
    )
}

/// The server has reached its limit of open streams.
pub(super) fn overloaded_with_streams() -> Status {
    with_wait(
        Code::Unavailable,
        "Too many streams are open.",
        info("OVERLOADED", &[]),
        STREAMS_RETRY,
    )
}

/// The refusal of a heist. `now` is the time of the decision.
pub(super) fn heist_refused(refusal: &Refusal, now: OffsetDateTime) -> Status {
    let message = render::refusal_message(refusal);
    let reason = refusal.reason();
    match refusal {
        Refusal::SelfTarget => refuse(Code::InvalidArgument, reason, &message, &[]),
        Refusal::AttackerNotFound | Refusal::TargetNotFound => {
            refuse(Code::NotFound, reason, &message, &[])
        }
        Refusal::InsufficientTokens => refuse(
            Code::FailedPrecondition,
            reason,
            &message,
            &[("tokens_required", "1".to_owned())],
        ),
        Refusal::CooldownActive { ends_at } => {
            refuse_until(reason, &message, ("cooldown_end_time", *ends_at), now)
        }
        Refusal::InsufficientPoints { points, required } => refuse(
            Code::FailedPrecondition,
            reason,
            &message,
            &[
                ("victim_points", points.to_string()),
                ("points_required", required.to_string()),
            ],
        ),
        Refusal::TargetProtected { ends_at } => {
            refuse_until(reason, &message, ("protection_end_time", *ends_at), now)
        }
        Refusal::PointsLimitReached {
            points,
            points_at_stake,
        } => refuse(
            Code::FailedPrecondition,
            reason,
            &message,
            &[
                ("attacker_points", points.to_string()),
                ("points_at_stake", points_at_stake.to_string()),
            ],
        ),
    }
}

pub(super) fn award_refused(refusal: &AwardRefusal) -> Status {
    let reason = refusal.reason();
    match refusal {
        AwardRefusal::SelfReferral => refuse(
            Code::InvalidArgument,
            reason,
            "Players cannot refer themselves.",
            &[],
        ),
        AwardRefusal::UserNotFound(user_id) => user_not_found(*user_id),
        AwardRefusal::ReferralMismatch => refuse(
            Code::FailedPrecondition,
            reason,
            "The account of the referred player names another referrer.",
            &[],
        ),
        AwardRefusal::ReferralAlreadyAwarded => refuse(
            Code::AlreadyExists,
            reason,
            "Another referrer earned the token for this player.",
            &[],
        ),
    }
}

/// The status of a fault: whether to retry, and the id under which the fault was logged.
pub(super) fn fault(error: &Fault) -> Status {
    match error {
        Fault::Overloaded => overloaded(),
        Fault::Unavailable => with_wait(
            Code::Unavailable,
            "The database is unavailable. Try again, with the same request id.",
            info("DATABASE_UNAVAILABLE", &[]),
            DATABASE_RETRY,
        ),
        Fault::Contention => refuse(
            Code::Aborted,
            "CONTENTION",
            "Too many conflicting calls. Try again, with the same request id.",
            &[],
        ),
        Fault::DeadlineExceeded | Fault::Unknown => {
            Status::deadline_exceeded("The deadline passed before there was an answer.")
        }
        Fault::Internal => Status::internal(internal_error()),
    }
}

/// The message of an internal error. It has the call id, by which an operator finds the error in
/// the log.
fn internal_error() -> String {
    let message = |request: &Request| Some(format!("Internal error {}.", request.id()?));
    request::with_current(message)
        .flatten()
        .unwrap_or_else(|| "Internal error.".to_owned())
}

/// A stream ends because the server is stopping.
pub(super) fn shutting_down() -> Status {
    refuse(
        Code::Unavailable,
        "SHUTTING_DOWN",
        "The server is stopping. Open the stream again.",
        &[],
    )
}

/// A stream ends because it has reached its maximum age.
pub(super) fn stream_too_old() -> Status {
    refuse(
        Code::Unavailable,
        "STREAM_TOO_OLD",
        "The stream has reached its maximum age. Open it again.",
        &[],
    )
}

/// The request did not arrive in time.
pub(super) fn request_too_late() -> Status {
    Status::deadline_exceeded("The request took too long to arrive.")
}

/// The request announces a message that is larger than the method allows.
pub(super) fn message_too_large(bytes: usize, limit: usize) -> Status {
    Status::out_of_range(format!(
        "The message has {bytes} bytes, and {limit} are allowed."
    ))
}

/// The request is no message of the method. tonic says INTERNAL then, which callers and alerts
/// would take for a fault of the server.
pub(super) fn undecodable(error: &Status) -> Status {
    refuse(
        Code::InvalidArgument,
        "INVALID_REQUEST",
        &format!("The request cannot be decoded: {}.", error.message()),
        &[],
    )
}

/// The request has more than one message.
pub(super) fn second_message() -> Status {
    refuse(
        Code::InvalidArgument,
        "INVALID_REQUEST",
        "The call has more than one message.",
        &[],
    )
}

/// The caller did not read the answer in time, which is no fault of the server.
pub(super) fn unread_answer() -> Status {
    Status::cancelled("The answer was not read.")
}

/// A stream of notifications ends because it was not read.
pub(super) fn slow_reader(last_id: Option<NotificationId>) -> Status {
    let last_id = last_id.map_or(0, NotificationId::get);
    refuse(
        Code::Aborted,
        "SLOW_READER",
        &format!("The stream was not read. Open it again after notification {last_id}."),
        &[("last_id", last_id.to_string())],
    )
}

/// A stream of points ends because it was not read.
pub(super) fn slow_watcher() -> Status {
    refuse(
        Code::Aborted,
        "SLOW_READER",
        "The stream was not read. Open it again.",
        &[],
    )
}

/// A defect outside the database.
pub(super) fn internal(error: &str, doing: &str) -> Status {
    fault(&Fault::internal(&error, doing))
}

fn refuse(code: Code, reason: &str, message: &str, facts: Facts<'_>) -> Status {
    with_details(code, message, info(reason, facts))
}

/// A refusal that ends by itself at a known time.
fn refuse_until(
    reason: &str,
    message: &str,
    (fact, ends_at): (&str, OffsetDateTime),
    now: OffsetDateTime,
) -> Status {
    let details = info(reason, &[(fact, render::rfc3339(ends_at))]);
    let wait = (ends_at - now).unsigned_abs();
    with_wait(Code::FailedPrecondition, message, details, wait)
}

fn with_wait(code: Code, message: &str, mut details: ErrorDetails, wait: Duration) -> Status {
    details.set_retry_info(Some(wait));
    with_details(code, message, details)
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
