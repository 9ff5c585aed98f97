//! The service as its callers see it: the real server on a free port, the real client, and a
//! PostgreSQL database of its own for each test. One file per topic; [`harness`] is the stage.

#![expect(
    clippy::similar_names,
    reason = "referrer and referred are the words of the contract"
)]

mod harness;
/// The core of `examples/leaderboard_cache`.
#[path = "../../examples/leaderboard_cache/board.rs"]
mod leaderboard_cache;
#[path = "../common/pgbouncer.rs"]
mod pgbouncer;

mod database;
mod engine;
mod faults;
mod mail;
mod operations;
mod properties;
mod rpc;
mod security;
mod source;
