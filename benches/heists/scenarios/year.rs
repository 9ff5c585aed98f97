//! Latency of a heist with a year of heists in the books, compared with empty books.
//!
//! Two fresh databases that differ only in that year, and one caller, so that latencies hold no
//! queueing.

use crate::{
    bench::Bench,
    load::{Call, Plan, Summary},
    postgres::Database,
    progress::say,
    report::{Limit, Spread},
    server,
};

const YEAR: &str = include_str!("../year.sql");
const PLAYERS: i32 = 100_000;

pub async fn run(bench: &mut Bench<'_>) -> anyhow::Result<()> {
    let heists = bench.effort.year;
    say("a year of the books");
    let empty = bench.postgres.create("first_day", PLAYERS).await?;
    let full = bench.postgres.create("full_year", PLAYERS).await?;
    say(format_args!("  loading {heists} heists"));
    let year = YEAR
        .replace("$PLAYERS", &PLAYERS.to_string())
        .replace("$HEISTS", &heists.to_string());
    bench.postgres.run(&full.name, &year).await?;
    for database in [&empty, &full] {
        bench.postgres.run(&database.name, "VACUUM ANALYZE").await?;
    }
    bench.postgres.run("postgres", "CHECKPOINT").await?;
    server::check_books(&full).await?;

    let empty_server = bench.serve(&empty, server::UNIFORM).await?;
    let full_server = bench.serve(&full, server::UNIFORM).await?;
    let plan = |address, database: &Database| {
        Plan::closed(address, 1, Call::Heist)
            .among(database.players)
            .lasting(bench.effort.round)
    };
    let empty_plan = plan(empty_server.address, &empty);
    let full_plan = plan(full_server.address, &full);
    let mut empty_rounds = Vec::new();
    let mut full_rounds = Vec::new();
    for _ in 0..bench.effort.rounds {
        empty_rounds.push((bench.measure(&empty_server, &empty_plan, Call::Heist)).await?);
        full_rounds.push((bench.measure(&full_server, &full_plan, Call::Heist)).await?);
    }
    for database in [&empty, &full] {
        server::check_books(database).await?;
    }

    let ratio = |percentile: fn(&Summary) -> f64| {
        let of = |rounds: &[(Summary, _)]| -> Vec<f64> {
            rounds.iter().map(|(calls, _)| percentile(calls)).collect()
        };
        Spread::of_ratios(&of(&full_rounds), &of(&empty_rounds))
    };
    let ratios = [
        ("median", ratio(|calls| calls.p50_ms)),
        ("p95", ratio(|calls| calls.p95_ms)),
    ];
    let report = &mut bench.report;
    report.calls("one caller: empty books", &empty_rounds);
    report.calls(
        format!("one caller: {heists} heists in the books"),
        &full_rounds,
    );
    for (name, ratio) in ratios {
        let what = format!("a year of heists: {name} latency ÷ empty");
        report.bar(what, ratio, "×", Limit::AtMost(1.2));
    }
    bench.stop(empty_server).await?;
    bench.stop(full_server).await
}
