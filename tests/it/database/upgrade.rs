//! An upgrade from version 0.1.0, under load, of a database that it filled.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use heist::{
    pb::{
        AdjustBalanceRequest, AwardTokenRequest, EmailPreference, ExecuteHeistRequest,
        GetRulesRequest, ListNotificationsRequest, ListTokenEventsRequest, token_event::Source,
    },
    settings::Settings,
};
use sqlx::{Connection as _, FromRow, PgConnection, PgPool};
use tokio::task::JoinHandle;

use crate::harness::{
    World, mail,
    pages::all_pages,
    postgres::Database,
    process::{Ended, Heist},
    runtime, until,
};

/// A dump of a database that version 0.1.0 filled through its RPCs and commands: awards,
/// adjustments, heists, notifications that were read, e-mails that were sent, skipped, parked and
/// queued, two archive files, and a player who was deleted.
const DATABASE: &str = include_str!("fixtures/0.1.0/database.sql");
/// `old_heist(attacker, victim)`.
const OLD_HEIST: &str = include_str!("fixtures/0.1.0/heist.sql");
/// The players of the dump: 1 to this one. The next one was deleted.
const PLAYERS: i32 = 23;
/// Heists of old replicas, executed in between.
const HEISTS: u64 = 50;

#[derive(FromRow)]
struct OldHeist {
    id: i64,
    request_id: String,
    attacker_id: i32,
    victim_id: i32,
    points: i32,
}

#[test]
fn a_database_that_0_1_0_filled_is_upgraded_under_load() {
    runtime().block_on(async {
        let database = Database::empty().await;
        let pool = database.connect().await;
        restore(&database).await;
        let old_heists = heists(&pool).await;
        let load = Load::start(&database).await;
        load.goes_on().await;

        succeeded(&run(&["migrate", "up"], &database).await);
        load.goes_on().await;

        let provider = mail::Provider::start().await;
        let server = mail::mailing_from(&database.url, &provider.url)
            .serving()
            .await;
        let settings = Settings::default();
        let world = World::new(pool.clone(), &database.url, settings, server.address).await;
        load.goes_on().await;
        old_requests_have_their_old_answers(&world, &old_heists).await;
        old_notifications_and_statements_are_complete(&world).await;
        queued_emails_are_sent(&world).await;
        new_rpcs_work(&world).await;
        load.goes_on().await;

        assert_eq!(server.stopped_by("TERM").await.code, Some(0));
        load.finish().await;
        succeeded(&run(&["check"], &database).await);
        let files = ["heists-000001.jsonl.gz", "notifications-000002.jsonl.gz"].map(fixture);
        let files = files.each_ref().map(|file| file.to_str().unwrap());
        succeeded(&run(&["archive", "verify", files[0], files[1]], &database).await);

        pool.close().await;
        database.discard().await;
    });
}

#[test]
fn the_schema_of_0_1_0_comes_back_under_load() {
    runtime().block_on(async {
        let database = Database::empty().await;
        let pool = database.connect().await;
        restore(&database).await;
        let newest = "SELECT max(\"version\") FROM \"_heist_migrations\"";
        let version: i64 = (sqlx::query_scalar(newest).fetch_one(&pool).await).unwrap();
        let load = Load::start(&database).await;

        for _ in 0..2 {
            succeeded(&run(&["migrate", "up"], &database).await);
            load.goes_on().await;
            let down = ["migrate", "down", "--to", &version.to_string()];
            succeeded(&run(&down, &database).await);
            load.goes_on().await;
        }
        succeeded(&run(&["migrate", "up"], &database).await);
        load.finish().await;
        succeeded(&run(&["check"], &database).await);

        pool.close().await;
        database.discard().await;
    });
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/it/database/fixtures/0.1.0")
        .join(name)
}

async fn restore(database: &Database) {
    let mut session = PgConnection::connect(database.own_url()).await.unwrap();
    sqlx::raw_sql(DATABASE).execute(&mut session).await.unwrap();
    sqlx::raw_sql(OLD_HEIST)
        .execute(&mut session)
        .await
        .unwrap();
    session.close().await.unwrap();
}

async fn run(arguments: &[&str], database: &Database) -> Ended {
    Heist::new(arguments)
        .env("DATABASE_URL", &database.url)
        .ended()
        .await
}

#[track_caller]
fn succeeded(ended: &Ended) {
    assert_eq!(ended.code, Some(0), "{ended:?}");
}

/// All heists between players who exist.
async fn heists(pool: &PgPool) -> Vec<OldHeist> {
    let heists: Vec<OldHeist> = sqlx::query_as(
        r#"SELECT
            "id", "requestId"::text AS request_id, "attackerId" AS attacker_id,
            "victimId" AS victim_id, "pointsStolen" AS points
        FROM "Heist"
        WHERE "attackerId" IS NOT NULL AND "victimId" IS NOT NULL ORDER BY "id""#,
    )
    .fetch_all(pool)
    .await
    .unwrap();
    assert!(heists.len() > 50);
    heists
}

async fn old_requests_have_their_old_answers(world: &World, old_heists: &[OldHeist]) {
    for old in old_heists {
        let request = ExecuteHeistRequest {
            attacker_id: old.attacker_id,
            victim_id: old.victim_id,
            request_id: old.request_id.clone(),
        };
        let answer = world.execute_heist(request).await.unwrap();
        assert!(answer.replayed);
        let heist = answer.heist.unwrap();
        assert_eq!((heist.id, heist.points_stolen), (old.id, old.points));
    }
    let awards: Vec<(i32, i32)> = sqlx::query_as(
        r#"SELECT "referrerId", "referredId" FROM "HeistTokenAward"
        WHERE "referrerId" IS NOT NULL AND "referredId" IS NOT NULL"#,
    )
    .fetch_all(&world.pool)
    .await
    .unwrap();
    assert!(awards.len() > 10);
    for (referrer_id, referred_id) in awards {
        let request = AwardTokenRequest {
            referrer_id,
            referred_id,
            referred_name: String::new(),
        };
        let answer = world.award_token(request).await.unwrap();
        assert!(answer.already_awarded);
    }
    let adjustments: Vec<(i32, i32, String, String)> = sqlx::query_as(
        r#"SELECT "userId", "delta", "reason", "requestId"::text FROM "HeistTokenAdjustment""#,
    )
    .fetch_all(&world.pool)
    .await
    .unwrap();
    assert!(adjustments.len() > 20);
    for (user_id, delta, reason, request_id) in adjustments {
        let request = AdjustBalanceRequest {
            user_id,
            delta,
            reason,
            request_id,
        };
        let answer = world.adjust_balance(request).await.unwrap();
        assert!(answer.replayed);
    }
}

async fn old_notifications_and_statements_are_complete(world: &World) {
    let mut carried_forward = 0;
    let mut texts = Vec::new();
    for user_id in 1..=PLAYERS {
        let first = ListNotificationsRequest {
            user_id,
            page_size: 100,
            ..Default::default()
        };
        let mut notifications = all_pages(world, first).await.concat();
        notifications.reverse();
        let ids: Vec<i64> = notifications.iter().map(|it| it.id).collect();
        // The load may have added some since.
        let stored = world.notification_ids(user_id, 0).await;
        assert!(stored.starts_with(&ids), "player {user_id}");
        texts.extend(notifications.into_iter().map(|it| it.message));

        let first = ListTokenEventsRequest {
            user_id,
            page_size: 100,
            ..Default::default()
        };
        let events = all_pages(world, first).await.concat();
        let total: i32 = events.iter().map(|event| event.delta).sum();
        assert_eq!(total, events[0].balance_after, "player {user_id}");
        let oldest = events.last().unwrap().source.as_ref();
        if matches!(oldest, Some(Source::CarriedForward(_))) {
            carried_forward += 1;
        }
    }
    assert!(carried_forward > 0);
    let of_0_1_0 = "Friend 6 joined with your code. You earned a heist token.";
    assert!(texts.iter().any(|text| text == of_0_1_0), "{texts:?}");
    assert!(texts.iter().all(|text| !text.is_empty()));
}

/// The queue of 0.1.0 is a digest of another hour. The replica of this version sends at once.
async fn queued_emails_are_sent(world: &World) {
    let count = async |state: &str| {
        let emails = world.emails().await.into_iter();
        emails
            .filter(|email| email.state.as_deref() == Some(state))
            .count()
    };
    let (sent, parked) = (count("SENT").await, count("FAILED").await);
    assert!(count("QUEUED").await > 0 && parked > 0);
    until("no e-mail is queued", async || {
        world.queue_has_been_due_for(1).await;
        (count("QUEUED").await + count("SENDING").await == 0).then_some(())
    })
    .await;
    assert!(count("SENT").await > sent + 50);
    assert_eq!(count("FAILED").await, parked);
}

async fn new_rpcs_work(world: &World) {
    let rules = world.get_rules(GetRulesRequest {}).await.unwrap();
    assert!(rules.enabled);
    let preference = world.get_preferences(1).await.unwrap();
    assert_eq!(preference, EmailPreference::Default);
    let never = EmailPreference::Never;
    assert_eq!(world.update_preferences(1, never).await.unwrap(), never);
}

/// Replicas of 0.1.0, and an application that changes names and points.
struct Load {
    heists: Arc<AtomicU64>,
    over: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Load {
    async fn start(database: &Database) -> Self {
        let mut load = Self {
            heists: Arc::default(),
            over: Arc::default(),
            tasks: Vec::new(),
        };
        for place in 0..3 {
            let session = PgConnection::connect(database.own_url()).await.unwrap();
            let (heists, over) = (Arc::clone(&load.heists), Arc::clone(&load.over));
            load.tasks
                .push(tokio::spawn(rob(session, place, heists, over)));
        }
        let session = PgConnection::connect(database.own_url()).await.unwrap();
        let over = Arc::clone(&load.over);
        load.tasks.push(tokio::spawn(change_players(session, over)));
        load
    }

    /// Waits for some more heists.
    async fn goes_on(&self) {
        let now = self.heists.load(Ordering::Relaxed);
        until("old replicas execute heists", async || {
            let stopped = self.tasks.iter().any(JoinHandle::is_finished);
            assert!(!stopped, "the load failed");
            (self.heists.load(Ordering::Relaxed) >= now + HEISTS).then_some(())
        })
        .await;
    }

    async fn finish(self) {
        self.over.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.unwrap();
        }
    }
}

/// Each task has other pairs of players in another order.
async fn rob(mut session: PgConnection, place: i32, heists: Arc<AtomicU64>, over: Arc<AtomicBool>) {
    let mut round = place;
    while !over.load(Ordering::Relaxed) {
        let attacker_id = 1 + round % PLAYERS;
        let victim_id = 1 + (round + 1 + place) % PLAYERS;
        sqlx::query("SELECT old_heist($1, $2)")
            .bind(attacker_id)
            .bind(victim_id)
            .execute(&mut session)
            .await
            .unwrap();
        heists.fetch_add(1, Ordering::Relaxed);
        round += 7;
    }
    session.close().await.unwrap();
}

async fn change_players(mut session: PgConnection, over: Arc<AtomicBool>) {
    let mut round = 0;
    while !over.load(Ordering::Relaxed) {
        let mut transaction = session.begin().await.unwrap();
        let user_id = 1 + round % PLAYERS;
        sqlx::query(
            r#"UPDATE "User" SET "name" = 'Player ' || "id" || ' (' || $2 || ')',
                "monthlyPoints" = "monthlyPoints" + 3
            WHERE "id" = $1"#,
        )
        .bind(user_id)
        .bind(round)
        .execute(&mut *transaction)
        .await
        .unwrap();
        sqlx::query(
            r#"INSERT INTO "UserPointEvent" ("userId", "points", "pointEventTypeId")
            SELECT $1, 3, "id" FROM "PointEventTypeMaster" WHERE "name" = 'QUIZ_COMPLETED'"#,
        )
        .bind(user_id)
        .execute(&mut *transaction)
        .await
        .unwrap();
        transaction.commit().await.unwrap();
        round += 1;
    }
    session.close().await.unwrap();
}
