//! What a heist costs: `cargo bench`.
//!
//! Starts a PostgreSQL of its own with full durability, the release server as a process, and
//! a load generator as another, and prints one table: throughput, latency, errors, the cores
//! that each process kept busy, and whether the bars of the design are met.
//!
//! ```text
//! cargo bench                         about a minute
//! cargo bench -- --full               several minutes: longer rounds, a million players
//! cargo bench -- --only uniform,hot   some of it
//! cargo bench -- --only costs         what telemetry, streams and mail take off the heists
//! cargo bench -- --only soak          half an hour of an ordinary day: nothing may grow
//! cargo bench -- --statements         which statements took PostgreSQL's time
//! ```
//!
//! What is compared is always measured in the same run, in rounds that take turns: raw, gRPC,
//! raw, gRPC. "Raw" is `raw_heist.sql`, the whole heist as one function of the database, which
//! `pgbench` calls over prepared statements with the number of clients at which it is fastest.
//! Throughput comes from a closed loop of callers; latency from an open loop, in which calls
//! come when they come and count from the moment they were due, so that a stall cannot hide.
//! After every round `heist check` has to find the books in order: otherwise the bench fails.
//!
//! | file | what |
//! |---|---|
//! | `options` | the command line, and how long things take |
//! | `home` | the folder of a run |
//! | `bench` | one run, and what the scenarios share |
//! | `scenarios/` | what is measured, and against which bar |
//! | `load/` | the load generator: plan, callers, closed and open loop, percentiles |
//! | `pgbench` | the raw side |
//! | `postgres`, `server` | the processes that are measured |
//! | `streams` | players and boards that listen meanwhile |
//! | `cpu` | what processes spend |
//! | `machine` | what the figures depend on |
//! | `report`, `progress` | the table; what happens meanwhile |
//!
//! Everything is on this machine, over loopback and a unix socket. No process and no file is
//! left behind, however it ends, short of SIGKILL; what that leaves, the next run removes.

mod bench;
mod cpu;
mod home;
mod load;
mod machine;
mod options;
mod pgbench;
mod postgres;
mod progress;
mod report;
mod scenarios;
mod server;
mod streams;

use std::{pin::pin, process::ExitCode};

use clap::Parser as _;
use tokio::signal::unix::{SignalKind, signal};

use crate::{home::Home, options::Options, postgres::Postgres};

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1).peekable();
    let result = if arguments.peek().is_some_and(|first| first == load::ROLE) {
        load::generator::run(&load::Plan::read(arguments.skip(1)))
    } else {
        lead()
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn lead() -> anyhow::Result<()> {
    let options = Options::parse();
    if !options.bench {
        println!("Nothing is measured but by `cargo bench`.");
        return Ok(());
    }
    let home = Home::create()?;
    progress::say("starting PostgreSQL");
    let mut interrupted = pin!(interrupted());
    let postgres = tokio::select! {
        postgres = Postgres::start(&home, options.statements) => postgres?,
        error = &mut interrupted => return Err(error),
    };
    // Dropping what runs ends its processes.
    let result = tokio::select! {
        report = measure(&options, &postgres) => report,
        error = &mut interrupted => Err(error),
    };
    postgres.stop().await?;
    println!("\n{}", result?);
    Ok(())
}

async fn measure(options: &Options, postgres: &Postgres) -> anyhow::Result<String> {
    let machine = machine::describe(postgres, &options.variables).await?;
    let report = bench::run(options, postgres).await?;
    Ok(format!("{machine}\n\n{report}"))
}

async fn interrupted() -> anyhow::Error {
    let wait_for = async |kind| match signal(kind) {
        Ok(mut signal) => signal.recv().await,
        Err(_) => std::future::pending().await,
    };
    tokio::select! {
        _ = wait_for(SignalKind::interrupt()) => {},
        _ = wait_for(SignalKind::terminate()) => {},
        _ = wait_for(SignalKind::hangup()) => {},
    }
    anyhow::anyhow!("interrupted")
}
