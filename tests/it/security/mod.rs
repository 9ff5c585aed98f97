//! Authentication, authorization, TLS and the audit.

mod attacks;
mod audit;
mod authorization;
mod bearer_tokens;
mod client_address;
mod database_role;
mod identity_providers;
mod security_settings;
mod strangers_log;
mod tls;
