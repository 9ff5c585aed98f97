//! The application changes a column that the service reads.

use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::{
    arena::{Arena, PLAYERS},
    bars::{Bar, Bars, Limit, count},
    load::{Call, Group, Load},
};

/// `"name"` becomes `varchar`, and `text` again, while calls are made.
pub async fn column_retyped(arena: &mut Arena, bars: &mut Bars) -> anyhow::Result<()> {
    let running = arena.serve(&arena.url()).await?;
    let players = 1..=PLAYERS;
    let heists = Call::Heist {
        attackers: players.clone(),
        victims: players.clone(),
    };
    let groups = [
        Group::new("heists", 8, heists),
        Group::new("boards", 2, Call::Board(players)),
    ];
    let load = Load::start(running.address(), &groups);
    sleep(Duration::from_secs(1)).await;
    let control = Instant::now();
    sleep(arena.control()).await;

    let mut faults = Vec::new();
    for column_type in ["varchar", "text"] {
        let change = format!(r#"ALTER TABLE "User" ALTER COLUMN "name" TYPE {column_type}"#);
        arena.execute(&change).await?;
        let fault = Instant::now();
        sleep(arena.lasting(4, 8)).await;
        faults.push((fault, Instant::now()));
    }
    let samples = load.stop().await?;
    running.stop().await?;

    // A fresh server under the same load, which has never seen the column change.
    let fresh = arena.serve(&arena.url()).await?;
    let load = Load::start(fresh.address(), &groups);
    sleep(Duration::from_secs(1)).await;
    let fresh_control = Instant::now();
    sleep(arena.control()).await;
    let fresh_end = Instant::now();
    let fresh_samples = load.stop().await?;
    fresh.stop().await?;

    for group in ["heists", "boards"] {
        let before = samples.rate(group, control, faults[0].0);
        let afterwards = fresh_samples.rate(group, fresh_control, fresh_end);
        let control = f64::midpoint(before, afterwards);
        for (fault, end) in &faults {
            let settled = *fault + Duration::from_secs(1);
            let failures = samples.failures(group, settled, *end);
            let count = count(failures.values().sum::<usize>());
            let what = format!("{group}: failed calls from 1 s on");
            bars.add(Bar::new(what, count, "", Limit::AtMost(0.0)).noting(format!("{failures:?}")));
            let after = samples.rate(group, settled, *end);
            let what = format!("{group}: success ÷ control, from 1 s on");
            bars.add(
                Bar::new(what, after / control, "", Limit::AtLeast(0.8)).noting(format!(
                    "control {before:.0}/s before, {afterwards:.0}/s afterwards"
                )),
            );
        }
    }
    arena.check_books(&samples).await
}
