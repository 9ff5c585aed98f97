//! Tells the other replicas what changed here, and hears what changed there.
//!
//! Changes that happen while a signal is on its way go together in the next one. Whoever hears
//! a gap in the numbers of a replica, or nothing of it any more, has missed something.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval, sleep},
};

use super::{
    Events,
    signal::{self, Body, Signal},
};
use crate::{
    domain::change::Changes,
    store::{PgPool, StoreError, signals},
};

/// How often a replica says that it is alive, and looks whether the others are.
const HEARTBEAT: Duration = Duration::from_secs(2);
/// A replica that was not heard for so long may have died with something untold.
const SILENCE: Duration = Duration::from_secs(7);
/// Between attempts to reach the database.
const PAUSE: Duration = Duration::from_secs(1);

/// Whether something could not be told.
#[derive(Default)]
pub(super) struct Missed(AtomicBool);

impl Missed {
    pub(super) fn note(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn take(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }
}

/// Tells what this replica changed, until the server stops.
pub(super) async fn tell(
    events: Events,
    replica: u64,
    mut from_engine: mpsc::Receiver<Arc<Changes>>,
    pool: PgPool,
) {
    let mut voice = Voice {
        replica,
        sequence: 0,
        pool,
    };
    let mut heartbeat = interval(HEARTBEAT);
    heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let mut bodies = tokio::select! {
            Some(first) = from_engine.recv() => collect(&first, &mut from_engine),
            _ = heartbeat.tick() => vec![Body::Alive],
            () = events.stopped.cancelled() => break,
        };
        if events.peers_missed_some.take() {
            bodies.push(Body::Resync);
        }
        if let Err(error) = voice.say(bodies).await {
            tracing::warn!(%error, "could not tell the other replicas what changed");
            events.peers_missed_some.note();
        }
    }
    let mut last_words: Vec<Body> = Vec::new();
    while let Ok(changes) = from_engine.try_recv() {
        last_words.extend(signal::bodies(&changes));
    }
    last_words.push(Body::Bye);
    if let Err(error) = voice.say(last_words).await {
        tracing::warn!(%error, "could not take leave of the other replicas");
    }
}

/// Everything that waits, in as few signals as possible.
fn collect(first: &Changes, from_engine: &mut mpsc::Receiver<Arc<Changes>>) -> Vec<Body> {
    let mut all = first.clone();
    while let Ok(more) = from_engine.try_recv() {
        all.notified.extend(&more.notified);
        all.heists.extend_from_slice(&more.heists);
    }
    signal::bodies(&all)
}

/// What a replica speaks with.
struct Voice {
    replica: u64,
    sequence: u64,
    pool: PgPool,
}

impl Voice {
    async fn say(&mut self, bodies: Vec<Body>) -> Result<(), StoreError> {
        let payloads: Vec<String> = (bodies.into_iter())
            .map(|body| {
                self.sequence += 1;
                let signal = Signal {
                    replica: self.replica,
                    sequence: self.sequence,
                    body,
                };
                serde_json::to_string(&signal).expect("numbers are JSON")
            })
            .collect();
        signals::send(&self.pool, &payloads).await
    }
}

/// Hears what other replicas changed, until the server stops.
pub(super) async fn listen(events: Events, replica: u64, pool: PgPool) {
    tokio::select! {
        () = listen_forever(&events, replica, &pool) => {}
        () = events.stopped.cancelled() => {}
    }
}

async fn listen_forever(events: &Events, replica: u64, pool: &PgPool) {
    loop {
        if let Err(error) = listen_once(events, replica, pool).await {
            tracing::warn!(%error, "cannot hear the other replicas");
        }
        // Whatever was said meanwhile was missed.
        sleep(PAUSE).await;
        events.resync();
    }
}

/// Hears until the connection is lost.
async fn listen_once(events: &Events, replica: u64, pool: &PgPool) -> Result<(), StoreError> {
    let mut listener = signals::Listener::connect(pool).await?;
    events.resync();
    let mut peers = Peers::default();
    let mut look_around = interval(HEARTBEAT);
    loop {
        let payload = tokio::select! {
            payload = listener.hear() => match payload? {
                Some(payload) => payload,
                None => return Ok(()),
            },
            _ = look_around.tick() => {
                if peers.somebody_fell_silent() {
                    events.resync();
                }
                continue;
            }
        };
        // A newer version may say things that this one does not understand.
        let Ok(signal) = serde_json::from_str::<Signal>(&payload) else {
            events.resync();
            continue;
        };
        if signal.replica == replica {
            continue;
        }
        if peers.missed_something_before(&signal) || signal.body == Body::Resync {
            events.resync();
        }
        if let Some(changes) = signal.body.changes() {
            events.deliver(Arc::new(changes));
        }
    }
}

/// The other replicas, as far as they were heard.
#[derive(Default)]
struct Peers(HashMap<u64, Peer>);

struct Peer {
    last_sequence: u64,
    last_heard: Instant,
}

impl Peers {
    /// Takes note of a signal; whether there must have been one before that was not heard.
    fn missed_something_before(&mut self, signal: &Signal) -> bool {
        if signal.body == Body::Bye {
            let known = self.0.remove(&signal.replica);
            return known.is_some_and(|peer| peer.last_sequence + 1 != signal.sequence);
        }
        let now = Peer {
            last_sequence: signal.sequence,
            last_heard: Instant::now(),
        };
        let before = self.0.insert(signal.replica, now);
        // Of one who was there before us we cannot know; we have just resynchronised.
        before.is_some_and(|peer| peer.last_sequence + 1 != signal.sequence)
    }

    /// Forgets whoever was not heard for long; whether there was somebody.
    fn somebody_fell_silent(&mut self) -> bool {
        let known = self.0.len();
        self.0.retain(|_, peer| peer.last_heard.elapsed() < SILENCE);
        self.0.len() < known
    }
}
