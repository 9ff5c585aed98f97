//! Authentication, authorization, TLS and the audit.

mod attacks;
mod audit;
mod authorization;
mod bearer_tokens;
mod database_role;
mod security_settings;
mod tls;
