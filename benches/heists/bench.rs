//! One run of the bench: the database, the servers and the report that the scenarios share.

use crate::{
    cpu::Cores,
    load::{self, Call, Plan, Summary},
    options::{Effort, Options},
    postgres::{Database, Postgres},
    progress::say,
    report::{Limit, Report, Spread},
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

impl<'a> Bench<'a> {
    /// Loads the players that all scenarios share.
    pub async fn start(options: &'a Options, postgres: &'a Postgres) -> anyhow::Result<Self> {
        say(format_args!("loading {PLAYERS} players"));
        Ok(Self {
            postgres,
            database: postgres.create("heists", PLAYERS).await?,
            effort: options.effort(),
            report: Report::default(),
            variables: &options.variables,
            starts_ms: Vec::new(),
            idle_mib: Vec::new(),
            peaks_mib: Vec::new(),
        })
    }

    /// The report of the scenarios, with the start times and the memory of all servers.
    pub fn finish(mut self) -> Report {
        self.report_servers();
        self.report
    }

    /// Creates a database with this number of players.
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

    /// A server with further variables. Its start time and memory stay out of the report.
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

    /// Measures one kind of call, and then checks the books if the call writes.
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

    /// Start times and memory of all servers of the run.
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
                // The largest value has to meet the bar.
                let spread = Spread {
                    median: spread.most,
                    ..spread
                };
                self.report.bar(what, spread, unit, Limit::Below(limit));
            }
        }
    }
}
