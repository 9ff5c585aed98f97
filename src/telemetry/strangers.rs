//! Limits the log lines that callers without a valid token can cause.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::{runtime::Handle, time::sleep};

use super::log_queue::AUDIT_TARGET;

/// How long further occurrences are counted after the first one.
const WINDOW: Duration = Duration::from_mins(1);
/// Maximum number of addresses that are told apart.
const MAX_ADDRESSES: usize = 256;

static STRANGERS: RepeatLimiter = RepeatLimiter::new();

/// A part of the log.
#[derive(Clone, Copy, Debug)]
pub enum Part {
    Audit,
    Main,
}

/// Whether a line about a caller that is not authenticated may be logged: the first of an event,
/// reason and address in a minute. The number of suppressed ones is logged at the end of the
/// minute. There must be few events and reasons.
pub fn permits_stranger(
    part: Part,
    event: &'static str,
    reason: &str,
    address: Option<IpAddr>,
) -> bool {
    let key = (event, reason.to_owned(), address, String::new());
    STRANGERS.permits(key, move |(event, reason, address, _), further| {
        let address = address.map(tracing::field::display);
        match part {
            Part::Audit => tracing::warn!(
                target: AUDIT_TARGET,
                event,
                reason,
                caller = "",
                further,
                ipAddress = address,
            ),
            Part::Main => tracing::warn!(event, reason, further, ipAddress = address),
        }
    })
}

/// Whether a line about a refused call of this caller may be logged, with the same limits: the first
/// of an event and reason in a minute.
pub fn permits_repetition(event: &'static str, reason: &str, caller: &str) -> bool {
    let key = (event, reason.to_owned(), None, caller.to_owned());
    STRANGERS.permits(key, |(event, reason, _, caller), further| {
        tracing::warn!(target: AUDIT_TARGET, event, reason, caller, further);
    })
}

/// Event, reason, address and caller. A stranger has no name.
type Key = (&'static str, String, Option<IpAddr>, String);

/// Permits one line per event, reason and address in a minute, and reports the number of suppressed
/// ones at its end.
struct RepeatLimiter(Mutex<BTreeMap<Key, u64>>);

impl RepeatLimiter {
    const fn new() -> Self {
        Self(Mutex::new(BTreeMap::new()))
    }

    /// Whether the line may be logged. After a minute `report` gets the number of suppressed lines,
    /// if there are any. If too many addresses occur, the address of `report` is `None`, and the
    /// lines are those of all further addresses. Must be called inside the runtime.
    fn permits(
        &'static self,
        mut key: Key,
        report: impl FnOnce(Key, u64) + Send + 'static,
    ) -> bool {
        let mut suppressed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if suppressed.len() >= MAX_ADDRESSES && !suppressed.contains_key(&key) {
            key.2 = None;
            key.3.clear();
        }
        match suppressed.entry(key.clone()) {
            Entry::Occupied(mut count) => {
                *count.get_mut() += 1;
                false
            }
            Entry::Vacant(entry) => {
                let Ok(runtime) = Handle::try_current() else {
                    return true;
                };
                entry.insert(0);
                runtime.spawn(async move {
                    sleep(WINDOW).await;
                    let mut suppressed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                    let count = suppressed.remove(&key).unwrap_or_default();
                    drop(suppressed);
                    if count > 0 {
                        report(key, count);
                    }
                });
                true
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_line_per_event_and_address_and_then_a_count() {
        static LIMITER: RepeatLimiter = RepeatLimiter::new();
        let reports = Arc::new(Mutex::new(Vec::new()));
        let permits_for = |event, reason: &str, address: u32| {
            let reports = Arc::clone(&reports);
            let address = Some(IpAddr::from(address.to_be_bytes()));
            let key = (event, reason.to_owned(), address, String::new());
            LIMITER.permits(key, move |key, count| {
                reports.lock().unwrap().push((key.0, key.2, count));
            })
        };
        let permits = |event, address| permits_for(event, "NO_TOKEN", address);
        assert!(permits("A", 1));
        assert!(!permits("A", 1));
        assert!(!permits("A", 1));
        assert!(permits("B", 1));
        assert!(permits_for("A", "EXPIRED", 1));
        assert!(permits("A", 2));
        sleep(WINDOW * 2).await;
        let first = Some(IpAddr::from(1_u32.to_be_bytes()));
        assert_eq!(*reports.lock().unwrap(), [("A", first, 2)]);
        assert!(permits("A", 1));

        sleep(WINDOW * 2).await;
        let permitted = (0..10_000).filter(|address| permits("A", *address)).count();
        assert_eq!(permitted, MAX_ADDRESSES + 1);
    }
}
