//! Logs: one event per line on standard error.

use std::io::{IsTerminal as _, stderr};

use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt as _, util::SubscriberInitExt as _};

use crate::config::{LogConfig, LogFormat};

/// Starts logging. Call it once, first of all.
pub fn init(config: &LogConfig) {
    let filter = EnvFilter::new(&config.filter);
    let default_format = if stderr().is_terminal() {
        LogFormat::Text
    } else {
        LogFormat::Json
    };
    let registry = tracing_subscriber::registry().with(filter);
    match config.log_format.unwrap_or(default_format) {
        LogFormat::Json => {
            let layer = fmt::layer()
                .json()
                .flatten_event(true)
                .with_current_span(false)
                .with_span_list(false);
            registry.with(layer.with_writer(stderr)).init();
        }
        LogFormat::Text => {
            let layer = fmt::layer().with_ansi(stderr().is_terminal());
            registry.with(layer.with_writer(stderr)).init();
        }
    }
}
