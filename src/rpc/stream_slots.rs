//! Open streams: how many there are at a time, in all and of one player, and for how long.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::sleep,
};
use tonic::Status;

use super::{limiters::TrafficLimits, status};
use crate::domain::ids::UserId;

/// Streams that were opened together, after a deploy, end within this share of their age, so
/// that not all of them come back at the same moment.
const SPREAD: f64 = 0.1;

/// Places for open streams.
pub(super) struct StreamSlots {
    free: Arc<Semaphore>,
    of_players: Arc<Mutex<HashMap<UserId, usize>>>,
    most_of_a_player: usize,
    age: Option<Duration>,
}

/// A place that a stream takes until it is dropped.
pub(super) struct StreamSlot {
    _free: OwnedSemaphorePermit,
    _of_player: Option<OfPlayer>,
    age: Option<Duration>,
}

struct OfPlayer {
    player: UserId,
    all: Arc<Mutex<HashMap<UserId, usize>>>,
}

impl StreamSlots {
    pub(super) fn new(limits: TrafficLimits) -> Self {
        Self {
            free: Arc::new(Semaphore::new(limits.streams)),
            of_players: Arc::default(),
            most_of_a_player: limits.player_streams,
            age: limits.connection_age,
        }
    }

    /// Takes a place for a stream, for one player where it is about one.
    ///
    /// # Errors
    ///
    /// `TOO_MANY_STREAMS` where the player has enough of them, `OVERLOADED` where the server has.
    pub(super) fn take(&self, player: Option<UserId>) -> Result<StreamSlot, Status> {
        let of_player = player.map(|player| self.of_player(player)).transpose()?;
        let free = Arc::clone(&self.free)
            .try_acquire_owned()
            .map_err(|_none_left| status::overloaded_with_streams())?;
        Ok(StreamSlot {
            _free: free,
            _of_player: of_player,
            age: self.age.map(shortened),
        })
    }

    fn of_player(&self, player: UserId) -> Result<OfPlayer, Status> {
        let mut all = lock(&self.of_players);
        let open = all.entry(player).or_default();
        if *open >= self.most_of_a_player {
            return Err(status::too_many_streams(self.most_of_a_player));
        }
        *open += 1;
        Ok(OfPlayer {
            player,
            all: Arc::clone(&self.of_players),
        })
    }
}

impl StreamSlot {
    /// Resolves when the stream has been open for long enough.
    pub(super) fn too_old(&self) -> impl Future<Output = ()> + use<> {
        let age = self.age;
        async move {
            match age {
                Some(age) => sleep(age).await,
                None => std::future::pending().await,
            }
        }
    }
}

impl Drop for OfPlayer {
    fn drop(&mut self) {
        let mut all = lock(&self.all);
        let Some(open) = all.get_mut(&self.player) else {
            return;
        };
        *open -= 1;
        if *open == 0 {
            all.remove(&self.player);
        }
    }
}

fn lock(
    of_players: &Mutex<HashMap<UserId, usize>>,
) -> std::sync::MutexGuard<'_, HashMap<UserId, usize>> {
    of_players.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Somewhat less, at random.
fn shortened(age: Duration) -> Duration {
    age.mul_f64(1.0 - SPREAD * rand::random::<f64>())
}
