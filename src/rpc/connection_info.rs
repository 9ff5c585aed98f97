//! The connection of a call: its remote address, its client certificate, and how its calls have
//! used it.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI32, AtomicUsize, Ordering},
    },
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tonic::transport::server::TcpConnectInfo;

use crate::{auth::ClientCertificate, domain::ids::UserId};

/// Maximum number of calls of health and reflection in progress on one connection. Further calls
/// fail with `OVERLOADED`.
const MAX_OPEN_CALLS: usize = 16;
/// Maximum number of answers that the server has dropped because the caller did not read them. A
/// connection with more is closed, because each dropped answer occupies memory until the connection
/// ends.
const MAX_UNREAD_ANSWERS: usize = 8;
/// Maximum number of refusals on a connection without an authenticated call. A connection with more
/// is closed, because the answers wait in memory until the caller reads them.
const MAX_REFUSALS: usize = 256;

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
    refusals: AtomicUsize,
    /// The player of all authenticated calls; [`NO_PLAYER`] before the first one,
    /// [`SEVERAL_CALLERS`] if a service or several players have called.
    player: AtomicI32,
    closed: CancellationToken,
}

const NO_PLAYER: i32 = 0;
const SEVERAL_CALLERS: i32 = -1;

impl ConnectionInfo {
    /// The remote end's IP address.
    #[must_use]
    pub fn ip_address(&self) -> Option<IpAddr> {
        // A dual-stack socket tells IPv4 addresses as IPv6 ones.
        let address = self.tcp.remote_addr()?;
        Some(address.ip().to_canonical())
    }
}

/// Counts a request that was refused before its caller was known.
pub(super) fn count_refusal<B>(request: &http::Request<B>) {
    if let Some(connection) = request.extensions().get::<ConnectionInfo>() {
        connection.usage.count_refusal();
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
            refusals: AtomicUsize::new(0),
            player: AtomicI32::new(NO_PLAYER),
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

    /// Records that a call on the connection has been authenticated. `player`: the caller, unless it
    /// is a service.
    pub(crate) fn set_authenticated(&self, player: Option<UserId>) {
        let player = player.map_or(SEVERAL_CALLERS, UserId::get);
        if !self.is_authenticated() {
            self.authenticated.store(true, Ordering::Relaxed);
            self.player.store(player, Ordering::Relaxed);
        } else if self.player.load(Ordering::Relaxed) != player {
            self.player.store(SEVERAL_CALLERS, Ordering::Relaxed);
        }
    }

    /// The player who has made all authenticated calls on the connection, if it is one player.
    pub(crate) fn player(&self) -> Option<UserId> {
        UserId::new(self.player.load(Ordering::Relaxed)).ok()
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

    /// Counts a call that was refused before its caller was known, and closes a connection of a
    /// stranger with more than [`MAX_REFUSALS`].
    pub(super) fn count_refusal(&self) {
        let refusals = self.refusals.fetch_add(1, Ordering::Relaxed);
        if refusals >= MAX_REFUSALS && !self.is_authenticated() {
            self.close();
        }
    }

    /// Closes the connection.
    pub fn close(&self) {
        self.closed.cancel();
    }
}
