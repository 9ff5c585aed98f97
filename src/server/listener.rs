//! The gRPC listener: the limits of HTTP/2, and the connections that it serves.

use std::{io, net::SocketAddr, pin::Pin, time::Duration};

use tokio::{sync::oneshot, task::JoinHandle};
use tokio_stream::{Stream, StreamExt as _};
use tokio_util::sync::CancellationToken;
use tonic::transport::server::TcpIncoming;

use super::{
    connection::Connection,
    connections::Connections,
    options::ServerError,
    tls::{self, TlsConfig},
};
use crate::{
    rpc::{TrafficLimits, layers::Layered},
    watched::Watched,
};

/// Maximum number of calls on one connection that the caller has cancelled before the server
/// accepted them. A connection that exceeds the limit is closed with all its calls. tonic's default
/// is 20. One burst of calls with short deadlines exceeds it, and would fail the calls of all other
/// callers on the same connection.
const MAX_UNSEEN_RESETS: usize = 1024;

/// The interval of pings, and the time for their answers. They find connections whose caller has
/// vanished, which would hold their streams open.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Calls and streams on one connection at a time. Further calls wait at the caller, so that one
/// connection cannot take all slots.
const MAX_CONCURRENT_CALLS: u32 = 4096;
/// The headers of one call, in bytes as HTTP/2 counts them.
const MAX_HEADER_BYTES: u32 = 16 * 1024;
/// Bytes of one call, and of all calls on a connection, that callers may send before the server has
/// read them. The largest request fits the first.
const CALL_WINDOW_BYTES: u32 = 128 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 256 * 1024;

/// A listener that serves.
pub(super) struct Listener {
    pub(super) serving: JoinHandle<Result<(), tonic::transport::Error>>,
    /// Accepts no more connections and calls after a message, or when it is dropped.
    pub(super) stop_accepting: oneshot::Sender<()>,
    /// Closes all connections at once.
    pub(super) close_connections: CancellationToken,
}

/// Listens at this address; port 0: any free port.
///
/// # Errors
///
/// [`ServerError::Listen`].
pub(super) fn listen(address: SocketAddr) -> Result<(TcpIncoming, SocketAddr), ServerError> {
    let failed = |cause| ServerError::Listen { address, cause };
    let incoming = TcpIncoming::bind(address).map_err(failed)?;
    let bound = incoming.local_addr().map_err(failed)?;
    // An answer is one small packet, which must not wait for more data.
    Ok((incoming.with_nodelay(Some(true)), bound))
}

/// Serves calls in a task of its own.
pub(super) fn serve(
    incoming: TcpIncoming,
    certificates: Option<Watched<TlsConfig>>,
    services: Layered,
    limits: TrafficLimits,
) -> Listener {
    let (stop_accepting, stopped) = oneshot::channel();
    let close_connections = CancellationToken::new();
    let incoming = Connections::new(incoming, limits, close_connections.clone());
    let mut builder = tonic::transport::Server::builder();
    if let Some(age) = limits.connection_age {
        builder = builder.max_connection_age(age);
    }
    let serving = builder
        .max_concurrent_streams(MAX_CONCURRENT_CALLS)
        .http2_max_header_list_size(MAX_HEADER_BYTES)
        .initial_stream_window_size(CALL_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .http2_max_pending_accept_reset_streams(Some(MAX_UNSEEN_RESETS))
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .serve_with_incoming_shutdown(services, handshaken(incoming, certificates), async {
            // An error means that the sender was dropped.
            let _ = stopped.await;
        });
    Listener {
        serving: tokio::spawn(serving),
        stop_accepting,
        close_connections,
    }
}

/// The connections that are ready for HTTP/2, after the TLS handshake if there are certificates.
fn handshaken(
    incoming: Connections,
    certificates: Option<Watched<TlsConfig>>,
) -> Pin<Box<dyn Stream<Item = io::Result<Connection>> + Send>> {
    match certificates {
        Some(certificates) => Box::pin(tls::handshakes(incoming, certificates)),
        None => Box::pin(incoming.map(|accepted| accepted.map(Connection::Plain))),
    }
}
