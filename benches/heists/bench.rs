//! One run of the bench: what the scenarios share.

use std::time::Duration;

use anyhow::Context as _;

use crate::{
    cpu::Cores,
    load::{self, Call, Plan, Summary},
    options::{Effort, Options, Scenario},
    postgres::{Database, Postgres},
    progress::say,
    report::{Limit, Report, Spread},
    scenarios,
    server::{self, Rules, Server},
};

/// Players of all scenarios but the growing leaderboard.
const PLAYERS: i32 = 100_000;

pub struct Bench<'a> {
    pub postgres: &'a Postgres,
    pub database: Database,
    pub effort: Effort,
    pub report: Report,
    variables: &'a [(String, String)],
    starts_ms: Vec<f64>,
    idle_mib: Vec<f64>,
    peaks_mib: Vec<f64>,
}

/// Runs the scenarios that are asked for.
pub async fn run(options: &Options, postgres: &Postgres) -> anyhow::Result<Report> {
    say(format_args!("loading {PLAYERS} players"));
    let mut bench = Bench {
        postgres,
        database: postgres.create("heists", PLAYERS).await?,
        effort: options.effort(),
        report: Report::default(),
        variables: &options.variables,
        starts_ms: Vec::new(),
        idle_mib: Vec::new(),
        peaks_mib: Vec::new(),
    };
    let result = bench.run_scenarios(options).await;
    if options.statements {
        println!("{}", postgres.statements(&bench.database).await?);
    }
    result?;
    Ok(bench.report)
}

impl Bench<'_> {
    async fn run_scenarios(&mut self, options: &Options) -> anyhow::Result<()> {
        if options.includes(Scenario::Uniform) {
            scenarios::uniform::run(self).await.context("uniform")?;
        }
        if options.includes(Scenario::Hot) {
            scenarios::hot::run(self).await.context("hot")?;
        }
        if options.includes(Scenario::Single) {
            scenarios::single::run(self).await.context("single")?;
        }
        if options.includes(Scenario::Mixed) {
            scenarios::mixed::run(self).await.context("mixed")?;
        }
        if options.includes(Scenario::Reads) {
            scenarios::reads::run(self).await.context("reads")?;
        }
        if options.includes(Scenario::Leaderboard) {
            scenarios::leaderboard::run(self)
                .await
                .context("leaderboard")?;
        }
        if options.includes(Scenario::Awards) {
            scenarios::awards::run(self).await.context("awards")?;
        }
        if options.includes(Scenario::Year) {
            scenarios::year::run(self).await.context("year")?;
        }
        if options.includes(Scenario::Costs) {
            scenarios::costs::run(self).await.context("costs")?;
        }
        if options.includes(Scenario::Soak) {
            let length = Duration::from_mins(options.soak_minutes);
            scenarios::soak::run(self, length).await.context("soak")?;
        }
        self.report_servers();
        Ok(())
    }

    /// A fresh database with so many players.
    pub async fn load(&self, players: i32) -> anyhow::Result<Database> {
        say(format_args!("  loading {players} players"));
        let name = format!("players_{players}");
        self.postgres.create(&name, players).await
    }

    pub async fn serve(&mut self, database: &Database, rules: Rules) -> anyhow::Result<Server> {
        let server = self.serve_with(database, rules, &[]).await?;
        self.starts_ms.push(server.start.as_secs_f64() * 1000.0);
        self.idle_mib
            .extend(server.idle.map(|memory| memory.now_mib));
        Ok(server)
    }

    /// A server that is not what others are: what is seen of it is not reported.
    pub async fn serve_with(
        &self,
        database: &Database,
        rules: Rules,
        variables: &[(&str, &str)],
    ) -> anyhow::Result<Server> {
        let variables = (variables.iter())
            .map(|&(name, value)| (name.to_owned(), value.to_owned()))
            .chain(self.variables.iter().cloned());
        let variables: Vec<_> = variables.collect();
        Server::start(self.postgres, database, rules, &variables).await
    }

    pub async fn stop(&mut self, server: Server) -> anyhow::Result<()> {
        self.peaks_mib
            .extend(server.memory().map(|memory| memory.peak_mib));
        server.stop().await
    }

    /// One kind of call, and the books after it where it writes in them.
    pub async fn measure(
        &self,
        server: &Server,
        plan: &Plan,
        call: Call,
    ) -> anyhow::Result<(Summary, Cores)> {
        let outcome = load::run(plan, server.watched()).await?;
        let summary = outcome.of(call)?.clone();
        let name = call.name();
        say(format_args!("  {name}: {:.0} a second", summary.per_second));
        if matches!(call, Call::Heist | Call::HotHeist | Call::Award) {
            server::check_books(&self.database).await?;
        }
        Ok((summary, outcome.cores))
    }

    /// What was seen of all servers of the run.
    fn report_servers(&mut self) {
        let figures = [
            ("start to serving", &self.starts_ms, "ms", 1000.0),
            ("memory when idle", &self.idle_mib, "MiB", 40.0),
            (
                "memory under load, at its peak",
                &self.peaks_mib,
                "MiB",
                120.0,
            ),
        ];
        for (what, figures, unit, limit) in figures {
            if !figures.is_empty() {
                let spread = Spread::over(figures.iter().copied());
                // The worst has to do.
                let spread = Spread {
                    median: spread.most,
                    ..spread
                };
                self.report.bar(what, spread, unit, Limit::Below(limit));
            }
        }
    }
}
