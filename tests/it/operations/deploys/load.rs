//! Callers as every service has them: they repeat what was UNAVAILABLE, with the same request id,
//! and open streams again where they left off.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{task::JoinHandle, time::sleep};
use tonic::Code::Unavailable;

use crate::harness::{Player, World, connect, new_request_id, until};

const CALLERS: usize = 16;
/// As in a gRPC service config: `maxAttempts` 5, `initialBackoff` 0.1s, `backoffMultiplier` 2.
const ATTEMPTS: u32 = 5;
const FIRST_BACKOFF: Duration = Duration::from_millis(100);

pub struct Load {
    world: World,
    tally: Arc<Tally>,
    callers: Vec<JoinHandle<()>>,
    reader: JoinHandle<()>,
    listener: Player,
}

#[derive(Default)]
struct Tally {
    heists: AtomicU64,
    retries: AtomicU64,
    failed: AtomicU64,
    slowest_ms: AtomicU64,
    streams_opened: AtomicU64,
    /// Ids of the listener's notifications, as they came.
    read: Mutex<Vec<i64>>,
    over: AtomicBool,
}

/// The result of the load.
pub struct Outcome {
    pub heists: u64,
    pub retries: u64,
    pub failed: u64,
    /// Heists in the books without an answer, and answers without a heist in the books.
    pub unaccounted: i64,
    pub streams_resumed: u64,
    /// None of them was missed, and none came twice.
    pub notifications: usize,
    pub slowest_ms: u64,
}

impl Load {
    pub async fn start(world: &World, balancer: SocketAddr) -> Self {
        let there = world.through(connect(balancer).await);
        let players = world
            .crowd("Player", CALLERS)
            .points(1_000_000)
            .tokens(100_000)
            .await;
        let tally = Arc::new(Tally::default());
        let listener = players[0].clone();
        let reader = tokio::spawn(read(listener.id, there.clone(), Arc::clone(&tally)));
        until("the listener listens", async || {
            (tally.streams_opened.load(Ordering::Relaxed) > 0).then_some(())
        })
        .await;
        let callers = (0..CALLERS).map(|index| {
            let attacker = players[index].seen_by(&there);
            let victim = players[(index + 1) % CALLERS].clone();
            tokio::spawn(rob(attacker, victim, Arc::clone(&tally)))
        });
        let callers = callers.collect();
        Self {
            world: world.clone(),
            tally,
            callers,
            reader,
            listener,
        }
    }

    /// Waits for so many heists more.
    pub async fn goes_on(&self, more: u64) {
        let now = self.tally.heists.load(Ordering::Relaxed);
        until("heists go on", async || {
            (self.tally.heists.load(Ordering::Relaxed) >= now + more).then_some(())
        })
        .await;
    }

    pub async fn finish(self) -> Outcome {
        self.tally.over.store(true, Ordering::Relaxed);
        for caller in self.callers {
            caller.await.unwrap();
        }
        let told = self.world.notification_ids(self.listener.id, 0).await;
        until("the listener has read everything", async || {
            let read = self.tally.read.lock().unwrap();
            (read.last() == told.last()).then_some(())
        })
        .await;
        self.reader.abort();
        assert_eq!(*self.tally.read.lock().unwrap(), told);
        let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let heists = get(&self.tally.heists);
        Outcome {
            heists,
            retries: get(&self.tally.retries),
            failed: get(&self.tally.failed),
            unaccounted: self.world.count_heists().await - i64::try_from(heists).unwrap(),
            streams_resumed: get(&self.tally.streams_opened) - 1,
            notifications: told.len(),
            slowest_ms: get(&self.tally.slowest_ms),
        }
    }
}

async fn rob(attacker: Player, victim: Player, tally: Arc<Tally>) {
    while !tally.over.load(Ordering::Relaxed) {
        let begun = Instant::now();
        let id = new_request_id();
        let mut backoff = FIRST_BACKOFF;
        for attempt in 1..=ATTEMPTS {
            match attacker.robs_with_id(&id, &victim).await {
                Ok(_) => {
                    tally.heists.fetch_add(1, Ordering::Relaxed);
                    break;
                }
                Err(status) if status.code() == Unavailable && attempt < ATTEMPTS => {
                    tally.retries.fetch_add(1, Ordering::Relaxed);
                    sleep(backoff).await;
                    backoff *= 2;
                }
                Err(status) => {
                    eprintln!("a heist failed: {status:?}");
                    tally.failed.fetch_add(1, Ordering::Relaxed);
                    break;
                }
            }
        }
        let took = u64::try_from(begun.elapsed().as_millis()).unwrap();
        tally.slowest_ms.fetch_max(took, Ordering::Relaxed);
    }
}

/// Reads a player's notifications for as long as it is let.
async fn read(user_id: i32, there: World, tally: Arc<Tally>) {
    loop {
        let after = tally.read.lock().unwrap().last().copied().unwrap_or(0);
        match there.stream_notifications(user_id, after).await {
            Ok(mut inbox) => {
                tally.streams_opened.fetch_add(1, Ordering::Relaxed);
                let end = loop {
                    match inbox.next().await {
                        Ok(notification) => tally.read.lock().unwrap().push(notification.id),
                        Err(status) => break status,
                    }
                };
                assert_eq!(end.code(), Unavailable, "{end:?}");
            }
            Err(status) => assert_eq!(status.code(), Unavailable, "{status:?}"),
        }
        sleep(FIRST_BACKOFF).await;
    }
}

impl Outcome {
    /// One line for each way to deploy.
    pub fn print(&self, deploy: &str) {
        println!(
            "{:<12} {:>8} {:>8} {:>7} {:>12} {:>16} {:>14} {:>13}",
            "deploy",
            "heists",
            "retries",
            "failed",
            "unaccounted",
            "streams resumed",
            "notifications",
            "slowest call"
        );
        println!(
            "{deploy:<12} {:>8} {:>8} {:>7} {:>12} {:>16} {:>14} {:>10} ms",
            self.heists,
            self.retries,
            self.failed,
            self.unaccounted,
            self.streams_resumed,
            self.notifications,
            self.slowest_ms
        );
    }
}
