//! Warnings about settings that work but are rarely intended.

use std::{fs, net::SocketAddr, os::unix::fs::PermissionsExt as _, path::Path};

use super::config::Auth;
use crate::{
    auth::{self, KeyFile, KeySource},
    server::TlsOptions,
};

/// The permission of all users to read a file.
const READABLE_BY_ALL: u32 = 0o004;

/// Logs a warning for each such setting.
pub(super) fn log(
    listen: SocketAddr,
    auth: Auth,
    auth_options: &auth::Options,
    tls: Option<&TlsOptions>,
) {
    if auth == Auth::None {
        tracing::warn!(
            "no authentication: any client that can connect can execute heists for any player"
        );
    } else if tls.is_none() && !listen.ip().is_loopback() {
        tracing::warn!(
            %listen,
            "bearer tokens travel in plaintext: set HEIST_TLS_CERT_FILE and HEIST_TLS_KEY_FILE, unless \
             a proxy in front speaks TLS"
        );
    }
    let secrets = (auth_options.jwt.as_ref()).and_then(|jwt| match &jwt.keys {
        KeySource::File(KeyFile::Secret(file)) => Some(file),
        KeySource::File(KeyFile::Public(_) | KeyFile::Jwks(_)) | KeySource::Provider(_) => None,
    });
    for file in secrets.into_iter().chain(tls.map(|tls| &tls.key)) {
        if is_readable_by_all(file.path()) {
            tracing::warn!(file = %file.path().display(), "all users can read a secret");
        }
    }
}

fn is_readable_by_all(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|file| file.permissions().mode() & READABLE_BY_ALL != 0)
}
