//! The results of a run. Every sample is kept, so that percentiles are exact.

use std::{
    collections::BTreeMap,
    fmt::{self, Write as _},
    time::Duration,
};

use clap::ValueEnum as _;

use super::plan::Call;

/// The calls of one kind in one run.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    latencies: Vec<Duration>,
    errors: BTreeMap<String, u64>,
}

/// A tally in figures.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Summary {
    /// Successful calls per second.
    pub per_second: f64,
    pub p50_ms: f64,
    pub p95_ms: f64,
    pub p99_ms: f64,
    pub errors: BTreeMap<String, u64>,
}

impl Tally {
    pub fn add(&mut self, latency: Duration, result: Result<(), String>) {
        match result {
            Ok(()) => self.latencies.push(latency),
            Err(reason) => *self.errors.entry(reason).or_default() += 1,
        }
    }

    pub fn merge(&mut self, other: Self) {
        self.latencies.extend(other.latencies);
        for (reason, count) in other.errors {
            *self.errors.entry(reason).or_default() += count;
        }
    }

    pub fn summary(mut self, time: Duration) -> Summary {
        self.latencies.sort_unstable();
        Summary {
            per_second: to_f64(self.latencies.len()) / time.as_secs_f64(),
            p50_ms: percentile_ms(&self.latencies, 50),
            p95_ms: percentile_ms(&self.latencies, 95),
            p99_ms: percentile_ms(&self.latencies, 99),
            errors: self.errors,
        }
    }
}

/// The nearest-rank percentile of sorted samples, in milliseconds.
pub fn percentile_ms(sorted: &[Duration], percent: usize) -> f64 {
    let place = (sorted.len() * percent).div_ceil(100).max(1) - 1;
    sorted
        .get(place)
        .map_or(f64::NAN, |latency| latency.as_secs_f64() * 1000.0)
}

#[expect(clippy::cast_precision_loss, reason = "there are not 2^52 calls")]
pub fn to_f64(count: usize) -> f64 {
    count as f64
}

/// A summary as the load generator prints it.
pub struct Line<'a>(pub Call, pub &'a Summary);

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(call, summary) = self;
        let Summary {
            per_second,
            p50_ms,
            p95_ms,
            p99_ms,
            errors,
        } = summary;
        let mut line = format!("{} {per_second} {p50_ms} {p95_ms} {p99_ms}", call.name());
        for (reason, count) in errors {
            write!(line, " {reason}={count}")?;
        }
        f.write_str(&line)
    }
}

/// The reverse of [`Line`].
pub fn read_line(line: &str) -> Option<(Call, Summary)> {
    let mut words = line.split(' ');
    let call = Call::from_str(words.next()?, false).ok()?;
    let mut figure = || words.next()?.parse().ok();
    let mut summary = Summary {
        per_second: figure()?,
        p50_ms: figure()?,
        p95_ms: figure()?,
        p99_ms: figure()?,
        errors: BTreeMap::new(),
    };
    for word in words {
        let (reason, count) = word.split_once('=')?;
        summary
            .errors
            .insert(reason.to_owned(), count.parse().ok()?);
    }
    Some((call, summary))
}
