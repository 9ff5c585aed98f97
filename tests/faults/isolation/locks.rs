//! Rows that the application locks or updates beside the service.

use std::time::{Duration, Instant};

use sqlx::{Connection as _, Executor as _};
use tokio::time::sleep;

use super::{
    arena::{Arena, PLAYERS},
    bars::{Bar, Bars, Limit, count},
    load::{Call, Group, Load, Players},
    twin::{FAULTED, Twin, success_ratio},
};

/// Players whose rows are locked.
const LOCKED: Players = 1..=4;
/// Attackers of the locked players.
const BLOCKED: Players = 5..=40;
const FREE: Players = 41..=*FAULTED.end();

fn others(callers: usize) -> Group {
    let call = Call::Heist {
        attackers: FREE,
        victims: FREE,
    };
    Group::new("others", callers, call)
}

fn on_locked(callers: usize, victims: Players) -> Group {
    let call = Call::Heist {
        attackers: BLOCKED,
        victims,
    };
    Group::new("locked", callers, call)
}

/// Another transaction holds the rows of four players.
pub async fn rows_locked(arena: &mut Arena, bars: &mut Bars) -> anyhow::Result<()> {
    let running = arena.serve(&arena.url()).await?;
    let groups = [others(12), on_locked(4, LOCKED)];
    let load = Load::start(running.address(), &groups);
    let twin = Twin::start(arena, &groups).await?;
    sleep(Duration::from_secs(1)).await;
    let control = Instant::now();
    sleep(arena.control()).await;

    let mut application = arena.session().await?;
    let mut transaction = application.begin().await?;
    let lock = r#"SELECT FROM "User" WHERE "id" <= 4 ORDER BY "id" FOR UPDATE"#;
    transaction.execute(lock).await?;
    let fault = Instant::now();
    sleep(arena.lasting(6, 20)).await;
    let is_ready = running.is_ready().await?;
    let unlock = Instant::now();
    transaction.rollback().await?;
    sleep(Duration::from_secs(2)).await;
    let samples = load.stop().await?;
    let twins = twin.stop().await?;
    running.stop().await?;

    let before = samples.rate("others", control, fault);
    let ratio = success_ratio(
        [&samples, &twins],
        "others",
        [control, fault],
        [fault, unlock],
    );
    bars.add(
        Bar::new("others' success ÷ control", ratio, "", Limit::AtLeast(0.9))
            .noting(format!("control {before:.0}/s")),
    );
    let p99 = samples.p99_ms("others", fault, unlock);
    let p99_before = samples.control_p99_ms("others", control, fault);
    bars.add(
        Bar::new("others' p99", p99, "ms", Limit::AtMost(100.0))
            .noting(format!("control {p99_before:.0} ms")),
    );
    let waiting =
        (samples.of("locked")).filter(|sample| sample.called < unlock && sample.answered > unlock);
    let after_unlock = waiting.map(|sample| sample.answered - unlock).max();
    let first = samples.first_success("locked", unlock);
    let after_unlock = after_unlock.or(first).unwrap_or_default();
    let after_unlock_ms = after_unlock.as_secs_f64() * 1000.0;
    bars.add(Bar::new(
        "heists on locked players answered after the unlock",
        after_unlock_ms,
        "ms",
        Limit::AtMost(200.0),
    ));
    let slowest = samples.slowest_ms("locked", fault, unlock);
    let failures = samples.failures("locked", fault, unlock);
    bars.add(
        Bar::new(
            "slowest answer about a locked player",
            slowest,
            "ms",
            Limit::AtMost(2050.0),
        )
        .noting(format!("deadline 2 s; {failures:?}")),
    );
    let unnamed = count(
        (failures.iter())
            .filter(|(outcome, _)| *outcome != "CONTENTION")
            .map(|(_, count)| *count)
            .sum::<usize>(),
    );
    let what = "answers about a locked player other than OK and CONTENTION";
    bars.add(Bar::new(what, unnamed, "", Limit::AtMost(0.0)));
    let ready = f64::from(u8::from(is_ready));
    bars.add(Bar::new(
        "ready during the lock",
        ready,
        "",
        Limit::AtLeast(1.0),
    ));
    arena.check_books(&samples).await
}

/// A few callers call only for one locked player; compared in alternating intervals.
pub async fn one_player_locked(arena: &mut Arena, bars: &mut Bars) -> anyhow::Result<()> {
    let running = arena.serve(&arena.url()).await?;
    let load = Load::start(running.address(), &[others(44), on_locked(4, 1..=1)]);
    load.pause("locked");
    let mut application = arena.session().await?;
    let mut transaction = application.begin().await?;
    transaction
        .execute(r#"SELECT FROM "User" WHERE "id" = 1 FOR UPDATE"#)
        .await?;
    sleep(Duration::from_secs(1)).await;

    let interval = arena.lasting(2, 5);
    let mut intervals = Vec::new();
    for _ in 0..3 {
        let control = Instant::now();
        sleep(interval).await;
        let fault = Instant::now();
        load.resume("locked");
        sleep(interval).await;
        intervals.push((control, fault, Instant::now()));
        load.pause("locked");
        // Calls for the locked player end within their deadline.
        sleep(Duration::from_millis(2200)).await;
    }
    transaction.rollback().await?;
    let samples = load.stop().await?;
    running.stop().await?;

    let sum = |rates: Vec<f64>| rates.iter().sum::<f64>();
    let before = sum(intervals
        .iter()
        .map(|(a, b, _)| samples.rate("others", *a, *b))
        .collect());
    let during = sum(intervals
        .iter()
        .map(|(_, b, c)| samples.rate("others", *b, *c))
        .collect());
    bars.add(
        Bar::new(
            "others' success ÷ control",
            during / before,
            "",
            Limit::AtLeast(0.95),
        )
        .noting(format!("control {:.0}/s", before / 3.0)),
    );
    arena.check_books(&samples).await
}

/// 60 callers mark notifications of locked players, while others read balances.
pub async fn mark_read(arena: &mut Arena, bars: &mut Bars) -> anyhow::Result<()> {
    let running = arena.serve(&arena.url()).await?;
    let marking = Group::new("marking", 60, Call::MarkRead(1..=60));
    let reads = Group::new("reads", 4, Call::Balance(61..=PLAYERS));
    // Notifications to mark.
    let call = Call::Heist {
        attackers: 1..=60,
        victims: 1..=60,
    };
    let load = Load::start(running.address(), &[Group::new("heists", 8, call)]);
    sleep(Duration::from_secs(2)).await;
    load.stop().await?;
    let load = Load::start(running.address(), &[marking, reads]);
    load.pause("marking");
    sleep(Duration::from_secs(1)).await;
    let control = Instant::now();
    sleep(arena.control()).await;

    let mut application = arena.session().await?;
    let mut transaction = application.begin().await?;
    transaction
        .execute(r#"SELECT FROM "User" WHERE "id" <= 60 ORDER BY "id" FOR UPDATE"#)
        .await?;
    transaction
        .execute(r#"SELECT FROM "HeistNotification" WHERE "userId" <= 60 FOR UPDATE"#)
        .await?;
    let fault = Instant::now();
    load.resume("marking");
    sleep(arena.lasting(4, 10)).await;
    let end = Instant::now();
    load.pause("marking");
    transaction.rollback().await?;
    sleep(Duration::from_secs(1)).await;
    let samples = load.stop().await?;
    running.stop().await?;

    let p99 = samples.p99_ms("reads", fault, end);
    let before = samples.control_p99_ms("reads", control, fault);
    bars.add(
        Bar::new("p99 of GetBalance", p99, "ms", Limit::AtMost(100.0))
            .noting(format!("control {before:.1} ms")),
    );
    let slowest = samples.slowest_ms("marking", fault, end);
    bars.add(
        Bar::new(
            "slowest MarkNotificationsRead",
            slowest,
            "ms",
            Limit::AtMost(2050.0),
        )
        .noting(format!(
            "deadline 2 s; {:?}",
            samples.failures("marking", fault, end)
        )),
    );
    arena.check_books(&samples).await
}

/// The application updates all players in one statement, in random order, again and again.
pub async fn bulk_update(arena: &mut Arena, bars: &mut Bars) -> anyhow::Result<()> {
    let running = arena.serve(&arena.url()).await?;
    let everyone = Call::Heist {
        attackers: 1..=PLAYERS,
        victims: 1..=PLAYERS,
    };
    let load = Load::start(running.address(), &[Group::new("others", 16, everyone)]);
    sleep(Duration::from_secs(1)).await;
    let control = Instant::now();
    sleep(arena.control()).await;

    let mut application = arena.session().await?;
    // The plan has to follow the random order.
    let in_this_order = "SET enable_hashjoin = off; SET enable_mergejoin = off;
        SET enable_seqscan = off";
    application.execute(in_this_order).await?;
    let update = r#"
        UPDATE "User" AS player SET "monthlyPoints" = player."monthlyPoints"
        FROM (SELECT "id" FROM "User" ORDER BY random() OFFSET 0) AS chosen
        WHERE player."id" = chosen."id""#;
    let fault = Instant::now();
    let updates = if arena.long { 200 } else { 40 };
    let mut errors = Vec::new();
    for _ in 0..updates {
        if let Err(error) = application.execute(update).await {
            errors.push(error.to_string());
        }
        sleep(Duration::from_millis(20)).await;
    }
    let end = Instant::now();
    let samples = load.stop().await?;
    running.stop().await?;
    application.close().await?;

    let count = count(errors.len());
    errors.dedup();
    bars.add(
        Bar::new(
            "failed updates of the application",
            count,
            "",
            Limit::AtMost(0.0),
        )
        .noting(format!("of {updates}; {errors:?}")),
    );
    let failures = samples.failures("others", fault, end);
    let (before, during) = (
        samples.rate("others", control, fault),
        samples.rate("others", fault, end),
    );
    bars.add(
        Bar::new("heists a second meanwhile", during, "", Limit::AtLeast(1.0))
            .noting(format!("control {before:.0}/s; {failures:?}")),
    );
    arena.check_books(&samples).await
}
