//! Latency of the first 50 entries for random viewers, and how it grows with the players.

use crate::{
    bench::Bench,
    load::{Call, Plan},
    postgres::Database,
    progress::say,
    report::{Limit, Spread},
    server,
};

const PER_SECOND: f64 = 100.0;
const LIMIT_MS: f64 = 10.0;

pub async fn run(bench: &mut Bench<'_>) -> anyhow::Result<()> {
    say("leaderboard");
    let database = bench.database.clone();
    let server = bench.serve(&database, server::UNIFORM).await?;
    let plan = Plan::open(server.address, &[(Call::Leaderboard, PER_SECOND)])
        .among(database.players)
        .lasting(bench.effort.round);
    let mut rounds = Vec::new();
    for _ in 0..bench.effort.rounds {
        rounds.push(bench.measure(&server, &plan, Call::Leaderboard).await?);
    }
    bench.stop(server).await?;
    let p95 = Spread::over(rounds.iter().map(|(calls, _)| calls.p95_ms));
    bench.report.calls("leaderboard, open loop", &rounds);
    (bench.report).bar("leaderboard: p95", p95, "ms", Limit::Below(LIMIT_MS));
    growth(bench).await
}

/// Two fresh databases that differ only in their size, and one caller, so that latencies hold no
/// queueing. (The database above holds all heists of the run so far.)
async fn growth(bench: &mut Bench<'_>) -> anyhow::Result<()> {
    let [few, many] = bench.effort.boards;
    let small = bench.load(few).await?;
    let large = bench.load(many).await?;
    let small_server = bench.serve(&small, server::UNIFORM).await?;
    let large_server = bench.serve(&large, server::UNIFORM).await?;
    let plan = |address, database: &Database| {
        Plan::closed(address, 1, Call::Leaderboard)
            .among(database.players)
            .lasting(bench.effort.round)
    };
    let small_plan = plan(small_server.address, &small);
    let large_plan = plan(large_server.address, &large);
    let mut small_rounds = Vec::new();
    let mut large_rounds = Vec::new();
    for _ in 0..bench.effort.rounds {
        small_rounds.push((bench.measure(&small_server, &small_plan, Call::Leaderboard)).await?);
        large_rounds.push((bench.measure(&large_server, &large_plan, Call::Leaderboard)).await?);
    }
    let p95 = |rounds: &[(crate::load::Summary, _)]| -> Vec<f64> {
        rounds.iter().map(|(calls, _)| calls.p95_ms).collect()
    };
    let ratio = Spread::of_ratios(&p95(&large_rounds), &p95(&small_rounds));
    let report = &mut bench.report;
    report.calls(
        format!("leaderboard, one caller: {few} players"),
        &small_rounds,
    );
    report.calls(
        format!("leaderboard, one caller: {many} players"),
        &large_rounds,
    );
    report.bar(
        format!("leaderboard: p95, {many} ÷ {few} players"),
        ratio,
        "×",
        Limit::AtMost(1.5),
    );
    bench.stop(small_server).await?;
    bench.stop(large_server).await
}
