//! Parses database URLs, including the parameters that Prisma writes, and follows files with them.

use std::fmt;

use sqlx::postgres::{PgConnectOptions, PgSslMode};
use url::Url;

use crate::watched::{Watched, WatchedError, WatchedFile};

/// Parameters that sqlx understands.
const UNDERSTOOD: [&str; 17] = [
    "sslmode",
    "ssl-mode",
    "sslrootcert",
    "ssl-root-cert",
    "ssl-ca",
    "sslcert",
    "ssl-cert",
    "sslkey",
    "ssl-key",
    "statement-cache-capacity",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "options",
];

/// Parameters of other clients that change nothing here, with the reason.
const IGNORED: [(&str, &str); 8] = [
    ("application_name", "the service sets its own name"),
    (
        "connection_limit",
        "DATABASE_MAX_CONNECTIONS sets the size of the pool",
    ),
    ("pool_timeout", "the service waits 2 s for a connection"),
    ("connect_timeout", "the service has time limits of its own"),
    ("socket_timeout", "the service has time limits of its own"),
    (
        "pgbouncer",
        "the service works with PgBouncer 1.21 or later as it is",
    ),
    (
        "statement_cache_size",
        "the service works with PgBouncer 1.21 or later as it is",
    ),
    (
        "max_idle_connection_lifetime",
        "the service has time limits of its own",
    ),
];

/// Variables of libpq that sqlx reads, and the parts of a URL that take precedence. What such a
/// variable sets cannot be taken back.
const INHERITED: [(&str, &[&str]); 9] = [
    ("PGHOST", &["host", "hostaddr"]),
    ("PGHOSTADDR", &["host", "hostaddr"]),
    ("PGUSER", &["user"]),
    ("PGPASSWORD", &["password"]),
    ("PGDATABASE", &["dbname"]),
    ("PGSSLROOTCERT", &["sslrootcert", "ssl-root-cert", "ssl-ca"]),
    ("PGSSLCERT", &["sslcert", "ssl-cert"]),
    ("PGSSLKEY", &["sslkey", "ssl-key"]),
    ("PGOPTIONS", &[]),
];
const DEFAULT_PORT: u16 = 5432;

const EXPECTED: &str = "expected a URL such as postgres://user:password@host:5432/database";

/// The address of a database, and the credentials for it.
#[derive(Clone)]
pub struct DatabaseUrl {
    options: PgConnectOptions,
    /// A line for each parameter that is ignored.
    ignored: Vec<String>,
    /// The `PG*` variables that sqlx would add to this URL.
    inherits: Vec<&'static str>,
    /// The URL without its credentials.
    location: String,
    /// The file that holds the URL.
    file: Option<WatchedFile>,
}

/// How to connect. With a URL from a file, each new connection uses the user and the password that
/// are in the file at that time. Cheap to clone.
#[derive(Clone)]
pub struct ConnectOptions(Watched<PgConnectOptions>);

impl ConnectOptions {
    /// The options of a connection that is opened now.
    #[must_use]
    pub fn newest(&self) -> PgConnectOptions {
        (*self.0.newest()).clone()
    }
}

/// Options that do not change.
impl From<PgConnectOptions> for ConnectOptions {
    fn from(options: PgConnectOptions) -> Self {
        Self(Watched::fixed(options))
    }
}

impl DatabaseUrl {
    /// Parses a `postgres://` URL, including the parameters that Prisma writes.
    ///
    /// # Errors
    ///
    /// Names an unknown parameter, or says what is expected. Repeats no other part of the URL,
    /// because it may hold a password.
    pub fn parse(text: &str) -> Result<Self, String> {
        parse(text)
    }

    /// The same URL, which was read from this file.
    #[must_use]
    pub fn in_file(mut self, file: WatchedFile) -> Self {
        self.file = Some(file);
        self
    }

    /// The options as they were when the process started.
    #[must_use]
    pub fn connect_options(&self) -> &PgConnectOptions {
        &self.options
    }

    /// The options as they are now and later. The file, if there is one, is read again when it
    /// changes. Only its user and password may change: a server with connections to two databases
    /// would write to both.
    ///
    /// # Errors
    ///
    /// A file that cannot be read, or no longer has a URL of the same database.
    pub async fn follow(&self) -> Result<ConnectOptions, WatchedError> {
        let Some(file) = &self.file else {
            return Ok(self.options.clone().into());
        };
        let (location, name) = (self.location.clone(), file.to_string());
        let parse = move |contents: &[Vec<u8>]| {
            let text = std::str::from_utf8(&contents[0]).map_err(|_| EXPECTED.to_owned());
            let url = text.and_then(|text| Self::parse(text.trim_end_matches(['\r', '\n'])));
            let url = url.map_err(|error| format!("{name}: {error}"))?;
            if url.location != location {
                return Err(format!(
                    "{name}: more than the user and the password has changed, which needs a restart"
                ));
            }
            Ok(url.options)
        };
        let watched = Watched::open("the database's URL", vec![file.clone()], parse);
        Ok(ConnectOptions(watched.await?))
    }

    /// The variables of libpq that would change the connection if they were set, because the URL
    /// says nothing of what they set.
    pub fn inherited_variables(&self) -> impl Iterator<Item = &'static str> {
        self.inherits.iter().copied()
    }

    /// Logs the parameters that are ignored.
    pub fn warn_of_ignored_parameters(&self) {
        for line in &self.ignored {
            tracing::warn!("{line}");
        }
    }
}

/// Omits the user and the password.
impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_address("DatabaseUrl", &self.options, f)
    }
}

/// Without the password.
impl fmt::Debug for ConnectOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_address("ConnectOptions", &self.0.newest(), f)
    }
}

fn write_address(
    name: &str,
    options: &PgConnectOptions,
    f: &mut fmt::Formatter<'_>,
) -> fmt::Result {
    f.debug_struct(name)
        .field("host", &options.get_host())
        .field("port", &options.get_port())
        .field("database", &options.get_database())
        .finish_non_exhaustive()
}

/// `schema` becomes the search path.
fn parse(text: &str) -> Result<DatabaseUrl, String> {
    if !text.starts_with("postgres://") && !text.starts_with("postgresql://") {
        return Err(EXPECTED.to_owned());
    }
    let mut url = Url::parse(text).map_err(|_| EXPECTED.to_owned())?;
    let mut understood = Vec::new();
    let mut ignored = Vec::new();
    let mut schema = None;
    for (name, value) in url.query_pairs() {
        let why = IGNORED.iter().find(|(ignored, _)| *ignored == name);
        if name == "schema" {
            schema = Some(value.into_owned());
        } else if let Some((_, why)) = why {
            ignored.push(format!("the URL's parameter {name} is ignored: {why}"));
        } else if UNDERSTOOD.contains(&name.as_ref()) || name.starts_with("options[") {
            understood.push((name.into_owned(), value.into_owned()));
        } else {
            return Err(format!(
                "the URL's parameter {name:?} is unknown; remove it, or use schema or one of {}",
                UNDERSTOOD.join(", ")
            ));
        }
    }
    url.set_query(None);
    if !understood.is_empty() {
        url.query_pairs_mut().extend_pairs(&understood);
    }
    let has = |names: &[&str]| {
        understood
            .iter()
            .any(|(name, _)| names.contains(&name.as_str()))
    };
    let inherits = INHERITED
        .iter()
        .filter(|(_, names)| !has(names) && !is_in_authority(&url, names))
        .map(|(variable, _)| *variable)
        .collect();
    let mut options: PgConnectOptions = url.as_str().parse().map_err(|_| EXPECTED.to_owned())?;
    // sqlx fills these from PGPORT and PGSSLMODE if the URL does not say them.
    if url.port().is_none() && !has(&["port"]) {
        options = options.port(DEFAULT_PORT);
    }
    if !has(&["sslmode", "ssl-mode"]) {
        options = options.ssl_mode(PgSslMode::default());
    }
    if let Some(schema) = &schema {
        let quoted = schema.replace('"', "\"\"");
        options = options.options([("search_path", format!("\"{quoted}\""))]);
    }
    // PgBouncer would refuse `extra_float_digits`. It only affects numbers in text format, and sqlx
    // reads them in binary format.
    Ok(DatabaseUrl {
        options: options.extra_float_digits(None),
        ignored,
        inherits,
        location: location(url, understood, schema),
        file: None,
    })
}

/// Whether the URL says one of these before its parameters.
fn is_in_authority(url: &Url, names: &[&str]) -> bool {
    names.iter().any(|name| match *name {
        "user" => !url.username().is_empty(),
        "password" => url.password().is_some(),
        "host" => url.host_str().is_some_and(|host| !host.is_empty()),
        "dbname" => !url.path().trim_start_matches('/').is_empty(),
        _ => false,
    })
}

/// What a URL says besides the user and the password.
fn location(mut url: Url, mut parameters: Vec<(String, String)>, schema: Option<String>) -> String {
    // A URL of this kind can have both.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    parameters.retain(|(name, _)| name != "user" && name != "password");
    parameters.extend(schema.map(|schema| ("schema".to_owned(), schema)));
    url.set_query(None);
    format!("{url} {parameters:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_of_prisma_are_understood_or_named() {
        let url = "postgresql://app:p%40ss@db:6432/game?schema=game&connection_limit=5&pgbouncer=true\
                   &sslmode=require&connect_timeout=30&pool_timeout=10&socket_timeout=3";
        let parsed = parse(url).unwrap();
        assert_eq!(parsed.options.get_host(), "db");
        assert_eq!(parsed.options.get_port(), 6432);
        assert_eq!(parsed.options.get_database(), Some("game"));
        let named: Vec<&str> = (parsed.ignored.iter())
            .filter_map(|line| line.split(' ').nth(3))
            .collect();
        let expected = [
            "connection_limit",
            "pgbouncer",
            "connect_timeout",
            "pool_timeout",
            "socket_timeout",
        ];
        assert_eq!(named, expected);
    }

    #[test]
    fn variables_of_libpq_matter_where_the_url_says_nothing() {
        let inherits = |url: &str| parse(url).unwrap().inherits;
        assert_eq!(
            inherits("postgres://app:secret@db/game?sslrootcert=ca.pem"),
            ["PGSSLCERT", "PGSSLKEY", "PGOPTIONS"]
        );
        assert_eq!(
            inherits("postgres:///?sslrootcert=a&sslcert=b&sslkey=c"),
            [
                "PGHOST",
                "PGHOSTADDR",
                "PGUSER",
                "PGPASSWORD",
                "PGDATABASE",
                "PGOPTIONS"
            ]
        );
        let params = "postgres:///?host=/tmp&user=app&password=secret&dbname=game";
        assert_eq!(
            inherits(params),
            ["PGSSLROOTCERT", "PGSSLCERT", "PGSSLKEY", "PGOPTIONS"]
        );
    }

    #[test]
    fn an_unknown_parameter_is_named_and_the_password_is_not() {
        let error = parse("postgres://app:hunter2@db/game?conection_limit=5")
            .err()
            .unwrap();
        assert!(error.contains("conection_limit"), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }

    #[test]
    fn the_location_is_all_but_the_credentials() {
        let location = |url| parse(url).unwrap().location;
        let first = location("postgres://app:one@db/game?schema=a&sslmode=require");
        assert_eq!(
            first,
            location("postgres://other:t%40wo@db/game?schema=a&sslmode=require&pool_timeout=1")
        );
        assert_eq!(
            first,
            location("postgres://db/game?sslmode=require&user=other&password=two&schema=a")
        );
        for other in [
            "postgres://app:one@db2/game?schema=a&sslmode=require",
            "postgres://app:one@db:5433/game?schema=a&sslmode=require",
            "postgres://app:one@db/game2?schema=a&sslmode=require",
            "postgres://app:one@db/game?schema=b&sslmode=require",
            "postgres://app:one@db/game?schema=a",
        ] {
            assert_ne!(first, location(other), "{other}");
        }
    }

    #[test]
    fn a_socket_folder_and_a_colon_in_the_password_survive() {
        let parsed = parse("postgres://postgres@localhost/game?host=/tmp/a%20b").unwrap();
        assert_eq!(
            parsed
                .options
                .get_socket()
                .map(|path| path.display().to_string()),
            Some("/tmp/a b".to_owned())
        );
    }
}
