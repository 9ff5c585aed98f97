//! The benchmark: `cargo bench`.
//!
//! It starts a PostgreSQL of its own with full durability, the release server as one process and
//! a load generator as another. It prints one table: throughput, latency, errors, the cores that
//! each process kept busy, and whether each bar is met.
//!
//! ```text
//! cargo bench                         about a minute
//! cargo bench -- --full               several minutes: longer rounds, a million players
//! cargo bench -- --only uniform,hot   some of it
//! cargo bench -- --only costs         what telemetry, streams and mail take off the throughput
//! cargo bench -- --only callers       throughput and latency of 1 to 64 callers
//! cargo bench -- --only soak          half an hour of ordinary load: leaks and growing latency
//! cargo bench -- --statements         also the statements that take most of PostgreSQL's time
//! ```
//!
//! Both sides of a comparison are measured in the same run, in alternating rounds: raw, gRPC, raw,
//! gRPC. "Raw" is `raw_heist.sql`, the whole heist as one server-side function, which `pgbench`
//! calls over prepared statements with the number of clients at which it is fastest. Throughput
//! comes from a closed loop of callers. Latency comes from an open loop: calls arrive at random
//! times, and a latency counts from the time at which the call was due, so that it includes stalls.
//! After every round that writes, `heist check` must find the books in order, or the run fails.
//!
//! | file | what |
//! |---|---|
//! | `options` | the command line, and the length of rounds |
//! | `home` | the folder of a run |
//! | `bench` | one run: database, servers, report |
//! | `scenarios/` | the measurements and their bars |
//! | `load/` | the load generator: plan, callers, closed and open loop, percentiles |
//! | `pgbench` | the raw side |
//! | `postgres`, `server` | the processes under test |
//! | `streams` | open streams of players and boards |
//! | `cpu` | processor time and memory of processes |
//! | `machine` | the machine and its settings |
//! | `report`, `progress` | the table; progress lines on stderr |
//!
//! Everything runs on this machine, over loopback and a Unix socket. A run that ends by itself or
//! by a signal leaves no process and no file. After SIGKILL, the next run removes what is left.

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

use crate::{bench::Bench, home::Home, options::Options, postgres::Postgres};

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
        println!("Only `cargo bench` measures.");
        return Ok(());
    }
    let home = Home::create()?;
    progress::say("starting PostgreSQL");
    let mut interrupted = pin!(interrupted());
    let postgres = tokio::select! {
        postgres = Postgres::start(&home, options.statements) => postgres?,
        error = &mut interrupted => return Err(error),
    };
    // Dropping the future ends the processes that it started.
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
    let mut bench = Bench::start(options, postgres).await?;
    let measured = scenarios::run(&mut bench, options).await;
    if options.statements {
        println!("{}", postgres.statements(&bench.database).await?);
    }
    measured?;
    Ok(format!("{machine}\n\n{}", bench.finish()))
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
