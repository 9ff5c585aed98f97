//! What is measured, a file each. Each starts the servers it needs, adds its rows and bars to
//! the report, and leaves nothing running.

pub mod awards;
pub mod costs;
pub mod hot;
pub mod leaderboard;
pub mod mixed;
pub mod reads;
pub mod single;
pub mod soak;
pub mod uniform;
pub mod year;
