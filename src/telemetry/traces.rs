//! Traces.
//!
//! A call's span continues the caller's trace. A batch works for several calls, so its span is in the
//! trace of the first sampled call and linked with the others in both directions. Spans exist only if
//! they are sampled.
//!
//! Any replica may send an e-mail later, so the span context of the batch is stored with the e-mail.

use std::{
    collections::HashMap,
    sync::OnceLock,
    time::{Duration, SystemTime},
};

use http::HeaderMap;
use opentelemetry::{
    Context, KeyValue,
    propagation::{Extractor, TextMapPropagator as _},
    trace::{
        Link, Span as _, SpanBuilder, SpanContext, SpanKind, Status, TraceContextExt as _,
        TracerProvider as _,
    },
};
use opentelemetry_sdk::{
    propagation::TraceContextPropagator,
    trace::{SdkTracer, SdkTracerProvider},
};

use super::request::{self, Request};

/// A recording span, which is exported when it is dropped.
pub use opentelemetry_sdk::trace::Span;

const TRACE_PARENT: &str = "traceparent";

/// Set once if spans are exported.
static TRACER: OnceLock<SdkTracer> = OnceLock::new();

pub(super) fn start(provider: &SdkTracerProvider) {
    let _ = TRACER.set(provider.tracer("heist"));
}

/// The span of a call and its context. Without an exporter the context is the caller's.
#[must_use]
pub fn call(method: &'static str, headers: &HeaderMap) -> (Option<Span>, Option<SpanContext>) {
    let parent = parent_of(headers);
    let Some(tracer) = TRACER.get() else {
        return (None, parent);
    };
    let context = parent.map_or_else(Context::new, in_trace);
    let span = SpanBuilder::from_name(method.trim_start_matches('/'))
        .with_kind(SpanKind::Server)
        .with_attributes([
            KeyValue::new("rpc.system.name", "grpc"),
            KeyValue::new("rpc.method", method.trim_start_matches('/')),
        ])
        .start_with_context(tracer, &context);
    let place = span.span_context().clone();
    (span.is_recording().then_some(span), Some(place))
}

/// Ends the span of a call.
pub fn end_call(mut span: Span, code: &'static str, reason: Option<String>, is_fault: bool) {
    span.set_attribute(KeyValue::new("rpc.response.status_code", code));
    if is_fault {
        span.set_status(Status::error(code));
    }
    if let Some(reason) = reason {
        span.set_attribute(KeyValue::new("error.type", reason));
    }
    span.end();
}

/// The span of a batch that works for `requests`; `None` if none of them is sampled. `waited` has
/// the time that each request waited for the batch, or `None` if the request was part of an earlier
/// batch.
#[must_use]
pub fn batch(
    operation: &'static str,
    requests: &[Option<Request>],
    waited: &[Option<Duration>],
) -> Option<Span> {
    let tracer = TRACER.get()?;
    let sampled: Vec<(&SpanContext, Option<Duration>)> = (requests.iter().zip(waited))
        .filter_map(|(request, waited)| Some((request.as_ref()?.span()?, *waited)))
        .filter(|(place, _)| place.is_sampled())
        .collect();
    let (first, _) = sampled.first()?;
    let links = sampled.iter().map(|(place, _)| link(place)).collect();
    let size = i64::try_from(requests.len()).unwrap_or(i64::MAX);
    let batch = SpanBuilder::from_name(format!("{operation} batch"))
        .with_attributes([KeyValue::new("heist.batch.size", size)])
        .with_links(links)
        .start_with_context(tracer, &in_trace((*first).clone()));
    let now = SystemTime::now();
    for (place, waited) in sampled {
        let Some(waited) = waited else {
            continue;
        };
        let mut wait = SpanBuilder::from_name("queue wait")
            .with_start_time(now.checked_sub(waited).unwrap_or(now))
            .with_links(vec![link(batch.span_context())])
            .start_with_context(tracer, &in_trace(place.clone()));
        wait.end_with_timestamp(now);
    }
    Some(batch)
}

/// The span of a statement, as a child of the current task's span. `None` if the current span is
/// not sampled.
#[must_use]
pub fn statement(operation: &'static str) -> Option<Span> {
    let tracer = TRACER.get()?;
    let place = request::with_current(|request| request.span().cloned())??;
    if !place.is_sampled() {
        return None;
    }
    let span = SpanBuilder::from_name(operation)
        .with_kind(SpanKind::Client)
        .with_attributes([
            KeyValue::new("db.system.name", "postgresql"),
            KeyValue::new("db.operation.name", operation),
        ])
        .start_with_context(tracer, &in_trace(place));
    Some(span)
}

/// The current task's span as a W3C `traceparent`, to continue the trace later in another process.
/// `None` if it is not sampled.
#[must_use]
pub fn parent_to_keep() -> Option<String> {
    TRACER.get()?;
    let place = request::with_current(|request| request.span().cloned())??;
    if !place.is_sampled() {
        return None;
    }
    let mut carrier = HashMap::new();
    TraceContextPropagator::new().inject_context(&in_trace(place), &mut carrier);
    carrier.remove(TRACE_PARENT)
}

/// The span of an attempt to send an e-mail, as a part of the first of these traces and linked with
/// the others. `None` without a trace.
#[must_use]
pub fn mail(provider: &'static str, kept_parents: &[String]) -> Option<Span> {
    let tracer = TRACER.get()?;
    let places: Vec<SpanContext> = (kept_parents.iter())
        .filter_map(|parent| place_in(&HashMap::from([(TRACE_PARENT.to_owned(), parent.clone())])))
        .collect();
    let (first, others) = places.split_first()?;
    let span = SpanBuilder::from_name("send mail")
        .with_kind(SpanKind::Client)
        .with_attributes([KeyValue::new("heist.email.provider", provider)])
        .with_links(others.iter().map(link).collect())
        .start_with_context(tracer, &in_trace(first.clone()));
    Some(span)
}

/// Ends the span of an attempt to send an e-mail.
pub fn end_mail(span: Option<Span>, has_failed: bool) {
    if let (Some(mut span), true) = (span, has_failed) {
        fail(&mut span);
    }
}

/// Marks the span as failed.
pub fn fail(span: &mut Span) {
    span.set_status(Status::error(""));
}

fn link(place: &SpanContext) -> Link {
    Link::new(place.clone(), Vec::new(), 0)
}

fn in_trace(place: SpanContext) -> Context {
    Context::new().with_remote_span_context(place)
}

/// The caller's W3C trace context.
fn parent_of(headers: &HeaderMap) -> Option<SpanContext> {
    if !headers.contains_key(TRACE_PARENT) {
        return None;
    }
    place_in(&Headers(headers))
}

fn place_in(carrier: &dyn Extractor) -> Option<SpanContext> {
    let context = TraceContextPropagator::new().extract_with_context(&Context::new(), carrier);
    let place = context.span().span_context().clone();
    place.is_valid().then_some(place)
}

struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(http::HeaderName::as_str).collect()
    }
}
