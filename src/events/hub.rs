//! Hands out what changed to the streams of this replica, and to the task that tells the others.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tokio::sync::{broadcast, mpsc};
use tokio_util::sync::CancellationToken;

use super::mailboxes::{Mailbox, Mailboxes};
use crate::domain::{change::Changes, ids::UserId};

/// Commits that a watcher of points may be behind; one more and it has to resynchronise.
const WATCHER_BACKLOG: usize = 1024;
/// Commits that wait to be told to the other replicas; one more and they have to resynchronise.
const PEER_BACKLOG: usize = 1024;

/// Takes in what changed and hands it out. Cheap to clone.
#[derive(Clone)]
pub struct Events {
    pub(super) mailboxes: Arc<Mailboxes>,
    points: broadcast::Sender<Points>,
    to_peers: mpsc::Sender<Arc<Changes>>,
    pub(super) peers_missed_some: Arc<Missed>,
    streams_end: CancellationToken,
    pub(super) stopped: CancellationToken,
}

/// What a watcher of points gets.
#[derive(Clone, Debug)]
pub enum Points {
    Moved(Arc<Changes>),
    /// Some changes may have been missed.
    Resync,
}

/// Whether something could not be told.
#[derive(Default)]
pub(super) struct Missed(AtomicBool);

impl Missed {
    pub(super) fn note(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub(super) fn take(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }
}

impl Events {
    /// Nobody tells other replicas what it is told, nor hears them.
    pub(crate) fn without_tasks() -> (Self, mpsc::Receiver<Arc<Changes>>) {
        let (to_peers, from_engine) = mpsc::channel(PEER_BACKLOG);
        let events = Self {
            mailboxes: Arc::default(),
            points: broadcast::Sender::new(WATCHER_BACKLOG),
            to_peers,
            peers_missed_some: Arc::default(),
            streams_end: CancellationToken::new(),
            stopped: CancellationToken::new(),
        };
        (events, from_engine)
    }

    /// Says what a commit of this replica changed.
    pub fn publish(&self, changes: Changes) {
        if changes.is_empty() {
            return;
        }
        if changes.in_doubt {
            self.resync();
            self.peers_missed_some.note();
        }
        let changes = Arc::new(changes);
        self.deliver(Arc::clone(&changes));
        if self.to_peers.try_send(changes).is_err() {
            self.peers_missed_some.note();
        }
    }

    /// Wakes a stream of this player's notifications whenever there may be new ones.
    #[must_use]
    pub fn mailbox(&self, user_id: UserId) -> Mailbox {
        Mailboxes::open(&self.mailboxes, user_id)
    }

    /// Every change of points from now on.
    #[must_use]
    pub fn watch_points(&self) -> broadcast::Receiver<Points> {
        self.points.subscribe()
    }

    /// Resolves when streams have to end because the server stops.
    pub async fn streams_end(&self) {
        self.streams_end.cancelled().await;
    }

    /// Ends every stream.
    pub fn end_streams(&self) {
        self.streams_end.cancel();
    }

    /// Tells the other replicas what is left to tell, and takes leave of them. To be called
    /// when nothing is published any more.
    pub fn stop(&self) {
        self.stopped.cancel();
    }

    /// Hands out what changed to the streams of this replica.
    pub(super) fn deliver(&self, changes: Arc<Changes>) {
        for user_id in changes.notified_players() {
            self.mailboxes.wake(user_id);
        }
        if !changes.heists.is_empty() {
            // An error means that nobody watches.
            let _ = self.points.send(Points::Moved(changes));
        }
    }

    pub(super) fn resync(&self) {
        let _ = self.points.send(Points::Resync);
        self.mailboxes.wake_all();
    }
}
