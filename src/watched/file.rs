//! Reads regular files with a time limit.

use std::{
    fmt, fs, io,
    io::Read as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::Semaphore,
    task::JoinHandle,
    time::{Instant, timeout_at},
};

/// The time limit of one read.
const READ_TIMEOUT: Duration = Duration::from_secs(2);
/// The limit of hanging reads of one file. Each occupies a thread.
const MAX_HANGING_READS: usize = 8;
const MAX_BYTES: u64 = 1024 * 1024;

const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// A file, and the setting that names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchedFile {
    variable: Option<&'static str>,
    path: PathBuf,
}

/// Why files cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum WatchedError {
    #[error("{file}: {cause}")]
    Unreadable { file: WatchedFile, cause: ReadError },
    /// The parser's message, which names the file.
    #[error("{0}")]
    Unusable(String),
}

/// Why a file cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    #[error("cannot read it: {0}")]
    Io(String),
    #[error("cannot read it: it is not a regular file")]
    NotRegular,
    #[error("it is larger than {MAX_BYTES} bytes")]
    TooLarge,
    #[error("cannot read it within {} s", READ_TIMEOUT.as_secs())]
    TimedOut,
}

impl WatchedFile {
    /// A file that the environment variable `variable` names.
    #[must_use]
    pub fn named(variable: &'static str, path: PathBuf) -> Self {
        let variable = Some(variable);
        Self { variable, path }
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl From<PathBuf> for WatchedFile {
    fn from(path: PathBuf) -> Self {
        let variable = None;
        Self { variable, path }
    }
}

impl fmt::Display for WatchedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(variable) = self.variable {
            write!(f, "{variable}=")?;
        }
        self.path.display().fmt(f)
    }
}

/// A file that is read again and again.
pub(super) struct Source {
    file: WatchedFile,
    /// One permit for each read that may hang.
    reads: Arc<Semaphore>,
}

impl Source {
    pub(super) fn new(file: WatchedFile) -> Self {
        let reads = Arc::new(Semaphore::new(MAX_HANGING_READS));
        Self { file, reads }
    }

    pub(super) fn unreadable(&self, cause: ReadError) -> WatchedError {
        let file = self.file.clone();
        WatchedError::Unreadable { file, cause }
    }

    /// Starts a read on a thread of its own; `None` while too many reads hang.
    fn start_read(&self) -> Option<JoinHandle<Result<Vec<u8>, ReadError>>> {
        let permit = Arc::clone(&self.reads).try_acquire_owned().ok()?;
        let path = self.file.path.clone();
        Some(tokio::task::spawn_blocking(move || {
            let _permit = permit;
            read_once(&path)
        }))
    }
}

/// Reads all files at the same time. Takes at most [`READ_TIMEOUT`].
pub(super) async fn read_all(sources: &[Source]) -> Vec<Result<Vec<u8>, ReadError>> {
    let until = Instant::now() + READ_TIMEOUT;
    let reads: Vec<_> = sources.iter().map(Source::start_read).collect();
    let mut results = Vec::with_capacity(reads.len());
    for read in reads {
        results.push(match read {
            None => Err(ReadError::TimedOut),
            Some(read) => match timeout_at(until, read).await {
                Ok(Ok(result)) => result,
                Ok(Err(panic)) => Err(ReadError::Io(panic.to_string())),
                Err(_elapsed) => Err(ReadError::TimedOut),
            },
        });
    }
    results
}

/// The content of a regular file, without a byte-order mark. The read has no time limit.
///
/// # Errors
///
/// The file cannot be read, is not a regular file, or is too large.
pub fn read_once(path: &Path) -> Result<Vec<u8>, ReadError> {
    let io_error = |error: io::Error| ReadError::Io(error.to_string());
    let file = fs::OpenOptions::new()
        .read(true)
        // Opening a FIFO would otherwise wait for a writer.
        .custom_flags(libc::O_NONBLOCK)
        .open(path)
        .map_err(io_error)?;
    if !file.metadata().map_err(io_error)?.is_file() {
        return Err(ReadError::NotRegular);
    }
    let mut content = Vec::new();
    let mut limited = file.take(MAX_BYTES + 1);
    limited.read_to_end(&mut content).map_err(io_error)?;
    if content.len() as u64 > MAX_BYTES {
        return Err(ReadError::TooLarge);
    }
    if content.starts_with(BYTE_ORDER_MARK) {
        content.drain(..BYTE_ORDER_MARK.len());
    }
    Ok(content)
}
