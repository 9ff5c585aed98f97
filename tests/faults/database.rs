//! Where the books are: in a PostgreSQL of our own, or in a cluster that others run.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context as _, bail, ensure};
use tokio::{process::Command, time::sleep};

use super::{pgbouncer::PgBouncer, postgres::Node, proxy::Proxy};

const NAME: &str = "game";

/// What is to be broken.
pub enum Setting {
    /// A PostgreSQL of our own, with PgBouncer in front of it where its program is given.
    Ours {
        pgbouncer: Option<PathBuf>,
    },
    Elsewhere(Cluster),
}

pub enum Database {
    Ours(Box<Ours>),
    Elsewhere(Cluster),
}

/// With PgBouncer in front of it or without.
pub struct Ours {
    pub primary: Node,
    standby: Option<Node>,
    pub proxy: Proxy,
    /// Between the server and the proxy, with its program.
    pgbouncer: Option<(PathBuf, PgBouncer)>,
    home: PathBuf,
    nodes: u32,
}

/// A primary with a standby, and a way to lead connections to the current primary.
pub struct Cluster {
    /// Of a database that is empty at first.
    url: String,
    program: PathBuf,
}

impl Database {
    /// Past our proxy.
    pub fn url(&self) -> String {
        match self {
            Self::Ours(ours) => ours.primary.url(NAME),
            Self::Elsewhere(cluster) => cluster.url.clone(),
        }
    }

    /// Of the server: through the proxy, and through PgBouncer where there is one.
    pub fn server_url(&self) -> String {
        match self {
            Self::Ours(ours) => ours.server_url(),
            Self::Elsewhere(cluster) => cluster.url.clone(),
        }
    }

    pub fn ours(&mut self) -> anyhow::Result<&mut Ours> {
        match self {
            Self::Ours(ours) => Ok(ours),
            Self::Elsewhere(_) => bail!("cannot be done to a cluster elsewhere"),
        }
    }

    pub fn cluster(&self) -> anyhow::Result<&Cluster> {
        match self {
            Self::Ours(_) => bail!("needs a cluster elsewhere"),
            Self::Elsewhere(cluster) => Ok(cluster),
        }
    }
}

impl Ours {
    pub async fn start(home: PathBuf, pgbouncer: Option<PathBuf>) -> anyhow::Result<Self> {
        let primary = Node::start(home.join("node-1")).await?;
        primary.execute(&format!("CREATE DATABASE {NAME}")).await?;
        let proxy = Proxy::start(primary.socket()?).await?;
        let mut ours = Self {
            primary,
            standby: None,
            proxy,
            pgbouncer: None,
            home,
            nodes: 1,
        };
        if let Some(program) = pgbouncer {
            ours.start_pgbouncer(program).await?;
        }
        Ok(ours)
    }

    fn server_url(&self) -> String {
        if let Some((_, pgbouncer)) = &self.pgbouncer {
            return pgbouncer.url(NAME);
        }
        let address = self.proxy.address;
        format!("postgres://postgres@{address}/{NAME}?sslmode=disable")
    }

    async fn start_pgbouncer(&mut self, program: PathBuf) -> anyhow::Result<()> {
        let (folder, socket) = (self.home.join("pgbouncer"), self.primary.socket()?);
        let (host, port) = (self.proxy.address.ip(), self.proxy.address.port());
        let address = format!("host={host} port={port}");
        let pgbouncer = PgBouncer::start(&program, folder, &socket, &address).await?;
        self.pgbouncer = Some((program, pgbouncer));
        Ok(())
    }

    /// With SIGKILL.
    pub async fn restart_pgbouncer(&mut self) -> anyhow::Result<()> {
        let (program, pgbouncer) = self.pgbouncer.take().context("no PgBouncer")?;
        drop(pgbouncer);
        self.start_pgbouncer(program).await
    }

    pub async fn end_sessions(&self) -> anyhow::Result<()> {
        self.primary
            .execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                WHERE application_name = 'heist'",
            )
            .await
    }

    pub async fn start_standby(&mut self) -> anyhow::Result<()> {
        self.nodes += 1;
        let home = self.home.join(format!("node-{}", self.nodes));
        self.standby = Some(self.primary.with_standby(home).await?);
        Ok(())
    }

    /// Kills the primary. For a second, connections lead to a standby that is still read-only, as
    /// happens where the address moves first. Then the standby is promoted.
    pub async fn fail_over(&mut self) -> anyhow::Result<()> {
        let standby = self.standby.take().context("no standby")?;
        self.primary.kill().await?;
        self.proxy.lead_to(standby.socket()?);
        sleep(Duration::from_secs(1)).await;
        standby.promote().await?;
        self.primary = standby;
        Ok(())
    }
}

impl Cluster {
    pub fn new(url: String, program: PathBuf) -> Self {
        Self { url, program }
    }

    /// Returns when everything is in place again: see `--cluster-program`.
    pub async fn run(&self, what: &str) -> anyhow::Result<()> {
        let program = self.program.display();
        let ended = Command::new(&self.program)
            .arg(what)
            .status()
            .await
            .with_context(|| format!("{program} {what}"))?;
        ensure!(ended.success(), "{program} {what} ended with {ended}");
        Ok(())
    }
}
