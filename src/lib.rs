//! The heist service: players of a leaderboard spend tokens to take points from each other.
//!
//! # The map
//!
//! A request flows one way: wire → checked type → one transaction → wire.
//! `docs/architecture.md` follows one heist through the folders, `docs/glossary.md` defines the
//! words.
//!
//! | module | knows |
//! |---|---|
//! | [`pb`] | the messages, clients and servers generated from `proto/` |
//! | [`cli`] | commands, and [`cli::config`]: flags and environment variables, with their defaults |
//! | [`server`] | assembly, listeners, TLS, health, the order of shutdown |
//! | [`rpc`] | tonic: middleware, one file per RPC, one table of methods |
//! | [`engine`] | queues orders and runs each batch of them as one transaction |
//! | [`events`] | which streams are open; signals between replicas |
//! | [`mail`] | sends notifications by e-mail, after the commit; its words are in `mail/templates/` |
//! | [`archive`] | moves old rows to files, verified before the rows are removed |
//! | [`auth`] | authenticates callers: bearer tokens, names in client certificates |
//! | [`settings`] | the rules, as the environment and the settings file set them |
//! | [`store`] | SQL and the application's tables |
//! | [`domain`] | the rules, as pure functions over plain data |
//! | [`demo`] | the demo players of the private PostgreSQL (`crates/private-postgres`) |
//! | [`fault`] | the causes of calls that end without a decision |
//! | [`watched`] | reads files again when they change: keys, certificates, the settings file |
//! | [`telemetry`] | logs, metrics and traces; every module except `domain` may use it |
//!
//! # What always holds
//!
//! - A batch locks a player's row before it changes anything of that player. It skips rows
//!   that another transaction holds, so it never waits for a row while it holds another one.
//! - A decision uses only what was read under those locks, and the database's clock.
//! - A caller is answered after the commit. Between the last write and the commit, the
//!   transaction only verifies what it wrote.
//! - `domain` imports no other module, and `store` neither `rpc` nor `engine`.
//! - Only `rpc` handles gRPC messages; `server`, the health check command and the OTLP exporter use
//!   tonic as a transport. Only `store` and `demo` contain SQL. Only `cli::config` reads the
//!   environment. `tests/it/source/architecture.rs` holds these rules.
//!
//! # Where to add what
//!
//! - An RPC: `proto/`, its file in `rpc/<service>/`, one line in `rpc/methods.rs` (scope, players'
//!   own requests, rate limit, audit), its test in `tests/it/rpc/`.
//! - A rule: a setting, a branch in [`domain::rules`], a refusal; the compiler then asks for its
//!   status.
//! - A notification: a variant in [`domain::notification`], its details in the proto.
//! - A metric: `telemetry/metrics/`, and a line in `docs/metrics.md`.
//! - A table or index: a migration with its down, and a line in `migrations/README.md`.
//! - A setting: the options of the part that uses it, its flag in `cli/config/`, and a line in
//!   `docs/settings.md`.
//!
//! `CONTRIBUTING.md` has the steps.

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

/// The contract: the code that is generated from `proto/heist/v1/*.proto`.
#[allow(clippy::pedantic, missing_docs)]
pub mod pb {
    tonic::include_proto!("heist.v1");

    /// The contract in the form that gRPC reflection serves.
    pub const FILE_DESCRIPTOR_SET: &[u8] = tonic::include_file_descriptor_set!("heist_descriptor");
}
