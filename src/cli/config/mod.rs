//! Everything that comes from the environment, one documented field each. Nothing else in
//! the crate reads an environment variable.

mod archive;
mod email;
mod security;
mod telemetry;

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

pub use self::{
    archive::ArchiveConfig,
    email::EmailConfig,
    security::{JwtConfig, SecurityConfig},
    telemetry::TelemetryConfig,
};
use crate::{
    engine::Limits,
    rpc::TrafficLimits,
    settings::{RuleArgs, parse},
    store::pool::DatabaseUrl,
    telemetry::{LogFormat, LogOptions},
};

/// What `heist serve` needs to know.
#[derive(Clone, Debug, clap::Args)]
pub struct ServeConfig {
    /// PostgreSQL of the application, such as `postgres://user:password@host/database`;
    /// none: a private PostgreSQL with demo players
    #[arg(long, env = "DATABASE_URL", value_name = "URL", hide_env_values = true, value_parser = DatabaseUrl::parse)]
    pub database_url: Option<DatabaseUrl>,

    /// The same database past a pooler in transaction mode, for the one connection on which this
    /// server hears of what others did; default: `DATABASE_URL`
    #[arg(long, env = "DATABASE_DIRECT_URL", value_name = "URL", hide_env_values = true, value_parser = DatabaseUrl::parse)]
    pub database_direct_url: Option<DatabaseUrl>,

    /// A streaming replica for reads; default: they go to the primary. What it does not have yet is
    /// read from the primary, too
    #[arg(long, env = "DATABASE_READ_URL", value_name = "URL", hide_env_values = true, value_parser = DatabaseUrl::parse)]
    pub database_read_url: Option<DatabaseUrl>,

    /// The most connections to the database at a time, and to the replica
    #[arg(long, env = "DATABASE_MAX_CONNECTIONS", value_name = "NUMBER", default_value = "10", value_parser = connections)]
    pub database_max_connections: u32,

    /// Where gRPC is served; port 0: any free one
    #[arg(long, env = "HEIST_LISTEN", value_name = "ADDRESS", default_value = DEFAULT_LISTEN, value_parser = socket_address)]
    pub listen: SocketAddr,

    /// Who may call; has to be decided where `DATABASE_URL` is set. `jwt`: whoever has a bearer
    /// token; `none`: whoever can connect
    #[arg(long, env = "HEIST_AUTH", value_name = "METHOD", value_parser = auth)]
    pub auth: Option<Auth>,

    /// Whether gRPC reflection answers, which grpcurl needs
    #[arg(long, env = "HEIST_REFLECTION", value_name = "BOOL", default_value = "true", value_parser = parse::switch, action = clap::ArgAction::Set)]
    pub reflection: bool,

    /// How long calls in progress may take to end after SIGTERM
    #[arg(long, env = "HEIST_SHUTDOWN_GRACE", value_name = "DURATION", default_value = "25s", value_parser = parse::duration)]
    pub shutdown_grace: Duration,

    /// How long to go on serving after SIGTERM, while load balancers notice that this server is
    /// not ready any more; part of the grace period
    #[arg(long, env = "HEIST_SHUTDOWN_DELAY", value_name = "DURATION", default_value = "0s", value_parser = parse::duration)]
    pub shutdown_delay: Duration,

    #[command(flatten)]
    pub security: SecurityConfig,

    #[command(flatten)]
    pub engine: EngineConfig,

    #[command(flatten)]
    pub traffic: TrafficConfig,

    #[command(flatten)]
    pub email: EmailConfig,

    #[command(flatten)]
    pub log: LogConfig,

    #[command(flatten)]
    pub telemetry: TelemetryConfig,

    #[command(flatten)]
    pub embedded: EmbeddedConfig,

    /// A file that overrides the rules of the game, in lines such as `HEIST_ENABLED=false`,
    /// whenever it changes
    #[arg(long, env = "HEIST_SETTINGS_FILE", value_name = "FILE")]
    pub settings_file: Option<PathBuf>,

    #[command(flatten)]
    pub rules: RuleArgs,
}

/// How much the engine takes on, for each of heists, awards and adjustments.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Engine")]
pub struct EngineConfig {
    /// Calls that wait for a transaction at the most; one more is refused as overload
    #[arg(long, env = "HEIST_QUEUE_LIMIT", value_name = "CALLS", default_value = "4096", value_parser = queue_limit)]
    pub queue_limit: usize,

    /// Calls in one transaction at the most
    #[arg(long, env = "HEIST_BATCH_LIMIT", value_name = "CALLS", default_value = "128", value_parser = batch_limit)]
    pub batch_limit: usize,

    /// Transactions at a time at the most, each on a connection of its own
    #[arg(long, env = "HEIST_WORKERS", value_name = "NUMBER", default_value = "4", value_parser = workers)]
    pub workers: usize,
}

/// How much a server takes on at a time, whoever calls.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Traffic")]
pub struct TrafficConfig {
    /// Connections at a time at the most; one more is closed at once
    #[arg(long, env = "HEIST_CONNECTION_LIMIT", value_name = "NUMBER", default_value = "1000", value_parser = traffic)]
    pub connection_limit: usize,

    /// Calls in progress at a time at the most; one more is refused as overload
    #[arg(long, env = "HEIST_CALL_LIMIT", value_name = "CALLS", default_value = "10000", value_parser = traffic)]
    pub call_limit: usize,

    /// Open streams at a time at the most; one more is refused as overload
    #[arg(long, env = "HEIST_STREAM_LIMIT", value_name = "STREAMS", default_value = "10000", value_parser = traffic)]
    pub stream_limit: usize,

    /// Open streams of one player at a time at the most
    #[arg(long, env = "HEIST_PLAYER_STREAM_LIMIT", value_name = "STREAMS", default_value = "10", value_parser = traffic)]
    pub player_stream_limit: usize,

    /// After so long a connection is asked to close, and a stream ends; 0s: never
    #[arg(long, env = "HEIST_CONNECTION_AGE", value_name = "DURATION", default_value = "1h", value_parser = parse::duration)]
    pub connection_age: Duration,
}

/// Where the log goes, and in which form.
#[derive(Clone, Debug, clap::Args)]
pub struct LogConfig {
    /// The form of the log on standard error; default: `text` on a terminal, else `json`
    #[arg(long, env = "HEIST_LOG_FORMAT", value_name = "FORMAT", value_parser = log_format, global = true)]
    pub log_format: Option<LogFormat>,

    /// What is logged, such as `warn` or `heist=debug,sqlx=warn`
    #[arg(long = "log-filter", env = "RUST_LOG", value_name = "FILTER", default_value = "info,sqlx=warn,opentelemetry=warn", value_parser = log_filter, global = true)]
    pub filter: String,
}

/// The PostgreSQL that starts where `DATABASE_URL` is not set.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Private PostgreSQL (without DATABASE_URL)")]
pub struct EmbeddedConfig {
    /// Where it keeps its data; default: below the user's data folder
    #[arg(long, env = "HEIST_DATA_DIR", value_name = "FOLDER")]
    pub data_dir: Option<PathBuf>,

    /// Where `initdb` and `postgres` are; default: searched for
    #[arg(long, env = "PG_BIN_DIR", value_name = "FOLDER")]
    pub pg_bin_dir: Option<PathBuf>,

    #[arg(env = "XDG_DATA_HOME", long, hide = true)]
    xdg_data_home: Option<PathBuf>,

    #[arg(env = "HOME", long, hide = true)]
    home: Option<PathBuf>,
}

/// The database that a command works on.
#[derive(Clone, Debug, clap::Args)]
pub struct DatabaseConfig {
    /// PostgreSQL of the application, such as `postgres://user:password@host/database`
    #[arg(long, env = "DATABASE_URL", value_name = "URL", hide_env_values = true, value_parser = DatabaseUrl::parse)]
    pub database_url: DatabaseUrl,
}

/// The server that a command asks.
#[derive(Clone, Debug, clap::Args)]
pub struct TargetConfig {
    /// Where the server listens, as given to `heist serve`
    #[arg(long, env = "HEIST_LISTEN", value_name = "ADDRESS", default_value = DEFAULT_LISTEN, value_parser = socket_address)]
    pub listen: SocketAddr,

    /// The server's certificate, as given to `heist serve`: where it is set, TLS is spoken
    #[arg(long, env = "HEIST_TLS_CERT_FILE", value_name = "FILE")]
    pub tls_cert_file: Option<PathBuf>,
}

/// Who may call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Auth {
    /// Whoever can connect.
    None,
    /// Whoever has a bearer token, or a client certificate that stands for one.
    Jwt,
}

const DEFAULT_LISTEN: &str = "127.0.0.1:50051";

impl From<EngineConfig> for Limits {
    fn from(config: EngineConfig) -> Self {
        Self {
            queue: config.queue_limit,
            batch: config.batch_limit,
            workers: config.workers,
        }
    }
}

impl From<TrafficConfig> for TrafficLimits {
    fn from(config: TrafficConfig) -> Self {
        let age = config.connection_age;
        Self {
            connections: config.connection_limit,
            calls: config.call_limit,
            streams: config.stream_limit,
            player_streams: config.player_stream_limit,
            connection_age: (!age.is_zero()).then_some(age),
        }
    }
}

impl LogConfig {
    /// These settings as [`telemetry`](crate::telemetry) takes them.
    #[must_use]
    pub fn options(&self) -> LogOptions {
        LogOptions {
            format: self.log_format,
            filter: self.filter.clone(),
        }
    }
}

impl EmbeddedConfig {
    /// Where the private PostgreSQL keeps its data: what was set, or `heist` in the user's
    /// data folder, or a folder that everybody can reach where the user has none or is root,
    /// as whom PostgreSQL does not run and whose home is closed to the user it runs as.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        let root_home = self
            .home
            .as_ref()
            .is_none_or(|home| home.starts_with("/root"));
        let data_home = self.xdg_data_home.clone().or_else(|| {
            let home = self.home.as_ref().filter(|_| !root_home)?;
            Some(home.join(".local/share"))
        });
        self.data_dir
            .clone()
            .unwrap_or_else(|| data_home.unwrap_or_else(|| "/var/lib".into()).join("heist"))
    }
}

impl TargetConfig {
    /// The address under which a server on this machine is reached: one that listens on every
    /// address is asked on the loopback one.
    #[must_use]
    pub fn reachable(&self) -> SocketAddr {
        let mut address = self.listen;
        match address {
            SocketAddr::V4(v4) if v4.ip().is_unspecified() => {
                address.set_ip(Ipv4Addr::LOCALHOST.into());
            }
            SocketAddr::V6(v6) if v6.ip().is_unspecified() => {
                address.set_ip(Ipv6Addr::LOCALHOST.into());
            }
            _ => {}
        }
        address
    }
}

fn connections(value: &str) -> Result<u32, String> {
    parse::whole_number(value, 2..=1000)
}

fn queue_limit(value: &str) -> Result<usize, String> {
    parse::whole_number(value, 1..=1_000_000)
}

fn batch_limit(value: &str) -> Result<usize, String> {
    parse::whole_number(value, 1..=1000)
}

fn workers(value: &str) -> Result<usize, String> {
    parse::whole_number(value, 1..=100)
}

fn traffic(value: &str) -> Result<usize, String> {
    parse::whole_number(value, 1..=1_000_000)
}

fn socket_address(value: &str) -> Result<SocketAddr, String> {
    value
        .parse()
        .map_err(|_| "expected an IP address and a port, such as 127.0.0.1:50051".to_owned())
}

fn auth(value: &str) -> Result<Auth, String> {
    match value {
        "none" => Ok(Auth::None),
        "jwt" => Ok(Auth::Jwt),
        _ => Err("expected none or jwt".to_owned()),
    }
}

fn log_format(value: &str) -> Result<LogFormat, String> {
    match value {
        "json" => Ok(LogFormat::Json),
        "text" => Ok(LogFormat::Text),
        _ => Err("expected json or text".to_owned()),
    }
}

fn log_filter(value: &str) -> Result<String, String> {
    tracing_subscriber::EnvFilter::try_new(value)
        .map(|_| value.to_owned())
        .map_err(|_| "expected a filter such as info or heist=debug,sqlx=warn".to_owned())
}
