//! Wakes the streams of a player's notifications.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;

use crate::domain::ids::{NotificationId, UserId};

/// The players with an open stream, each with the newest notification that a sweep has seen.
#[derive(Default)]
pub(super) struct StreamWakers(Mutex<HashMap<UserId, watch::Sender<Option<NotificationId>>>>);

/// Wakes one stream.
pub struct StreamWaker {
    wakers: Arc<StreamWakers>,
    user_id: UserId,
    /// `drop` sets it to `None` before it counts the receivers of the entry.
    signal: Option<watch::Receiver<Option<NotificationId>>>,
}

impl StreamWakers {
    pub(super) fn open(this: &Arc<Self>, user_id: UserId) -> StreamWaker {
        let nothing_known = || watch::Sender::new(None);
        let mut senders = this.lock();
        let sender = senders.entry(user_id).or_insert_with(nothing_known);
        StreamWaker {
            wakers: Arc::clone(this),
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

    /// The players with an open stream, each with the newest notification that a sweep has seen.
    pub(super) fn known(&self) -> Vec<(UserId, Option<NotificationId>)> {
        (self.lock().iter())
            .map(|(user_id, sender)| (*user_id, *sender.borrow()))
            .collect()
    }

    pub(super) fn wake_up_to(&self, user_id: UserId, newest: NotificationId) {
        if let Some(sender) = self.lock().get(&user_id) {
            sender.send_replace(Some(newest));
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<UserId, watch::Sender<Option<NotificationId>>>> {
        // No code under the lock can panic in the middle of a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StreamWaker {
    /// Resolves when the player may have new notifications since the last call.
    pub async fn woken(&mut self) {
        if let Some(signal) = &mut self.signal {
            // The sender lives as long as a receiver does.
            let _ = signal.changed().await;
        }
    }
}

impl Drop for StreamWaker {
    fn drop(&mut self) {
        self.signal = None;
        let mut senders = self.wakers.lock();
        if let Entry::Occupied(entry) = senders.entry(self.user_id)
            && entry.get().receiver_count() == 0
        {
            entry.remove();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    const ADA: UserId = UserId::MIN;

    fn ben() -> UserId {
        UserId::new(2).unwrap()
    }

    async fn is_woken(waker: &mut StreamWaker) -> bool {
        timeout(Duration::from_secs(1), waker.woken()).await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn every_stream_of_a_player_is_woken_and_no_other_players() {
        let wakers = Arc::default();
        let mut first = StreamWakers::open(&wakers, ADA);
        let mut second = StreamWakers::open(&wakers, ADA);
        let mut other = StreamWakers::open(&wakers, ben());
        wakers.wake(ADA);
        assert!(is_woken(&mut first).await);
        assert!(is_woken(&mut second).await);
        assert!(!is_woken(&mut other).await);
        // One signal wakes a stream once. A signal is kept until the stream waits for it.
        assert!(!is_woken(&mut first).await);
        wakers.wake_all();
        for waker in [&mut first, &mut second, &mut other] {
            assert!(is_woken(waker).await);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_sweep_wakes_and_remembers() {
        let wakers = Arc::default();
        let mut waker = StreamWakers::open(&wakers, ADA);
        assert_eq!(wakers.known(), [(ADA, None)]);
        let seven = NotificationId::new(7).unwrap();
        wakers.wake_up_to(ADA, seven);
        wakers.wake_up_to(ben(), seven);
        assert!(is_woken(&mut waker).await);
        assert_eq!(wakers.known(), [(ADA, Some(seven))]);
    }

    #[tokio::test]
    async fn a_closed_stream_leaves_nothing_behind() {
        let wakers = Arc::default();
        let open =
            |number: i32| StreamWakers::open(&wakers, UserId::new(number % 300 + 1).unwrap());
        let mut opened: Vec<StreamWaker> = (0..1000).map(open).collect();
        assert_eq!(wakers.lock().len(), 300);
        // Closes the streams of player 1: three now, and the last one later.
        let last = opened.remove(900);
        for index in [600, 300, 0] {
            drop(opened.remove(index));
        }
        assert_eq!(wakers.lock().len(), 300);
        drop(last);
        assert_eq!(wakers.lock().len(), 299);
        drop(opened);
        assert!(wakers.lock().is_empty());
    }
}
