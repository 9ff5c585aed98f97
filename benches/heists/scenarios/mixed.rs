//! Latency under ordinary load: an open loop of 100 heists and 500 reads per second.

use crate::{
    bench::Bench,
    load::{self, Call, Plan},
    progress::say,
    report::{Limit, Spread},
    server,
};

/// Calls per second: 100 heists beside 500 reads.
const CALLS: [(Call, f64); 5] = [
    (Call::Heist, 100.0),
    (Call::Balance, 125.0),
    (Call::UnreadCount, 125.0),
    (Call::Eligibility, 125.0),
    (Call::Leaderboard, 125.0),
];
const LIMIT_MS: f64 = 20.0;

pub async fn run(bench: &mut Bench<'_>) -> anyhow::Result<()> {
    say("mixed");
    let database = bench.database.clone();
    let server = bench.serve(&database, server::UNIFORM).await?;
    let plan = Plan::open(server.address, &CALLS)
        .among(database.players)
        .lasting(bench.effort.round);
    let mut rounds = Vec::new();
    for _ in 0..bench.effort.rounds {
        rounds.push(load::run(&plan, server.watched()).await?);
        server::check_books(&database).await?;
    }
    for (call, _) in CALLS {
        let mut calls = Vec::new();
        for round in &rounds {
            calls.push((round.of(call)?.clone(), round.cores));
        }
        let p99 = Spread::over(calls.iter().map(|(calls, _)| calls.p99_ms));
        let name = call.name();
        bench
            .report
            .calls(format!("mixed, open loop: {name}"), &calls);
        (bench.report).bar(
            format!("mixed: p99 of {name}"),
            p99,
            "ms",
            Limit::Below(LIMIT_MS),
        );
    }
    bench.stop(server).await
}
