//! All metrics. `docs/metrics.md` describes them, and a test compares it with the exported metrics.
//!
//! Names and labels follow OpenTelemetry's semantic conventions. The exporter for Prometheus replaces
//! `.` by `_` and adds the unit. The values of labels are bounded: they come from the contract, from
//! the reasons of refusals, or from this module. Players, addresses and other values that a caller can
//! choose are never labels.

mod gauges;

use std::{sync::LazyLock, time::Duration};

use opentelemetry::{
    KeyValue, global,
    metrics::{Counter, Gauge, Histogram, Meter, UpDownCounter},
};

pub(super) use self::gauges::watch_log;
pub use self::gauges::{watch_keys, watch_pool, watch_queue, watch_stall};

/// The instruments. They do nothing until [`super::Exporters::start`] has configured an exporter.
pub static METRICS: LazyLock<Metrics> = LazyLock::new(|| Metrics::new(&meter()));

/// From 0.5 ms, the time of a statement on an idle database, to 10 s, the longest deadline of a call.
/// The thresholds of the alerts, 0.1, 0.5 and 1 s, are included.
const SECONDS: [f64; 14] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];
const BATCH_SIZES: [f64; 11] = [
    1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1000.0,
];

/// The causes of failures that have the same name for a statement and for a transaction.
const CAUSES: [&str; 4] = ["contention", "stale_plan", "interference", "statement"];

pub struct Metrics {
    call_duration: Histogram<f64>,
    active_calls: UpDownCounter<i64>,
    call_errors: Counter<u64>,

    heists: Counter<u64>,
    outcomes_unknown: Counter<u64>,
    points_stolen: Counter<u64>,
    awards: Counter<u64>,
    tokens_earned: Counter<u64>,
    tokens_spent: Counter<u64>,
    notifications: Counter<u64>,

    emails: Emails,

    batch_size: Histogram<u64>,
    queue_wait: Histogram<f64>,
    transactions: Counter<u64>,
    rollbacks: Counter<u64>,
    retries: Counter<u64>,

    statement_duration: Histogram<f64>,
    database_errors: Counter<u64>,
}

struct Emails {
    attempts: Counter<u64>,
    queue_depth: Gauge<u64>,
    queue_age: Gauge<f64>,
}

impl Metrics {
    fn new(meter: &Meter) -> Self {
        let seconds = |name, description| {
            (meter.f64_histogram(name))
                .with_unit("s")
                .with_description(description)
                .with_boundaries(SECONDS.to_vec())
                .build()
        };
        let counter = |name, unit, description| {
            (meter.u64_counter(name))
                .with_unit(unit)
                .with_description(description)
                .build()
        };
        let metrics = Self {
            call_duration: seconds(
                "rpc.server.call.duration",
                "Duration of calls, by method and status code",
            ),
            active_calls: (meter.i64_up_down_counter("heist.rpc.active_calls"))
                .with_unit("{call}")
                .with_description("Calls in progress, including open streams")
                .build(),
            call_errors: counter(
                "heist.rpc.errors",
                "{call}",
                "Calls that failed, by status code and reason",
            ),
            heists: counter("heist.heists", "{heist}", "Decided heists, by outcome"),
            outcomes_unknown: counter(
                "heist.outcomes.unknown",
                "{order}",
                "Orders whose callers were not told whether they were executed",
            ),
            points_stolen: counter(
                "heist.points.stolen",
                "{point}",
                "Monthly points that heists moved",
            ),
            awards: counter("heist.awards", "{award}", "Decided awards, by outcome"),
            tokens_earned: counter(
                "heist.tokens.earned",
                "{token}",
                "Tokens that players earned, by source",
            ),
            tokens_spent: counter(
                "heist.tokens.spent",
                "{token}",
                "Tokens that players spent, by source",
            ),
            notifications: counter(
                "heist.notifications.created",
                "{notification}",
                "Created notifications, by type",
            ),
            emails: Emails::new(meter),
            batch_size: (meter.u64_histogram("heist.engine.batch.size"))
                .with_unit("{order}")
                .with_description("Orders in one transaction")
                .with_boundaries(BATCH_SIZES.to_vec())
                .build(),
            queue_wait: seconds(
                "heist.engine.queue.wait",
                "Time that orders waited for a batch",
            ),
            transactions: counter(
                "heist.engine.transactions",
                "{transaction}",
                "Attempted transactions of batches, by outcome",
            ),
            rollbacks: counter(
                "heist.engine.rollbacks",
                "{transaction}",
                "Transactions that were rolled back, by cause",
            ),
            retries: counter(
                "heist.engine.retries",
                "{transaction}",
                "Transactions that were retried, by cause",
            ),
            statement_duration: seconds(
                "db.client.operation.duration",
                "Duration of database statements",
            ),
            database_errors: counter(
                "heist.db.errors",
                "{error}",
                "Errors of the database and of connections to it, by kind",
            ),
        };
        metrics.start_at_zero();
        metrics
    }

    /// `increase()` misses the first event of a series that does not begin at zero.
    fn start_at_zero(&self) {
        for operation in ["heist", "award", "adjustment"] {
            self.outcome_unknown(0, operation);
            for outcome in ["committed", "empty", "rolled_back"] {
                self.transactions(0, operation, outcome);
            }
            for cause in CAUSES.into_iter().chain(["unavailable"]) {
                self.rollbacks(0, operation, cause);
                self.retries(0, operation, cause);
            }
        }
        for kind in CAUSES.into_iter().chain(["connection", "pool_timeout"]) {
            self.database_errors(0, kind);
        }
        self.heists(0, "EXECUTED");
        self.points_stolen(0);
        self.awards(0, "AWARDED");
        for source in ["referral", "adjustment"] {
            self.tokens_earned(0, source);
        }
        for source in ["heist", "adjustment"] {
            self.tokens_spent(0, source);
        }
        for kind in ["HEIST_SUCCESS", "HEIST_VICTIM", "TOKEN_EARNED"] {
            self.notifications(0, kind);
        }
        for outcome in ["sent", "skipped", "retried", "failed", "unknown"] {
            self.emails(0, outcome);
        }
    }

    /// A call of `method` (`service/rpc`) has begun (`change` is 1) or ended (-1).
    pub fn active_calls(&self, change: i64, method: &'static str) {
        let labels = [KeyValue::new("rpc.method", method)];
        self.active_calls.add(change, &labels);
    }

    /// A call has ended with this gRPC status code.
    pub fn call_ended(&self, method: &'static str, code: &'static str, duration: Duration) {
        let labels = [
            KeyValue::new("rpc.system.name", "grpc"),
            KeyValue::new("rpc.method", method),
            KeyValue::new("rpc.response.status_code", code),
        ];
        self.call_duration.record(duration.as_secs_f64(), &labels);
    }

    /// A call has ended with another code than OK. `reason` is that of `ErrorInfo`, or empty.
    pub fn call_failed(&self, method: &'static str, code: &'static str, reason: String) {
        let labels = [
            KeyValue::new("rpc.method", method),
            KeyValue::new("rpc.response.status_code", code),
            KeyValue::new("reason", reason),
        ];
        self.call_errors.add(1, &labels);
    }

    pub fn heists(&self, times: u64, outcome: &'static str) {
        self.heists.add(times, &[KeyValue::new("outcome", outcome)]);
    }

    /// Orders that ended without a known outcome.
    pub fn outcome_unknown(&self, times: u64, operation: &'static str) {
        (self.outcomes_unknown).add(times, &[operation_label(operation)]);
    }

    pub fn points_stolen(&self, points: i32) {
        self.points_stolen.add(amount(points), &[]);
    }

    pub fn awards(&self, times: u64, outcome: &'static str) {
        self.awards.add(times, &[KeyValue::new("outcome", outcome)]);
    }

    pub fn tokens_earned(&self, tokens: i32, source: &'static str) {
        let labels = [KeyValue::new("source", source)];
        self.tokens_earned.add(amount(tokens), &labels);
    }

    pub fn tokens_spent(&self, tokens: i32, source: &'static str) {
        let labels = [KeyValue::new("source", source)];
        self.tokens_spent.add(amount(tokens), &labels);
    }

    pub fn notifications(&self, times: u64, kind: &'static str) {
        self.notifications
            .add(times, &[KeyValue::new("type", kind)]);
    }

    pub fn emails(&self, times: u64, outcome: &'static str) {
        self.emails
            .attempts
            .add(times, &[KeyValue::new("outcome", outcome)]);
    }

    /// `count` notifications of the e-mail queue, which all replicas share, are in `state`.
    pub fn emails_queued(&self, count: i64, state: &'static str) {
        let count = u64::try_from(count).unwrap_or(0);
        let labels = [KeyValue::new("state", state)];
        self.emails.queue_depth.record(count, &labels);
    }

    /// The age of the oldest e-mail that is due.
    pub fn emails_oldest_due(&self, age: Duration) {
        self.emails.queue_age.record(age.as_secs_f64(), &[]);
    }

    /// A batch was taken from the queue. `waited`: each order's time, if this is its first batch.
    pub fn batch(&self, operation: &'static str, waited: &[Option<Duration>]) {
        let labels = [operation_label(operation)];
        let size = u64::try_from(waited.len()).unwrap_or(u64::MAX);
        self.batch_size.record(size, &labels);
        for waited in waited.iter().flatten() {
            self.queue_wait.record(waited.as_secs_f64(), &labels);
        }
    }

    pub fn transactions(&self, times: u64, operation: &'static str, outcome: &'static str) {
        let labels = [
            operation_label(operation),
            KeyValue::new("outcome", outcome),
        ];
        self.transactions.add(times, &labels);
    }

    pub fn rollbacks(&self, times: u64, operation: &'static str, cause: &'static str) {
        let labels = [operation_label(operation), KeyValue::new("cause", cause)];
        self.rollbacks.add(times, &labels);
    }

    pub fn retries(&self, times: u64, operation: &'static str, cause: &'static str) {
        let labels = [operation_label(operation), KeyValue::new("cause", cause)];
        self.retries.add(times, &labels);
    }

    pub fn statement(&self, operation: &'static str, duration: Duration) {
        let labels = [
            KeyValue::new("db.system.name", "postgresql"),
            KeyValue::new("db.operation.name", operation),
        ];
        self.statement_duration
            .record(duration.as_secs_f64(), &labels);
    }

    pub fn database_errors(&self, times: u64, kind: &'static str) {
        let labels = [KeyValue::new("kind", kind)];
        self.database_errors.add(times, &labels);
    }
}

impl Emails {
    fn new(meter: &Meter) -> Self {
        Self {
            attempts: (meter.u64_counter("heist.emails"))
                .with_unit("{email}")
                .with_description("Attempts to send an e-mail, by outcome")
                .build(),
            queue_depth: (meter.u64_gauge("heist.emails.queue.depth"))
                .with_unit("{notification}")
                .with_description("Notifications in the e-mail queue, by state")
                .build(),
            queue_age: (meter.f64_gauge("heist.emails.queue.age"))
                .with_unit("s")
                .with_description("Age of the oldest e-mail that is due")
                .build(),
        }
    }
}

fn meter() -> Meter {
    global::meter("heist")
}

fn operation_label(operation: &'static str) -> KeyValue {
    KeyValue::new("operation", operation)
}

/// Moved points and tokens are never negative.
fn amount(moved: i32) -> u64 {
    u64::try_from(moved).unwrap_or(0)
}
