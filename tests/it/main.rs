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

mod architecture;
mod award_token;
mod bad_input;
mod batches;
mod broken_connections;
mod command_line;
mod cooldown_and_protection;
mod deleted_players;
mod domain_properties;
mod embedded_default;
mod execute_heist;
mod feature_switch;
mod get_balance;
mod health_and_reflection;
mod heist_races;
mod heist_refusals;
mod impatient_callers;
mod list_notifications;
mod lost_commits;
mod mark_notifications_read;
mod migrations;
mod plans;
mod request_ids;
mod stream_notifications;
mod watch_points;
