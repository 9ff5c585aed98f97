//! The folder of one run of the bench.

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use anyhow::Context as _;

const POLL_INTERVAL: Duration = Duration::from_millis(20);
const MOST_POLLS: usize = 1000;

/// The folder of one run of the bench; removed when dropped.
pub struct Home(PathBuf);

impl Home {
    /// Creates it in cargo's folder for test data, and removes the folders of killed runs.
    pub fn create() -> anyhow::Result<Self> {
        let parent = Path::new(env!("CARGO_TARGET_TMPDIR"));
        for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let owner = name.to_str().and_then(|name| name.strip_prefix("bench-"));
            if owner.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
        let home = parent.join(format!("bench-{}", std::process::id()));
        fs::create_dir_all(&home).with_context(|| format!("cannot make {}", home.display()))?;
        Ok(Self(home))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// After a panic PostgreSQL may still be shutting down.
    fn wait_for_postgres(&self) {
        let clusters = fs::read_dir(&self.0).into_iter().flatten().flatten();
        for cluster in clusters {
            let pid_file = cluster.path().join("postmaster.pid");
            for _ in 0..MOST_POLLS {
                if !pid_file.exists() {
                    break;
                }
                thread::sleep(POLL_INTERVAL);
            }
        }
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        self.wait_for_postgres();
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("cannot remove {}: {error}", self.0.display());
        }
    }
}
