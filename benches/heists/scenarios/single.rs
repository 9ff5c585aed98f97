//! Latency of one caller without other load.

use crate::{
    bench::Bench,
    load::{Call, Plan},
    pgbench::{Raw, Victims},
    progress::say,
    report::{Limit, Spread},
    server,
};

pub async fn run(bench: &mut Bench<'_>) -> anyhow::Result<()> {
    say("one caller");
    let database = bench.database.clone();
    let effort = bench.effort;
    let server = bench.serve(&database, server::UNIFORM).await?;
    let plan = Plan::closed(server.address, 1, Call::Heist)
        .among(database.players)
        .lasting(effort.round);
    let raw = Raw {
        postgres: bench.postgres,
        database: &database,
        victims: Victims::Uniform,
    };

    let mut raw_rounds = Vec::new();
    let mut rounds = Vec::new();
    for _ in 0..effort.rounds {
        raw_rounds.push(raw.run(1, effort.round, true).await?);
        rounds.push(bench.measure(&server, &plan, Call::Heist).await?);
    }

    let raw_medians: Vec<f64> = (raw_rounds.iter())
        .map(|round| round.percentile_ms(50))
        .collect();
    let medians: Vec<f64> = rounds.iter().map(|(calls, _)| calls.p50_ms).collect();
    let report = &mut bench.report;
    report.raw("one caller: raw", &raw_rounds);
    report.calls("one caller: gRPC", &rounds);
    report.bar(
        "one caller: median latency ÷ raw",
        Spread::of_ratios(&medians, &raw_medians),
        "×",
        Limit::AtMost(2.5),
    );
    bench.stop(server).await
}
