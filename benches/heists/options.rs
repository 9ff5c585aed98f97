//! The command line.

use std::time::Duration;

/// Measures the release server against raw PostgreSQL.
#[derive(Debug, clap::Parser)]
#[command(name = "cargo bench --")]
pub struct Options {
    /// More and longer rounds, and a million players: several minutes instead of one
    #[arg(long)]
    full: bool,

    /// Only these scenarios
    #[arg(long, value_enum, value_delimiter = ',', value_name = "SCENARIO")]
    only: Vec<Scenario>,

    /// Also print which statements took PostgreSQL's time; counting them costs it a little
    #[arg(long)]
    pub statements: bool,

    /// Start the server with this variable in its environment, such as `HEIST_WORKERS=4`
    #[arg(long = "set", value_parser = variable, value_name = "NAME=VALUE")]
    pub variables: Vec<(String, String)>,

    /// How long the soak lasts
    #[arg(long, default_value_t = 30, value_name = "MINUTES")]
    pub soak_minutes: u64,

    /// Cargo passes it for `cargo bench`, and not for `cargo test`
    #[arg(long, hide = true)]
    pub bench: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Scenario {
    /// 64 callers, any player robs any other, beside raw PostgreSQL
    Uniform,
    /// 64 callers rob one victim, and each commit takes 5 ms, beside raw PostgreSQL
    Hot,
    /// One caller and a quiet server, beside raw PostgreSQL
    Single,
    /// 100 heists a second beside 500 reads, in an open loop
    Mixed,
    /// Balance, unread count and eligibility
    Reads,
    /// The leaderboard of 50 for a viewer, and how it grows with the players
    Leaderboard,
    /// 64 callers award tokens to 1,000 referrers
    Awards,
    /// Latency of a heist with a year of heists in the books, beside empty books
    Year,
    /// What telemetry, streams and mail take off the throughput of heists; runs only if named
    Costs,
    /// 1 to 64 callers, beside raw PostgreSQL with as many clients; runs only if named
    Callers,
    /// 1,000 heists a minute beside reads and streams, for a long time; runs only if named
    Soak,
}

/// The number and length of rounds, and the sizes of databases.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    pub rounds: usize,
    /// Length of a trial of raw PostgreSQL with one number of clients.
    pub trial: Duration,
    pub round: Duration,
    /// Players of the smallest and the largest leaderboard.
    pub boards: [i32; 2],
    /// Heists in the books after a year.
    pub year: i32,
}

impl Options {
    pub fn includes(&self, scenario: Scenario) -> bool {
        let is_named = self.only.contains(&scenario);
        let is_usual = !matches!(
            scenario,
            Scenario::Costs | Scenario::Callers | Scenario::Soak
        );
        is_named || (self.only.is_empty() && is_usual)
    }

    pub fn effort(&self) -> Effort {
        if self.full {
            Effort {
                rounds: 5,
                trial: Duration::from_secs(4),
                round: Duration::from_secs(10),
                boards: [10_000, 1_000_000],
                year: 1_200_000,
            }
        } else {
            Effort {
                rounds: 3,
                trial: Duration::from_secs(1),
                round: Duration::from_secs(2),
                boards: [10_000, 100_000],
                year: 100_000,
            }
        }
    }
}

fn variable(value: &str) -> Result<(String, String), &'static str> {
    let (name, value) = value.split_once('=').ok_or("expected NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}
