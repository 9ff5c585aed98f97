//! SQL and the application's tables. No other folder contains SQL.
//!
//! The functions take a connection or a pool. Functions that write take slices, run inside the
//! caller's transaction, verify their effects ([`effects`]) and leave the commit to the caller.
//! Statements longer than a line are `.sql` files beside their function. The compiler checks all
//! statements against the migrated schema.
//!
//! A function that returns [`StoreError`] can return each of its variants. Its documentation
//! mentions an error only if the error has a further meaning.

#![expect(
    clippy::missing_errors_doc,
    reason = "the module's documentation says it once"
)]

pub mod adjustments;
pub mod archive;
pub mod awards;
pub mod check;
pub mod effects;
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

/// Converts a length to `bigint`.
fn count(things: usize) -> i64 {
    i64::try_from(things).unwrap_or(i64::MAX)
}
