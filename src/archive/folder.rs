//! The folder that holds the files of the archive.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use crate::store::archive::Kind;

pub(super) struct Folder(PathBuf);

impl Folder {
    /// Creates the folder if it is missing.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        fs::create_dir_all(path)?;
        Ok(Self(path.to_owned()))
    }

    /// The path of a complete file.
    pub(super) fn file(&self, kind: Kind, id: i64) -> PathBuf {
        self.0.join(format!("{}-{id:06}.jsonl.gz", kind.name()))
    }

    /// The path of a file while it is written.
    pub(super) fn partial(&self, kind: Kind, id: i64) -> PathBuf {
        (self.0).join(format!("{}-{id:06}.jsonl.gz.partial", kind.name()))
    }

    /// Gives a complete file its final name, and waits until the disk has the name.
    ///
    /// # Errors
    ///
    /// An error of the file system, also if the name exists. Then the folder holds the files of
    /// another database.
    pub(super) fn publish(&self, kind: Kind, id: i64) -> io::Result<()> {
        let file = self.file(kind, id);
        if file.exists() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        fs::rename(self.partial(kind, id), file)?;
        self.sync()
    }

    /// Removes the partial file of an interrupted run.
    pub(super) fn discard(&self, kind: Kind, id: i64) -> io::Result<()> {
        match fs::remove_file(self.partial(kind, id)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => self.sync(),
        }
    }

    fn sync(&self) -> io::Result<()> {
        File::open(&self.0)?.sync_all()
    }
}
