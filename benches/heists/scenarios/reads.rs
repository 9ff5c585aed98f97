//! Latency of the three small reads, each measured alone.

use crate::{
    bench::Bench,
    load::{Call, Plan},
    progress::say,
    report::{Limit, Spread},
    server,
};

const CALLS: [Call; 3] = [Call::Balance, Call::UnreadCount, Call::Eligibility];
const PER_SECOND: f64 = 500.0;
const LIMIT_MS: f64 = 5.0;

pub async fn run(bench: &mut Bench<'_>) -> anyhow::Result<()> {
    say("reads");
    let database = bench.database.clone();
    let server = bench.serve(&database, server::UNIFORM).await?;
    let mut rounds = CALLS.map(|call| (call, Vec::new()));
    for _ in 0..bench.effort.rounds {
        for (call, measured) in &mut rounds {
            let plan = Plan::open(server.address, &[(*call, PER_SECOND)])
                .among(database.players)
                .lasting(bench.effort.round / 2);
            measured.push(bench.measure(&server, &plan, *call).await?);
        }
    }
    for (call, rounds) in rounds {
        let p95 = Spread::over(rounds.iter().map(|(calls, _)| calls.p95_ms));
        let name = call.name();
        bench
            .report
            .calls(format!("reads, open loop: {name}"), &rounds);
        (bench.report).bar(
            format!("reads: p95 of {name}"),
            p95,
            "ms",
            Limit::Below(LIMIT_MS),
        );
    }
    bench.stop(server).await
}
