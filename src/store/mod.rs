//! The only folder that knows SQL and the application's tables.
//!
//! Plain functions over a connection. Those that write take slices, run inside the
//! transaction of their caller and leave the commit to it. Statements that do not fit a
//! line are `.sql` files beside their function, checked against the migrated schema when
//! the crate is compiled.

pub mod adjustments;
pub mod archive;
pub mod awards;
pub mod check;
pub mod emails;
pub mod error;
pub mod heists;
pub mod leaderboard;
pub mod notifications;
mod observed;
pub mod players;
pub mod pool;
pub mod preferences;
pub mod reads;
pub mod schema;
pub mod secrets;
pub mod signals;
pub mod tokens;

pub use error::StoreError;
pub(crate) use observed::ObservedExt;
pub use pool::PgPool;
pub use sqlx::{PgConnection, postgres::PgConnectOptions};

/// A number of things, as PostgreSQL takes it.
fn count(things: usize) -> i64 {
    i64::try_from(things).unwrap_or(i64::MAX)
}
