//! The operating-system user that the server runs as.
//!
//! PostgreSQL refuses to run as root, and many containers and build machines run as root. There the
//! server runs as an unprivileged user. Any other user runs the server as themselves.

use std::{
    os::unix::fs::lchown,
    path::{Path, PathBuf},
    process::Stdio,
};

use tokio::process::Command;

use crate::error::{Error, failed};

/// The users that root runs the server as, in order of preference. A user of its own isolates the
/// server from other services.
const STAND_INS: [&str; 2] = ["postgres", "nobody"];

/// The user that the server runs as.
#[derive(Debug)]
pub(crate) struct Account {
    pub(crate) uid: u32,
    /// Set if this process is root, so that the server runs as another user.
    stand_in: Option<StandIn>,
}

#[derive(Debug)]
struct StandIn {
    name: &'static str,
    gid: u32,
}

impl Account {
    pub(crate) async fn for_server() -> Result<Self, Error> {
        let uid = id(&["-u"]).await?.ok_or_else(|| {
            failed("reading the output of id -u")(std::io::ErrorKind::InvalidData.into())
        })?;
        if uid != 0 {
            return Ok(Self {
                uid,
                stand_in: None,
            });
        }
        for name in STAND_INS {
            if let (Some(uid), Some(gid)) = (id(&["-u", name]).await?, id(&["-g", name]).await?) {
                return Ok(Self {
                    uid,
                    stand_in: Some(StandIn { name, gid }),
                });
            }
        }
        Err(Error::NoAccount)
    }

    /// A command that runs as this user.
    pub(crate) fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new(program.as_ref());
        // initdb fails in a working directory that it may not read, such as root's home.
        command.current_dir("/").stdin(Stdio::null());
        if let Some(stand_in) = &self.stand_in {
            command.uid(self.uid).gid(stand_in.gid);
        }
        command
    }

    /// Makes this user the owner of a file or directory that this process has created.
    pub(crate) fn own(&self, path: &Path) -> Result<(), Error> {
        match &self.stand_in {
            Some(stand_in) => {
                lchown(path, Some(self.uid), Some(stand_in.gid)).map_err(failed(format!(
                    "changing the owner of {} to {}",
                    path.display(),
                    stand_in.name
                )))
            }
            None => Ok(()),
        }
    }

    /// The stand-in's name and the outermost ancestor of the absolute `path` that the stand-in may
    /// not enter. `None` if the stand-in may enter all of them. Also `None` without a stand-in:
    /// then the first use of the path reports the error.
    pub(crate) async fn barred_from(
        &self,
        path: &Path,
    ) -> Result<Option<(&'static str, PathBuf)>, Error> {
        const FIRST_CLOSED: &str =
            r#"for step; do [ -x "$step" ] || { printf '%s' "$step"; exit; }; done"#;
        let Some(stand_in) = &self.stand_in else {
            return Ok(None);
        };
        let steps: Vec<&Path> = path.ancestors().collect();
        let output = self
            .command("sh")
            .args(["-c", FIRST_CLOSED, "sh"])
            .args(steps.iter().rev())
            .output()
            .await
            .map_err(failed(format!("running sh as user {}", stand_in.name)))?;
        let closed = String::from_utf8_lossy(&output.stdout).into_owned();
        Ok((!closed.is_empty()).then(|| (stand_in.name, PathBuf::from(closed))))
    }

    /// Whether a directory of this owner was created by the server's user, or by this process as
    /// root.
    pub(crate) fn trusts_owner(&self, uid: u32) -> bool {
        uid == self.uid || (self.stand_in.is_some() && uid == 0)
    }
}

/// The number that `id` prints; `None` for a user that does not exist.
async fn id(arguments: &[&str]) -> Result<Option<u32>, Error> {
    let output = Command::new("id")
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .await
        .map_err(failed("running id"))?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().parse().ok())
}
