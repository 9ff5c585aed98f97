//! The table that comes of it.

use std::{
    collections::BTreeMap,
    fmt,
    time::{Duration, Instant},
};

use super::{books::Findings, callers::Call, fault::Fault};

#[derive(Default)]
pub struct Report {
    rows: BTreeMap<Fault, Row>,
    pub took: Duration,
}

/// One fault, over all its rounds.
pub struct Row {
    fault: Fault,
    rounds: u32,
    answered: usize,
    lost: usize,
    doubled: usize,
    wrong: usize,
    /// Heists that needed more than one call to be found out about.
    unresolved: usize,
    /// From the fault on, between two answers.
    longest_gap: Duration,
    slowest_recovery: Duration,
    memory_mib: u64,
}

impl Report {
    pub fn row(&mut self, fault: Fault) -> &mut Row {
        self.rows.entry(fault).or_insert(Row {
            fault,
            rounds: 0,
            answered: 0,
            lost: 0,
            doubled: 0,
            wrong: 0,
            unresolved: 0,
            longest_gap: Duration::ZERO,
            slowest_recovery: Duration::ZERO,
            memory_mib: 0,
        })
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    pub fn is_clean(&self) -> bool {
        (self.rows.values()).all(|row| row.lost + row.doubled + row.wrong == 0)
    }
}

impl Row {
    pub fn add(&mut self, calls: &[Call], found: &Findings, broken: Instant, recovery: Duration) {
        self.rounds += 1;
        self.answered += calls.iter().filter(|call| call.answer.is_ok()).count();
        self.unresolved += (calls.iter())
            .filter(|call| !call.unresolved.is_empty())
            .count();
        self.lost += found.lost;
        self.doubled += found.doubled;
        self.wrong += found.wrong;
        let mut before = broken;
        for call in calls.iter().filter(|call| call.answered > broken) {
            self.longest_gap = self.longest_gap.max(call.answered - before);
            before = call.answered;
        }
        self.slowest_recovery = self.slowest_recovery.max(recovery);
    }

    pub fn memory(&mut self, peak_mib: u64) {
        self.memory_mib = self.memory_mib.max(peak_mib);
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "| {} | {} | {} | {} | {} | {} | {} | {:.1} | {:.2} | {} |",
            self.fault.name(),
            self.rounds,
            self.answered,
            self.lost,
            self.doubled,
            self.wrong,
            self.unresolved,
            self.longest_gap.as_secs_f64(),
            self.slowest_recovery.as_secs_f64(),
            self.memory_mib,
        )
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "| fault | rounds | heists answered | lost | doubled | otherwise wrong | unresolved at \
             first | longest without an answer, s | slowest recovery, s | server's memory, MiB |"
        )?;
        writeln!(f, "|---|---|---|---|---|---|---|---|---|---|")?;
        for row in self.rows.values() {
            writeln!(f, "{row}")?;
        }
        write!(f, "\n{} s in all", self.took.as_secs())
    }
}
