//! The database of a private PostgreSQL: the application's tables, ours, and fifty players
//! who have already begun to rob each other.

use std::{sync::Arc, time::Duration};

use sqlx::{Connection as _, PgConnection, postgres::PgConnectOptions};
use tokio::time::Instant;

use super::{APPLICATION_SCHEMA, DEMO_PLAYERS, Embedded};
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

/// The name of the demo database.
pub const DATABASE: &str = "heist";
/// The database is renamed when it is complete, so that an interrupted start leaves none that
/// is half made.
const UNFINISHED: &str = "heist_unfinished";

/// Referred players whose tokens nobody has asked for yet: they are for the visitor's first
/// `AwardToken`.
const LEFT_TO_AWARD: [i32; 2] = [49, 50];
/// Attacker and victim of the heists that happened before the visitor came.
const PAST_HEISTS: [(i32, i32); 5] = [(3, 11), (5, 3), (12, 25), (14, 21), (17, 3)];

const PATIENCE: Duration = Duration::from_secs(30);
/// To the new database, while its history is made.
const CONNECTIONS: u32 = 4;

/// Why the demo database could not be made.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    #[error("cannot make the demo database: {0}")]
    Sql(#[from] sqlx::Error),
    #[error("cannot prepare the demo database: {0}")]
    Schema(#[from] SchemaError),
    #[error("cannot make the demo's history: {0}")]
    Id(#[from] InvalidId),
    #[error("cannot enliven the demo database: {0}")]
    Engine(#[from] Fault),
}

/// Makes the demo database where it does not exist yet, and brings its schema up to date
/// where it does. Returns its URL.
///
/// # Errors
///
/// What PostgreSQL or a migration ran into.
pub async fn prepare(postgres: &Embedded) -> Result<String, DemoError> {
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
    sqlx::raw_sql(DEMO_PLAYERS).execute(&mut connection).await?;
    connection.close().await?;
    schema::migrate(&options).await?;

    let pool = pool::connect_lazy(options, CONNECTIONS);
    make_history(&pool).await?;
    // The database cannot be renamed while a client is connected.
    pool.close().await;
    Ok(())
}

/// Awards and heists as the service itself does them, so that the books are in order.
async fn make_history(pool: &PgPool) -> Result<(), DemoError> {
    let referrals: Vec<(i32, i32)> = sqlx::query_as::<_, (i32, i32)>(
        r#"SELECT "id", "referredByUserId" FROM "User" WHERE "referredByUserId" IS NOT NULL ORDER BY "id""#,
    )
    .fetch_all(pool)
    .await?
    .into_iter()
    .filter(|(referred, _)| !LEFT_TO_AWARD.contains(referred))
    .collect();

    let nobody_listens: OnCommit = Arc::new(|_| ());
    let (engine, workers) = Engine::start(pool.clone(), Limits::default(), None, nobody_listens);
    for (referred, referrer) in referrals {
        let order = AwardOrder {
            referrer: UserId::new(referrer)?,
            referred: UserId::new(referred)?,
            referred_name: None,
        };
        engine.award_token(order, Instant::now() + PATIENCE).await?;
    }
    let rules = Arc::new(Rules::default());
    for (attacker, victim) in PAST_HEISTS {
        let order = HeistOrder {
            attacker: UserId::new(attacker)?,
            victim: UserId::new(victim)?,
            request_id: RequestId::random(),
            caller_address: None,
            rules: Arc::clone(&rules),
        };
        engine
            .execute_heist(order, Instant::now() + PATIENCE)
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
