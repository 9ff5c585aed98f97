//! Signals the changes of this replica to the other replicas, and receives theirs.
//!
//! Changes within 50 ms after a signal share the next one. A replica may have missed changes if the
//! sequence numbers of another replica have a gap, or if it has heard nothing of another replica
//! for 7 s. It then tells its watchers to resynchronise. While the other replica is silent, it
//! repeats that every 2 s, for up to a minute.

use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval, sleep, timeout},
};

use super::{
    Events,
    signal::{self, Body, Signal},
};
use crate::{
    domain::change::Changes,
    store::{
        PgPool, StoreError,
        signals::{self, ListenOptions},
    },
};

/// The interval at which a replica signals that it is alive, and checks whether the others are.
const HEARTBEAT: Duration = Duration::from_secs(2);
/// The pause between signals, so that a busy replica puts many changes into one signal. Each
/// `NOTIFY` is a transaction that competes with the transactions of heists.
const PACE: Duration = Duration::from_millis(50);
/// A replica that was not heard for this time may have died before it signalled its last changes,
/// or may go on changing points without being heard.
const SILENCE: Duration = Duration::from_secs(7);
/// A replica that was not heard for this time is dead. A live replica replaces a silent connection
/// within seconds, and is heard through the new one.
const PRESUMED_DEAD: Duration = Duration::from_mins(1);
/// The time limit for sending signals. After it the signals count as not sent.
const SEND_LIMIT: Duration = Duration::from_secs(2);
/// The pause between attempts to listen.
const PAUSE: Duration = Duration::from_secs(1);

/// Signals the changes of this replica until the server stops.
pub(super) async fn send_changes(
    events: Events,
    replica: u64,
    mut from_engine: mpsc::Receiver<Arc<Changes>>,
    pool: PgPool,
) {
    let mut sender = SignalSender {
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
        if let Err(error) = sender.send(bodies).await {
            tracing::warn!(%error, "could not signal changes to the other replicas");
            events.peers_missed_some.note();
        }
        sleep(PACE).await;
    }
    let mut final_signals: Vec<Body> = Vec::new();
    while let Ok(changes) = from_engine.try_recv() {
        final_signals.extend(signal::bodies(&changes));
    }
    if events.peers_missed_some.take() {
        final_signals.push(Body::Resync);
    }
    final_signals.push(Body::Stopping);
    if let Err(error) = sender.send(final_signals).await {
        tracing::warn!(%error, "could not tell the other replicas that this one stops");
    }
}

/// Combines all waiting changes into as few signals as possible.
fn collect(first: &Changes, from_engine: &mut mpsc::Receiver<Arc<Changes>>) -> Vec<Body> {
    let mut all = first.clone();
    while let Ok(more) = from_engine.try_recv() {
        all.notified.extend(&more.notified);
        all.heists.extend_from_slice(&more.heists);
    }
    signal::bodies(&all)
}

/// Sends the signals of this replica.
struct SignalSender {
    replica: u64,
    sequence: u64,
    pool: PgPool,
}

impl SignalSender {
    async fn send(&mut self, bodies: Vec<Body>) -> Result<(), StoreError> {
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
        let sending = signals::send(&self.pool, &payloads);
        timeout(SEND_LIMIT, sending)
            .await
            .unwrap_or_else(|_elapsed| Err(StoreError::timed_out()))
    }
}

/// Receives the changes of other replicas until the server stops.
pub(super) async fn listen(events: Events, replica: u64, options: ListenOptions) {
    tokio::select! {
        () = listen_forever(&events, replica, &options) => {}
        () = events.stopped.cancelled() => {}
    }
}

async fn listen_forever(events: &Events, replica: u64, options: &ListenOptions) {
    loop {
        match listen_once(events, replica, options).await {
            Ok(End::Lost) => {
                tracing::info!("the connection that listens was lost: listening anew");
                continue;
            }
            Ok(End::Silent) => {
                tracing::warn!("this replica does not hear its own signals: listening anew");
            }
            Ok(End::Pooled) => {
                tracing::warn!(
                    "streams learn of other replicas' heists late: DATABASE_URL leads to a pooler, \
                     and DATABASE_DIRECT_URL is not set"
                );
                loop {
                    events.resync();
                    sleep(SILENCE).await;
                }
            }
            Err(error) => tracing::warn!(%error, "cannot listen to the other replicas"),
        }
        // While a replica cannot listen, it tells its watchers to resynchronise after every failed
        // attempt.
        events.resync();
        sleep(PAUSE).await;
    }
}

/// Why listening ended.
enum End {
    /// The connection is closed.
    Lost,
    /// The connection is open, and no signal arrives: the peer has vanished, or a pooler has given
    /// the listening session to another client.
    Silent,
    /// The URL leads to a pooler, so this replica cannot listen.
    Pooled,
}

/// Receives signals until the connection stops working.
async fn listen_once(
    events: &Events,
    replica: u64,
    options: &ListenOptions,
) -> Result<End, StoreError> {
    let Some(mut listener) = signals::Listener::connect(options).await? else {
        return Ok(End::Pooled);
    };
    events.resync();
    let mut peers = Peers::new(replica);
    let mut checks = interval(HEARTBEAT);
    loop {
        let payload = tokio::select! {
            heard = listener.receive() => match heard? {
                Some(payload) => payload,
                None => return Ok(End::Lost),
            },
            _ = checks.tick() => {
                if peers.own_signals_are_missing() {
                    return Ok(End::Silent);
                }
                if peers.another_is_silent() {
                    events.resync();
                }
                continue;
            }
        };
        // A replica of a newer version may send signals that this version does not understand.
        let Ok(signal) = serde_json::from_str::<Signal>(&payload) else {
            events.resync();
            continue;
        };
        match peers.record(&signal) {
            Sequence::Own => continue,
            Sequence::Complete => {}
            Sequence::Gap => events.resync(),
        }
        if let Some(changes) = signal.body.changes() {
            events.deliver(Arc::new(changes));
        }
    }
}

/// The replicas that were heard.
struct Peers {
    own_replica: u64,
    own_last_heard: Instant,
    others: HashMap<u64, Peer>,
}

struct Peer {
    last_sequence: u64,
    last_heard: Instant,
}

/// Whether all signals before a signal were heard.
#[derive(Debug, PartialEq, Eq)]
enum Sequence {
    /// This replica has sent the signal.
    Own,
    /// No earlier signal is missing.
    Complete,
    /// An earlier signal is missing, or was not sent.
    Gap,
}

impl Peers {
    fn new(own_replica: u64) -> Self {
        Self {
            own_replica,
            own_last_heard: Instant::now(),
            others: HashMap::new(),
        }
    }

    /// Records a signal.
    fn record(&mut self, signal: &Signal) -> Sequence {
        if signal.replica == self.own_replica {
            self.own_last_heard = Instant::now();
            return Sequence::Own;
        }
        let before = if signal.body == Body::Stopping {
            self.others.remove(&signal.replica)
        } else {
            let now = Peer {
                last_sequence: signal.sequence,
                last_heard: Instant::now(),
            };
            self.others.insert(signal.replica, now)
        };
        // The first signal from a replica may have any number: the watchers were told to
        // resynchronise when this replica began to listen.
        let is_next = before.is_none_or(|peer| peer.last_sequence + 1 == signal.sequence);
        if is_next && signal.body != Body::Resync {
            Sequence::Complete
        } else {
            Sequence::Gap
        }
    }

    /// Whether a replica was not heard for [`SILENCE`], and may have changed points meanwhile.
    /// Forgets the replicas that were not heard for [`PRESUMED_DEAD`].
    fn another_is_silent(&mut self) -> bool {
        let is_silent = (self.others.values()).any(|peer| peer.last_heard.elapsed() >= SILENCE);
        (self.others).retain(|_, peer| peer.last_heard.elapsed() < PRESUMED_DEAD);
        is_silent
    }

    /// Whether this replica has not received its own signals for [`SILENCE`]. It sends one with
    /// every heartbeat.
    fn own_signals_are_missing(&self) -> bool {
        self.own_last_heard.elapsed() >= SILENCE
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const US: u64 = 1;
    const OTHER: u64 = 2;
    const MOMENT: Duration = Duration::from_millis(1);

    fn signal(replica: u64, sequence: u64, body: Body) -> Signal {
        Signal {
            replica,
            sequence,
            body,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_gap_in_the_numbers_means_that_something_was_missed() {
        let mut peers = Peers::new(US);
        // The first signal from a replica may have any number.
        assert_eq!(
            peers.record(&signal(OTHER, 7, Body::Alive)),
            Sequence::Complete
        );
        assert_eq!(
            peers.record(&signal(OTHER, 8, Body::Alive)),
            Sequence::Complete
        );
        assert_eq!(peers.record(&signal(OTHER, 10, Body::Alive)), Sequence::Gap);
        assert_eq!(
            peers.record(&signal(OTHER, 11, Body::Alive)),
            Sequence::Complete
        );
        // Each replica numbers its own signals.
        assert_eq!(peers.record(&signal(3, 1, Body::Alive)), Sequence::Complete);
        assert_eq!(
            peers.record(&signal(OTHER, 12, Body::Alive)),
            Sequence::Complete
        );
        assert_eq!(peers.record(&signal(3, 2, Body::Alive)), Sequence::Complete);
    }

    #[tokio::test(start_paused = true)]
    async fn a_replica_may_say_itself_that_something_was_missed() {
        let mut peers = Peers::new(US);
        assert_eq!(peers.record(&signal(OTHER, 1, Body::Resync)), Sequence::Gap);
        assert_eq!(
            peers.record(&signal(OTHER, 2, Body::Alive)),
            Sequence::Complete
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_replica_is_missed_until_it_is_heard_again_or_dead() {
        let mut peers = Peers::new(US);
        peers.record(&signal(OTHER, 1, Body::Alive));
        advance(SILENCE.saturating_sub(MOMENT)).await;
        assert!(!peers.another_is_silent());
        peers.record(&signal(OTHER, 2, Body::Alive));
        advance(SILENCE.saturating_sub(MOMENT)).await;
        assert!(!peers.another_is_silent());
        advance(MOMENT).await;
        assert!(peers.another_is_silent());
        assert!(peers.another_is_silent());
        peers.record(&signal(OTHER, 3, Body::Alive));
        assert!(!peers.another_is_silent());
        advance(PRESUMED_DEAD).await;
        assert!(peers.another_is_silent());
        assert!(!peers.another_is_silent());
    }

    #[tokio::test(start_paused = true)]
    async fn a_replica_that_has_stopped_is_not_missed() {
        let mut peers = Peers::new(US);
        peers.record(&signal(OTHER, 1, Body::Alive));
        assert_eq!(
            peers.record(&signal(OTHER, 2, Body::Stopping)),
            Sequence::Complete
        );
        advance(SILENCE).await;
        assert!(!peers.another_is_silent());
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_after_signals_that_were_not_heard_is_noticed() {
        let mut peers = Peers::new(US);
        peers.record(&signal(OTHER, 1, Body::Alive));
        assert_eq!(
            peers.record(&signal(OTHER, 3, Body::Stopping)),
            Sequence::Gap
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_replica_that_does_not_hear_itself_is_silent() {
        let mut peers = Peers::new(US);
        advance(SILENCE.saturating_sub(MOMENT)).await;
        assert!(!peers.own_signals_are_missing());
        assert_eq!(peers.record(&signal(US, 4, Body::Alive)), Sequence::Own);
        // A gap in this replica's own numbers does not matter: it delivered these changes itself.
        assert_eq!(peers.record(&signal(US, 9, Body::Alive)), Sequence::Own);
        advance(SILENCE.saturating_sub(MOMENT)).await;
        peers.record(&signal(OTHER, 1, Body::Alive));
        assert!(!peers.own_signals_are_missing());
        advance(MOMENT).await;
        assert!(peers.own_signals_are_missing());
    }
}
