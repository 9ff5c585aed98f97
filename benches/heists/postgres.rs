//! The bench's PostgreSQL: fully durable, on the real disk, removed at the end.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use heist::{demo::APPLICATION_SCHEMA, store::schema};
use private_postgres::{Options, PrivatePostgres};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection, raw_sql};
use tokio::process::Command;

use crate::{home::Home, load::tally::percentile_ms};

const PLAYERS: &str = include_str!("players.sql");
const RAW_HEIST: &str = include_str!("raw_heist.sql");

/// Transactions that [`Postgres::commit_ms`] times.
const PROBES: usize = 50;

/// The same for both sides. Durability is set explicitly, so that no default can weaken it.
const SETTINGS: [(&str, &str); 10] = [
    ("fsync", "on"),
    ("synchronous_commit", "on"),
    ("full_page_writes", "on"),
    ("shared_buffers", "1GB"),
    ("max_wal_size", "8GB"),
    ("checkpoint_timeout", "30min"),
    ("max_connections", "100"),
    ("autovacuum", "on"),
    ("random_page_cost", "1.1"),
    ("effective_cache_size", "8GB"),
];

/// With `--statements`.
const STATEMENT_SETTINGS: [(&str, &str); 2] = [
    ("shared_preload_libraries", "pg_stat_statements"),
    ("pg_stat_statements.track", "all"),
];

/// A running server.
pub struct Postgres {
    server: PrivatePostgres,
    pub home: PathBuf,
    /// The folder of `pgbench`.
    pub bin_dir: PathBuf,
    /// The process id of the parent of all its processes.
    pub postmaster: Option<u32>,
    pub version: String,
    counts_statements: bool,
}

/// A database with players.
#[derive(Clone)]
pub struct Database {
    pub name: String,
    pub url: String,
    pub players: i32,
}

impl Postgres {
    pub async fn start(home: &Home, statements: bool) -> anyhow::Result<Self> {
        let more: &[_] = if statements { &STATEMENT_SETTINGS } else { &[] };
        let settings = SETTINGS.iter().chain(more);
        let server = PrivatePostgres::start(&Options {
            data_dir: home.path().to_owned(),
            bin_dir: std::env::var_os("PG_BIN_DIR").map(PathBuf::from),
            settings: settings
                .map(|(name, value)| (*name, (*value).to_owned()))
                .collect(),
        })
        .await?;

        let mut connection = PgConnection::connect(&server.url("postgres")).await?;
        let (bin_dir, data_dir, version): (String, String, String) = sqlx::query_as(
            "SELECT setting, current_setting('data_directory'), current_setting('server_version')
            FROM pg_config WHERE name = 'BINDIR'",
        )
        .fetch_one(&mut connection)
        .await?;
        connection.close().await?;
        let pid_file = fs::read_to_string(Path::new(&data_dir).join("postmaster.pid"));
        Ok(Self {
            server,
            home: home.path().to_owned(),
            bin_dir: bin_dir.into(),
            postmaster: (pid_file.ok()).and_then(|text| text.lines().next()?.parse().ok()),
            version,
            counts_statements: statements,
        })
    }

    /// Creates a database with the application's tables, the service's tables, and players.
    pub async fn create(&self, name: &str, players: i32) -> anyhow::Result<Database> {
        self.run("postgres", &format!("CREATE DATABASE {name}"))
            .await?;
        self.run(name, APPLICATION_SCHEMA).await?;
        let url = self.server.url(name);
        schema::migrate(&url.parse()?).await?;
        self.run(name, &PLAYERS.replace("$PLAYERS", &players.to_string()))
            .await?;
        self.run(name, &raw_heist(&url).await?).await?;
        if self.counts_statements {
            (self.run(name, "CREATE EXTENSION pg_stat_statements")).await?;
        }
        self.run(name, "VACUUM ANALYZE").await?;
        self.run(name, "CHECKPOINT").await?;
        Ok(Database {
            name: name.to_owned(),
            url,
            players,
        })
    }

    /// Runs statements; a single one may be one that cannot run in a transaction block.
    pub async fn run(&self, database: &str, sql: &str) -> anyhow::Result<()> {
        let mut connection = PgConnection::connect(&self.server.url(database)).await?;
        raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await?;
        connection.close().await?;
        Ok(())
    }

    /// Changes settings for all sessions, including running ones.
    pub async fn set(&self, settings: &[(&str, &str)]) -> anyhow::Result<()> {
        for (name, value) in settings {
            let sql = format!("ALTER SYSTEM SET {name} = {value}");
            self.run("postgres", &sql).await?;
        }
        self.run("postgres", "SELECT pg_reload_conf()").await
    }

    /// The statements with the largest total time; needs [`STATEMENT_SETTINGS`].
    pub async fn statements(&self, database: &Database) -> anyhow::Result<String> {
        let mut connection = PgConnection::connect(&database.url).await?;
        let statements: Vec<(i64, f64, f64, String)> = sqlx::query_as(
            r"SELECT calls, total_exec_time, mean_exec_time,
                left(regexp_replace(query, '(\s|--[^\n]*\n)+', ' ', 'g'), 110)
            FROM pg_stat_statements
            WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
            ORDER BY total_exec_time DESC
            LIMIT 40",
        )
        .fetch_all(&mut connection)
        .await?;
        connection.close().await?;
        let mut text = "    calls  total ms   mean ms  statement\n".to_owned();
        for (calls, total_ms, mean_ms, statement) in statements {
            writeln!(
                text,
                "{calls:>9} {total_ms:>9.0} {mean_ms:>9.4}  {statement}"
            )?;
        }
        Ok(text)
    }

    /// The settings that matter, for the reader of the table.
    pub fn settings() -> String {
        let settings = SETTINGS.map(|(name, value)| format!("{name}={value}"));
        settings.join(" ")
    }

    /// The median time of a transaction that inserts one row, in milliseconds.
    pub async fn commit_ms(&self) -> anyhow::Result<f64> {
        let mut connection = PgConnection::connect(&self.server.url("postgres")).await?;
        (connection.execute("CREATE TABLE commit_probe (number integer)")).await?;
        let mut times = Vec::new();
        for _ in 0..PROBES {
            let begun = Instant::now();
            (connection.execute("INSERT INTO commit_probe VALUES (1)")).await?;
            times.push(begun.elapsed());
        }
        connection.close().await?;
        times.sort_unstable();
        Ok(percentile_ms(&times, 50))
    }

    /// Stops immediately, without a checkpoint: the data is about to be removed.
    pub async fn stop(self) -> anyhow::Result<()> {
        if let Some(postmaster) = self.postmaster {
            Command::new("sh")
                .args(["-c", r#"kill -s QUIT "$1""#, "sh", &postmaster.to_string()])
                .status()
                .await?;
        }
        // It fails because the server has already ended.
        let _ = self.server.stop().await;
        Ok(())
    }
}

/// The SQL of the function, with the ids of this database.
async fn raw_heist(url: &str) -> anyhow::Result<String> {
    let mut connection = PgConnection::connect(url).await?;
    let mut function = RAW_HEIST.to_owned();
    for (placeholder, name) in [("$GAIN", "HEIST_GAIN"), ("$LOSS", "HEIST_LOSS")] {
        let id: i32 =
            sqlx::query_scalar(r#"SELECT "id" FROM "PointEventTypeMaster" WHERE "name" = $1"#)
                .bind(name)
                .fetch_one(&mut connection)
                .await?;
        function = function.replace(placeholder, &id.to_string());
    }
    connection.close().await?;
    Ok(function)
}
