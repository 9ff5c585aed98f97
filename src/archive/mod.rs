//! Moves old heists, and old notifications that were read, to compressed files.
//!
//! A run writes a file, syncs it to the disk, reads it back and compares it. Only then does it remove
//! the rows, in small transactions. `"HeistArchiveFile"` holds the progress, so a run can be killed
//! at any point: the next run discards an unverified file and writes it anew, and removes the
//! remaining rows of a verified one.

mod file;
mod folder;

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use time::OffsetDateTime;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

pub use self::file::Damage;
use self::{
    file::{Reader, Row, Writer},
    folder::Folder,
};
use crate::store::{
    PgPool, StoreError,
    archive::{self, Contents, FileClaim, Interrupted, Kind, OldRow, Removal, RunLock},
    pool::{self, ConnectOptions},
};

/// One connection holds the lock of the run, the other one executes the statements.
const CONNECTIONS: u32 = 2;
/// The number of rows that one statement reads.
const PAGE: i64 = 1000;
/// The number of rows that one transaction removes.
const ROWS_PER_REMOVAL: usize = 500;
/// Attempts at a transaction that conflicts with another one, such as the deletion of a player.
const REMOVAL_ATTEMPTS: u32 = 10;
const PAUSE_BETWEEN_ATTEMPTS: Duration = Duration::from_millis(200);

/// What to archive, and where to write the files.
#[derive(Debug)]
pub struct Options {
    pub database: ConnectOptions,
    /// Created if it is missing.
    pub folder: PathBuf,
    /// The minimum age of archived rows.
    pub older_than: Duration,
    /// The maximum number of rows in one file.
    pub rows_per_file: i64,
}

/// The numbers of rows and files that a run archived, or would archive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    pub heists: i64,
    pub notifications: i64,
    pub files: i64,
}

#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("another run works on this database")]
    Busy,
    #[error("another run has taken over")]
    TakenOver,
    #[error("{}: {cause}", path.display())]
    Io { path: PathBuf, cause: io::Error },
    #[error("{}: {damage}", path.display())]
    Damaged { path: PathBuf, damage: Damage },
    #[error(
        "{} is missing: it was verified, and some of its rows may already be removed from the database; put it back into the folder and run again",
        .0.display()
    )]
    Missing(PathBuf),
    #[error("{} differs from the file that was verified", .0.display())]
    Exchanged(PathBuf),
    #[error("the database and {} differ in the {} with the ids {ids:?}; none of these rows was removed", path.display(), kind.name())]
    Differs {
        path: PathBuf,
        kind: Kind,
        ids: Vec<i64>,
    },
}

impl ArchiveError {
    /// Whether a file that could be read is not valid.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Damaged { damage, .. } => damage.is_in_contents(),
            _ => false,
        }
    }
}

/// Archives old rows. After an interruption at any point, the next run continues without losing or
/// repeating a row.
///
/// # Errors
///
/// The reason why the run stopped. Rows that were archived before stay archived.
pub async fn run(options: &Options) -> Result<Summary, ArchiveError> {
    let pool = pool::connect_lazy_for_command(options.database.clone(), CONNECTIONS);
    let lock = RunLock::acquire(&pool).await?.ok_or(ArchiveError::Busy)?;
    let folder = Folder::open(&options.folder).map_err(at(&options.folder))?;
    let cutoff = archive::time_ago(&pool, options.older_than).await?;
    let mut run = Run {
        pool,
        folder,
        id: Uuid::now_v7(),
        cutoff,
        rows_per_file: options.rows_per_file,
        summary: Summary::default(),
    };
    run.finish_interrupted().await?;
    for kind in Kind::ALL {
        while run.move_one_file(kind).await? {}
    }
    lock.release().await?;
    Ok(run.summary)
}

/// Counts what [`run`] would archive now. Changes nothing.
///
/// # Errors
///
/// [`ArchiveError::Store`].
pub async fn dry_run(options: &Options) -> Result<Summary, ArchiveError> {
    let pool = pool::connect_lazy_for_command(options.database.clone(), CONNECTIONS);
    let cutoff = archive::time_ago(&pool, options.older_than).await?;
    let mut summary = Summary::default();
    for kind in Kind::ALL {
        let mut rows = OldRows::new(kind, cutoff);
        let mut count = 0;
        while let Some(page) = rows.next_page(&pool, PAGE).await? {
            count += rows_in(&page);
        }
        summary.add(kind, count);
        summary.files += (count + options.rows_per_file - 1) / options.rows_per_file;
    }
    Ok(summary)
}

/// Reads a file and validates its lines, their order and number, and its checksum.
///
/// # Errors
///
/// [`ArchiveError::Damaged`] if the file is not valid.
pub fn verify(path: &Path) -> Result<Contents, ArchiveError> {
    Reader::open(path)
        .and_then(Reader::verify)
        .map_err(damaged(path))
}

struct Run {
    pool: PgPool,
    folder: Folder,
    id: Uuid,
    cutoff: OffsetDateTime,
    rows_per_file: i64,
    summary: Summary,
}

impl Run {
    async fn finish_interrupted(&mut self) -> Result<(), ArchiveError> {
        let Some(file) = archive::take_over(&self.pool, self.id).await? else {
            return Ok(());
        };
        let Interrupted { claim, kind, .. } = file;
        let Some(verified_sha256) = file.verified_sha256 else {
            tracing::info!(
                file.id = claim.file_id,
                "an interrupted file is discarded and written anew"
            );
            return self.discard(claim, kind).await;
        };
        let path = self.folder.file(kind, claim.file_id);
        let partial = self.folder.partial(kind, claim.file_id);
        let is_published = path.exists();
        let found = if is_published { &path } else { &partial };
        if !found.exists() {
            return Err(ArchiveError::Missing(path));
        }
        if verify(found)?.sha256 != verified_sha256 {
            return Err(ArchiveError::Exchanged(found.clone()));
        }
        tracing::info!(file = %path.display(), "an interrupted file is continued");
        if !is_published {
            self.publish(claim, kind)?;
        }
        self.remove_rows(claim, kind, &path).await
    }

    /// Returns `false` if no old row is left.
    async fn move_one_file(&mut self, kind: Kind) -> Result<bool, ArchiveError> {
        let mut rows = OldRows::new(kind, self.cutoff);
        let Some(first_page) = rows.next_page(&self.pool, self.rows_per_file).await? else {
            return Ok(false);
        };
        let claim = archive::claim(&self.pool, self.id, kind, self.cutoff).await?;
        let written_sha256 = self.write(claim, kind, first_page, rows).await?;

        // A file is part of the archive as soon as its checksum is in the database. A run that is
        // interrupted earlier leaves a file that the next run discards.
        let partial = self.folder.partial(kind, claim.file_id);
        let contents = verify(&partial)?;
        if contents.sha256 != written_sha256 {
            return Err(ArchiveError::Exchanged(partial));
        }
        held(archive::verified(&self.pool, claim, &contents).await?)?;
        self.publish(claim, kind)?;
        let path = self.folder.file(kind, claim.file_id);
        tracing::info!(file = %path.display(), rows = contents.rows, "file written and verified");
        self.remove_rows(claim, kind, &path).await?;
        Ok(true)
    }

    fn publish(&self, claim: FileClaim, kind: Kind) -> Result<(), ArchiveError> {
        (self.folder)
            .publish(kind, claim.file_id)
            .map_err(at(&self.folder.file(kind, claim.file_id)))
    }

    /// Returns the checksum of the lines that were passed to the writer.
    async fn write(
        &self,
        claim: FileClaim,
        kind: Kind,
        first_page: Vec<OldRow>,
        mut rows: OldRows,
    ) -> Result<String, ArchiveError> {
        let path = self.folder.partial(kind, claim.file_id);
        let mut writer = Writer::create(&path, kind, self.cutoff).map_err(at(&path))?;
        let mut page = first_page;
        loop {
            for row in &page {
                writer.push(&row.line).map_err(at(&path))?;
            }
            let room = self.rows_per_file - writer.rows();
            if room == 0 {
                break;
            }
            match rows.next_page(&self.pool, room).await? {
                Some(next) => page = next,
                None => break,
            }
        }
        writer.finish().map_err(at(&path))
    }

    /// Removes the rows of a verified file that the database still holds.
    async fn remove_rows(
        &mut self,
        claim: FileClaim,
        kind: Kind,
        path: &Path,
    ) -> Result<(), ArchiveError> {
        let mut reader = Reader::open(path).map_err(damaged(path))?;
        loop {
            let mut rows = Vec::with_capacity(ROWS_PER_REMOVAL);
            while rows.len() < ROWS_PER_REMOVAL {
                match reader.next_row().map_err(damaged(path))? {
                    Some(row) => rows.push(row),
                    None => break,
                }
            }
            if rows.is_empty() {
                break;
            }
            let begun = Instant::now();
            let removal = self.remove(claim, kind, &rows).await?;
            if !removal.differing_ids.is_empty() {
                return Err(ArchiveError::Differs {
                    path: path.to_owned(),
                    kind,
                    ids: removal.differing_ids,
                });
            }
            self.summary.add(kind, removal.removed);
            // The pause leaves the database to other clients for half of the time.
            sleep(begun.elapsed()).await;
        }
        held(archive::finished(&self.pool, claim).await?)?;
        self.summary.files += 1;
        tracing::info!(file = %path.display(), "the rows of the file are removed");
        Ok(())
    }

    async fn remove(
        &self,
        claim: FileClaim,
        kind: Kind,
        rows: &[Row],
    ) -> Result<Removal, ArchiveError> {
        let lines: Vec<String> = rows.iter().map(|row| row.line.clone()).collect();
        let players: Vec<i32> = (rows.iter().flat_map(|row| &row.players))
            .copied()
            .collect();
        let mut attempt = 1;
        loop {
            match archive::remove(&self.pool, claim, kind, &lines, &players).await {
                Ok(removal) => return removal.ok_or(ArchiveError::TakenOver),
                Err(StoreError::Contention(error)) if attempt < REMOVAL_ATTEMPTS => {
                    tracing::info!(%error, attempt, "the transaction conflicts with others; trying again");
                    attempt += 1;
                    sleep(PAUSE_BETWEEN_ATTEMPTS).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    async fn discard(&self, claim: FileClaim, kind: Kind) -> Result<(), ArchiveError> {
        (self.folder)
            .discard(kind, claim.file_id)
            .map_err(at(&self.folder.partial(kind, claim.file_id)))?;
        held(archive::discard(&self.pool, claim).await?)
    }
}

/// Iterates over old rows, oldest first. Times increase with ids, so the first row that is too young
/// ends the iteration: all heists below some id are archived, and none above it.
struct OldRows {
    kind: Kind,
    cutoff: OffsetDateTime,
    after: i64,
    ended: bool,
}

impl OldRows {
    fn new(kind: Kind, cutoff: OffsetDateTime) -> Self {
        Self {
            kind,
            cutoff,
            after: 0,
            ended: false,
        }
    }

    /// The next page, which is never empty. `None` after the last page.
    async fn next_page(
        &mut self,
        pool: &PgPool,
        limit: i64,
    ) -> Result<Option<Vec<OldRow>>, StoreError> {
        if self.ended {
            return Ok(None);
        }
        let limit = limit.min(PAGE);
        let mut rows = archive::page(pool, self.kind, self.after, limit).await?;
        if let Some(young) = rows.iter().position(|row| row.created_at >= self.cutoff) {
            rows.truncate(young);
        }
        self.ended = rows_in(&rows) < limit;
        self.after = rows.last().map_or(self.after, |row| row.id);
        Ok((!rows.is_empty()).then_some(rows))
    }
}

impl Summary {
    fn add(&mut self, kind: Kind, rows: i64) {
        match kind {
            Kind::Heists => self.heists += rows,
            Kind::Notifications => self.notifications += rows,
        }
    }
}

fn rows_in(page: &[OldRow]) -> i64 {
    i64::try_from(page.len()).unwrap_or(i64::MAX)
}

fn held(claim_is_ours: bool) -> Result<(), ArchiveError> {
    if claim_is_ours {
        Ok(())
    } else {
        Err(ArchiveError::TakenOver)
    }
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> ArchiveError + use<> {
    let path = path.to_owned();
    |cause| ArchiveError::Io { path, cause }
}

fn damaged(path: &Path) -> impl FnOnce(Damage) -> ArchiveError + use<> {
    let path = path.to_owned();
    |damage| ArchiveError::Damaged { path, damage }
}
