//! The rules of the game: pure functions over plain data.
//!
//! Nothing here waits, reads a clock, or knows of PostgreSQL or gRPC. Time and what the
//! database holds are passed in, so that every rule can be tested by calling it.

pub mod adjustment;
pub mod award;
pub mod change;
pub mod eligibility;
pub mod heist;
pub mod ids;
pub mod leaderboard;
pub mod mailing;
pub mod notification;
pub mod rules;
pub mod tokens;
