//! `HeistService`.

mod batch_check_eligibility;
mod check_eligibility;
mod cooldown_and_protection;
mod eligibility_agrees;
mod execute_heist;
mod get_heist;
mod get_heist_stats;
mod get_leaderboard;
mod get_rules;
mod heist_refusals;
mod list_heists;
mod request_ids;
mod watch_points;
