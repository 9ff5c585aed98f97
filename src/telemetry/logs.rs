//! Logs: one event per line on standard error.
//!
//! A line that is written on behalf of a request ends with the request's id and trace id.

use std::{
    fmt,
    io::{IsTerminal as _, stderr},
};

use opentelemetry::trace::SpanContext;
use tracing::{Event, Subscriber};
use tracing_subscriber::{
    EnvFilter,
    fmt::{
        FmtContext, FormatEvent, FormatFields,
        format::{Format, Full, Json, JsonFields, Writer},
    },
    layer::SubscriberExt as _,
    registry::LookupSpan,
    util::SubscriberInitExt as _,
};

use super::request::{self, Request};

/// The filter and the format of the log.
#[derive(Clone, Debug)]
pub struct LogOptions {
    /// `None`: text on a terminal, JSON otherwise.
    pub format: Option<LogFormat>,
    /// Directives of `tracing_subscriber::EnvFilter`.
    pub filter: String,
}

/// The format of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Json,
    Text,
}

/// Starts logging. Must be called once, before all other functions.
pub fn init(options: &LogOptions) {
    let filter = EnvFilter::new(&options.filter);
    let is_terminal = stderr().is_terminal();
    let default_format = if is_terminal {
        LogFormat::Text
    } else {
        LogFormat::Json
    };
    let registry = tracing_subscriber::registry().with(filter);
    let layer = tracing_subscriber::fmt::layer().with_writer(stderr);
    match options.format.unwrap_or(default_format) {
        LogFormat::Json => {
            let format = tracing_subscriber::fmt::format()
                .json()
                .flatten_event(true)
                .with_current_span(false)
                .with_span_list(false);
            let layer = layer.fmt_fields(JsonFields::new());
            registry.with(layer.event_format(JsonLines(format))).init();
        }
        LogFormat::Text => {
            let format = tracing_subscriber::fmt::format().with_ansi(is_terminal);
            let layer = layer.with_ansi(is_terminal);
            registry.with(layer.event_format(TextLines(format))).init();
        }
    }
}

/// The library's JSON format, with the request as the last fields.
struct JsonLines(Format<Json>);

impl<S, N> FormatEvent<S, N> for JsonLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut line = String::new();
        self.0
            .format_event(context, Writer::new(&mut line), event)?;
        let line = line.trim_end();
        writer.write_str(line.strip_suffix('}').unwrap_or(line))?;
        // Ids consist of letters, digits and a few marks, so they need no escapes.
        request::with_current(|request| {
            if let Some(id) = request.id() {
                write!(writer, r#","requestId":"{id}""#)?;
            }
            if let Some(span) = traced(request) {
                let (trace_id, span_id) = (span.trace_id(), span.span_id());
                write!(writer, r#","traceId":"{trace_id}","spanId":"{span_id}""#)?;
            }
            Ok::<_, fmt::Error>(())
        })
        .unwrap_or(Ok(()))?;
        writer.write_str("}\n")
    }
}

/// The library's text format, with the request at the end of the line.
struct TextLines(Format<Full>);

impl<S, N> FormatEvent<S, N> for TextLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut line = String::new();
        self.0
            .format_event(context, Writer::new(&mut line), event)?;
        writer.write_str(line.trim_end())?;
        request::with_current(|request| {
            if let Some(id) = request.id() {
                write!(writer, " requestId={id}")?;
            }
            if let Some(span) = traced(request) {
                write!(writer, " traceId={}", span.trace_id())?;
            }
            Ok::<_, fmt::Error>(())
        })
        .unwrap_or(Ok(()))?;
        writer.write_char('\n')
    }
}

fn traced(request: &Request) -> Option<&SpanContext> {
    request.span().filter(|span| span.is_valid())
}
