//! Flags and environment variables, with one documented field each. No other module reads an
//! environment variable.

mod archive;
mod email;
mod environment;
mod security;
mod telemetry;

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

pub use self::{
    archive::{ArchiveConfig, ArchivedDatabase},
    email::{EmailConfig, TemplateConfig},
    environment::apply_environment,
    security::{Auth, JwtConfig, SecurityConfig},
    telemetry::TelemetryConfig,
};
use crate::{
    engine::Limits,
    rpc::TrafficLimits,
    settings::{RuleArgs, parse},
    store::pool::DatabaseUrl,
    telemetry::{LogFormat, LogOptions},
};

/// The configuration of `heist serve`.
#[derive(Clone, Debug, clap::Args)]
pub struct ServeConfig {
    /// The application's database, such as `postgres://user:password@host/database`. Default: a
    /// private PostgreSQL with demo players
    #[arg(long, env = "DATABASE_URL", value_name = "URL", hide_env_values = true, value_parser = environment::database_url)]
    pub database_url: Option<DatabaseUrl>,

    /// The same database without the pooler, if `DATABASE_URL` leads to a pooler in transaction mode.
    /// The server uses one connection to it, for notifications from other replicas. Default:
    /// `DATABASE_URL`
    #[arg(long, env = "DATABASE_DIRECT_URL", value_name = "URL", hide_env_values = true, value_parser = environment::database_url)]
    pub database_direct_url: Option<DatabaseUrl>,

    /// A streaming replica for reads. Reads that it cannot answer yet go to the primary. Default: all
    /// reads go to the primary
    #[arg(long, env = "DATABASE_READ_URL", value_name = "URL", hide_env_values = true, value_parser = environment::database_url)]
    pub database_read_url: Option<DatabaseUrl>,

    /// Maximum number of connections to the primary, and to the replica
    #[arg(long, env = "DATABASE_MAX_CONNECTIONS", value_name = "NUMBER", default_value_t = 10, value_parser = connections)]
    pub database_max_connections: u32,

    /// The address of the gRPC server; port 0: any free port
    #[arg(long, env = "HEIST_LISTEN", value_name = "ADDRESS", default_value = DEFAULT_LISTEN, value_parser = socket_address)]
    pub listen: SocketAddr,

    /// `jwt`: callers need a bearer token; `none`: any client that can connect may call every RPC.
    /// Required if `DATABASE_URL` is set
    #[arg(long, env = "HEIST_AUTH", value_name = "METHOD", value_parser = Auth::parse)]
    pub auth: Option<Auth>,

    /// Whether gRPC reflection is served, which grpcurl needs
    #[arg(long, env = "HEIST_REFLECTION", value_name = "BOOL", default_value = "true", value_parser = parse::switch, action = clap::ArgAction::Set)]
    pub reflection: bool,

    /// Maximum time that calls in progress may take to finish after SIGTERM
    #[arg(long, env = "HEIST_SHUTDOWN_GRACE", value_name = "DURATION", default_value = "25s", value_parser = parse::duration)]
    pub shutdown_grace: Duration,

    /// How long the server accepts new calls after SIGTERM, so that load balancers can notice that it
    /// is not ready; part of the grace period
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
    pub private_postgres: PrivatePostgresConfig,

    /// A file with lines such as `HEIST_ENABLED=false` that override the rules. It is read again when
    /// it changes
    #[arg(long, env = "HEIST_SETTINGS_FILE", value_name = "FILE")]
    pub settings_file: Option<PathBuf>,

    #[command(flatten)]
    pub rules: RuleArgs,
}

/// Limits of the engine, for each of heists, awards and adjustments.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Engine")]
pub struct EngineConfig {
    /// Maximum number of unanswered calls, waiting or in a transaction; further calls fail with
    /// `OVERLOADED`
    #[arg(long, env = "HEIST_QUEUE_LIMIT", value_name = "CALLS", default_value_t = Limits::default().queue, value_parser = queue_limit)]
    pub queue_limit: usize,

    /// Maximum number of calls in one transaction
    #[arg(long, env = "HEIST_BATCH_LIMIT", value_name = "CALLS", default_value_t = Limits::default().batch, value_parser = batch_limit)]
    pub batch_limit: usize,

    /// Maximum number of concurrent transactions, each on its own connection
    #[arg(long, env = "HEIST_WORKERS", value_name = "NUMBER", default_value_t = Limits::default().workers, value_parser = workers)]
    pub workers: usize,
}

/// Limits of the server, over all callers.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Traffic")]
pub struct TrafficConfig {
    /// Maximum number of connections; a further one takes the place of one without an authenticated
    /// call, and is closed if there is none
    #[arg(long, env = "HEIST_CONNECTION_LIMIT", value_name = "NUMBER", default_value_t = TrafficLimits::default().connections, value_parser = traffic)]
    pub connection_limit: usize,

    /// Maximum number of connections from one IP address without an authenticated call; a further one
    /// takes the place of the oldest
    #[arg(long, env = "HEIST_ADDRESS_CONNECTION_LIMIT", value_name = "NUMBER", default_value_t = TrafficLimits::default().address_connections, value_parser = traffic)]
    pub address_connection_limit: usize,

    /// Memory of all calls in progress in MiB, with their requests and answers; further calls fail
    /// with `OVERLOADED`
    #[arg(long, env = "HEIST_CALL_MEMORY_LIMIT", value_name = "MIB", default_value_t = TrafficLimits::default().call_memory / MIB, value_parser = mebibytes)]
    pub call_memory_limit: usize,

    /// Maximum number of calls in progress; further calls fail with `OVERLOADED`
    #[arg(long, env = "HEIST_CALL_LIMIT", value_name = "CALLS", default_value_t = TrafficLimits::default().calls, value_parser = traffic)]
    pub call_limit: usize,

    /// Maximum number of open streams; further streams fail with `OVERLOADED`
    #[arg(long, env = "HEIST_STREAM_LIMIT", value_name = "STREAMS", default_value_t = TrafficLimits::default().streams, value_parser = traffic)]
    pub stream_limit: usize,

    /// Maximum number of open streams of one player
    #[arg(long, env = "HEIST_PLAYER_STREAM_LIMIT", value_name = "STREAMS", default_value_t = TrafficLimits::default().player_streams, value_parser = traffic)]
    pub player_stream_limit: usize,

    /// The age at which the server asks a connection to close and ends a stream; 0s: never
    #[arg(long, env = "HEIST_CONNECTION_AGE", value_name = "DURATION", default_value = parse::duration_text(TrafficLimits::default().connection_age.unwrap_or_default()), value_parser = parse::duration)]
    pub connection_age: Duration,
}

/// The log, on standard error.
#[derive(Clone, Debug, clap::Args)]
pub struct LogConfig {
    /// `json` or `text`. Default: `text` on a terminal, `json` otherwise
    #[arg(long, env = "HEIST_LOG_FORMAT", value_name = "FORMAT", value_parser = log_format, global = true)]
    pub log_format: Option<LogFormat>,

    /// A filter for the log, such as `warn` or `heist=debug,sqlx=warn`
    #[arg(long = "log-filter", env = "RUST_LOG", value_name = "FILTER", default_value = "info,sqlx=warn,opentelemetry=warn", value_parser = log_filter, global = true)]
    pub filter: String,
}

/// The private PostgreSQL, which starts if `DATABASE_URL` is not set.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Private PostgreSQL (without DATABASE_URL)")]
pub struct PrivatePostgresConfig {
    /// The data directory. Default: `heist` in the user's data directory
    #[arg(long, env = "HEIST_DATA_DIR", value_name = "DIRECTORY")]
    pub data_dir: Option<PathBuf>,

    /// The directory of `initdb` and `postgres`. Default: `PATH` and the usual places are searched
    #[arg(long, env = "PG_BIN_DIR", value_name = "DIRECTORY")]
    pub pg_bin_dir: Option<PathBuf>,

    #[arg(env = "XDG_DATA_HOME", long, hide = true)]
    xdg_data_home: Option<PathBuf>,

    #[arg(env = "HOME", long, hide = true)]
    home: Option<PathBuf>,
}

/// The database of a command.
#[derive(Clone, Debug, clap::Args)]
pub struct DatabaseConfig {
    /// The application's database, such as `postgres://user:password@host/database`
    #[arg(long, env = "DATABASE_URL", value_name = "URL", hide_env_values = true, value_parser = environment::database_url)]
    pub database_url: DatabaseUrl,
}

/// The server that a command calls.
#[derive(Clone, Debug, clap::Args)]
pub struct TargetConfig {
    /// The address of the server, as given to `heist serve`
    #[arg(long, env = "HEIST_LISTEN", value_name = "ADDRESS", default_value = DEFAULT_LISTEN, value_parser = socket_address)]
    pub listen: SocketAddr,

    /// The server's certificate, as given to `heist serve`. If it is set, the command uses TLS
    #[arg(long, env = "HEIST_TLS_CERT_FILE", value_name = "FILE")]
    pub tls_cert_file: Option<PathBuf>,
}

const MIB: usize = 1024 * 1024;
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
            address_connections: config.address_connection_limit,
            call_memory: config.call_memory_limit * MIB,
            calls: config.call_limit,
            streams: config.stream_limit,
            player_streams: config.player_stream_limit,
            connection_age: (!age.is_zero()).then_some(age),
        }
    }
}

impl LogConfig {
    /// The options of [`telemetry`](crate::telemetry).
    #[must_use]
    pub fn options(&self) -> LogOptions {
        LogOptions {
            format: self.log_format,
            filter: self.filter.clone(),
        }
    }
}

impl PrivatePostgresConfig {
    /// The configured data directory; otherwise `heist` in the user's data directory. For root, and
    /// for a user without a home, it is `/var/lib/heist`: PostgreSQL runs as another user than root,
    /// who cannot enter root's home.
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
    /// The address of a server on this machine. A server that listens on all addresses is called on
    /// the loopback address.
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

fn mebibytes(value: &str) -> Result<usize, String> {
    parse::whole_number(value, 1..=4096)
}

fn traffic(value: &str) -> Result<usize, String> {
    parse::whole_number(value, 1..=1_000_000)
}

fn socket_address(value: &str) -> Result<SocketAddr, String> {
    value
        .parse()
        .map_err(|_| "expected an IP address and a port, such as 127.0.0.1:50051".to_owned())
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
