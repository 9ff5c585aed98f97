//! Delivers the changes of each commit to the open streams of this replica and of the others.
//!
//! After a commit the engine publishes the changes. They wake the streams of this replica at once.
//! The other replicas get a signal through PostgreSQL's `LISTEN` and `NOTIFY`, on connections apart
//! from the transactions that execute heists. Signals are hints: a stream of notifications reads
//! the table after its cursor, and a sweep every 3 s wakes the streams that missed a signal. A
//! stream of points gets the changes themselves, and the message `resync` whenever it may have
//! missed some.

mod mailboxes;
mod peers;
mod signal;

use std::sync::Arc;

use tokio::{
    sync::{broadcast, mpsc},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

pub use self::mailboxes::Mailbox;
use self::mailboxes::Mailboxes;
use crate::{
    domain::{change::Changes, ids::UserId},
    store::{PgPool, signals::ListenOptions},
};

/// The limit of commits by which a watcher of points may lag. A watcher that lags further has to
/// resynchronise.
const WATCHER_BACKLOG: usize = 1024;
/// The limit of commits that wait to be signalled to the other replicas. If there are more, the
/// other replicas have to resynchronise.
const PEER_BACKLOG: usize = 1024;

/// Takes the changes of commits and delivers them to streams and replicas. Cheap to clone.
#[derive(Clone)]
pub struct Events {
    mailboxes: Arc<Mailboxes>,
    points: broadcast::Sender<Points>,
    to_peers: mpsc::Sender<Arc<Changes>>,
    peers_missed_some: Arc<peers::Missed>,
    streams_end: CancellationToken,
    stopped: CancellationToken,
}

/// An event for a watcher of points.
#[derive(Clone, Debug)]
pub enum Points {
    Moved(Arc<Changes>),
    /// The watcher may have missed changes.
    Resync,
}

/// The tasks behind [`Events`].
pub struct Tasks(JoinSet<()>);

impl Events {
    /// Starts the tasks that signal the other replicas, listen to them, and sweep for missed
    /// notifications.
    #[must_use]
    pub fn start(pool: PgPool, options: ListenOptions) -> (Self, Tasks) {
        let (events, from_engine) = Self::without_tasks();
        let mut tasks = JoinSet::new();
        let replica = rand::random();
        tasks.spawn(peers::tell(
            events.clone(),
            replica,
            from_engine,
            pool.clone(),
        ));
        tasks.spawn(peers::listen(events.clone(), replica, options));
        tasks.spawn(mailboxes::sweep(events.clone(), pool));
        (events, Tasks(tasks))
    }

    /// Creates the events without their tasks: nothing signals the other replicas or listens to
    /// them.
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

    /// A mailbox that wakes a stream whenever the player may have new notifications.
    #[must_use]
    pub fn mailbox(&self, user_id: UserId) -> Mailbox {
        Mailboxes::open(&self.mailboxes, user_id)
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
    fn deliver(&self, changes: Arc<Changes>) {
        for user_id in changes.notified_players() {
            self.mailboxes.wake(user_id);
        }
        if !changes.heists.is_empty() {
            // An error means that there is no watcher.
            let _ = self.points.send(Points::Moved(changes));
        }
    }

    fn resync(&self) {
        let _ = self.points.send(Points::Resync);
        self.mailboxes.wake_all();
    }
}

impl Tasks {
    /// Waits until the tasks have ended, after [`Events::stop`].
    pub async fn finish(mut self) {
        while self.0.join_next().await.is_some() {}
    }
}
