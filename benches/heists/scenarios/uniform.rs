//! Throughput: 64 callers, 100,000 players, uniformly chosen attackers and victims.

use crate::{
    bench::Bench,
    load::{Call, Plan},
    pgbench::{Raw, Victims},
    progress::say,
    report::{Limit, Spread},
    server,
};

const CALLERS: usize = 64;
const CLIENTS: [usize; 5] = [4, 8, 16, 32, 64];

pub async fn run(bench: &mut Bench<'_>) -> anyhow::Result<()> {
    say("uniform");
    let database = bench.database.clone();
    let effort = bench.effort;
    let server = bench.serve(&database, server::UNIFORM).await?;
    let plan = Plan::closed(server.address, CALLERS, Call::Heist)
        .among(database.players)
        .lasting(effort.round);
    let raw = Raw {
        postgres: bench.postgres,
        database: &database,
        victims: Victims::Uniform,
    };

    // The trials also warm up caches and connections.
    let clients = raw.best_clients(&CLIENTS, effort.trial).await?;
    let mut raw_rounds = Vec::new();
    let mut rounds = Vec::new();
    for _ in 0..effort.rounds {
        raw_rounds.push(raw.run(clients, effort.round, false).await?);
        rounds.push(bench.measure(&server, &plan, Call::Heist).await?);
    }

    let raw_rates: Vec<f64> = raw_rounds.iter().map(|round| round.per_second).collect();
    let rates: Vec<f64> = rounds.iter().map(|(calls, _)| calls.per_second).collect();
    let report = &mut bench.report;
    report.raw(format!("uniform: raw, {clients} clients"), &raw_rounds);
    report.calls(format!("uniform: gRPC, {CALLERS} callers"), &rounds);
    report.bar(
        "uniform: heists ÷ raw heists",
        Spread::of_ratios(&rates, &raw_rates),
        "×",
        Limit::AtLeast(1.3),
    );
    bench.stop(server).await
}
