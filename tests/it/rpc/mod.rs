//! The contract: one folder per service, one file per RPC, and what all RPCs share.

mod answer_sizes;
mod bad_fields;
mod bad_input;
mod feature_switch;
pub mod health_and_reflection;
mod heists;
mod impatient_callers;
mod not_grpc;
mod notifications;
mod rate_limits;
pub mod tokens;
mod traffic_limits;
