//! A PostgreSQL with players, and servers on it, for one isolation fault at a time.

use std::{
    net::SocketAddr,
    path::PathBuf,
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use heist::{demo::APPLICATION_SCHEMA, store::schema};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use tonic::transport::Endpoint;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use super::load::{Outcome, Samples};
use crate::{
    postgres::Node,
    server::{Server, free_address, heist},
    stage::{PLAYERS_SQL, SETTINGS},
};

const NAME: &str = "isolation";
/// Players 1 to this one.
pub const PLAYERS: i32 = 400;
const PROBE_LIMIT: Duration = Duration::from_secs(2);

pub struct Arena {
    pub postgres: Node,
    home: PathBuf,
    /// Longer control, longer faults.
    pub long: bool,
}

/// A server of one fault.
pub struct Running {
    pub server: Server,
    pub metrics: SocketAddr,
}

impl Arena {
    pub async fn open(long: bool) -> anyhow::Result<Self> {
        let home = std::env::temp_dir().join(format!("heist-isolation-{}", std::process::id()));
        let postgres = Node::start(home.join("node")).await?;
        postgres.execute(&format!("CREATE DATABASE {NAME}")).await?;
        let arena = Self {
            postgres,
            home,
            long,
        };
        arena.execute(APPLICATION_SCHEMA).await?;
        schema::migrate(&arena.url().parse()?).await?;
        let mut connection = arena.session().await?;
        sqlx::query(PLAYERS_SQL)
            .bind(PLAYERS)
            .execute(&mut connection)
            .await?;
        connection.close().await?;
        tokio::fs::write(arena.home.join("settings"), SETTINGS).await?;
        Ok(arena)
    }

    pub async fn close(mut self) -> anyhow::Result<()> {
        self.postgres.stop().await?;
        Ok(tokio::fs::remove_dir_all(&self.home).await?)
    }

    /// The length of the control before a fault.
    pub fn control(&self) -> Duration {
        Duration::from_secs(if self.long { 5 } else { 2 })
    }

    /// The length of a fault, between its short and its long form.
    pub fn lasting(&self, short_s: u64, long_s: u64) -> Duration {
        Duration::from_secs(if self.long { long_s } else { short_s })
    }

    /// Past every proxy.
    pub fn url(&self) -> String {
        self.postgres.url(NAME)
    }

    /// The URL of the database behind a proxy.
    pub fn url_through(proxy: SocketAddr) -> String {
        format!("postgres://postgres@{proxy}/{NAME}?sslmode=disable")
    }

    pub async fn session(&self) -> anyhow::Result<PgConnection> {
        Ok(PgConnection::connect(&self.url()).await?)
    }

    pub async fn execute(&self, script: &str) -> anyhow::Result<()> {
        let mut connection = self.session().await?;
        sqlx::raw_sql(AssertSqlSafe(script.to_owned()))
            .execute(&mut connection)
            .await?;
        Ok(connection.close().await?)
    }

    pub async fn serve(&self, database_url: &str) -> anyhow::Result<Running> {
        self.serve_with(database_url, &[], self.log()?.into()).await
    }

    pub async fn serve_with(
        &self,
        database_url: &str,
        variables: &[(&str, &str)],
        stderr: Stdio,
    ) -> anyhow::Result<Running> {
        let metrics = free_address()?;
        let metrics_variable = metrics.to_string();
        let mut all = vec![("HEIST_METRICS_LISTEN", metrics_variable.as_str())];
        all.extend(variables);
        let settings = self.home.join("settings");
        let server = Server::start(free_address()?, database_url, &settings, &all, stderr).await?;
        Ok(Running { server, metrics })
    }

    pub fn log(&self) -> anyhow::Result<std::fs::File> {
        let log = self.home.join("server.log");
        Ok(std::fs::File::options()
            .create(true)
            .append(true)
            .open(log)?)
    }

    /// Fails unless every answered heist is in the books, and the books are in order.
    pub async fn check_books(&self, samples: &Samples) -> anyhow::Result<()> {
        let answered = samples.0.iter().filter_map(|sample| match sample.outcome {
            Outcome::Done(id) if id != 0 => Some(id),
            _ => None,
        });
        let answered: Vec<i64> = answered.collect();
        let mut connection = self.session().await?;
        let found: i64 = sqlx::query_scalar(r#"SELECT count(*) FROM "Heist" WHERE "id" = ANY($1)"#)
            .bind(&answered)
            .fetch_one(&mut connection)
            .await?;
        connection.close().await?;
        ensure!(
            usize::try_from(found)? == answered.len(),
            "{} heists were answered, {found} of them are in the books",
            answered.len()
        );
        let checked = heist("check", &self.url()).output().await?;
        ensure!(
            checked.status.success(),
            "heist check: {}",
            String::from_utf8_lossy(&checked.stdout)
        );
        Ok(())
    }
}

impl Running {
    pub fn address(&self) -> SocketAddr {
        self.server.address
    }

    /// Sends SIGTERM and waits. Returns how long the server took.
    pub async fn stop(mut self) -> anyhow::Result<Duration> {
        let begun = Instant::now();
        self.server.signal("TERM").await?;
        self.server.ended().await?;
        Ok(begun.elapsed())
    }

    /// Ends the server with SIGKILL.
    pub async fn kill(mut self) -> anyhow::Result<()> {
        self.server.signal("KILL").await?;
        self.server.ended().await?;
        Ok(())
    }

    pub async fn is_ready(&self) -> anyhow::Result<bool> {
        self.has_status("").await
    }

    pub async fn is_live(&self) -> anyhow::Result<bool> {
        self.has_status("liveness").await
    }

    async fn has_status(&self, service: &str) -> anyhow::Result<bool> {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.address()))?;
        let check = async {
            let mut client = HealthClient::new(endpoint.connect().await?);
            let request = HealthCheckRequest {
                service: service.to_owned(),
            };
            anyhow::Ok(client.check(request).await?.into_inner().status())
        };
        match timeout(PROBE_LIMIT, check).await {
            Ok(status) => Ok(status? == ServingStatus::Serving),
            Err(_elapsed) => Ok(false),
        }
    }

    /// The sum of a metric's series.
    pub async fn metric(&self, name: &str) -> anyhow::Result<f64> {
        let scrape = async {
            let mut stream = TcpStream::connect(self.metrics).await?;
            let request = "GET /metrics HTTP/1.1\r\nhost: metrics\r\nconnection: close\r\n\r\n";
            stream.write_all(request.as_bytes()).await?;
            let mut text = String::new();
            stream.read_to_string(&mut text).await?;
            anyhow::Ok(text)
        };
        let text = timeout(PROBE_LIMIT, scrape)
            .await
            .context("a scrape timed out")??;
        let values = text.lines().filter_map(|line| {
            let rest = line.strip_prefix(name)?;
            let is_series = rest.starts_with([' ', '{']);
            is_series.then(|| line.rsplit(' ').next()?.parse::<f64>().ok())?
        });
        Ok(values.sum())
    }
}
