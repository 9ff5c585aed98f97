//! The raw side of the comparison: `pgbench` calls the whole heist as one server-side function.

use std::{fs, process::Stdio, time::Duration};

use anyhow::{Context as _, bail, ensure};
use tokio::{process::Command, time::timeout};

use crate::{
    cpu::{Cores, Meter, Watched},
    load::tally::percentile_ms,
    postgres::{Database, Postgres},
    progress::say,
};

/// Threads of pgbench: one per core.
const THREADS: usize = 2;
/// Trials of each number of clients.
const TRIALS: usize = 2;
const GRACE: Duration = Duration::from_secs(30);

/// How attackers and victims are chosen.
#[derive(Clone, Copy)]
pub enum Victims {
    /// Any player robs any other, by the rules of the uniform scenario.
    Uniform,
    /// Each client is one attacker; all of them rob player 1, who is never protected.
    Hot,
}

impl Victims {
    fn script(self, players: i32) -> String {
        match self {
            Self::Uniform => format!(
                "\\set attacker random(1, {players})\n\
                 \\set victim 1 + mod(:attacker - 1 + random(1, {last}), {players})\n\
                 SELECT raw_heist(:attacker, :victim, 50, '48 hours');\n",
                last = players - 1,
            ),
            Self::Hot => "\\set attacker :client_id + 2\n\
                SELECT raw_heist(:attacker, 1, NULL, NULL);\n"
                .to_owned(),
        }
    }
}

/// The figures of one run.
#[derive(Clone, Debug)]
pub struct RawOutcome {
    pub per_second: f64,
    /// Sorted; empty unless the run logged latencies.
    pub latencies: Vec<Duration>,
    pub cores: Cores,
}

impl RawOutcome {
    pub fn percentile_ms(&self, percent: usize) -> f64 {
        percentile_ms(&self.latencies, percent)
    }
}

/// The raw side of one scenario.
pub struct Raw<'a> {
    pub postgres: &'a Postgres,
    pub database: &'a Database,
    pub victims: Victims,
}

impl Raw<'_> {
    /// The number of clients with the highest throughput. Each number is tried [`TRIALS`] times, in
    /// turns, and its best trial counts, so that one slow second does not decide for the whole run.
    pub async fn best_clients(
        &self,
        candidates: &[usize],
        each: Duration,
    ) -> anyhow::Result<usize> {
        let mut best = (0, 0.0);
        for _ in 0..TRIALS {
            for &clients in candidates {
                let per_second = self.run(clients, each, false).await?.per_second;
                say(format_args!(
                    "  raw with {clients} clients: {per_second:.0} a second"
                ));
                if per_second > best.1 {
                    best = (clients, per_second);
                }
            }
        }
        Ok(best.0)
    }

    /// Runs for `length`. With `latency`, pgbench logs each transaction, which costs it a little.
    pub async fn run(
        &self,
        clients: usize,
        length: Duration,
        latency: bool,
    ) -> anyhow::Result<RawOutcome> {
        let script = self.postgres.home.join("raw.pgbench");
        fs::write(&script, self.victims.script(self.database.players))?;
        let logs = self.postgres.home.join("pgbench_log");
        let mut command = Command::new(self.postgres.bin_dir.join("pgbench"));
        command
            .args(["--no-vacuum", "--protocol=prepared"])
            .arg(format!("--client={clients}"))
            .arg(format!("--jobs={}", clients.min(THREADS)))
            .arg(format!("--time={}", length.as_secs().max(1)))
            .arg(format!("--file={}", script.display()));
        if latency {
            command
                .arg("--log")
                .arg(format!("--log-prefix={}", logs.display()));
        }
        let pgbench = command
            .arg(&self.database.url)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("cannot start pgbench")?;
        let meter = Meter::start(Watched {
            postmaster: self.postgres.postmaster,
            // By the end of the measurement, pgbench is a child of ours that has ended.
            load: Some(std::process::id()),
            ..Watched::default()
        });
        let output = timeout(length + GRACE, pgbench.wait_with_output())
            .await
            .context("pgbench did not end in time")??;
        let cores = meter.stop();
        let said = String::from_utf8_lossy(&output.stdout);
        ensure!(
            output.status.success(),
            "pgbench failed: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(RawOutcome {
            per_second: transactions_per_second(&said)?,
            latencies: self.take_latencies()?,
            cores,
        })
    }

    /// Reads the logs of the transactions and removes them.
    fn take_latencies(&self) -> anyhow::Result<Vec<Duration>> {
        let mut latencies = Vec::new();
        for entry in fs::read_dir(&self.postgres.home)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if !name.starts_with("pgbench_log.") {
                continue;
            }
            for line in fs::read_to_string(&path)?.lines() {
                let micros = line.split(' ').nth(2).and_then(|word| word.parse().ok());
                latencies.push(Duration::from_micros(
                    micros.with_context(|| format!("pgbench logs {line:?}"))?,
                ));
            }
            fs::remove_file(&path)?;
        }
        latencies.sort_unstable();
        Ok(latencies)
    }
}

fn transactions_per_second(said: &str) -> anyhow::Result<f64> {
    let figure = said
        .lines()
        .find_map(|line| line.strip_prefix("tps = ")?.split(' ').next()?.parse().ok());
    match figure {
        Some(per_second) => Ok(per_second),
        None => bail!("pgbench says {said:?}"),
    }
}
