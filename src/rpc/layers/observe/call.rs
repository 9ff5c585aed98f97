//! The metrics, the trace and the log line of one call.

use std::{net::IpAddr, time::Instant};

use http::{HeaderMap, Request};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::{
    rpc::client_address::ClientAddress,
    telemetry::{
        LogLimiter, Part,
        metrics::METRICS,
        permits_stranger, request,
        traces::{self, Span},
    },
};

const CALL_REFUSED: &str = "CALL_REFUSED";

/// Bounds the lines about refused calls, which any caller can cause.
static LOG_LIMITER: LogLimiter = LogLimiter::new();

/// A call in progress. If it is dropped before its status is known, the caller has cancelled it.
pub(super) struct Call {
    method: &'static str,
    begun: Instant,
    request: request::Request,
    ip_address: Option<IpAddr>,
    span: Option<Span>,
    ended: bool,
}

impl Call {
    pub(super) fn begin<B>(
        method: &'static str,
        request: &Request<B>,
        callers_id: Option<&[u8]>,
    ) -> Self {
        METRICS.active_calls(1, method);
        let (span, context) = traces::call(method, request.headers());
        let address: Option<&ClientAddress> = request.extensions().get();
        Self {
            method,
            begun: Instant::now(),
            request: request::Request::new(callers_id, context),
            ip_address: address.map(|address| address.client),
            span,
            ended: false,
        }
    }

    pub(super) fn request(&self) -> &request::Request {
        &self.request
    }

    /// Ends the call if these headers or trailers hold its status.
    pub(super) fn end_with(&mut self, headers: &HeaderMap) {
        if let Some(status) = Status::from_header_map(headers) {
            self.end(&status);
        }
    }

    fn end(&mut self, status: &Status) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        let code = status.code();
        let name = name_of(code);
        METRICS.active_calls(-1, self.method);
        METRICS.call_ended(self.method, name, self.begun.elapsed());
        let reason = (code != Code::Ok).then(|| reason_of(status));
        if let Some(reason) = &reason {
            METRICS.call_failed(self.method, name, reason.clone());
            if is_refusal(code) && !self.request.is_audited() {
                self.log_refusal(code, reason);
            }
        }
        if let Some(span) = self.span.take() {
            traces::end_call(span, name, reason, is_fault(code));
        }
    }

    /// Logs a refusal. Faults are logged where they happen, and audited calls by the audit. Callers
    /// without a valid token have lines of their own number, so that they do not displace others.
    fn log_refusal(&self, code: Code, reason: &str) {
        let suppressed = if code == Code::Unauthenticated {
            let address = self.ip_address;
            permits_stranger(Part::Main, CALL_REFUSED, reason, address).then_some(0)
        } else {
            LOG_LIMITER.permit(tokio::time::Instant::now())
        };
        let code = name_of(code);
        if let Some(suppressed) = suppressed {
            self.request.clone().enter(|| {
                tracing::warn!(
                    event = CALL_REFUSED,
                    method = self.method,
                    code,
                    reason,
                    ipAddress = self.ip_address.map(tracing::field::display),
                    duration_ms = self.begun.elapsed().as_secs_f64() * 1000.0,
                    suppressed,
                );
            });
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.end(&Status::cancelled(""));
    }
}

/// The name of a code in the gRPC specification.
fn name_of(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

/// The reason of the status's `ErrorInfo`; empty if it has none.
fn reason_of(status: &Status) -> String {
    let info = status.get_details_error_info();
    info.map_or_else(String::new, |info| info.reason)
}

/// Whether the call was refused because of its request or caller.
fn is_refusal(code: Code) -> bool {
    !matches!(code, Code::Ok | Code::Cancelled) && !is_fault(code)
}

/// Whether the call failed because of the server.
fn is_fault(code: Code) -> bool {
    matches!(
        code,
        Code::Unknown
            | Code::DeadlineExceeded
            | Code::Aborted
            | Code::Internal
            | Code::Unavailable
            | Code::DataLoss
    )
}
