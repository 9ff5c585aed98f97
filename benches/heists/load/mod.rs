//! Load from a separate process: the bench starts its own program again with a [`Plan`], and reads
//! a [`Summary`] for each kind of call from its output.

mod caller;
pub mod generator;
pub mod plan;
pub mod tally;

use std::{collections::BTreeMap, process::Stdio, time::Duration};

use anyhow::{Context as _, bail, ensure};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::Command,
    time::timeout,
};

pub use self::{
    plan::{Call, Plan},
    tally::Summary,
};
use crate::cpu::{Cores, Meter, Watched};

/// The first argument of a process that generates load.
pub const ROLE: &str = "load";

/// Time that the load generator may take beyond its plan.
const GRACE: Duration = Duration::from_secs(30);

/// The results of one run.
pub struct Outcome {
    pub calls: BTreeMap<Call, Summary>,
    pub cores: Cores,
}

impl Outcome {
    pub fn of(&self, call: Call) -> anyhow::Result<&Summary> {
        self.calls
            .get(&call)
            .with_context(|| format!("no call of {} was measured", call.name()))
    }
}

/// Runs a plan and measures the processor time of the processes.
pub async fn run(plan: &Plan, watched: Watched) -> anyhow::Result<Outcome> {
    let limit = plan.warm_up() + plan.run() + GRACE;
    timeout(limit, generate(plan, watched))
        .await
        .context("the load generator did not end in time")?
}

async fn generate(plan: &Plan, watched: Watched) -> anyhow::Result<Outcome> {
    let mut generator = Command::new(std::env::current_exe()?)
        .arg(ROLE)
        .args(plan.arguments())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("cannot start the load generator")?;
    let watched = Watched {
        load: generator.id(),
        ..watched
    };
    let output = generator.stdout.take().expect("it is piped");
    let mut lines = BufReader::new(output).lines();
    let mut meter = None;
    let mut cores = Cores::default();
    let mut calls = BTreeMap::new();
    while let Some(line) = lines.next_line().await? {
        match line.as_str() {
            "begin" => meter = Some(Meter::start(watched)),
            "end" => cores = meter.take().map(Meter::stop).unwrap_or_default(),
            line => {
                let Some((call, summary)) = tally::read_line(line) else {
                    bail!("the load generator says {line:?}");
                };
                calls.insert(call, summary);
            }
        }
    }
    let status = generator.wait().await?;
    ensure!(status.success(), "the load generator failed: {status}");
    Ok(Outcome { calls, cores })
}
