//! Where a database is, and how to log in there.

use std::fmt;

use sqlx::postgres::PgConnectOptions;

/// A parsed `postgres://` URL.
#[derive(Clone)]
pub struct DatabaseUrl(PgConnectOptions);

impl DatabaseUrl {
    /// Parses a `postgres://` URL.
    ///
    /// # Errors
    ///
    /// Says what is expected, and repeats nothing of the URL, which may hold a password.
    pub fn parse(url: &str) -> Result<Self, String> {
        if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
            return Err(EXPECTED_URL.to_owned());
        }
        let options: PgConnectOptions = url.parse().map_err(|_| EXPECTED_URL.to_owned())?;
        // PgBouncer would refuse it, and no statement of ours reads a floating-point number.
        Ok(Self(options.extra_float_digits(None)))
    }

    #[must_use]
    pub fn connect_options(&self) -> &PgConnectOptions {
        &self.0
    }
}

const EXPECTED_URL: &str = "expected a URL such as postgres://user:password@host:5432/database";

/// Without the password.
impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DatabaseUrl")
            .field("host", &self.0.get_host())
            .field("port", &self.0.get_port())
            .field("database", &self.0.get_database())
            .finish_non_exhaustive()
    }
}
