//! Where reads go: to a replica that has caught up, or else to the primary.
//!
//! Reads are read-after-write consistent on both: a read sees every commit that was answered before
//! the read was asked for. Players see what they just did, and a cache that reads the board after
//! it began to listen misses nothing. So before a read goes to the replica, the primary is asked
//! how far its write-ahead log reaches, and the replica whether it has replayed as much. One
//! question serves all reads that wait for it. Where the answer takes longer than 50 ms, the read
//! goes to the primary, and so do all others until the replica has caught up again.
//!
//! A read on the primary that met a dead connection is made once more: the pool has closed the
//! others of that age. Stale plans are the pool's business.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use sqlx::{postgres::PgConnectOptions, query, query_scalar};
use tokio::{
    sync::{mpsc, oneshot},
    time::{sleep, timeout},
};

use super::{ObservedExt as _, PgPool, StoreError, pool};

/// How long a read waits for the replica before it goes to the primary.
const PATIENCE: Duration = Duration::from_millis(50);
/// How long a read on the replica may take before it is made again on the primary.
const READ_TIMEOUT: Duration = Duration::from_secs(1);
/// Between two looks at how far the replica has come.
const PAUSE_BETWEEN_LOOKS: Duration = Duration::from_millis(1);
/// How long reads stay with the primary before the replica is tried again. No read waits for that.
const PAUSE_BETWEEN_TRIALS: Duration = Duration::from_secs(1);
/// How long a trial may take, a new connection among it.
const TRIAL: Duration = Duration::from_secs(2);
/// Reads that wait for the next answer at the most; one more goes to the primary.
const MAX_WAITING: usize = 10_000;

/// Reads of one server. Clones share the replica.
#[derive(Clone)]
pub struct Reads {
    primary: PgPool,
    replica: Option<Replica>,
}

#[derive(Clone)]
struct Replica {
    pool: PgPool,
    /// The follower's own.
    probes: [PgPool; 2],
    questions: mpsc::Sender<Question>,
    is_in_use: Arc<AtomicBool>,
}

/// Answered when the replica has caught up, dropped where it has not.
type Question = oneshot::Sender<()>;

impl Reads {
    /// All on the primary.
    #[must_use]
    pub fn on_primary(primary: PgPool) -> Self {
        Self {
            primary,
            replica: None,
        }
    }

    /// On a replica where it has caught up. The replica need not be there yet.
    #[must_use]
    pub fn with_replica(
        primary: PgPool,
        primary_options: &PgConnectOptions,
        replica_options: &PgConnectOptions,
        max_connections: u32,
    ) -> Self {
        let (questions, asked) = mpsc::channel(MAX_WAITING);
        let is_in_use = Arc::new(AtomicBool::new(false));
        // Of their own, so that reads that fill a pool do not look like a replica that lags.
        let probes = [primary_options, replica_options]
            .map(|options| pool::connect_lazy(options.clone(), 1));
        let follower = Follower {
            primary: probes[0].clone(),
            replica: probes[1].clone(),
            asked,
            is_in_use: Arc::clone(&is_in_use),
        };
        tokio::spawn(follower.run());
        Self {
            primary,
            replica: Some(Replica {
                pool: pool::connect_lazy(replica_options.clone(), max_connections),
                probes,
                questions,
                is_in_use,
            }),
        }
    }

    /// Closes the connections to the replica. Those of the primary are its owner's.
    pub async fn close(&self) {
        if let Some(replica) = &self.replica {
            replica.pool.close().await;
            for probe in &replica.probes {
                probe.close().await;
            }
        }
    }

    /// Reads, on the primary at the latest.
    ///
    /// # Errors
    ///
    /// Those of the primary.
    pub async fn run<T, F>(&self, read: impl Fn(PgPool) -> F) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        if let Some(replica) = &self.replica
            && replica.has_caught_up().await
        {
            match timeout(READ_TIMEOUT, read(replica.pool.clone())).await {
                Ok(Ok(value)) => return Ok(value),
                Ok(Err(error)) => tracing::debug!(%error, "a read goes to the primary"),
                Err(_elapsed) => tracing::debug!("a read goes to the primary: it took too long"),
            }
        }
        self.run_on_primary(read).await
    }

    /// Reads on the primary.
    ///
    /// # Errors
    ///
    /// Those of the second attempt, where the first one met a dead connection.
    pub async fn run_on_primary<T, F>(&self, read: impl Fn(PgPool) -> F) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        match read(self.primary.clone()).await {
            Err(StoreError::Unavailable(error)) if !self.primary.is_away() => {
                tracing::debug!(%error, "a read is made once more");
                read(self.primary.clone()).await
            }
            result => result,
        }
    }
}

impl Replica {
    /// Whether it has all that was committed before this was asked.
    async fn has_caught_up(&self) -> bool {
        if !self.is_in_use.load(Ordering::Relaxed) {
            return false;
        }
        let (question, answer) = oneshot::channel();
        self.questions.try_send(question).is_ok()
            && matches!(timeout(PATIENCE, answer).await, Ok(Ok(())))
    }
}

/// Finds out how far the replica has come. Ends when no read can ask any more.
struct Follower {
    primary: PgPool,
    replica: PgPool,
    asked: mpsc::Receiver<Question>,
    is_in_use: Arc<AtomicBool>,
}

/// Why the replica is not used.
#[derive(Debug, thiserror::Error)]
enum Unfit {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("it lags behind")]
    Lags,
    #[error("it is no replica of this database")]
    Foreign,
}

impl Follower {
    async fn run(mut self) {
        let mut known_reason = String::new();
        while !self.asked.is_closed() {
            if let Err(reason) = self.try_out().await {
                let reason = reason.to_string();
                if reason != known_reason {
                    tracing::warn!(reason, "reads go to the primary, not to DATABASE_READ_URL");
                    known_reason = reason;
                }
                sleep(PAUSE_BETWEEN_TRIALS).await;
                continue;
            }
            tracing::info!("reads go to DATABASE_READ_URL");
            known_reason.clear();
            self.is_in_use.store(true, Ordering::Relaxed);
            self.answer_until_it_lags().await;
            self.is_in_use.store(false, Ordering::Relaxed);
            // Reads that asked meanwhile need not wait.
            while self.asked.try_recv().is_ok() {}
        }
    }

    async fn try_out(&self) -> Result<(), Unfit> {
        let trial = async {
            if identity(&self.primary).await? != identity(&self.replica).await? {
                return Err(Unfit::Foreign);
            }
            self.catch_up().await
        };
        timeout(TRIAL, trial)
            .await
            .map_err(|_elapsed| Unfit::Lags)?
    }

    async fn answer_until_it_lags(&mut self) {
        while let Some(first) = self.asked.recv().await {
            let mut questions = vec![first];
            while let Ok(another) = self.asked.try_recv() {
                questions.push(another);
            }
            match timeout(PATIENCE, self.catch_up()).await {
                Ok(Ok(())) => {
                    for question in questions {
                        // A read that does not wait any more goes to the primary.
                        let _ = question.send(());
                    }
                }
                _ => return,
            }
        }
    }

    /// Waits until the replica has all that is committed now.
    async fn catch_up(&self) -> Result<(), Unfit> {
        let position = written_up_to(&self.primary).await?;
        while !has_replayed(&self.replica, &position).await? {
            sleep(PAUSE_BETWEEN_LOOKS).await;
        }
        Ok(())
    }
}

/// Which database of which cluster it is: a replica has the same as its primary.
async fn identity(pool: &PgPool) -> Result<(i64, String), StoreError> {
    let row = query!(
        r#"SELECT system_identifier AS "cluster!", current_database()::text AS "database!"
        FROM pg_control_system()"#
    )
    .fetch_one(pool)
    .observed("reads.identity")
    .await?;
    Ok((row.cluster, row.database))
}

/// Where every commit that was answered is behind: what is on disk, or where answers do not wait
/// for the disk, what was written.
async fn written_up_to(primary: &PgPool) -> Result<String, StoreError> {
    let position = query_scalar!(
        r#"SELECT CASE current_setting('synchronous_commit')
            WHEN 'off' THEN pg_current_wal_insert_lsn()
            ELSE pg_current_wal_flush_lsn()
        END::text AS "position!""#
    )
    .fetch_one(primary)
    .observed("reads.written_up_to")
    .await?;
    Ok(position)
}

/// A server that was promoted has left its primary, and never has.
async fn has_replayed(replica: &PgPool, position: &str) -> Result<bool, StoreError> {
    let has = query_scalar!(
        r#"SELECT pg_is_in_recovery() AND pg_last_wal_replay_lsn() >= $1::text::pg_lsn AS "has!""#,
        position
    )
    .fetch_one(replica)
    .observed("reads.has_replayed")
    .await?;
    Ok(has)
}
