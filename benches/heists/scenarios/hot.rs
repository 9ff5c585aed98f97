//! 64 callers rob the same victim, and a commit takes 5 ms: as on a network disk, or with a
//! synchronous standby in another data centre.

use crate::{
    bench::Bench,
    load::{Call, Plan},
    pgbench::{Raw, Victims},
    progress::say,
    report::{Limit, Spread},
    server,
};

const CALLERS: usize = 64;
const CLIENTS: [usize; 5] = [1, 4, 16, 32, 64];
const SLOW_COMMITS: [(&str, &str); 2] = [("commit_delay", "5000"), ("commit_siblings", "0")];
const COMMITS: [(&str, &str); 2] = [("commit_delay", "DEFAULT"), ("commit_siblings", "DEFAULT")];
/// Enough points for every heist to steal the maximum.
const RICH: &str = r#"UPDATE "User" SET "monthlyPoints" = 2000000000 WHERE "id" = 1"#;

pub async fn run(bench: &mut Bench<'_>) -> anyhow::Result<()> {
    say("hot victim");
    bench.postgres.run(&bench.database.name, RICH).await?;
    bench.postgres.set(&SLOW_COMMITS).await?;
    measure(bench).await?;
    bench.postgres.set(&COMMITS).await
}

async fn measure(bench: &mut Bench<'_>) -> anyhow::Result<()> {
    let database = bench.database.clone();
    let effort = bench.effort;
    let server = bench.serve(&database, server::UNPROTECTED).await?;
    let plan = Plan::closed(server.address, CALLERS, Call::HotHeist)
        .among(database.players)
        .lasting(effort.round);
    let raw = Raw {
        postgres: bench.postgres,
        database: &database,
        victims: Victims::Hot,
    };

    let clients = raw.best_clients(&CLIENTS, effort.trial).await?;
    let mut raw_rounds = Vec::new();
    let mut rounds = Vec::new();
    for _ in 0..effort.rounds {
        raw_rounds.push(raw.run(clients, effort.round, false).await?);
        rounds.push(bench.measure(&server, &plan, Call::HotHeist).await?);
    }

    let raw_rates: Vec<f64> = raw_rounds.iter().map(|round| round.per_second).collect();
    let rates: Vec<f64> = rounds.iter().map(|(calls, _)| calls.per_second).collect();
    let report = &mut bench.report;
    report.raw(
        format!("hot, 5 ms commits: raw, {clients} clients"),
        &raw_rounds,
    );
    report.calls(
        format!("hot, 5 ms commits: gRPC, {CALLERS} callers"),
        &rounds,
    );
    report.bar(
        "hot: heists ÷ raw heists",
        Spread::of_ratios(&rates, &raw_rates),
        "×",
        Limit::AtLeast(20.0),
    );
    bench.stop(server).await
}
