//! The rules of the game: pure functions over plain data.
//!
//! The functions are synchronous and use neither the clock nor PostgreSQL nor gRPC. Their callers
//! pass in the time and the rows that the database holds, so a test calls each rule directly.

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
