//! The figures of the isolation faults, and the limits that they have to meet.

use std::fmt;

/// What a figure has to be.
#[derive(Clone, Copy)]
pub enum Limit {
    AtLeast(f64),
    AtMost(f64),
}

/// One figure of one fault.
pub struct Bar {
    what: String,
    measured: f64,
    limit: Limit,
    unit: &'static str,
    /// The control, or what else explains the figure.
    note: String,
}

#[derive(Default)]
pub struct Bars {
    /// Of the fault that is being played.
    pending: Vec<Bar>,
    rows: Vec<String>,
    slack: f64,
    missed: usize,
}

impl Bar {
    pub fn new(what: impl Into<String>, measured: f64, unit: &'static str, limit: Limit) -> Self {
        Self {
            what: what.into(),
            measured,
            limit,
            unit,
            note: String::new(),
        }
    }

    pub fn noting(mut self, note: impl Into<String>) -> Self {
        self.note = note.into();
        self
    }
}

impl Limit {
    /// `slack` widens the limit: 1 is the bar itself.
    fn is_met(self, figure: f64, slack: f64) -> bool {
        match self {
            Self::AtLeast(limit) => figure >= limit / slack,
            Self::AtMost(limit) => figure <= limit * slack,
        }
    }
}

impl Bars {
    /// Limits are widened by this factor before a fault counts as failed.
    pub fn with_slack(slack: f64) -> Self {
        Self {
            slack,
            ..Self::default()
        }
    }

    pub fn add(&mut self, bar: Bar) {
        self.pending.push(bar);
    }

    /// A fault that could not be measured.
    pub fn fail(&mut self, fault: &str, why: &str) {
        self.missed += 1;
        let row = format!("| {fault} | {why} | | | FAILED | |");
        println!("{row}");
        self.rows.push(row);
    }

    /// Prints the bars of a fault and keeps them for the table.
    pub fn finish(&mut self, fault: &str) {
        for bar in self.pending.drain(..) {
            let verdict = if bar.limit.is_met(bar.measured, 1.0) {
                "met"
            } else if bar.limit.is_met(bar.measured, self.slack) {
                "missed, within the slack"
            } else {
                self.missed += 1;
                "MISSED"
            };
            let row = format!("| {fault} | {bar} | {verdict} | {} |", bar.note);
            println!("{row}");
            self.rows.push(row);
        }
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    pub fn is_clean(&self) -> bool {
        self.missed == 0
    }
}

impl fmt::Display for Bar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sign, limit) = match self.limit {
            Limit::AtLeast(limit) => ("≥", limit),
            Limit::AtMost(limit) => ("≤", limit),
        };
        let unit = self.unit;
        write!(
            f,
            "{} | {} {unit} | {sign} {limit} {unit}",
            self.what,
            figure(self.measured)
        )
    }
}

#[expect(clippy::cast_precision_loss, reason = "there are not 2^52 of anything")]
pub fn count(number: usize) -> f64 {
    number as f64
}

/// Three digits.
fn figure(value: f64) -> String {
    let decimals = match value.abs() {
        100.0.. => 0,
        10.0.. => 1,
        _ => 2,
    };
    format!("{value:.decimals$}")
}

impl fmt::Display for Bars {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| fault | what | measured | bar | verdict | beside it |")?;
        writeln!(f, "|---|---|---|---|---|---|")?;
        for row in &self.rows {
            writeln!(f, "{row}")?;
        }
        Ok(())
    }
}
