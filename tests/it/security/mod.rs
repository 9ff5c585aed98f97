//! Authentication, authorization, TLS and the audit.

mod audit;
mod authorization;
mod bearer_tokens;
mod identity_providers;
mod security_settings;
mod tls;
