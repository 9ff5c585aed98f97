//! Throughput of awards: 64 callers award tokens to 1,000 referrers, one for each referred player.

use crate::{
    bench::Bench,
    load::{Call, Plan},
    progress::say,
    report::{Limit, Spread},
    server,
};

const CALLERS: usize = 64;
const REFERRERS: i32 = 1000;
/// Well above the product's "thousands of signups in a minute".
const LIMIT_PER_SECOND: f64 = 1000.0;

pub async fn run(bench: &mut Bench<'_>) -> anyhow::Result<()> {
    say("awards");
    let database = bench.database.clone();
    let server = bench.serve(&database, server::UNIFORM).await?;
    let count = i32::try_from(bench.effort.rounds)?;
    // A referred player is awarded once, so each round has its own.
    let share = (database.players - REFERRERS) / count;
    let mut rounds = Vec::new();
    for round in 0..count {
        let first_referred = REFERRERS + 1 + round * share;
        let plan = Plan {
            referrers: REFERRERS,
            first_referred,
            ..Plan::closed(server.address, CALLERS, Call::Award)
        };
        let plan = plan
            .among(first_referred + share - 1)
            .lasting(bench.effort.round);
        rounds.push(bench.measure(&server, &plan, Call::Award).await?);
    }
    let rates = Spread::over(rounds.iter().map(|(calls, _)| calls.per_second));
    let report = &mut bench.report;
    report.calls(format!("awards: gRPC, {CALLERS} callers"), &rounds);
    report.bar(
        "awards: a second",
        rates,
        "",
        Limit::AtLeast(LIMIT_PER_SECOND),
    );
    bench.stop(server).await
}
