//! Faults injected into real processes under load, with the books and every answer checked
//! after each round. Prints one table, and fails where an answer was lost or given twice.
//!
//! ```text
//! cargo test --test faults                              # each fault of the first table once
//! cargo test --release --test faults -- --minutes 30    # round after round
//! cargo test --test faults -- --rounds 20 postgres      # of the faults with this in their name
//! cargo test --test faults -- isolation                 # only what other callers notice
//! cargo test --test faults -- isolation --long    # longer, and without slack
//! ```
//!
//! A second table holds what the others notice when one part fails: see [`isolation`].
//!
//! `scripts/test-patroni` runs it with a cluster that it starts and breaks, `scripts/test-pgbouncer`
//! with PgBouncer between the server and the database.

mod books;
mod callers;
mod database;
mod fault;
mod isolation;
#[path = "../common/pgbouncer.rs"]
mod pgbouncer;
mod postgres;
mod proxy;
mod report;
mod server;
mod stage;

use std::{
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use clap::Parser as _;

use self::{
    callers::Callers,
    database::{Cluster, Setting},
    fault::Fault,
    isolation::Bars,
    report::Report,
    stage::Stage,
};

/// Load before a fault, and after the service has come back.
const CALM: Duration = Duration::from_millis(700);
/// How long the service may take to come back when nothing is broken any more.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(clap::Parser)]
struct Options {
    /// Only faults with one of these in their name
    faults: Vec<String>,
    /// Rounds of each fault
    #[arg(long, default_value_t = 1)]
    rounds: u32,
    /// Goes on with further rounds until so many minutes have passed
    #[arg(long, default_value_t = 0)]
    minutes: u64,
    /// Leads to the primary of a cluster elsewhere, to an empty database. Only its own faults are
    /// injected
    #[arg(long, value_name = "URL", requires = "cluster_program")]
    cluster_url: Option<String>,
    /// Called with `prepare`, it returns when commits wait for a standby; with `kill_primary` or
    /// `freeze_patroni`, when there is another primary; with `freeze_etcd`, when there is one again
    #[arg(long, value_name = "PROGRAM", requires = "cluster_url")]
    cluster_program: Option<PathBuf>,
    /// Puts this program in transaction mode between the server and the database
    #[arg(long, value_name = "PROGRAM", conflicts_with = "cluster_url")]
    pgbouncer: Option<PathBuf>,
    /// Longer isolation faults, and a silent connection in every phase
    #[arg(long)]
    long: bool,
    /// Isolation faults fail when they miss a bar by more than this factor: 1 with --long, else 4,
    /// because a debug build on a busy machine is slow
    #[arg(long)]
    slack: Option<f64>,
    /// Of `cargo test`; changes nothing
    #[arg(long, hide = true)]
    nocapture: bool,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    match runtime.block_on(run(options)) {
        Ok((report, bars)) => {
            if !report.is_empty() {
                println!("\n{report}");
            }
            if !bars.is_empty() {
                println!("\n{bars}");
            }
            if report.is_clean() && bars.is_clean() {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            }
        }
        Err(error) => {
            eprintln!("faults: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(options: Options) -> anyhow::Result<(Report, Bars)> {
    let is_chosen = |name: &str| {
        options.faults.is_empty()
            || options
                .faults
                .iter()
                .any(|part| name.contains(part.as_str()))
    };
    let mut bars = Bars::with_slack(
        options
            .slack
            .unwrap_or(if options.long { 1.0 } else { 4.0 }),
    );
    if options.cluster_url.is_none() && options.pgbouncer.is_none() {
        let faults = isolation::Fault::all(options.long).into_iter();
        // They measure, which needs a quiet machine: they run when they are named.
        let is_asked_for = options.long || !options.faults.is_empty();
        let faults: Vec<_> = faults
            .filter(|fault| is_asked_for && is_chosen(&fault.name()))
            .collect();
        isolation::run(&faults, options.long, &mut bars).await?;
    }
    Ok((survival(options).await?, bars))
}

/// Rounds of faults, after each of which every answered heist must be in the books.
async fn survival(options: Options) -> anyhow::Result<Report> {
    let setting = match options.cluster_url.zip(options.cluster_program) {
        Some((url, program)) => Setting::Elsewhere(Cluster::new(url, program)),
        None => Setting::Ours {
            pgbouncer: options.pgbouncer,
        },
    };
    let mut faults: Vec<Fault> = (Fault::ALL.into_iter())
        .filter(|fault| fault.fits(&setting))
        .filter(|fault| {
            options.faults.is_empty()
                || (options.faults.iter()).any(|part| fault.name().contains(part.as_str()))
        })
        .collect();
    if faults.contains(&Fault::Failover) && !postgres::can_copy() {
        println!("no failover: pg_basebackup is not installed (Debian: postgresql-client)");
        faults.retain(|fault| *fault != Fault::Failover);
    }
    let mut report = Report::default();
    if faults.is_empty() {
        return Ok(report);
    }
    let begun = Instant::now();
    let limit = Duration::from_mins(options.minutes);
    let mut stage = Stage::set(setting).await.context("setting the stage")?;
    let mut round = 0;
    while round < options.rounds || begun.elapsed() < limit {
        round += 1;
        for &fault in &faults {
            play(&mut stage, fault, &mut report)
                .await
                .with_context(|| format!("{}, round {round}", fault.name()))?;
        }
    }
    stage.clear().await?;
    report.took = begun.elapsed();
    Ok(report)
}

async fn play(stage: &mut Stage, fault: Fault, report: &mut Report) -> anyhow::Result<()> {
    fault.prepare(stage).await?;
    let callers = Callers::start(stage.server.address);
    callers.until_answered(Instant::now(), PATIENCE).await?;
    tokio::time::sleep(CALM).await;

    let broken = Instant::now();
    fault.inject(stage).await?;
    let repaired = Instant::now();
    let back = callers.until_answered(repaired, PATIENCE).await?;
    tokio::time::sleep(CALM).await;

    let calls = callers.stop(PATIENCE).await?;
    let findings = books::check(stage, &calls).await?;
    let row = report.row(fault);
    row.add(&calls, &findings, broken, back.duration_since(repaired));
    row.memory(stage.server.peak_memory_mib());
    println!("{row}");
    for finding in &findings.details {
        println!("    {finding}");
    }
    Ok(())
}
