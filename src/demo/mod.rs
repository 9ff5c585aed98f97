//! The demo database of the private PostgreSQL: the application's tables, the service's tables, and
//! fifty players with a history of awards and heists.

use std::{sync::Arc, time::Duration};

use private_postgres::PrivatePostgres;
use sqlx::{Connection as _, PgConnection, postgres::PgConnectOptions};
use tokio::time::Instant;

use crate::{
    domain::{
        award::AwardOrder,
        heist::HeistOrder,
        ids::{InvalidId, RequestId, UserId},
        rules::Rules,
    },
    engine::{Engine, Limits, OnCommit},
    fault::Fault,
    store::{
        PgPool, pool,
        schema::{self, SchemaError},
    },
};

/// The application's tables as Prisma creates them, for an empty database.
pub const APPLICATION_SCHEMA: &str = include_str!("application.sql");

/// Fifty players with points, point events and referrals, for [`APPLICATION_SCHEMA`].
const PLAYERS: &str = include_str!("players.sql");

/// The name of the demo database.
pub const DATABASE: &str = "heist";
/// The database's name until it is complete, so that an interrupted start leaves no incomplete demo
/// database.
const UNFINISHED: &str = "heist_unfinished";

/// Referred players without an award, so that the user can try `AwardToken`.
const LEFT_TO_AWARD: [i32; 2] = [49, 50];
/// Attacker and victim of each heist in the history.
const PAST_HEISTS: [(i32, i32); 5] = [(3, 11), (5, 3), (12, 25), (14, 21), (17, 3)];

const TIMEOUT: Duration = Duration::from_secs(30);
/// The limit of connections to the new database while its history is created.
const CONNECTIONS: u32 = 4;

/// Why the demo database could not be created.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    #[error("cannot create the demo database: {0}")]
    Sql(#[from] sqlx::Error),
    #[error("cannot migrate the demo database: {0}")]
    Schema(#[from] SchemaError),
    #[error("cannot create the demo's history: {0}")]
    Id(#[from] InvalidId),
    #[error("cannot create the demo's history: {0}")]
    Engine(#[from] Fault),
}

/// Creates the demo database if it does not exist, and migrates its schema. Returns its URL.
///
/// # Errors
///
/// A statement or a migration failed.
pub async fn prepare(postgres: &PrivatePostgres) -> Result<String, DemoError> {
    let mut maintenance = PgConnection::connect(&postgres.url("postgres")).await?;
    let exists: bool =
        sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)")
            .bind(DATABASE)
            .fetch_one(&mut maintenance)
            .await?;
    if !exists {
        execute(
            &mut maintenance,
            format!("DROP DATABASE IF EXISTS {UNFINISHED}"),
        )
        .await?;
        execute(&mut maintenance, format!("CREATE DATABASE {UNFINISHED}")).await?;
        populate(&postgres.url(UNFINISHED)).await?;
        let rename = format!("ALTER DATABASE {UNFINISHED} RENAME TO {DATABASE}");
        execute(&mut maintenance, rename).await?;
    }
    maintenance.close().await?;

    let url = postgres.url(DATABASE);
    schema::migrate(&url.parse()?).await?;
    Ok(url)
}

async fn populate(url: &str) -> Result<(), DemoError> {
    let options: PgConnectOptions = url.parse()?;
    let mut connection = PgConnection::connect_with(&options).await?;
    sqlx::raw_sql(APPLICATION_SCHEMA)
        .execute(&mut connection)
        .await?;
    sqlx::raw_sql(PLAYERS).execute(&mut connection).await?;
    connection.close().await?;
    schema::migrate(&options).await?;

    let pool = pool::connect_lazy(options, CONNECTIONS);
    make_history(&pool).await?;
    // PostgreSQL renames a database only without open connections.
    pool.close().await;
    Ok(())
}

/// Executes awards and heists with the engine, so that `heist check` finds no inconsistency.
async fn make_history(pool: &PgPool) -> Result<(), DemoError> {
    let referrals: Vec<(i32, i32)> = sqlx::query_as::<_, (i32, i32)>(
        r#"SELECT "id", "referredByUserId" FROM "User" WHERE "referredByUserId" IS NOT NULL ORDER BY "id""#,
    )
    .fetch_all(pool)
    .await?
    .into_iter()
    .filter(|(referred, _)| !LEFT_TO_AWARD.contains(referred))
    .collect();

    let no_listeners: OnCommit = Arc::new(|_| ());
    let (engine, workers) = Engine::start(pool.clone(), Limits::default(), None, no_listeners);
    for (referred, referrer) in referrals {
        let order = AwardOrder {
            referrer: UserId::new(referrer)?,
            referred: UserId::new(referred)?,
            referred_name: None,
        };
        engine.award_token(order, Instant::now() + TIMEOUT).await?;
    }
    let rules = Arc::new(Rules::default());
    for (attacker, victim) in PAST_HEISTS {
        let order = HeistOrder {
            attacker: UserId::new(attacker)?,
            victim: UserId::new(victim)?,
            request_id: RequestId::new(uuid::Uuid::now_v7()),
            client_address: None,
            rules: Arc::clone(&rules),
        };
        engine
            .execute_heist(order, Instant::now() + TIMEOUT)
            .await?;
    }
    drop(engine);
    workers.finish().await;
    Ok(())
}

async fn execute(connection: &mut PgConnection, statement: String) -> Result<(), sqlx::Error> {
    sqlx::query(sqlx::AssertSqlSafe(statement))
        .execute(connection)
        .await?;
    Ok(())
}
