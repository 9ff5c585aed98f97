//! Accepts connections, limits their number, and keeps slots for probes. tonic accepts any number of
//! connections.
//!
//! A connection is a *stranger* until one of its calls has been authenticated. Strangers are closed
//! to make room for new connections: see [`ConnectionSlots`].

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    net::TcpStream,
    time::{Sleep, sleep},
};
use tokio_stream::Stream;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::TcpIncoming;

use super::{
    connection_slots::ConnectionSlots,
    limited_connection::{LimitedConnection, peer_address},
};
use crate::{
    rpc::TrafficLimits,
    telemetry::{Part, permits_stranger},
};

/// The pause after a failed accept. The process or the machine may be out of file descriptors, and
/// the next attempt would fail at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The event of a connection without a slot.
const REFUSED: &str = "CONNECTION_REFUSED";

/// The accepted connections.
pub(super) struct Connections {
    listener: TcpIncoming,
    slots: ConnectionSlots,
    limits: TrafficLimits,
    close_all: CancellationToken,
    pause: Option<Pin<Box<Sleep>>>,
}

impl Connections {
    /// Accepts from `listener` until it ends. Cancelling `close_all` closes every connection at
    /// once.
    pub(super) fn new(
        listener: TcpIncoming,
        limits: TrafficLimits,
        close_all: CancellationToken,
    ) -> Self {
        Self {
            listener,
            slots: ConnectionSlots::default(),
            limits,
            close_all,
            pause: None,
        }
    }

    /// The connection with its limits; `None` if there is no slot, so that it is closed.
    fn limit(&mut self, io: TcpStream) -> Option<LimitedConnection> {
        let address = peer_address(&io);
        let closed = self.close_all.child_token();
        let slot = self.slots.take(address, &self.limits, &closed);
        if slot.is_none() && permits_stranger(Part::Main, REFUSED, "CONNECTION_LIMIT", address) {
            let address = address.map(tracing::field::display);
            tracing::warn!(
                event = REFUSED,
                reason = "CONNECTION_LIMIT",
                ipAddress = address,
                "HEIST_CONNECTION_LIMIT callers are connected"
            );
        }
        let (slot, usage) = slot?;
        // A stream that opens just before the connection is asked to close may itself reach the maximum
        // age.
        let lifetime = self.limits.connection_age.map(|age| age * 2);
        Some(LimitedConnection::new(io, slot, usage, lifetime, closed))
    }
}

impl Stream for Connections {
    type Item = io::Result<LimitedConnection>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(pause) = &mut self.pause {
                ready!(pause.as_mut().poll(context));
                self.pause = None;
            }
            match ready!(Pin::new(&mut self.listener).poll_next(context)) {
                Some(Ok(io)) => {
                    if let Some(connection) = self.limit(io) {
                        return Poll::Ready(Some(Ok(connection)));
                    }
                }
                Some(Err(error)) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    self.pause = Some(Box::pin(sleep(ACCEPT_PAUSE)));
                }
                None => return Poll::Ready(None),
            }
        }
    }
}
