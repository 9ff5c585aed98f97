//! Moves heists, and notifications that were read, to compressed files once they are old.
//!
//! A file is written, given to the disk, read back and compared; only then are its rows removed,
//! in small transactions. What was begun is in `"HeistArchiveFile"`, so that a run can be killed at
//! any point: the next one begins an unverified file anew, and removes what is left of a verified
//! one.

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
    PgConnectOptions, PgPool, StoreError,
    archive::{self, Claim, Contents, Interrupted, Kind, OldRow, Removal, RunLock},
    pool,
};

/// One connection holds the lock of the run, the other works.
const CONNECTIONS: u32 = 2;
/// Rows that are read at a time.
const PAGE: i64 = 1000;
/// Rows that one transaction removes.
const ROWS_PER_REMOVAL: usize = 500;
/// Attempts at a transaction that others are in the way of, as the deletion of a player is.
const REMOVAL_ATTEMPTS: u32 = 10;
const PAUSE_BETWEEN_ATTEMPTS: Duration = Duration::from_millis(200);

/// What to archive, and where to.
#[derive(Debug)]
pub struct Options {
    pub database: PgConnectOptions,
    /// Made where there is none.
    pub folder: PathBuf,
    /// Rows that were created longer ago are archived.
    pub older_than: Duration,
    /// In one file at the most.
    pub rows_per_file: i64,
}

/// What a run did, or would do.
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
    #[error("another run is at work on this database")]
    Busy,
    #[error("another run has taken over")]
    TakenOver,
    #[error("{}: {cause}", path.display())]
    Io { path: PathBuf, cause: io::Error },
    #[error("{}: {damage}", path.display())]
    Damaged { path: PathBuf, damage: Damage },
    #[error(
        "{} is missing: it was verified, and some of its rows may have been removed from the database already; run again with the folder that it is in",
        .0.display()
    )]
    Missing(PathBuf),
    #[error("{} is not the file that was verified", .0.display())]
    Exchanged(PathBuf),
    #[error("the database and {} differ in the {} with the ids {ids:?}; nothing of these was removed", path.display(), kind.name())]
    Differs {
        path: PathBuf,
        kind: Kind,
        ids: Vec<i64>,
    },
}

/// Archives what is old. Killed at any point, it can be run again, and loses and doubles nothing.
///
/// # Errors
///
/// What stood in the way. What was archived until then stays archived.
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

/// What [`run`] would archive now. Changes nothing.
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

/// Reads a file and checks that it is whole: its lines, their order and number, its checksum.
///
/// # Errors
///
/// What is wrong with it.
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
            tracing::info!(file.id = claim.file_id, "an interrupted file begins anew");
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
        tracing::info!(file = %path.display(), "an interrupted file goes on");
        if !is_published {
            self.publish(claim, kind)?;
        }
        self.remove_rows(claim, kind, &path).await
    }

    /// `false` where nothing old is left.
    async fn move_one_file(&mut self, kind: Kind) -> Result<bool, ArchiveError> {
        let mut rows = OldRows::new(kind, self.cutoff);
        let Some(first_page) = rows.next_page(&self.pool, self.rows_per_file).await? else {
            return Ok(false);
        };
        let claim = archive::claim(&self.pool, self.id, kind, self.cutoff).await?;
        let written_sha256 = self.write(claim, kind, first_page, rows).await?;

        // It counts from the moment that the database knows of it. Until then it is begun anew.
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

    fn publish(&self, claim: Claim, kind: Kind) -> Result<(), ArchiveError> {
        (self.folder)
            .publish(kind, claim.file_id)
            .map_err(at(&self.folder.file(kind, claim.file_id)))
    }

    /// Answers with the checksum of what was meant to be written.
    async fn write(
        &self,
        claim: Claim,
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

    /// Removes the rows of a verified file that are still there.
    async fn remove_rows(
        &mut self,
        claim: Claim,
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
            // Half of the time belongs to the players.
            sleep(begun.elapsed()).await;
        }
        held(archive::finished(&self.pool, claim).await?)?;
        self.summary.files += 1;
        tracing::info!(file = %path.display(), "its rows are removed");
        Ok(())
    }

    async fn remove(
        &self,
        claim: Claim,
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
                    tracing::info!(%error, attempt, "others were in the way; trying again");
                    attempt += 1;
                    sleep(PAUSE_BETWEEN_ATTEMPTS).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    async fn discard(&self, claim: Claim, kind: Kind) -> Result<(), ArchiveError> {
        (self.folder)
            .discard(kind, claim.file_id)
            .map_err(at(&self.folder.partial(kind, claim.file_id)))?;
        held(archive::discard(&self.pool, claim).await?)
    }
}

/// Walks over old rows, oldest first. Ids and times grow together, so the first row that is too
/// young ends it: of heists, all below some id are archived, and none above.
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

    /// `None` behind the last one, never empty.
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
