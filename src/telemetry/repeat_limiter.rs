//! Limits the log lines that callers without a valid token can cause.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::{runtime::Handle, time::sleep};

/// How long further occurrences are counted after the first one.
const WINDOW: Duration = Duration::from_mins(1);
/// Maximum number of addresses that are told apart.
const MAX_ADDRESSES: usize = 256;

type Key = (&'static str, Option<IpAddr>);

/// Permits one line per event and address in a minute, and reports the number of suppressed ones at
/// its end.
pub struct RepeatLimiter(Mutex<BTreeMap<Key, u64>>);

impl RepeatLimiter {
    #[must_use]
    pub const fn new() -> Self {
        Self(Mutex::new(BTreeMap::new()))
    }

    /// Whether the line may be logged. After a minute `report` gets the number of suppressed lines, if
    /// there are any. If too many addresses occur, the address of `report` is `None`, and the lines
    /// are those of all further addresses. Must be called inside the runtime.
    pub fn permits(
        &'static self,
        event: &'static str,
        address: Option<IpAddr>,
        report: impl FnOnce(Option<IpAddr>, u64) + Send + 'static,
    ) -> bool {
        let mut suppressed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut key = (event, address);
        if suppressed.len() >= MAX_ADDRESSES && !suppressed.contains_key(&key) {
            key = (event, None);
        }
        match suppressed.entry(key) {
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
                        report(key.1, count);
                    }
                });
                true
            }
        }
    }
}

impl Default for RepeatLimiter {
    fn default() -> Self {
        Self::new()
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
        let permits = |event, address: u32| {
            let reports = Arc::clone(&reports);
            let address = Some(IpAddr::from(address.to_be_bytes()));
            LIMITER.permits(event, address, move |address, count| {
                reports.lock().unwrap().push((event, address, count));
            })
        };
        assert!(permits("A", 1));
        assert!(!permits("A", 1));
        assert!(!permits("A", 1));
        assert!(permits("B", 1));
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
