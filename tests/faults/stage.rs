//! Everything that runs: the database, the service, and players.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::Stdio,
};

use heist::{demo::APPLICATION_SCHEMA, store::schema};
use sqlx::{Connection as _, PgConnection};

use super::{
    callers::PLAYERS,
    database::{Database, Ours, Setting},
    server::{Server, free_address},
};

/// Any player with a token may rob any other. If the server lost these settings, it would refuse
/// calls.
pub const SETTINGS: &str = "HEIST_COOLDOWN=0s\nHEIST_PROTECTION_WINDOW=0s\n";

/// Rich enough for hours of heists, with tokens that the books know of.
pub const PLAYERS_SQL: &str = r#"
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
    pub database: Database,
    pub server: Server,
    home: PathBuf,
    /// The last heist that was compared with an answer.
    pub checked_up_to: i64,
}

impl Stage {
    pub async fn set(setting: Setting) -> anyhow::Result<Self> {
        let home = std::env::temp_dir().join(format!("heist-faults-{}", std::process::id()));
        let database = match setting {
            Setting::Ours { pgbouncer } => {
                Database::Ours(Box::new(Ours::start(home.clone(), pgbouncer).await?))
            }
            Setting::Elsewhere(cluster) => Database::Elsewhere(cluster),
        };
        let mut connection = PgConnection::connect(&database.url()).await?;
        sqlx::raw_sql(APPLICATION_SCHEMA)
            .execute(&mut connection)
            .await?;
        schema::migrate(&database.url().parse()?).await?;
        sqlx::query(PLAYERS_SQL)
            .bind(PLAYERS)
            .execute(&mut connection)
            .await?;
        connection.close().await?;

        tokio::fs::create_dir_all(&home).await?;
        let settings = home.join("settings");
        tokio::fs::write(&settings, SETTINGS).await?;
        let log = open_log(&home)?;
        let url = database.server_url();
        let server = Server::start(free_address()?, &url, &settings, &[], log).await?;
        Ok(Self {
            database,
            server,
            home,
            checked_up_to: 0,
        })
    }

    pub async fn start_server(&mut self) -> anyhow::Result<()> {
        let settings = self.home.join("settings");
        let (address, url) = (self.server.address, self.database.server_url());
        self.server = Server::start(address, &url, &settings, &[], open_log(&self.home)?).await?;
        Ok(())
    }

    pub async fn write_settings(&self, lines: &str) -> anyhow::Result<()> {
        Ok(tokio::fs::write(self.home.join("settings"), lines).await?)
    }

    pub async fn clear(mut self) -> anyhow::Result<()> {
        self.server.signal("TERM").await?;
        self.server.ended().await?;
        if let Database::Ours(ours) = &mut self.database {
            ours.primary.stop().await?;
        }
        Ok(tokio::fs::remove_dir_all(&self.home).await?)
    }
}

fn open_log(home: &Path) -> anyhow::Result<Stdio> {
    let log = home.join("server.log");
    Ok(File::options().create(true).append(true).open(log)?.into())
}
