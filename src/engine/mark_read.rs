//! Marks notifications as read. Each call is a transaction of its own, in a task that continues
//! when the caller hangs up.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::Semaphore,
    time::{Instant, sleep, timeout, timeout_at},
};

use crate::{
    domain::ids::{NotificationId, UserId},
    fault::Fault,
    store::{
        PgPool, StoreError,
        notifications::{self, Marked},
        players,
        pool::Transaction,
    },
    telemetry::request,
};

const DOING: &str = "marking notifications as read";
/// The limit of concurrent transactions, which leaves most connections to the other calls.
const AT_A_TIME: usize = 2;
/// The limit of the random pause between two attempts while another transaction holds the player's
/// row.
const LONGEST_PAUSE: Duration = Duration::from_millis(50);
/// The time that an attempt should have before the deadline. An attempt that runs at the deadline
/// leaves its caller without knowledge.
const ATTEMPT_TIME: Duration = Duration::from_millis(50);
/// The time limit for the statements of an attempt.
const LIMIT: Duration = Duration::from_secs(4);

/// Marks notifications as read. Cheap to clone.
#[derive(Clone)]
pub(super) struct ReadMarker {
    pool: PgPool,
    places: Arc<Semaphore>,
}

impl ReadMarker {
    pub(super) fn new(pool: PgPool) -> Self {
        Self {
            pool,
            places: Arc::new(Semaphore::new(AT_A_TIME)),
        }
    }

    pub(super) async fn mark(
        &self,
        user_id: UserId,
        ids: Vec<NotificationId>,
        up_to: Option<NotificationId>,
        deadline: Instant,
    ) -> Result<Option<Marked>, Fault> {
        let work = self.clone().mark_until(user_id, ids, up_to, deadline);
        let work = tokio::spawn(request::carry(request::current(), work));
        match timeout_at(deadline, work).await {
            Ok(Ok(result)) => result,
            Ok(Err(panic)) => Err(Fault::internal(&panic, DOING)),
            Err(_elapsed) => Err(Fault::DeadlineExceeded),
        }
    }

    /// Repeats the attempt until the deadline while another transaction holds the player's row.
    async fn mark_until(
        self,
        user_id: UserId,
        ids: Vec<NotificationId>,
        up_to: Option<NotificationId>,
        deadline: Instant,
    ) -> Result<Option<Marked>, Fault> {
        loop {
            let attempt = self.attempt(user_id, &ids, up_to, deadline).await;
            let pause = LONGEST_PAUSE.mul_f64(rand::random());
            let is_last = Instant::now() + pause + ATTEMPT_TIME >= deadline;
            match attempt {
                Ok(Attempt::Held) if is_last => return Err(Fault::Contention),
                Ok(Attempt::Held) => {}
                Ok(Attempt::Done(marked)) => return Ok(marked),
                Err(StoreError::Contention(_) | StoreError::StalePlan(_)) if !is_last => {}
                Err(error) => return Err(Fault::after(&error, DOING)),
            }
            sleep(pause).await;
        }
    }

    async fn attempt(
        &self,
        user_id: UserId,
        ids: &[NotificationId],
        up_to: Option<NotificationId>,
        deadline: Instant,
    ) -> Result<Attempt, StoreError> {
        let Ok(Ok(_place)) = timeout_at(deadline, self.places.acquire()).await else {
            return Ok(Attempt::Held);
        };
        let mut transaction = self.pool.begin().await?;
        let marked = timeout(LIMIT, mark(&mut transaction, user_id, ids, up_to)).await;
        let attempt = transaction.checked(marked)?;
        if let Attempt::Done(Some(_)) = attempt {
            transaction.commit().await?;
        } else {
            transaction.rollback().await?;
        }
        Ok(attempt)
    }
}

enum Attempt {
    /// `None`: the player does not exist.
    Done(Option<Marked>),
    /// Another transaction holds the player's row.
    Held,
}

async fn mark(
    transaction: &mut Transaction,
    user_id: UserId,
    ids: &[NotificationId],
    up_to: Option<NotificationId>,
) -> Result<Attempt, StoreError> {
    // While the player is locked, no other transaction adds or marks notifications of the player,
    // so the count is exact.
    let locked = players::lock(transaction, &[user_id], &[]).await?;
    if locked.players.is_empty() {
        let is_held = locked.held.contains(&user_id);
        return Ok(if is_held {
            Attempt::Held
        } else {
            Attempt::Done(None)
        });
    }
    let marked = notifications::mark_read(transaction, user_id, ids, up_to).await?;
    Ok(Attempt::Done(Some(marked)))
}
