//! Finds an installed PostgreSQL.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
};

use tokio::{fs, process::Command};

use crate::{
    account::Account,
    error::{Error, failed},
};

/// Directories and a name prefix. Each child with that prefix is one installed version, with its
/// programs in `bin`. From the top: Debian, Homebrew on Apple and Intel processors, PostgreSQL's
/// RPMs.
const INSTALLATIONS: [(&str, &str); 4] = [
    ("/usr/lib/postgresql", ""),
    ("/opt/homebrew/opt", "postgresql"),
    ("/usr/local/opt", "postgresql"),
    ("/usr", "pgsql-"),
];

/// The programs of one PostgreSQL version.
#[derive(Debug)]
pub(crate) struct Binaries {
    pub(crate) initdb: PathBuf,
    pub(crate) postgres: PathBuf,
    /// The major version. A cluster can only be read by the major version that created it.
    pub(crate) major: u32,
}

impl Binaries {
    /// The programs in `bin_dir`; without it, the first ones found that the server's user may run.
    pub(crate) async fn find(bin_dir: Option<&Path>, account: &Account) -> Result<Self, Error> {
        let (directories, mut failure) = match bin_dir {
            Some(given) => {
                let bin_dir = std::path::absolute(given)
                    .map_err(failed(format!("locating {}", given.display())))?;
                (vec![bin_dir.clone()], Error::NotInBinDir { bin_dir })
            }
            None => (search().await, not_installed()),
        };
        for bin_dir in directories {
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
                    failure = Error::BinariesOutOfReach {
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

fn not_installed() -> Error {
    let usual = INSTALLATIONS.map(|(parent, prefix)| format!("{parent}/{prefix}*/bin"));
    Error::NotInstalled {
        searched: format!("PATH, {}", usual.join(", ")),
    }
}

/// Directories that may contain the programs, in order of preference.
async fn search() -> Vec<PathBuf> {
    let mut directories: Vec<PathBuf> = on_path().await.into_iter().collect();
    for (parent, prefix) in INSTALLATIONS {
        directories.extend(versions_below(parent, prefix).await);
    }
    directories
}

/// The directory on `PATH` that contains `initdb`, as the shell finds it.
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

/// The `bin` directories of the versions installed below `parent`, newest first.
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

/// Runs the program with `--version`, which also shows whether it runs.
async fn major_version(postgres: &Path, account: &Account) -> Result<u32, Error> {
    let unusable = |reason: String| Error::Unusable {
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
    major_in(&said).ok_or_else(|| unusable(format!("cannot read its version: {}", said.trim())))
}

/// 18 in `postgres (PostgreSQL) 18.4 (Debian 18.4-1)`.
fn major_in(version: &str) -> Option<u32> {
    version_number(version.split_whitespace().nth(2)?)
}

#[cfg(test)]
mod tests {
    use super::{major_in, version_number};

    #[test]
    fn reads_the_major_version_from_the_output_of_postgres() {
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
