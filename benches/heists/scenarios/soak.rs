//! Ordinary load for a long time, to find leaks. Runs only if it is named:
//!
//! ```text
//! cargo bench -- --only soak --soak-minutes 30
//! scripts/plot-soak target/soak.csv docs/images/soak.svg
//! ```

use std::{
    fmt::Write as _,
    fs,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use sqlx::{Connection as _, PgConnection};

use crate::{
    bench::Bench,
    load::{self, Call, Outcome, Plan},
    progress::say,
    server::{self, Server},
    streams,
};

/// Calls per second: 1,000 heists a minute, and reads beside them.
const CALLS: [(Call, f64); 5] = [
    (Call::Heist, 1000.0 / 60.0),
    (Call::Balance, 15.0),
    (Call::UnreadCount, 15.0),
    (Call::Eligibility, 15.0),
    (Call::Leaderboard, 15.0),
];
/// Open streams of notifications, and boards that watch points.
const LISTENERS: i32 = 100;
const WATCHERS: usize = 10;
/// The interval of one line of the table.
const SAMPLE: Duration = Duration::from_secs(10);
const TABLE: &str = "target/soak.csv";

pub async fn run(bench: &mut Bench<'_>, length: Duration) -> anyhow::Result<()> {
    say(format_args!("soak, {} s", length.as_secs()));
    let database = bench.database.clone();
    let server = bench.serve(&database, server::UNIFORM).await?;
    let streams = streams::open(&server, LISTENERS, WATCHERS).await?;
    let plan = Plan::open(server.address, &CALLS)
        .among(database.players)
        .lasting(SAMPLE);

    let mut table = "second,heist_p50_ms,heist_p99_ms,leaderboard_p99_ms,errors,memory_mib,\
        open_files,database_connections\n"
        .to_owned();
    let begun = Instant::now();
    while begun.elapsed() < length {
        let outcome = load::run(&plan, server.watched()).await?;
        let sessions = sessions(&database.url).await?;
        table.push_str(&line(begun, &server, &outcome, sessions)?);
        fs::write(TABLE, &table).with_context(|| format!("writing {TABLE}"))?;
    }
    server::check_books(&database).await?;
    say(format_args!("  the figures are in {TABLE}"));
    drop(streams);
    bench.stop(server).await
}

fn line(
    begun: Instant,
    server: &Server,
    outcome: &Outcome,
    sessions: i64,
) -> anyhow::Result<String> {
    let heist = outcome.of(Call::Heist)?;
    let board = outcome.of(Call::Leaderboard)?;
    let errors: u64 = (outcome.calls.values())
        .flat_map(|summary| summary.errors.values())
        .sum();
    let memory = server.memory().context("the server's memory")?;
    let open_files = fs::read_dir(format!("/proc/{}/fd", server.pid))?.count();
    let mut line = String::new();
    writeln!(
        line,
        "{},{:.2},{:.2},{:.2},{errors},{:.1},{open_files},{sessions}",
        begun.elapsed().as_secs(),
        heist.p50_ms,
        heist.p99_ms,
        board.p99_ms,
        memory.now_mib,
    )?;
    Ok(line)
}

/// The server's sessions in PostgreSQL.
async fn sessions(url: &str) -> anyhow::Result<i64> {
    let mut connection = PgConnection::connect(url).await?;
    let query = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'heist'";
    let count = sqlx::query_scalar(query).fetch_one(&mut connection).await?;
    connection.close().await?;
    Ok(count)
}
