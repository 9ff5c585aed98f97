//! Wakes the streams of notifications, each player's own.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval},
};

use super::Events;
use crate::{
    domain::ids::{NotificationId, UserId},
    store::{PgPool, notifications},
};

/// How late a notification is at the most whose signal was lost.
const SWEEP_INTERVAL: Duration = Duration::from_secs(3);

/// The players whose notifications are streamed.
#[derive(Default)]
pub(super) struct Mailboxes(Mutex<HashMap<UserId, watch::Sender<NotificationId>>>);

/// One stream's ear.
pub struct Mailbox {
    mailboxes: Arc<Mailboxes>,
    user_id: UserId,
    /// Closed before the entry is looked at again, so an `Option`.
    signal: Option<watch::Receiver<NotificationId>>,
}

impl Mailboxes {
    pub(super) fn open(this: &Arc<Self>, user_id: UserId) -> Mailbox {
        let nothing_known = || watch::Sender::new(NotificationId(0));
        let mut boxes = this.lock();
        let sender = boxes.entry(user_id).or_insert_with(nothing_known);
        Mailbox {
            mailboxes: Arc::clone(this),
            user_id,
            signal: Some(sender.subscribe()),
        }
    }

    pub(super) fn wake(&self, user_id: UserId) {
        if let Some(sender) = self.lock().get(&user_id) {
            sender.send_modify(|_| ());
        }
    }

    pub(super) fn wake_all(&self) {
        for sender in self.lock().values() {
            sender.send_modify(|_| ());
        }
    }

    /// Everybody with an open stream, and their newest notification that a sweep has seen.
    fn known(&self) -> Vec<(UserId, NotificationId)> {
        (self.lock().iter())
            .map(|(user_id, sender)| (*user_id, *sender.borrow()))
            .collect()
    }

    fn wake_up_to(&self, user_id: UserId, newest: NotificationId) {
        if let Some(sender) = self.lock().get(&user_id) {
            sender.send_replace(newest);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<UserId, watch::Sender<NotificationId>>> {
        // Nothing under the lock can panic half-way.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Mailbox {
    /// Resolves when there may be something new since the last time; at once if there already
    /// is.
    pub async fn woken(&mut self) {
        if let Some(signal) = &mut self.signal {
            // The sender lives as long as a receiver does.
            let _ = signal.changed().await;
        }
    }
}

impl Drop for Mailbox {
    fn drop(&mut self) {
        self.signal = None;
        let mut boxes = self.mailboxes.lock();
        if let Entry::Occupied(entry) = boxes.entry(self.user_id)
            && entry.get().receiver_count() == 0
        {
            entry.remove();
        }
    }
}

/// Looks every few seconds whether a stream has missed something, all in one statement.
pub(super) async fn sweep(events: Events, pool: PgPool) {
    let mut ticks = interval(SWEEP_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = events.stopped.cancelled() => return,
        }
        let known = events.mailboxes.known();
        if known.is_empty() {
            continue;
        }
        match notifications::newer(&pool, &known).await {
            Ok(newer) => {
                for (user_id, newest) in newer {
                    events.mailboxes.wake_up_to(user_id, newest);
                }
            }
            Err(error) => tracing::warn!(%error, "could not look for missed notifications"),
        }
    }
}
