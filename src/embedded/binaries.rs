//! Finds an installed PostgreSQL.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::fs;
use tokio::process::Command;

use super::account::Account;
use super::error::{EmbeddedError, failed};

/// Folders whose children of a certain name prefix are one installed version each, with `bin`
/// below: Debian's, Homebrew's on both kinds of Mac, and that of PostgreSQL's own RPMs.
const INSTALLATIONS: [(&str, &str); 4] = [
    ("/usr/lib/postgresql", ""),
    ("/opt/homebrew/opt", "postgresql"),
    ("/usr/local/opt", "postgresql"),
    ("/usr", "pgsql-"),
];

/// The programs of one PostgreSQL version.
#[derive(Debug)]
pub(super) struct Binaries {
    pub(super) initdb: PathBuf,
    pub(super) postgres: PathBuf,
    /// The major version, which decides who can read a cluster.
    pub(super) major: u32,
}

impl Binaries {
    /// The programs in `bin_dir`, or without one the first found that the server's user may run.
    pub(super) async fn find(
        bin_dir: Option<&Path>,
        account: &Account,
    ) -> Result<Self, EmbeddedError> {
        let (folders, mut failure) = match bin_dir {
            Some(given) => {
                let bin_dir = std::path::absolute(given)
                    .map_err(failed(format!("locating {}", given.display())))?;
                (
                    vec![bin_dir.clone()],
                    EmbeddedError::NotInBinDir { bin_dir },
                )
            }
            None => (search().await, not_installed()),
        };
        for bin_dir in folders {
            let (initdb, postgres) = (bin_dir.join("initdb"), bin_dir.join("postgres"));
            if !is_file(&initdb).await || !is_file(&postgres).await {
                continue;
            }
            match account.barred_from(&postgres).await? {
                None => {
                    let major = major_version(&postgres, account).await?;
                    return Ok(Self {
                        initdb,
                        postgres,
                        major,
                    });
                }
                Some((name, closed)) => {
                    failure = EmbeddedError::BinariesOutOfReach {
                        bin_dir,
                        closed,
                        account: name.to_owned(),
                    };
                }
            }
        }
        Err(failure)
    }
}

fn not_installed() -> EmbeddedError {
    let usual = INSTALLATIONS.map(|(parent, prefix)| format!("{parent}/{prefix}*/bin"));
    EmbeddedError::NotInstalled {
        searched: format!("PATH, {}", usual.join(", ")),
    }
}

/// Folders that may hold PostgreSQL, best first.
async fn search() -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = on_path().await.into_iter().collect();
    for (parent, prefix) in INSTALLATIONS {
        folders.extend(versions_below(parent, prefix).await);
    }
    folders
}

/// The folder on `PATH` that has `initdb`. The shell looks, as only `config` reads the environment.
async fn on_path() -> Option<PathBuf> {
    let output = Command::new("sh")
        .args(["-c", "command -v initdb"])
        .stdin(Stdio::null())
        .output()
        .await
        .ok()?;
    let found = String::from_utf8(output.stdout).ok()?;
    let initdb = std::path::absolute(found.trim_end()).ok()?;
    initdb.parent().map(Path::to_owned)
}

/// The `bin` folders of the versions installed below `parent`, the newest first.
async fn versions_below(parent: &str, prefix: &str) -> Vec<PathBuf> {
    let mut versions = Vec::new();
    if let Ok(mut children) = fs::read_dir(parent).await {
        while let Ok(Some(child)) = children.next_entry().await {
            let name = child.file_name().to_string_lossy().into_owned();
            if let Some(version) = name.strip_prefix(prefix) {
                versions.push((version_number(version), child.path().join("bin")));
            }
        }
    }
    versions.sort_by(|left, right| right.cmp(left));
    versions.into_iter().map(|(_, bin_dir)| bin_dir).collect()
}

/// 17 for `17`, `@17`, `17.2` and `17beta1`; `None` without a number.
fn version_number(text: &str) -> Option<u32> {
    let text = text.trim_start_matches('@');
    let end = text
        .find(|character: char| !character.is_ascii_digit())
        .unwrap_or(text.len());
    text[..end].parse().ok()
}

async fn is_file(path: &Path) -> bool {
    fs::metadata(path).await.is_ok_and(|found| found.is_file())
}

/// Asks the program itself, which also shows whether it runs at all.
async fn major_version(postgres: &Path, account: &Account) -> Result<u32, EmbeddedError> {
    let unusable = |reason: String| EmbeddedError::Unusable {
        program: postgres.to_owned(),
        reason,
    };
    let output = account
        .command(postgres)
        .arg("--version")
        .output()
        .await
        .map_err(|error| unusable(error.to_string()))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(unusable(format!("{} ({})", said.trim(), output.status)));
    }
    let said = String::from_utf8_lossy(&output.stdout);
    major_in(&said).ok_or_else(|| unusable(format!("its version is unclear: {}", said.trim())))
}

/// 18 in `postgres (PostgreSQL) 18.4 (Debian 18.4-1)`.
fn major_in(version: &str) -> Option<u32> {
    version_number(version.split_whitespace().nth(2)?)
}

#[cfg(test)]
mod tests {
    use super::{major_in, version_number};

    #[test]
    fn reads_the_major_version_from_what_postgres_says() {
        assert_eq!(major_in("postgres (PostgreSQL) 18.4\n"), Some(18));
        assert_eq!(
            major_in("postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)\n"),
            Some(15)
        );
        assert_eq!(major_in("postgres (PostgreSQL) 19beta1\n"), Some(19));
        assert_eq!(major_in("postgres\n"), None);
    }

    #[test]
    fn orders_installed_versions_by_number_with_unnumbered_ones_last() {
        let mut versions = ["@9", "", "@17", "@16"];
        versions.sort_by_key(|version| std::cmp::Reverse(version_number(version)));
        assert_eq!(versions, ["@17", "@16", "@9", ""]);
    }
}
