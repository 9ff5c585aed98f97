//! The heist service: players of a leaderboard spend tokens to rob each other.
//!
//! # The map
//!
//! A request flows one way: wire → checked type → one transaction → wire.
//!
//! | room | knows |
//! |---|---|
//! | [`pb`] | the messages, clients and servers generated from `proto/` |
//! | [`rpc`] | the services over tonic, one file per RPC; [`rpc::layers`]: the middleware of every call |
//! | [`engine`] | batches: queues orders and runs each batch as one transaction |
//! | [`events`] | who is listening to what; signals between replicas |
//! | [`mail`] | sends notifications by e-mail, after the commit and apart from every call |
//! | [`domain`] | the rules, as pure functions over plain data |
//! | [`store`] | SQL and the application's tables |
//! | [`archive`] | old rows, moved to files that are verified before the rows are removed |
//! | [`auth`] | who calls: bearer tokens, names in client certificates |
//! | [`demo`] | the demo players of the private PostgreSQL (`crates/private-postgres`) |
//! | [`settings`] | the rules of the game, as the environment and a watched file set them |
//! | [`server`] | assembly: listeners, TLS, health, and the order in which the parts stop |
//! | [`fault`] | why a call has no answer |
//! | [`watched`] | files that are read again when they change: keys and certificates |
//! | [`cli`] | commands, and [`cli::config`]: flags and environment variables |
//! | [`telemetry`] | logs, metrics and traces, which every room may use |
//!
//! # What always holds
//!
//! - A player's row is locked before anything of theirs changes, and rows are locked in the
//!   order of their ids.
//! - A decision is made from what was read under those locks, by the database's clock.
//! - Nobody is answered before the commit, and nothing but the commit follows the last write.
//! - `domain` knows nothing of the other rooms; `store` nothing of `rpc` and `engine`; only
//!   `rpc` knows tonic, only `store` SQL, only `config` the environment.
//!
//! # Where to add what
//!
//! - An RPC: `proto/`, its file in `rpc/<service>/`, one line in `rpc/methods.rs` (scope, players'
//!   own requests, rate limit, audit), its test in `tests/it/rpc/`.
//! - A rule: a setting, a branch in [`domain::rules`], a refusal; the compiler then asks for
//!   its status.
//! - A notification: a variant in [`domain::notification`], its details in the proto.
//! - A metric: `telemetry/metrics.rs`, and a line in `docs/metrics.md`.
//! - A table or index: a migration with its down, and a line in `migrations/README.md`.

pub mod archive;
pub mod auth;
pub mod cli;
pub mod demo;
pub mod domain;
pub mod engine;
pub mod events;
pub mod fault;
pub mod mail;
pub mod rpc;
pub mod server;
pub mod settings;
pub mod store;
pub mod telemetry;
pub mod watched;

/// The contract, as `proto/heist/v1/*.proto` says it.
#[allow(clippy::pedantic, missing_docs)]
pub mod pb {
    tonic::include_proto!("heist.v1");

    /// The contract in the form that gRPC reflection serves.
    pub const FILE_DESCRIPTOR_SET: &[u8] = tonic::include_file_descriptor_set!("heist_descriptor");
}
