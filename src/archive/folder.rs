//! The folder that the files are in.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use crate::store::archive::Kind;

pub(super) struct Folder(PathBuf);

impl Folder {
    /// Makes the folder where there is none.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        fs::create_dir_all(path)?;
        Ok(Self(path.to_owned()))
    }

    /// Where a file is that is whole.
    pub(super) fn file(&self, kind: Kind, id: i64) -> PathBuf {
        self.0.join(format!("{}-{id:06}.jsonl.gz", kind.name()))
    }

    /// Where a file is while it is written.
    pub(super) fn partial(&self, kind: Kind, id: i64) -> PathBuf {
        (self.0).join(format!("{}-{id:06}.jsonl.gz.partial", kind.name()))
    }

    /// Gives a file that is whole its name, for good: the name is on disk afterwards.
    ///
    /// # Errors
    ///
    /// Also where another file has the name: that of another database.
    pub(super) fn publish(&self, kind: Kind, id: i64) -> io::Result<()> {
        let file = self.file(kind, id);
        if file.exists() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        fs::rename(self.partial(kind, id), file)?;
        self.sync()
    }

    /// Removes what a run left of a file that it did not finish.
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
