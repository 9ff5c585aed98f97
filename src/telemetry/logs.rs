//! Logs: one event per line on standard error.
//!
//! A line that is written on behalf of a call ends with the call id and the trace id.

use std::{
    borrow::Cow,
    fmt,
    io::{self, IsTerminal as _, stderr},
    panic,
    sync::OnceLock,
    time::Duration,
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

use super::{
    log_queue::LogQueue,
    request::{self, Request},
};

/// How long the process waits for the last lines to be written.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

static QUEUE: OnceLock<LogQueue> = OnceLock::new();

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
///
/// # Errors
///
/// The thread that writes the log cannot be started.
pub fn init(options: &LogOptions) -> io::Result<()> {
    let filter = EnvFilter::new(&options.filter);
    let is_terminal = stderr().is_terminal();
    let default_format = if is_terminal {
        LogFormat::Text
    } else {
        LogFormat::Json
    };
    let queue = LogQueue::start(stderr())?;
    let queue = QUEUE.get_or_init(|| queue);
    let registry = tracing_subscriber::registry().with(filter);
    let layer = tracing_subscriber::fmt::layer().with_writer(queue.clone());
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
    // The default hook writes to standard error, and so would block if the log is not read.
    panic::set_hook(Box::new(|panic| {
        let location = panic.location().map(tracing::field::display);
        let cause = panic.payload_as_str().unwrap_or_default();
        tracing::error!(event = "PANIC", location, cause);
    }));
    Ok(())
}

/// Writes a line for people after the lines of the log, and waits at most 2 seconds until all
/// lines have been written.
pub fn finish(last_line: Option<&str>) {
    let Some(queue) = QUEUE.get() else { return };
    queue.flush(FLUSH_TIMEOUT);
    if let Some(line) = last_line {
        queue.push(format!("{line}\n").as_bytes(), true);
        queue.flush(FLUSH_TIMEOUT);
    }
}

/// The dropped audit lines and the other dropped lines, since the start.
pub(super) fn dropped_lines() -> (u64, u64) {
    QUEUE.get().map(LogQueue::dropped).unwrap_or_default()
}

/// The library's JSON format, with the call id and the trace as the last fields.
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
        let line = escape(line.trim_end(), |it| format!("\\u{:04x}", u32::from(it)));
        writer.write_str(line.strip_suffix('}').unwrap_or(&line))?;
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

/// The library's text format, with the call id and the trace at the end of the line.
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
        let escaped = escape(line.trim_end(), |it| it.escape_unicode().to_string());
        writer.write_str(&escaped)?;
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

/// Escapes the characters that change how a terminal or a log viewer displays a line: control
/// characters outside ASCII, line separators, and marks of bidirectional text. The library escapes
/// the control characters of ASCII, except DEL.
fn escape(line: &str, escaped: impl Fn(char) -> String) -> Cow<'_, str> {
    if !line.contains(misleads) {
        return line.into();
    }
    let mut safe = String::with_capacity(line.len());
    for character in line.chars() {
        if misleads(character) {
            safe.push_str(&escaped(character));
        } else {
            safe.push(character);
        }
    }
    safe.into()
}

fn misleads(character: char) -> bool {
    matches!(character,
        '\u{7f}'..='\u{9f}'
        | '\u{61c}'
        | '\u{200b}'..='\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2066}'..='\u{2069}'
        | '\u{feff}')
}

fn traced(request: &Request) -> Option<&SpanContext> {
    request.span().filter(|span| span.is_valid())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_that_mislead_a_reader_are_escaped() {
        let json = |line| escape(line, |it| format!("\\u{:04x}", u32::from(it)));
        assert_eq!(json("Ada \u{e9} \u{1f600}"), "Ada \u{e9} \u{1f600}");
        for (line, escaped) in [
            ("\u{202e}abc", "\\u202eabc"),
            ("a\u{7f}b\u{9b}c", "a\\u007fb\\u009bc"),
            ("a\u{2028}b\u{2066}c", "a\\u2028b\\u2066c"),
        ] {
            assert_eq!(json(line), escaped);
            let read: String = serde_json::from_str(&format!("\"{escaped}\"")).unwrap();
            assert_eq!(read, line);
        }
    }
}
