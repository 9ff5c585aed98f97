//! The connection of a call: its remote address, its client certificate, and how its calls have
//! used it.

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

/// Maximum number of calls of health and reflection in progress on one connection. Further calls
/// fail with `OVERLOADED`.
const MAX_OPEN_CALLS: usize = 16;
/// Maximum number of answers that the server has dropped because the caller did not read them. A
/// connection with more is closed, because each dropped answer occupies memory until the connection
/// ends.
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
    /// The remote end's IP address.
    #[must_use]
    pub fn ip_address(&self) -> Option<IpAddr> {
        // A dual-stack socket tells IPv4 addresses as IPv6 ones.
        let address = self.tcp.remote_addr()?;
        Some(address.ip().to_canonical())
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

    /// Whether only calls of health and reflection are accepted on the connection.
    pub(crate) fn is_for_probes_only(&self) -> bool {
        self.probes_only
    }

    pub(crate) fn set_authenticated(&self) {
        if !self.is_authenticated() {
            self.authenticated.store(true, Ordering::Relaxed);
        }
    }

    /// Takes a slot for a call of health or reflection; `None` if [`MAX_OPEN_CALLS`] are in
    /// progress.
    pub(super) fn open_call(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.open_calls).try_acquire_owned().ok()
    }

    /// Counts an answer that the server dropped unread, and closes the connection if there are more
    /// than [`MAX_UNREAD_ANSWERS`].
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
