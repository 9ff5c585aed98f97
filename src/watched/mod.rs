//! Files that are read again when they change: keys, certificates and the settings file.
//!
//! Every 400 ms each file is read completely and compared with its last content. This detects every
//! kind of replacement, including the symlink swap by which Kubernetes updates a mounted volume.
//! New content is used when two reads in a row agree, so a half-written file is not used.
//!
//! Only regular files are read. Each read runs on a thread of its own with a time limit, so a file
//! system that does not answer delays neither the reads of other files nor later reads of the same
//! path.

mod file;

use std::{sync::Arc, time::Duration};

use tokio::{sync::watch, time::sleep};

pub use self::file::{ReadError, WatchedError, WatchedFile, read_once};
use self::file::{Source, read_all};

/// The interval between two reads. A change takes effect after at most two of them.
const INTERVAL: Duration = Duration::from_millis(400);
/// The value that was parsed from some files, in its newest valid version. Cheap to clone. The
/// files are watched until the last clone is dropped.
#[derive(Debug)]
pub struct Watched<T>(watch::Receiver<Arc<T>>);

impl<T: Send + Sync + 'static> Watched<T> {
    /// Reads and parses `files`, and then watches them. `parse` gets their contents in the same
    /// order, without a byte-order mark. `what` names the value in the log.
    ///
    /// Later content that does not parse is logged once, and the value stays as it is. A file that
    /// later cannot be read is logged once and counts with its last content.
    ///
    /// # Errors
    ///
    /// A file that cannot be read, or contents that `parse` refuses.
    pub async fn open(
        what: &'static str,
        files: Vec<WatchedFile>,
        mut parse: impl FnMut(&[Vec<u8>]) -> Result<T, String> + Send + 'static,
    ) -> Result<Self, WatchedError> {
        let sources: Vec<Source> = files.into_iter().map(Source::new).collect();
        let last_reads = read_all(&sources).await;
        let contents = (sources.iter().zip(&last_reads))
            .map(|(source, read)| read.clone().map_err(|cause| source.unreadable(cause)))
            .collect::<Result<Vec<_>, _>>()?;
        let first = parse(&contents).map_err(WatchedError::Unusable)?;
        let (newest, receiver) = watch::channel(Arc::new(first));
        let watcher = Watcher {
            what,
            sources,
            last_reads,
            contents,
            parse,
            parse_error: None,
            logged: None,
            newest,
        };
        tokio::spawn(watcher.run());
        Ok(Self(receiver))
    }

    /// A value that does not change.
    #[must_use]
    pub fn fixed(value: T) -> Self {
        Self(watch::channel(Arc::new(value)).1)
    }

    /// The newest valid version.
    #[must_use]
    pub fn newest(&self) -> Arc<T> {
        Arc::clone(&self.0.borrow())
    }

    /// Resolves when the newest version meets the condition.
    pub async fn wait_for(&self, condition: impl Fn(&T) -> bool) {
        let mut versions = self.0.clone();
        if (versions.wait_for(|version| condition(version)).await).is_err() {
            // The value is fixed, so it will never meet the condition.
            std::future::pending::<()>().await;
        }
    }
}

impl<T> Clone for Watched<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

struct Watcher<T, P> {
    what: &'static str,
    sources: Vec<Source>,
    /// The results of the last look.
    last_reads: Vec<Result<Vec<u8>, ReadError>>,
    /// The settled contents that were parsed last.
    contents: Vec<Vec<u8>>,
    parse: P,
    /// Why `contents` do not parse.
    parse_error: Option<WatchedError>,
    /// The problem that was logged last.
    logged: Option<WatchedError>,
    newest: watch::Sender<Arc<T>>,
}

impl<T, P: FnMut(&[Vec<u8>]) -> Result<T, String>> Watcher<T, P> {
    async fn run(mut self) {
        loop {
            tokio::select! {
                () = sleep(INTERVAL) => self.look().await,
                () = self.newest.closed() => return,
            }
        }
    }

    async fn look(&mut self) {
        let reads = read_all(&self.sources).await;
        let settled = reads == self.last_reads;
        self.last_reads = reads;
        if !settled {
            return;
        }
        let mut contents = self.contents.clone();
        for (content, read) in contents.iter_mut().zip(&self.last_reads) {
            if let Ok(read) = read {
                content.clone_from(read);
            }
        }
        if contents != self.contents {
            self.contents = contents;
            self.parse_contents();
        }
        self.log_problem();
    }

    fn parse_contents(&mut self) {
        match (self.parse)(&self.contents) {
            Ok(version) => {
                self.newest.send_replace(Arc::new(version));
                self.parse_error = None;
                tracing::info!(what = self.what, "reloaded from the changed files");
            }
            Err(error) => self.parse_error = Some(WatchedError::Unusable(error)),
        }
    }

    fn log_problem(&mut self) {
        let unreadable = (self.sources.iter().zip(&self.last_reads)).find_map(|(source, read)| {
            let cause = read.as_ref().err()?;
            Some(source.unreadable(cause.clone()))
        });
        let parse_error = self.parse_error.as_ref();
        let problem = unreadable.or_else(|| Some(WatchedError::Unusable(parse_error?.to_string())));
        if problem == self.logged {
            return;
        }
        if let Some(error) = &problem {
            tracing::error!(what = self.what, %error, "the last valid version stays in use");
        }
        self.logged = problem;
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        path::{Path, PathBuf},
        process::Command,
    };

    use super::*;

    /// A directory that is removed after the test.
    struct Directory(PathBuf);

    impl Directory {
        fn new(test: &str) -> Self {
            let path = std::env::temp_dir().join(format!("watched-{}-{test}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.join(name)
        }

        fn write(&self, name: &str, content: &str) -> PathBuf {
            let path = self.path(name);
            fs::write(&path, content).unwrap();
            path
        }

        fn fifo(&self, name: &str) -> PathBuf {
            let path = self.path(name);
            let made = Command::new("mkfifo").arg(&path).status().unwrap();
            assert!(made.success());
            path
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    /// Watches files. The value is their joined contents. Content that starts with `bad` does not
    /// parse.
    async fn watch(files: &[&Path]) -> Result<Watched<String>, WatchedError> {
        let files = files.iter().map(|&path| path.to_owned().into()).collect();
        Watched::open("test files", files, |contents| {
            let texts = contents.iter().map(|it| String::from_utf8_lossy(it));
            let text = texts.collect::<Vec<_>>().join("+");
            if text.starts_with("bad") {
                return Err(text);
            }
            Ok(text)
        })
        .await
    }

    async fn becomes(watched: &Watched<String>, expected: &str) {
        let changed = watched.wait_for(|text| text == expected);
        let changed = tokio::time::timeout(Duration::from_secs(20), changed).await;
        changed.unwrap_or_else(|_| panic!("it stays {}", watched.newest()));
    }

    #[tokio::test]
    async fn content_is_used_when_two_reads_agree() {
        let directory = Directory::new("settles");
        let path = directory.write("file", "1");
        let sources = vec![Source::new(path.clone().into())];
        let (newest, value) = watch::channel(Arc::new(String::new()));
        let mut watcher = Watcher {
            what: "test file",
            last_reads: vec![Ok(b"1".to_vec())],
            contents: vec![b"1".to_vec()],
            sources,
            parse: |contents: &[Vec<u8>]| Ok(String::from_utf8_lossy(&contents[0]).into_owned()),
            parse_error: None,
            logged: None,
            newest,
        };
        for half in ["2", "23", "234"] {
            fs::write(&path, half).unwrap();
            watcher.look().await;
            assert_eq!(**value.borrow(), "", "{half} may be half-written");
        }
        watcher.look().await;
        assert_eq!(**value.borrow(), "234");
    }

    #[tokio::test]
    async fn a_byte_order_mark_is_ignored() {
        let directory = Directory::new("mark");
        let path = directory.write("file", "\u{feff}text");
        let watched = watch(&[&path]).await.unwrap();
        assert_eq!(*watched.newest(), "text");
    }

    #[tokio::test]
    async fn a_file_that_is_a_fifo_for_a_while_is_read_again_afterwards() {
        let directory = Directory::new("fifo");
        let path = directory.write("file", "1");
        let other = directory.write("other", "a");
        let watched = watch(&[&path, &other]).await.unwrap();

        fs::rename(directory.fifo("fifo"), &path).unwrap();
        directory.write("other", "b");
        becomes(&watched, "1+b").await;
        fs::rename(directory.write("new", "2"), &path).unwrap();
        becomes(&watched, "2+b").await;
    }

    #[tokio::test]
    async fn only_regular_files_are_read() {
        let directory = Directory::new("kinds");
        for path in [
            directory.0.clone(),
            directory.fifo("fifo"),
            "/dev/zero".into(),
        ] {
            let cause = ReadError::NotRegular;
            let file = path.clone().into();
            let error = watch(&[&path]).await.unwrap_err();
            assert_eq!(error, WatchedError::Unreadable { file, cause });
        }
    }

    #[tokio::test]
    async fn content_that_does_not_parse_and_a_missing_file_change_nothing() {
        let directory = Directory::new("bad");
        let path = directory.write("file", "1");
        let watched = watch(&[&path]).await.unwrap();
        for change in ["bad", "missing"] {
            if change == "bad" {
                directory.write("file", "bad");
            } else {
                fs::remove_file(&path).unwrap();
            }
            sleep(INTERVAL * 4).await;
            assert_eq!(*watched.newest(), "1");
        }
        directory.write("file", "2");
        becomes(&watched, "2").await;
    }

    #[test]
    fn an_error_names_the_variable() {
        let file = WatchedFile::named("HEIST_JWKS_FILE", "/nowhere".into());
        let error = Source::new(file).unreadable(ReadError::NotRegular);
        assert_eq!(
            error.to_string(),
            "HEIST_JWKS_FILE=/nowhere: cannot read it: it is not a regular file"
        );
    }
}
