//! Commands, settings, probes, logs, metrics and traces, as operators use them.

mod archive;
mod command_line;
mod deploys;
mod embedded_default;
mod heist_check;
mod logs;
mod metrics;
mod monitoring;
mod readiness;
mod settings_file;
mod shutdown;
mod traces;
mod unread_log;
