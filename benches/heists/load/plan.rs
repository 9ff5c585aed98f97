//! The load generator's plan: the bench writes it as arguments, the load process parses them.

use std::{net::SocketAddr, time::Duration};

use clap::{Parser as _, ValueEnum as _};

/// A kind of call; its players are chosen at random.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Call {
    /// Any player robs any other.
    Heist,
    /// Each caller is one attacker; all of them rob player 1.
    HotHeist,
    /// The next referred player earns one of the referrers a token.
    Award,
    Balance,
    UnreadCount,
    Eligibility,
    /// The first page of 50, for a random viewer.
    Leaderboard,
}

impl Call {
    pub fn name(self) -> String {
        let value = self.to_possible_value().expect("none is skipped");
        value.get_name().to_owned()
    }
}

/// One run of the load generator.
#[derive(Clone, Debug, PartialEq, clap::Parser)]
#[command(name = "load")]
pub struct Plan {
    #[arg(long)]
    pub address: SocketAddr,
    /// HTTP/2 connections, which the callers share.
    #[arg(long)]
    pub connections: usize,
    /// Callers of the closed loop, each with one call at a time; 0: an open loop.
    #[arg(long)]
    pub callers: usize,
    /// The calls, and their rates per second in an open loop.
    #[arg(long = "call", value_parser = stream)]
    pub calls: Vec<Stream>,
    /// Players 1 to this one.
    #[arg(long)]
    pub players: i32,
    /// Players up to this one refer others; with `first_referred` for awards.
    #[arg(long)]
    pub referrers: i32,
    /// The first player that no earlier run has awarded.
    #[arg(long)]
    pub first_referred: i32,
    #[arg(long)]
    pub warm_up_ms: u64,
    #[arg(long)]
    pub run_ms: u64,
}

/// One kind of call.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stream {
    pub call: Call,
    pub per_second: f64,
}

impl Plan {
    /// Callers that each wait for an answer before they call again: measures throughput.
    pub fn closed(address: SocketAddr, callers: usize, call: Call) -> Self {
        Self {
            address,
            connections: callers.min(4),
            callers,
            calls: vec![Stream {
                call,
                per_second: 0.0,
            }],
            players: 0,
            referrers: 0,
            first_referred: 0,
            warm_up_ms: 500,
            run_ms: 0,
        }
    }

    /// Calls that start at random times, independent of the answers: measures latency.
    pub fn open(address: SocketAddr, calls: &[(Call, f64)]) -> Self {
        let calls = calls
            .iter()
            .map(|&(call, per_second)| Stream { call, per_second });
        Self {
            connections: 4,
            calls: calls.collect(),
            ..Self::closed(address, 0, Call::Balance)
        }
    }

    pub fn among(self, players: i32) -> Self {
        Self { players, ..self }
    }

    pub fn lasting(self, length: Duration) -> Self {
        Self {
            run_ms: u64::try_from(length.as_millis()).unwrap_or(u64::MAX),
            ..self
        }
    }

    pub fn read(arguments: impl Iterator<Item = String>) -> Self {
        Self::parse_from(std::iter::once("load".to_owned()).chain(arguments))
    }

    pub fn arguments(&self) -> Vec<String> {
        let mut arguments = vec![
            format!("--address={}", self.address),
            format!("--connections={}", self.connections),
            format!("--callers={}", self.callers),
            format!("--players={}", self.players),
            format!("--referrers={}", self.referrers),
            format!("--first-referred={}", self.first_referred),
            format!("--warm-up-ms={}", self.warm_up_ms),
            format!("--run-ms={}", self.run_ms),
        ];
        let calls = (self.calls.iter())
            .map(|stream| format!("--call={}={}", stream.call.name(), stream.per_second));
        arguments.extend(calls);
        arguments
    }

    pub fn warm_up(&self) -> Duration {
        Duration::from_millis(self.warm_up_ms)
    }

    pub fn run(&self) -> Duration {
        Duration::from_millis(self.run_ms)
    }
}

fn stream(value: &str) -> Result<Stream, String> {
    let (call, per_second) = value.split_once('=').ok_or("expected CALL=RATE")?;
    Ok(Stream {
        call: Call::from_str(call, false)?,
        per_second: per_second.parse().map_err(|_| "expected a number")?,
    })
}
