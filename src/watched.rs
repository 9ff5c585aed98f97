//! Files that are read again when they change: keys and certificates.
//!
//! They are compared by what is in them, once a second, rather than by time or inode. That sees
//! every kind of replacement, also the swap of a symlink by which Kubernetes updates what it
//! mounts, and costs nothing for files of this size.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::{
    fs::File,
    io::AsyncReadExt as _,
    sync::watch,
    time::{MissedTickBehavior, interval},
};

/// How often the files are looked at.
const INTERVAL: Duration = Duration::from_secs(1);
/// More is no file of keys.
const MAX_BYTES: u64 = 1024 * 1024;

/// What some files say, always in the newest version that was good. Cheap to clone; the files are
/// looked at until the last clone is gone.
#[derive(Debug)]
pub struct Watched<T>(watch::Receiver<Arc<T>>);

/// Why files cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum WatchedError {
    #[error("cannot read {}: {cause}", file.display())]
    Unreadable {
        file: PathBuf,
        cause: std::io::Error,
    },
    #[error("{}: larger than {MAX_BYTES} bytes", .0.display())]
    TooLarge(PathBuf),
    /// What a parser says of their contents; it names the file.
    #[error("{0}")]
    Unusable(String),
}

impl<T: Send + Sync + 'static> Watched<T> {
    /// Reads `files`, and goes on looking at them. `parse` gets their contents in the same order.
    /// What does not parse later is logged once and changes nothing. `what` they are goes to the
    /// log.
    ///
    /// # Errors
    ///
    /// A file that cannot be read, or contents that `parse` does not accept.
    pub async fn open(
        what: &'static str,
        files: Vec<PathBuf>,
        parse: impl Fn(&[Vec<u8>]) -> Result<T, String> + Send + Sync + 'static,
    ) -> Result<Self, WatchedError> {
        let contents = read_all(&files).await?;
        let first = parse(&contents).map_err(WatchedError::Unusable)?;
        let (newest, receiver) = watch::channel(Arc::new(first));
        tokio::spawn(follow(what, files, contents, parse, newest));
        Ok(Self(receiver))
    }

    /// The newest good version.
    #[must_use]
    pub fn newest(&self) -> Arc<T> {
        Arc::clone(&self.0.borrow())
    }
}

impl<T> Clone for Watched<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

async fn follow<T>(
    what: &'static str,
    files: Vec<PathBuf>,
    mut known: Vec<Vec<u8>>,
    parse: impl Fn(&[Vec<u8>]) -> Result<T, String>,
    newest: watch::Sender<Arc<T>>,
) {
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut complaint = None;
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = newest.closed() => return,
        }
        let read = match read_all(&files).await {
            Ok(contents) if contents == known => {
                complaint = None;
                continue;
            }
            Ok(contents) => {
                let parsed = parse(&contents).map_err(WatchedError::Unusable);
                // One that is bad is looked at again only when it has changed again.
                known = contents;
                parsed
            }
            Err(error) => Err(error),
        };
        match read {
            Ok(version) => {
                newest.send_replace(Arc::new(version));
                complaint = None;
                tracing::info!(what, "replaced by what the files say now");
            }
            Err(error) => {
                let told = error.to_string();
                if complaint.as_ref() != Some(&told) {
                    tracing::error!(what, error = told, "the version before stays in use");
                    complaint = Some(told);
                }
            }
        }
    }
}

async fn read_all(files: &[PathBuf]) -> Result<Vec<Vec<u8>>, WatchedError> {
    let mut contents = Vec::with_capacity(files.len());
    for file in files {
        contents.push(read(file).await?);
    }
    Ok(contents)
}

async fn read(file: &Path) -> Result<Vec<u8>, WatchedError> {
    let unreadable = |cause| WatchedError::Unreadable {
        file: file.to_owned(),
        cause,
    };
    let opened = File::open(file).await.map_err(unreadable)?;
    let mut content = Vec::new();
    let mut limited = opened.take(MAX_BYTES + 1);
    limited
        .read_to_end(&mut content)
        .await
        .map_err(unreadable)?;
    if content.len() as u64 > MAX_BYTES {
        return Err(WatchedError::TooLarge(file.to_owned()));
    }
    Ok(content)
}
