//! As which operating-system user the server runs.
//!
//! PostgreSQL refuses to run as root, and root is what many containers and build machines are.
//! So root runs it as an unprivileged user; everybody else runs it as themselves.

use std::os::unix::fs::lchown;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::Command;

use super::error::{EmbeddedError, failed};

/// Whom root runs the server as, best first: its own user keeps it apart from other services.
const STAND_INS: [&str; 2] = ["postgres", "nobody"];

/// The user that the server runs as.
#[derive(Debug)]
pub(super) struct Account {
    pub(super) uid: u32,
    /// Set when we are root and the server has to be somebody else.
    stand_in: Option<StandIn>,
}

#[derive(Debug)]
struct StandIn {
    name: &'static str,
    gid: u32,
}

impl Account {
    pub(super) async fn for_server() -> Result<Self, EmbeddedError> {
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
        Err(EmbeddedError::NoAccount)
    }

    /// A command that runs as this user, in a folder that this user may be in.
    pub(super) fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new(program.as_ref());
        // initdb fails in a working directory that it may not read, such as root's home.
        command.current_dir("/").stdin(Stdio::null());
        if let Some(stand_in) = &self.stand_in {
            command.uid(self.uid).gid(stand_in.gid);
        }
        command
    }

    /// Gives a file or folder that we have made to this user.
    pub(super) fn own(&self, path: &Path) -> Result<(), EmbeddedError> {
        match &self.stand_in {
            Some(stand_in) => lchown(path, Some(self.uid), Some(stand_in.gid)).map_err(failed(
                format!("giving {} to {}", path.display(), stand_in.name),
            )),
            None => Ok(()),
        }
    }

    /// Who the stand-in is and the outermost step on the way to `path` (absolute) that is closed
    /// to it. `None` without a stand-in: what is closed to ourselves shows when we try.
    pub(super) async fn barred_from(
        &self,
        path: &Path,
    ) -> Result<Option<(&'static str, PathBuf)>, EmbeddedError> {
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

    /// Whether a folder of this owner can only have been made by us or by the server's user.
    pub(super) fn trusts_owner(&self, uid: u32) -> bool {
        uid == self.uid || (self.stand_in.is_some() && uid == 0)
    }
}

/// The number that `id` answers; `None` for a user that does not exist.
async fn id(arguments: &[&str]) -> Result<Option<u32>, EmbeddedError> {
    let output = Command::new("id")
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .await
        .map_err(failed("running id"))?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().parse().ok())
}
