//! Delivers changes to the streams of this replica, and to the task that signals the others.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tokio::sync::{broadcast, mpsc};
use tokio_util::sync::CancellationToken;

use super::wakers::{StreamWaker, StreamWakers};
use crate::domain::{change::Changes, ids::UserId};

/// The limit of commits by which a watcher of points may lag. A watcher that lags further has to
/// resynchronise.
const WATCHER_BACKLOG: usize = 1024;
/// The limit of commits that wait to be signalled to the other replicas. If there are more, the
/// other replicas have to resynchronise.
const PEER_BACKLOG: usize = 1024;

/// Takes the changes of commits and delivers them to streams and replicas. Cheap to clone.
#[derive(Clone)]
pub struct Events {
    pub(super) wakers: Arc<StreamWakers>,
    points: broadcast::Sender<Points>,
    to_peers: mpsc::Sender<Arc<Changes>>,
    pub(super) peers_missed_some: Arc<Missed>,
    streams_end: CancellationToken,
    pub(super) stopped: CancellationToken,
}

/// An event for a watcher of points.
#[derive(Clone, Debug)]
pub enum Points {
    Moved(Arc<Changes>),
    /// The watcher may have missed changes.
    Resync,
}

/// Whether some changes could not be signalled.
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
    /// Creates the events without their tasks: nothing signals the other replicas or listens to
    /// them.
    pub(crate) fn without_tasks() -> (Self, mpsc::Receiver<Arc<Changes>>) {
        let (to_peers, from_engine) = mpsc::channel(PEER_BACKLOG);
        let events = Self {
            wakers: Arc::default(),
            points: broadcast::Sender::new(WATCHER_BACKLOG),
            to_peers,
            peers_missed_some: Arc::default(),
            streams_end: CancellationToken::new(),
            stopped: CancellationToken::new(),
        };
        (events, from_engine)
    }

    /// Publishes the changes of a commit of this replica.
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

    /// A waker that wakes a stream whenever the player may have new notifications.
    #[must_use]
    pub fn waker(&self, user_id: UserId) -> StreamWaker {
        StreamWakers::open(&self.wakers, user_id)
    }

    /// Receives every change of points from now on.
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

    /// Signals the remaining changes to the other replicas, and that this replica stops. Call it
    /// after the last change was published.
    pub fn stop(&self) {
        self.stopped.cancel();
    }

    /// Delivers changes to the streams of this replica.
    pub(super) fn deliver(&self, changes: Arc<Changes>) {
        for user_id in changes.notified_players() {
            self.wakers.wake(user_id);
        }
        if !changes.heists.is_empty() {
            // An error means that there is no watcher.
            let _ = self.points.send(Points::Moved(changes));
        }
    }

    pub(super) fn resync(&self) {
        let _ = self.points.send(Points::Resync);
        self.wakers.wake_all();
    }
}
