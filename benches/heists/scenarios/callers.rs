//! Throughput and latency against the number of callers. Runs only if it is named:
//!
//! ```text
//! cargo bench -- --only callers
//! scripts/plot-throughput target/callers.csv docs/images/throughput.svg
//! ```

use std::{fmt::Write as _, fs};

use anyhow::Context as _;

use crate::{
    bench::Bench,
    load::{Call, Plan},
    pgbench::{Raw, Victims},
    progress::say,
    report::Spread,
    server,
};

/// Callers of the service, and clients of raw PostgreSQL.
const CALLERS: [usize; 7] = [1, 2, 4, 8, 16, 32, 64];
const TABLE: &str = "target/callers.csv";

pub async fn run(bench: &mut Bench<'_>) -> anyhow::Result<()> {
    say("callers");
    let database = bench.database.clone();
    let effort = bench.effort;
    let server = bench.serve(&database, server::UNIFORM).await?;
    let raw = Raw {
        postgres: bench.postgres,
        database: &database,
        victims: Victims::Uniform,
    };

    let mut table =
        "callers,heists_per_second,p50_ms,p99_ms,raw_per_second,raw_p50_ms,raw_p99_ms\n".to_owned();
    for callers in CALLERS {
        let plan = Plan::closed(server.address, callers, Call::Heist)
            .among(database.players)
            .lasting(effort.round);
        let mut rounds = Vec::new();
        let mut raw_rounds = Vec::new();
        for _ in 0..effort.rounds {
            raw_rounds.push(raw.run(callers, effort.round, true).await?);
            rounds.push(bench.measure(&server, &plan, Call::Heist).await?);
        }
        let median = |figures: Vec<f64>| Spread::over(figures.into_iter()).median;
        write!(table, "{callers}")?;
        for figure in [
            median(rounds.iter().map(|(calls, _)| calls.per_second).collect()),
            median(rounds.iter().map(|(calls, _)| calls.p50_ms).collect()),
            median(rounds.iter().map(|(calls, _)| calls.p99_ms).collect()),
            median(raw_rounds.iter().map(|round| round.per_second).collect()),
            median((raw_rounds.iter().map(|round| round.percentile_ms(50))).collect()),
            median((raw_rounds.iter().map(|round| round.percentile_ms(99))).collect()),
        ] {
            write!(table, ",{figure:.2}")?;
        }
        table.push('\n');
        fs::write(TABLE, &table).with_context(|| format!("writing {TABLE}"))?;
        let report = &mut bench.report;
        report.raw(format!("callers: raw, {callers} clients"), &raw_rounds);
        report.calls(format!("callers: gRPC, {callers} callers"), &rounds);
    }
    say(format_args!("  the figures are in {TABLE}"));
    bench.stop(server).await
}
