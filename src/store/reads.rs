//! Routes reads to a read replica that has caught up, and otherwise to the primary.
//!
//! Reads are read-after-write consistent on both: a read sees every commit that was answered before
//! the read was requested. Players see their own changes, and a cache that loads the board after it
//! began to listen misses no change. Before a read goes to the replica, the service asks the
//! primary for the end of its write-ahead log, and the replica whether it has replayed as much. One
//! question serves all reads that wait for it. If the answer takes longer than 50 ms, the read goes
//! to the primary, and so do all further reads until the replica has caught up again.
//!
//! A read on the primary that failed on a dead connection is repeated once, because the pool has
//! closed the other connections of that generation. The pool itself repeats statements with stale
//! plans.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use sqlx::{query, query_scalar};
use tokio::{
    sync::{mpsc, oneshot},
    time::{sleep, timeout},
};

use super::{
    ObservedExt as _, PgPool, StoreError,
    pool::{self, ConnectOptions},
};

/// The time for which a read waits for the replica before it goes to the primary.
const REPLICA_WAIT: Duration = Duration::from_millis(50);
/// The time limit of a read on the replica. After it the read is repeated on the primary.
const READ_TIMEOUT: Duration = Duration::from_secs(1);
/// The pause between two looks at the replica's position.
const PAUSE_BETWEEN_LOOKS: Duration = Duration::from_millis(1);
/// The pause before a replica is tried again. Meanwhile all reads go to the primary.
const PAUSE_BETWEEN_TRIALS: Duration = Duration::from_secs(1);
/// The time limit of a trial, including a new connection.
const TRIAL: Duration = Duration::from_secs(2);
/// The limit of reads that wait for the next answer. A further read goes to the primary.
const MAX_WAITING: usize = 10_000;

/// Runs the reads of one server. Clones share the replica.
#[derive(Clone)]
pub struct Reads {
    primary: PgPool,
    replica: Option<Replica>,
}

#[derive(Clone)]
struct Replica {
    pool: PgPool,
    /// The pools of the monitor: to the primary, and to the replica.
    probes: [PgPool; 2],
    questions: mpsc::Sender<CaughtUpQuery>,
    is_in_use: Arc<AtomicBool>,
}

/// A read that waits: answered when the replica has caught up, dropped if it has not.
type CaughtUpQuery = oneshot::Sender<()>;

impl Reads {
    /// Runs all reads on the primary.
    #[must_use]
    pub fn on_primary(primary: PgPool) -> Self {
        Self {
            primary,
            replica: None,
        }
    }

    /// Runs reads on the replica while it has caught up. The replica need not be reachable yet.
    #[must_use]
    pub fn with_replica(
        primary: PgPool,
        primary_options: &ConnectOptions,
        replica_options: &ConnectOptions,
        max_connections: u32,
    ) -> Self {
        let (questions, asked) = mpsc::channel(MAX_WAITING);
        let is_in_use = Arc::new(AtomicBool::new(false));
        // The monitor has its own pools, so that reads that use all connections of a pool do not
        // look like a replica that lags.
        let probes = [primary_options, replica_options]
            .map(|options| pool::connect_lazy(options.clone(), 1));
        let monitor = ReplicaMonitor {
            primary: probes[0].clone(),
            replica: probes[1].clone(),
            asked,
            is_in_use: Arc::clone(&is_in_use),
        };
        tokio::spawn(monitor.run());
        let pool = pool::connect_lazy(replica_options.clone(), max_connections);
        pool::watch(&pool, "replica");
        Self {
            primary,
            replica: Some(Replica {
                pool,
                probes,
                questions,
                is_in_use,
            }),
        }
    }

    /// Closes the connections to the replica. The caller closes the pool to the primary.
    pub async fn close(&self) {
        if let Some(replica) = &self.replica {
            replica.pool.close().await;
            for probe in &replica.probes {
                probe.close().await;
            }
        }
    }

    /// Reads from the replica if it has caught up. Otherwise, or if that fails, reads from the
    /// primary.
    ///
    /// # Errors
    ///
    /// The errors of [`Self::run_on_primary`].
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
                Err(_elapsed) => tracing::debug!("a read goes to the primary: the replica is slow"),
            }
        }
        self.run_on_primary(read).await
    }

    /// Reads on the primary.
    ///
    /// # Errors
    ///
    /// The error of the read, or of its second attempt if the first one failed on a dead
    /// connection.
    pub async fn run_on_primary<T, F>(&self, read: impl Fn(PgPool) -> F) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        match read(self.primary.clone()).await {
            Err(StoreError::Unavailable(error)) if !self.primary.is_away() => {
                tracing::debug!(%error, "a read on the primary is repeated");
                read(self.primary.clone()).await
            }
            result => result,
        }
    }
}

impl Replica {
    /// Whether the replica has replayed all that was committed before this call.
    async fn has_caught_up(&self) -> bool {
        if !self.is_in_use.load(Ordering::Relaxed) {
            return false;
        }
        let (question, answer) = oneshot::channel();
        self.questions.try_send(question).is_ok()
            && matches!(timeout(REPLICA_WAIT, answer).await, Ok(Ok(())))
    }
}

/// Compares the replica's position with the primary's for the reads that wait. Ends when the last
/// [`Reads`] is dropped.
struct ReplicaMonitor {
    primary: PgPool,
    replica: PgPool,
    asked: mpsc::Receiver<CaughtUpQuery>,
    is_in_use: Arc<AtomicBool>,
}

/// Why the replica is not used.
#[derive(Debug, thiserror::Error)]
enum ReplicaUnusable {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("it lags behind")]
    Lags,
    #[error("it is no replica of this database")]
    Foreign,
}

impl ReplicaMonitor {
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
            // Drops the questions that came meanwhile, so that their reads need not wait.
            while self.asked.try_recv().is_ok() {}
        }
    }

    async fn try_out(&self) -> Result<(), ReplicaUnusable> {
        let trial = async {
            if identity(&self.primary).await? != identity(&self.replica).await? {
                return Err(ReplicaUnusable::Foreign);
            }
            self.catch_up().await
        };
        timeout(TRIAL, trial)
            .await
            .map_err(|_elapsed| ReplicaUnusable::Lags)?
    }

    async fn answer_until_it_lags(&mut self) {
        while let Some(first) = self.asked.recv().await {
            let mut questions = vec![first];
            while let Ok(another) = self.asked.try_recv() {
                questions.push(another);
            }
            match timeout(REPLICA_WAIT, self.catch_up()).await {
                Ok(Ok(())) => {
                    for question in questions {
                        // An error means that the read has stopped waiting and goes to the primary.
                        let _ = question.send(());
                    }
                }
                _ => return,
            }
        }
    }

    /// Waits until the replica has replayed all that is committed now.
    async fn catch_up(&self) -> Result<(), ReplicaUnusable> {
        let position = written_up_to(&self.primary).await?;
        while !has_replayed(&self.replica, &position).await? {
            sleep(PAUSE_BETWEEN_LOOKS).await;
        }
        Ok(())
    }
}

/// The cluster and the database of a server. A replica has the same as its primary.
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

/// A position of the write-ahead log that no answered commit exceeds: the end of the flushed log,
/// or of the inserted log if commits do not wait for the disk.
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

/// Whether the replica has replayed the log up to `position`. Always `false` for a server that was
/// promoted, because it no longer follows the primary.
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
