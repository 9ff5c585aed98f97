//! The table of figures and bars.

use std::{
    collections::BTreeMap,
    fmt::{self, Display},
};

use crate::{cpu::Cores, load::Summary, pgbench::RawOutcome};

/// Everything that is printed.
#[derive(Default)]
pub struct Report {
    rows: Vec<Row>,
    bars: Vec<Bar>,
}

/// A figure of several rounds.
#[derive(Clone, Copy, Debug)]
pub struct Spread {
    pub median: f64,
    pub least: f64,
    pub most: f64,
}

/// Calls of one kind, as measured in several rounds.
struct Row {
    what: String,
    per_second: Spread,
    latency_ms: Option<[Spread; 3]>,
    errors: BTreeMap<String, u64>,
    cores: [Option<Spread>; 4],
}

/// The limit of a bar.
#[derive(Clone, Copy)]
pub enum Limit {
    AtLeast(f64),
    AtMost(f64),
    Below(f64),
}

struct Bar {
    what: String,
    measured: Spread,
    unit: &'static str,
    limit: Limit,
}

impl Report {
    /// Calls through gRPC.
    pub fn calls(&mut self, what: impl Into<String>, rounds: &[(Summary, Cores)]) {
        let of = |figure: fn(&Summary) -> f64| {
            Spread::over(rounds.iter().map(|(summary, _)| figure(summary)))
        };
        let mut errors = BTreeMap::new();
        for (reason, count) in rounds.iter().flat_map(|(summary, _)| &summary.errors) {
            *errors.entry(reason.clone()).or_default() += count;
        }
        self.rows.push(Row {
            what: what.into(),
            per_second: of(|summary| summary.per_second),
            latency_ms: Some([
                of(|summary| summary.p50_ms),
                of(|summary| summary.p95_ms),
                of(|summary| summary.p99_ms),
            ]),
            errors,
            cores: cores(&rounds.iter().map(|(_, cores)| *cores).collect::<Vec<_>>()),
        });
    }

    /// Raw heists.
    pub fn raw(&mut self, what: impl Into<String>, rounds: &[RawOutcome]) {
        let timed = rounds.iter().all(|round| !round.latencies.is_empty());
        let percentile =
            |percent| Spread::over(rounds.iter().map(|round| round.percentile_ms(percent)));
        self.rows.push(Row {
            what: what.into(),
            per_second: Spread::over(rounds.iter().map(|round| round.per_second)),
            latency_ms: timed.then(|| [50, 95, 99].map(percentile)),
            errors: BTreeMap::new(),
            cores: cores(&rounds.iter().map(|round| round.cores).collect::<Vec<_>>()),
        });
    }

    pub fn bar(
        &mut self,
        what: impl Into<String>,
        measured: Spread,
        unit: &'static str,
        limit: Limit,
    ) {
        self.bars.push(Bar {
            what: what.into(),
            measured,
            unit,
            limit,
        });
    }
}

fn cores(rounds: &[Cores]) -> [Option<Spread>; 4] {
    let of = |who: fn(&Cores) -> Option<f64>| {
        let figures: Option<Vec<f64>> = rounds.iter().map(who).collect();
        figures.map(|figures| Spread::over(figures.into_iter()))
    };
    [
        of(|cores| cores.server),
        of(|cores| cores.postgres),
        of(|cores| cores.load),
        of(|cores| cores.other),
    ]
}

impl Spread {
    /// Of at least one figure.
    pub fn over(figures: impl Iterator<Item = f64>) -> Self {
        let mut figures: Vec<f64> = figures.collect();
        figures.sort_by(f64::total_cmp);
        let at = |place: usize| figures.get(place).copied().unwrap_or(f64::NAN);
        let last = figures.len().saturating_sub(1);
        Self {
            median: f64::midpoint(at(last / 2), at(last.div_ceil(2))),
            least: at(0),
            most: at(last),
        }
    }

    /// The ratios of figures that were measured one after the other.
    pub fn of_ratios(above: &[f64], below: &[f64]) -> Self {
        Self::over(above.iter().zip(below).map(|(above, below)| above / below))
    }
}

impl Limit {
    fn is_met(self, figure: f64) -> bool {
        match self {
            Self::AtLeast(limit) => figure >= limit,
            Self::AtMost(limit) => figure <= limit,
            Self::Below(limit) => figure < limit,
        }
    }
}

impl Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtLeast(limit) => write!(f, "≥ {limit}"),
            Self::AtMost(limit) => write!(f, "≤ {limit}"),
            Self::Below(limit) => write!(f, "< {limit}"),
        }
    }
}

const WHAT_WIDTH: usize = 46;

impl Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:>101}", "cores kept busy by")?;
        writeln!(
            f,
            "{:<WHAT_WIDTH$} {:>9} {:>15}  {:>7} {:>7} {:>7}  {:>6} {:>8} {:>5} {:>5}  errors",
            "medians of rounds",
            "a second",
            "(min–max)",
            "p50 ms",
            "p95 ms",
            "p99 ms",
            "server",
            "postgres",
            "load",
            "other",
        )?;
        for row in &self.rows {
            writeln!(f, "{row}")?;
        }
        if self.bars.is_empty() {
            return Ok(());
        }
        writeln!(f)?;
        writeln!(
            f,
            "{:<WHAT_WIDTH$} {:>9} {:>15}  {:>14}",
            "bars", "measured", "(min–max)", "wanted",
        )?;
        for bar in &self.bars {
            writeln!(f, "{bar}")?;
        }
        Ok(())
    }
}

impl Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:<WHAT_WIDTH$} {:>9} {:>15} ",
            self.what,
            figure(self.per_second.median),
            range(self.per_second),
        )?;
        for place in 0..3 {
            let latency = self.latency_ms.map(|latency| latency[place].median);
            write!(f, " {:>7}", latency.map_or("–".to_owned(), figure))?;
        }
        for (spread, width) in self.cores.iter().zip([8, 9, 6, 6]) {
            let cores = spread.map_or("–".to_owned(), |cores| format!("{:.2}", cores.median));
            write!(f, "{cores:>width$}")?;
        }
        if self.errors.is_empty() {
            return f.write_str("  none");
        }
        for (reason, count) in &self.errors {
            write!(f, "  {count} {reason}")?;
        }
        Ok(())
    }
}

impl Display for Bar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.limit.is_met(self.measured.median) {
            "met"
        } else {
            "MISSED"
        };
        write!(
            f,
            "{:<WHAT_WIDTH$} {:>9} {:>15}  {:>14}  {verdict}",
            self.what,
            figure(self.measured.median),
            range(self.measured),
            format!("{} {}", self.limit, self.unit),
        )
    }
}

fn range(spread: Spread) -> String {
    format!("({}–{})", figure(spread.least), figure(spread.most))
}

/// Three digits that say something.
fn figure(value: f64) -> String {
    let decimals = match value.abs() {
        100.0.. => 0,
        10.0.. => 1,
        _ => 2,
    };
    format!("{value:.decimals$}")
}
