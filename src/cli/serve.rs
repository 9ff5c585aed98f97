//! `heist serve`

use std::{fmt, net::SocketAddr, time::Instant};

use anyhow::{Context as _, ensure};
use private_postgres::PrivatePostgres;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{
    config::{Auth, ServeConfig},
    output::print_line,
    warnings,
};
use crate::{
    demo,
    server::{Options, Server},
    settings::LiveSettings,
    store::pool::DatabaseUrl,
    telemetry::Exporters,
    watched::WatchedFile,
};

const EXAMPLES: &str = "\
Examples:
  heist serve
      With a private PostgreSQL and demo players.
  DATABASE_URL=postgres://app:secret@db/app HEIST_AUTH=none heist serve
      On the application's database, after `heist migrate up`.
  HEIST_COOLDOWN=0s HEIST_LISTEN=127.0.0.1:0 heist serve
      On any free port, without a cooldown.";

/// Serves gRPC until SIGTERM or Ctrl-C
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Serve {
    #[command(flatten)]
    pub(super) config: ServeConfig,
}

impl Serve {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let begun = Instant::now();
        let config = self.config;
        let mut stop = StopSignals::listen()?;
        // E-mail needs a configuration only if it is on.
        let mail = config.email.clone().options();
        if let (Err(error), true) = (&mail, config.rules.email_enabled) {
            return Err(anyhow::Error::msg(error.clone()));
        }
        ensure!(
            config.shutdown_delay < config.shutdown_grace || config.shutdown_delay.is_zero(),
            "HEIST_SHUTDOWN_DELAY must be shorter than HEIST_SHUTDOWN_GRACE, which includes it"
        );
        ensure!(
            config.database_url.is_some() || config.database_direct_url.is_none(),
            "DATABASE_DIRECT_URL is set, but DATABASE_URL is not"
        );

        ensure!(
            config.auth.is_some() || config.database_url.is_none(),
            "HEIST_AUTH is not set: jwt requires bearer tokens; with none, any client that can connect can execute heists for any player and award tokens"
        );
        let auth = config.auth.unwrap_or(Auth::None);
        let security = config.security.resolve(auth);
        let (auth_options, tls) = security.map_err(anyhow::Error::msg)?;
        let is_open = auth == Auth::None && tls.is_none();

        let exporters = Exporters::start(config.telemetry.options()).await?;
        let (database, private) = if let Some(url) = &config.database_url {
            url.warn_of_ignored_parameters();
            (url.clone(), None)
        } else {
            let (database, postgres) = start_private(&config).await?;
            (database, Some(postgres))
        };
        warnings::log(config.listen, auth, &auth_options, tls.as_ref());

        let settings = match config.settings_file {
            Some(file) => {
                let file = WatchedFile::named("HEIST_SETTINGS_FILE", file);
                let cannot_mail = mail.as_ref().err().cloned();
                LiveSettings::watch(file, config.rules, cannot_mail).await?
            }
            None => LiveSettings::fixed(config.rules.into()),
        };
        let options = Options {
            database,
            direct_database: config.database_direct_url,
            read_database: config.database_read_url,
            max_connections: config.database_max_connections,
            listen: config.listen,
            reflection: config.reflection,
            auth: auth_options,
            tls,
            settings,
            limits: config.engine.into(),
            traffic: config.traffic.into(),
            trusted_proxies: config.security.trusted_proxies,
            mail: mail.ok(),
        };
        let mut server = tokio::select! {
            server = Server::start(options) => server?,
            signal = stop.received() => {
                tracing::info!(signal, "stopping before the server has started");
                return Ok(());
            }
        };
        exporters.report_readiness(server.readiness());
        let address = server.address();
        let startup_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        let metrics_address = exporters.metrics_address().map(tracing::field::display);
        tracing::info!(%address, metrics_address, startup_ms, "serving");
        if let Some(postgres) = &private {
            let welcome = Welcome {
                postgres,
                address,
                is_open,
            };
            print_line(welcome)?;
        }

        let failure = tokio::select! {
            signal = stop.received() => {
                tracing::info!(signal, "stopping");
                None
            }
            error = server.failed() => Some(error),
        };
        let failed = failure.is_some();
        if !failed {
            server.withdraw(config.shutdown_delay).await;
            (server.stop(config.shutdown_grace.saturating_sub(config.shutdown_delay))).await;
        }
        exporters.flush().await;
        if let Some(postgres) = private {
            postgres.stop().await.context("the private PostgreSQL")?;
        }
        match failure {
            None => Ok(()),
            Some(error) => Err(error.into()),
        }
    }
}

async fn start_private(config: &ServeConfig) -> anyhow::Result<(DatabaseUrl, PrivatePostgres)> {
    let options = private_postgres::Options {
        data_dir: config.private_postgres.data_dir(),
        bin_dir: config.private_postgres.pg_bin_dir.clone(),
        settings: Vec::new(),
    };
    let postgres = PrivatePostgres::start(&options).await?;
    let url = demo::prepare(&postgres).await?;
    let database = DatabaseUrl::parse(&url).map_err(anyhow::Error::msg)?;
    Ok((database, postgres))
}

/// SIGTERM, which Kubernetes sends, and SIGINT (Ctrl-C).
struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    /// Registers the handlers, so that a signal during the start is not lost.
    fn listen() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn received(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// The message after a start with demo players.
struct Welcome<'a> {
    postgres: &'a PrivatePostgres,
    address: SocketAddr,
    /// Whether calls work without TLS and without a token.
    is_open: bool,
}

impl fmt::Display for Welcome<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            postgres,
            address,
            is_open,
        } = self;
        write!(
            f,
            r#"
heist serves gRPC on {address}, with demo players in a private PostgreSQL.
Its data is in {data_dir}. To connect:
  psql "{database_url}"
"#,
            data_dir = postgres.data_dir().display(),
            database_url = postgres.url(demo::DATABASE),
        )?;
        if *is_open {
            write!(
                f,
                r#"
Try, in another terminal:
  grpcurl -plaintext {address} list heist.v1.HeistService
  grpcurl -plaintext -d '{{"referrer_id": 1, "referred_id": 50}}' {address} heist.v1.TokenService/AwardToken
  grpcurl -plaintext -d '{{"attacker_id": 1, "victim_id": 2}}' {address} heist.v1.HeistService/ExecuteHeist
  grpcurl -plaintext -d '{{"user_id": 2}}' {address} heist.v1.NotificationService/ListNotifications
"#
            )?;
        }
        f.write_str("\nCtrl-C stops it.\n")
    }
}
