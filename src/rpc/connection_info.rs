//! What a call's connection tells about its caller, and what the calls tell the connection.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tonic::transport::server::TcpConnectInfo;

use crate::auth::ClientCertificate;

/// Calls of health and reflection in progress on one connection. Further calls fail with
/// `OVERLOADED`.
const MAX_OPEN_CALLS: usize = 16;
/// Answers that the server gave up because the caller did not read them. A connection with more of
/// them is closed: each leaves some memory behind until then.
const MAX_UNREAD_ANSWERS: usize = 64;

/// The remote end of a connection. tonic puts a copy into the extensions of each request.
#[derive(Clone, Debug)]
pub struct ConnectionInfo {
    pub tcp: TcpConnectInfo,
    /// The client certificate, which the TLS handshake has verified; `None`: the client sent none.
    pub certificate: Option<Arc<ClientCertificate>>,
    pub usage: Arc<ConnectionUsage>,
}

/// How a connection has been used so far.
#[derive(Debug)]
pub struct ConnectionUsage {
    /// Whether the connection was accepted beyond the limit, for a probe.
    probes_only: bool,
    authenticated: AtomicBool,
    open_calls: Arc<Semaphore>,
    unread_answers: AtomicUsize,
    closed: CancellationToken,
}

impl ConnectionInfo {
    /// The caller's IP address.
    #[must_use]
    pub fn ip_address(&self) -> Option<IpAddr> {
        self.tcp.remote_addr().map(|address| address.ip())
    }
}

impl ConnectionUsage {
    /// A new connection, which closes when `closed` is cancelled.
    #[must_use]
    pub fn new(probes_only: bool, closed: CancellationToken) -> Self {
        Self {
            probes_only,
            authenticated: AtomicBool::new(false),
            open_calls: Arc::new(Semaphore::new(MAX_OPEN_CALLS)),
            unread_answers: AtomicUsize::new(0),
            closed,
        }
    }

    /// Whether a call on the connection has been authenticated.
    #[must_use]
    pub fn is_authenticated(&self) -> bool {
        self.authenticated.load(Ordering::Relaxed)
    }

    /// Whether the connection is for calls of health and reflection alone.
    pub(crate) fn is_for_probes_only(&self) -> bool {
        self.probes_only
    }

    pub(crate) fn set_authenticated(&self) {
        if !self.is_authenticated() {
            self.authenticated.store(true, Ordering::Relaxed);
        }
    }

    /// The slot of a call of health or reflection; `None` if there are too many.
    pub(super) fn open_call(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.open_calls).try_acquire_owned().ok()
    }

    /// Counts an answer that the server gave up, and closes the connection after too many.
    pub(super) fn count_unread_answer(&self) {
        if self.unread_answers.fetch_add(1, Ordering::Relaxed) >= MAX_UNREAD_ANSWERS {
            self.close();
        }
    }

    /// Closes the connection.
    pub fn close(&self) {
        self.closed.cancel();
    }
}
