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

mod adjust_balance;
mod architecture;
mod archive;
mod audit;
mod authorization;
mod award_token;
mod bad_fields;
mod bad_input;
mod batch_check_eligibility;
mod batch_get_balances;
mod batches;
mod bearer_tokens;
mod broken_connections;
mod check_eligibility;
mod command_line;
mod cooldown_and_protection;
mod deleted_players;
mod deploys;
mod documentation;
mod domain_properties;
mod eligibility_agrees;
mod email_faults;
mod email_smtp;
mod emails;
mod emails_command;
mod embedded_default;
mod execute_heist;
mod feature_switch;
mod floods;
mod get_balance;
mod get_heist;
mod get_heist_stats;
mod get_leaderboard;
mod health_and_reflection;
mod heist_check;
mod heist_races;
mod heist_refusals;
mod impatient_callers;
mod list_heists;
mod list_notifications;
mod list_token_events;
mod logs;
mod lost_commits;
mod mark_notifications_read;
mod metrics;
mod migrations;
mod model;
mod monitoring;
mod plans;
mod rate_limits;
mod read_replica;
mod readiness;
mod request_ids;
mod security_settings;
mod settings_file;
mod shutdown;
mod statement_counts;
mod stream_notifications;
mod through_pgbouncer;
mod tls;
mod traces;
mod traffic_limits;
mod watch_points;
