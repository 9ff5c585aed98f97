//! Everything that runs: PostgreSQL, what leads to it, the service, and players.

use std::{path::PathBuf, time::Duration};

use anyhow::Context as _;
use heist::{embedded::APPLICATION_SCHEMA, store::schema};
use sqlx::{Connection as _, PgConnection};
use tokio::time::sleep;

use super::{
    callers::PLAYERS,
    postgres::Node,
    proxy::Proxy,
    server::{Server, free_address},
};

const DATABASE: &str = "game";

/// Whoever has a token may rob whom they like. Were these lost, callers would be refused.
pub const SETTINGS: &str = "HEIST_COOLDOWN=0s\nHEIST_PROTECTION_WINDOW=0s\n";

/// Rich enough for hours of heists, with tokens that the books know of.
const PLAYERS_SQL: &str = r#"
    WITH player AS (
        INSERT INTO "User" ("name", "monthlyPoints")
        SELECT 'Player ' || number, 10000000 FROM generate_series(1, $1) AS number
        RETURNING "id"
    ),
    granted AS (
        INSERT INTO "HeistTokenAdjustment"
            ("userId", "delta", "balanceAfter", "actor", "reason", "requestId")
        SELECT "id", 1000000, 1000000, 'faults', 'to play with', gen_random_uuid() FROM player
    )
    INSERT INTO "HeistToken" ("userId", "balance", "totalEarned")
    SELECT "id", 1000000, 1000000 FROM player"#;

pub struct Stage {
    pub primary: Node,
    standby: Option<Node>,
    pub proxy: Proxy,
    pub server: Server,
    home: PathBuf,
    /// Of the server: through the proxy.
    server_url: String,
    nodes: u32,
    /// The last heist that was compared with an answer.
    pub checked_up_to: i64,
}

impl Stage {
    pub async fn set() -> anyhow::Result<Self> {
        let home = std::env::temp_dir().join(format!("heist-faults-{}", std::process::id()));
        let primary = Node::start(home.join("node-1")).await?;
        primary
            .execute(&format!("CREATE DATABASE {DATABASE}"))
            .await?;
        let mut connection = PgConnection::connect(&primary.url(DATABASE)).await?;
        sqlx::raw_sql(APPLICATION_SCHEMA)
            .execute(&mut connection)
            .await?;
        schema::migrate(&primary.url(DATABASE).parse()?).await?;
        sqlx::query(PLAYERS_SQL)
            .bind(PLAYERS)
            .execute(&mut connection)
            .await?;
        connection.close().await?;

        let proxy = Proxy::start(primary.socket()?).await?;
        let server_url = format!(
            "postgres://postgres@{}/{DATABASE}?sslmode=disable",
            proxy.address
        );
        let settings = home.join("settings");
        tokio::fs::write(&settings, SETTINGS).await?;
        let log = home.join("server.log");
        let server = Server::start(free_address()?, &server_url, &settings, &log).await?;
        Ok(Self {
            primary,
            standby: None,
            proxy,
            server,
            home,
            server_url,
            nodes: 1,
            checked_up_to: 0,
        })
    }

    /// Past the proxy.
    pub fn database_url(&self) -> String {
        self.primary.url(DATABASE)
    }

    pub async fn start_server(&mut self) -> anyhow::Result<()> {
        let (settings, log) = (self.home.join("settings"), self.home.join("server.log"));
        let address = self.server.address;
        self.server = Server::start(address, &self.server_url, &settings, &log).await?;
        Ok(())
    }

    pub async fn write_settings(&self, lines: &str) -> anyhow::Result<()> {
        Ok(tokio::fs::write(self.home.join("settings"), lines).await?)
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

    /// The primary dies. For a second everybody is led to a standby that is still read-only,
    /// as it happens where the address moves first; then it is promoted.
    pub async fn fail_over(&mut self) -> anyhow::Result<()> {
        let standby = self.standby.take().context("no standby")?;
        self.primary.kill().await?;
        self.proxy.lead_to(standby.socket()?);
        sleep(Duration::from_secs(1)).await;
        standby.promote().await?;
        self.primary = standby;
        Ok(())
    }

    pub async fn clear(mut self) -> anyhow::Result<()> {
        self.server.signal("TERM").await?;
        self.server.ended().await?;
        self.primary.stop().await?;
        Ok(tokio::fs::remove_dir_all(&self.home).await?)
    }
}
