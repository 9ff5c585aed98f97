//! The statements of `heist archive`.
//!
//! Each file has a row in `"HeistArchiveFile"`, which holds its progress. A run claims the row with
//! its run id, and each of its writes requires that the claim still holds. So a file belongs to one
//! run at a time.

use std::time::Duration;

use sqlx::{query, query_file, query_file_as, query_scalar};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    PgPool, StoreError,
    effects::Interference,
    pool::{self, Transaction},
};

/// The key of the advisory lock that excludes parallel runs on one database.
const LOCK_KEY: i64 = 0x6865_6973_745f_6172;

/// The kinds of rows that are archived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Heists,
    /// Only notifications that were read.
    Notifications,
}

impl Kind {
    pub const ALL: [Self; 2] = [Self::Heists, Self::Notifications];

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Heists => "heists",
            Self::Notifications => "notifications",
        }
    }

    fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// A row to be written to a file.
#[derive(Debug)]
pub struct OldRow {
    pub id: i64,
    pub created_at: OffsetDateTime,
    /// The row as a JSON object on one line. Its keys are the names of the columns.
    pub line: String,
}

/// A summary of a file that was read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contents {
    pub rows: i64,
    /// The checksum of all lines before the last one, in hexadecimal digits.
    pub sha256: String,
    pub first_row_id: i64,
    pub last_row_id: i64,
}

/// The right of a run to work on a file.
#[derive(Clone, Copy, Debug)]
pub struct FileClaim {
    pub file_id: i64,
    run_id: Uuid,
}

/// An unfinished file of an interrupted run.
#[derive(Debug)]
pub struct Interrupted {
    pub claim: FileClaim,
    pub kind: Kind,
    /// `None` if the file was not verified. Then none of its rows was removed.
    pub verified_sha256: Option<String>,
}

/// The result of removing the rows of a file.
#[derive(Debug)]
pub struct Removal {
    pub removed: i64,
    /// Rows that differ from the file. They were not removed.
    pub differing_ids: Vec<i64>,
    /// Rows that equal the file and were not removed.
    kept: i64,
    /// Whether the totals have grown by the removed rows.
    totals_agree: bool,
}

/// Excludes other runs while it exists. The lock belongs to an open transaction, because a pooler
/// keeps a session only for the length of a transaction. The transaction holds no snapshot between
/// statements, so it does not hold back `VACUUM`.
pub struct RunLock(Transaction);

impl RunLock {
    /// Returns `None` if another run holds the lock.
    pub async fn acquire(pool: &PgPool) -> Result<Option<Self>, StoreError> {
        let mut transaction = pool::begin(pool).await?;
        query!("SET LOCAL idle_in_transaction_session_timeout = 0")
            .execute(&mut *transaction)
            .await?;
        let acquired = query_scalar!(
            r#"SELECT pg_try_advisory_xact_lock($1) AS "acquired!""#,
            LOCK_KEY
        )
        .fetch_one(&mut *transaction)
        .await?;
        Ok(acquired.then_some(Self(transaction)))
    }

    pub async fn release(self) -> Result<(), StoreError> {
        self.0.rollback().await
    }
}

/// The time `ago` before now, by the database's clock.
pub async fn time_ago(pool: &PgPool, ago: Duration) -> Result<OffsetDateTime, StoreError> {
    let now = query_scalar!(r#"SELECT clock_timestamp() AS "now!""#)
        .fetch_one(pool)
        .await?;
    Ok(now - ago)
}

/// Up to `limit` rows with an id above `after`, oldest first.
pub async fn page(
    pool: &PgPool,
    kind: Kind,
    after: i64,
    limit: i64,
) -> Result<Vec<OldRow>, StoreError> {
    let rows = match kind {
        Kind::Heists => {
            query_file_as!(OldRow, "src/store/archive/heists_page.sql", after, limit)
                .fetch_all(pool)
                .await?
        }
        Kind::Notifications => {
            query_file_as!(
                OldRow,
                "src/store/archive/notifications_page.sql",
                after,
                limit
            )
            .fetch_all(pool)
            .await?
        }
    };
    Ok(rows)
}

/// Takes over the file that an earlier run left unfinished. The caller holds the [`RunLock`].
pub async fn take_over(pool: &PgPool, run_id: Uuid) -> Result<Option<Interrupted>, StoreError> {
    let file = query!(
        r#"UPDATE "HeistArchiveFile" SET "runId" = $1 WHERE "finishedAt" IS NULL
        RETURNING "id", "kind", "sha256""#,
        run_id
    )
    .fetch_optional(pool)
    .await?;
    Ok(file.and_then(|file| {
        Some(Interrupted {
            claim: FileClaim {
                file_id: file.id,
                run_id,
            },
            kind: Kind::named(&file.kind)?,
            verified_sha256: file.sha256,
        })
    }))
}

/// Claims a new file. The caller holds the [`RunLock`].
///
/// # Errors
///
/// [`StoreError::Database`] if another run has an unfinished file.
pub async fn claim(
    pool: &PgPool,
    run_id: Uuid,
    kind: Kind,
    cutoff: OffsetDateTime,
) -> Result<FileClaim, StoreError> {
    let file_id = query_scalar!(
        r#"INSERT INTO "HeistArchiveFile" ("kind", "cutoff", "runId") VALUES ($1, $2, $3)
        RETURNING "id""#,
        kind.name(),
        cutoff,
        run_id,
    )
    .fetch_one(pool)
    .await?;
    Ok(FileClaim { file_id, run_id })
}

/// Gives up a file that was not verified. Returns `false` if the claim is lost.
pub async fn discard(pool: &PgPool, claim: FileClaim) -> Result<bool, StoreError> {
    let done = query!(
        r#"DELETE FROM "HeistArchiveFile" WHERE "id" = $1 AND "runId" = $2 AND "sha256" IS NULL"#,
        claim.file_id,
        claim.run_id,
    )
    .execute(pool)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Records that a file is on disk and was read back. Returns `false` if the claim is lost.
pub async fn verified(
    pool: &PgPool,
    claim: FileClaim,
    contents: &Contents,
) -> Result<bool, StoreError> {
    let done = query!(
        r#"UPDATE "HeistArchiveFile"
        SET "rows" = $3, "sha256" = $4, "firstRowId" = $5, "lastRowId" = $6
        WHERE "id" = $1 AND "runId" = $2 AND "finishedAt" IS NULL"#,
        claim.file_id,
        claim.run_id,
        contents.rows,
        contents.sha256,
        contents.first_row_id,
        contents.last_row_id,
    )
    .execute(pool)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Removes rows that are in a verified file, in one transaction, and adds them to the totals of
/// their `players`. Returns `None` if the claim is lost. Removes nothing if a row differs from the
/// file.
///
/// # Errors
///
/// [`StoreError::Interference`] if a row stays that equals the file, or if the totals do not grow by
/// the removed rows. Then nothing is removed.
pub async fn remove(
    pool: &PgPool,
    claim: FileClaim,
    kind: Kind,
    lines: &[String],
    players: &[i32],
) -> Result<Option<Removal>, StoreError> {
    let mut transaction = pool::begin(pool).await?;
    let held = query_scalar!(
        r#"SELECT "id" FROM "HeistArchiveFile"
        WHERE "id" = $1 AND "runId" = $2 AND "finishedAt" IS NULL AND "sha256" IS NOT NULL
        FOR UPDATE"#,
        claim.file_id,
        claim.run_id,
    )
    .fetch_optional(&mut *transaction)
    .await?;
    if held.is_none() {
        transaction.rollback().await?;
        return Ok(None);
    }
    query_file!("src/store/archive/hold_players.sql", players)
        .fetch_all(&mut *transaction)
        .await?;
    let removal = match kind {
        Kind::Heists => {
            query_file_as!(Removal, "src/store/archive/remove_heists.sql", lines)
                .fetch_one(&mut *transaction)
                .await?
        }
        Kind::Notifications => {
            query_file_as!(Removal, "src/store/archive/remove_notifications.sql", lines)
                .fetch_one(&mut *transaction)
                .await?
        }
    };
    if removal.kept > 0 {
        let table = match kind {
            Kind::Heists => "Heist",
            Kind::Notifications => "HeistNotification",
        };
        let difference = format!("keeps {} rows that were to be removed", removal.kept);
        return Err(Interference::new(table, difference).into());
    }
    if !removal.totals_agree {
        let difference = "does not hold the removed rows";
        return Err(Interference::new("HeistArchiveTotal", difference).into());
    }
    if removal.differing_ids.is_empty() {
        transaction.commit().await?;
    } else {
        transaction.rollback().await?;
    }
    Ok(Some(removal))
}

/// Records that the rows of a file are removed. Returns `false` if the claim is lost.
pub async fn finished(pool: &PgPool, claim: FileClaim) -> Result<bool, StoreError> {
    let done = query!(
        r#"UPDATE "HeistArchiveFile" SET "finishedAt" = clock_timestamp()
        WHERE "id" = $1 AND "runId" = $2 AND "finishedAt" IS NULL"#,
        claim.file_id,
        claim.run_id,
    )
    .execute(pool)
    .await?;
    Ok(done.rows_affected() == 1)
}
