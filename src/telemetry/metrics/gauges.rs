//! Metrics whose values are read when they are exported.

use std::time::Duration;

use opentelemetry::KeyValue;

use super::{meter, operation_label};

/// Observes the number of waiting orders of one kind.
pub fn watch_queue(operation: &'static str, depth: impl Fn() -> usize + Send + Sync + 'static) {
    (meter().u64_observable_gauge("heist.engine.queue.depth"))
        .with_unit("{order}")
        .with_description("Orders that wait for a batch")
        .with_callback(move |gauge| {
            let depth = u64::try_from(depth()).unwrap_or(u64::MAX);
            gauge.observe(depth, &[operation_label(operation)]);
        })
        .build();
}

/// Observes whether the engine is stalled for one kind of order.
pub fn watch_stall(operation: &'static str, is_stalled: impl Fn() -> bool + Send + Sync + 'static) {
    (meter().u64_observable_gauge("heist.engine.stalled"))
        .with_description(
            "1 while orders have been coming for 5 s and the database has answered none",
        )
        .with_callback(move |it| it.observe(is_stalled().into(), &[operation_label(operation)]))
        .build();
}

/// Observes the connections of a pool. `count` returns the idle and the used ones.
pub fn watch_pool(
    name: &'static str,
    max: u32,
    count: impl Fn() -> (u64, u64) + Send + Sync + 'static,
) {
    let pool = move || KeyValue::new("db.client.connection.pool.name", name);
    let state = move |state| [pool(), KeyValue::new("db.client.connection.state", state)];
    (meter().u64_observable_gauge("db.client.connection.count"))
        .with_unit("{connection}")
        .with_description("Connections to the database, by pool and state")
        .with_callback(move |gauge| {
            let (idle, used) = count();
            gauge.observe(idle, &state("idle"));
            gauge.observe(used, &state("used"));
        })
        .build();
    (meter().u64_observable_gauge("db.client.connection.max"))
        .with_unit("{connection}")
        .with_description("Maximum number of connections to the database, by pool")
        .with_callback(move |gauge| gauge.observe(max.into(), &[pool()]))
        .build();
}

/// Observes the dropped lines of the log. `dropped` returns the audit lines and the others.
pub(in crate::telemetry) fn watch_log(dropped: impl Fn() -> (u64, u64) + Send + Sync + 'static) {
    let kind = |kind| [KeyValue::new("kind", kind)];
    meter()
        .u64_observable_counter("heist.log.dropped")
        .with_unit("{line}")
        .with_description("Lines of the log that were dropped because it is read too slowly")
        .with_callback(move |counter| {
            let (audit, other) = dropped();
            counter.observe(audit, &kind("audit"));
            counter.observe(other, &kind("other"));
        })
        .build();
}

/// Observes the age of the identity provider's keys.
pub fn watch_keys(age: impl Fn() -> Duration + Send + Sync + 'static) {
    meter()
        .f64_observable_gauge("heist.auth.keys.age")
        .with_unit("s")
        .with_description("Time since the identity provider's keys were last fetched")
        .with_callback(move |gauge| gauge.observe(age().as_secs_f64(), &[]))
        .build();
}
