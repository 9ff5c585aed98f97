//! Limits the open streams, in all and per player, and their age.

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

use super::status;
use crate::domain::ids::UserId;

/// The share of its age by which a stream ends early, at random. Streams that were opened together,
/// for example after a deploy, therefore do not all reopen at the same moment.
const SPREAD: f64 = 0.1;

/// The slots for open streams.
pub(super) struct StreamSlots {
    free: Arc<Semaphore>,
    open_by_player: Arc<Mutex<HashMap<UserId, usize>>>,
    player_limit: usize,
    max_age: Option<Duration>,
}

/// The slot of one stream. Dropping it frees the slot.
pub(super) struct StreamSlot {
    _permit: OwnedSemaphorePermit,
    _of_player: Option<PlayerSlot>,
    max_age: Option<Duration>,
}

struct PlayerSlot {
    player: UserId,
    open_by_player: Arc<Mutex<HashMap<UserId, usize>>>,
}

impl StreamSlots {
    pub(super) fn new(limit: usize, player_limit: usize, max_age: Option<Duration>) -> Self {
        Self {
            free: Arc::new(Semaphore::new(limit)),
            open_by_player: Arc::default(),
            player_limit,
            max_age,
        }
    }

    /// Takes a slot for a stream, which counts for `player` if the stream is about one player.
    ///
    /// # Errors
    ///
    /// `TOO_MANY_STREAMS` if the player has reached their limit, `OVERLOADED` if the server has
    /// reached its own.
    pub(super) fn take(&self, player: Option<UserId>) -> Result<StreamSlot, Status> {
        let of_player = player.map(|player| self.take_for(player)).transpose()?;
        let permit = Arc::clone(&self.free)
            .try_acquire_owned()
            .map_err(|_none_left| status::overloaded_with_streams())?;
        Ok(StreamSlot {
            _permit: permit,
            _of_player: of_player,
            max_age: self.max_age.map(shortened),
        })
    }

    fn take_for(&self, player: UserId) -> Result<PlayerSlot, Status> {
        let mut all = lock(&self.open_by_player);
        let open = all.entry(player).or_default();
        if *open >= self.player_limit {
            return Err(status::too_many_streams(self.player_limit));
        }
        *open += 1;
        Ok(PlayerSlot {
            player,
            open_by_player: Arc::clone(&self.open_by_player),
        })
    }
}

impl StreamSlot {
    /// Resolves when the stream has reached its maximum age.
    pub(super) fn too_old(&self) -> impl Future<Output = ()> + use<> {
        let max_age = self.max_age;
        async move {
            match max_age {
                Some(age) => sleep(age).await,
                None => std::future::pending().await,
            }
        }
    }
}

impl Drop for PlayerSlot {
    fn drop(&mut self) {
        let mut all = lock(&self.open_by_player);
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
    open_by_player: &Mutex<HashMap<UserId, usize>>,
) -> std::sync::MutexGuard<'_, HashMap<UserId, usize>> {
    open_by_player
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
}

/// `age`, less up to [`SPREAD`] of it.
fn shortened(age: Duration) -> Duration {
    age.mul_f64(1.0 - SPREAD * rand::random::<f64>())
}
