//! A connection with limits of its lifetime, and of what it may send before a call is authenticated.
//!
//! tonic has no such limits. It waits for the first bytes of a connection without a time limit. It
//! asks a connection to close at its maximum age, but does not enforce it.

use std::{
    io,
    net::IpAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Instant, Sleep, sleep},
};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::server::{Connected, TcpConnectInfo};

use super::connection_slots::ConnectionSlot;
use crate::rpc::ConnectionUsage;

/// The length of the HTTP/2 connection preface (RFC 9113).
const PREFACE_BYTES: usize = 24;
/// The time in which the preface must arrive.
const PREFACE_TIMEOUT: Duration = Duration::from_secs(10);
/// The time in which a call on the connection must have been authenticated.
const STRANGER_TIMEOUT: Duration = Duration::from_mins(1);
/// The limit of bytes that a connection may send before a call is authenticated: TLS handshake,
/// probes and reflection. HTTP/2 may keep all of them in memory.
const MAX_STRANGER_BYTES: usize = 256 * 1024;
/// The bytes that are read from such a connection at a time, enough for a hundred small calls.
const STRANGER_READ_BYTES: usize = 2048;
/// The pause after such a read. HTTP/2 reads again before it hands over each call, so that without
/// a pause it would begin thousands of calls before the first refusal is counted.
const STRANGER_READ_PAUSE: Duration = Duration::from_millis(1);

/// The IP address of the remote end; `None` if it is gone.
pub(super) fn peer_address(io: &TcpStream) -> Option<IpAddr> {
    io.peer_addr().ok().map(|address| address.ip())
}

/// A connection that is closed when its time is over.
pub(super) struct LimitedConnection {
    io: TcpStream,
    usage: Arc<ConnectionUsage>,
    _slot: ConnectionSlot,
    accepted: Instant,
    /// The longest time for which the connection is open; `None`: no limit.
    lifetime: Option<Duration>,
    preface_left: usize,
    /// The bytes that the peer has sent before a call was authenticated.
    received: usize,
    /// Ends the pause after a read, before a call was authenticated.
    read_pause: Option<Pin<Box<Sleep>>>,
    stage: Stage,
    /// Ends the stage.
    timer: Option<Pin<Box<Sleep>>>,
    closed: Pin<Box<WaitForCancellationFutureOwned>>,
    /// A further reason to close.
    withdrawn: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
}

/// What a connection must do next.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Send the preface.
    Preface,
    /// Make an authenticated call.
    Stranger,
    /// Close at the end of its lifetime.
    Caller,
}

impl LimitedConnection {
    /// A connection that has just been accepted, and closes when `closed` is cancelled.
    pub(super) fn new(
        io: TcpStream,
        slot: ConnectionSlot,
        usage: Arc<ConnectionUsage>,
        lifetime: Option<Duration>,
        closed: CancellationToken,
    ) -> Self {
        Self {
            io,
            usage,
            _slot: slot,
            accepted: Instant::now(),
            lifetime,
            preface_left: PREFACE_BYTES,
            received: 0,
            read_pause: None,
            stage: Stage::Preface,
            timer: Some(Box::pin(sleep(PREFACE_TIMEOUT))),
            closed: Box::pin(closed.cancelled_owned()),
            withdrawn: None,
        }
    }

    /// The address of the remote end; `None` if it is gone.
    pub(super) fn address(&self) -> Option<IpAddr> {
        peer_address(&self.io)
    }

    pub(super) fn usage(&self) -> &Arc<ConnectionUsage> {
        &self.usage
    }

    /// Limits the lifetime to this time from now.
    pub(super) fn close_after(&mut self, time: Duration) {
        let lifetime = self.accepted.elapsed() + time;
        self.lifetime = Some(self.lifetime.map_or(lifetime, |other| other.min(lifetime)));
        // The timer of the stage was set without this limit.
        self.enter(self.stage);
    }

    /// Reads a few frames, and lets the tasks of their calls run before the next read.
    fn poll_read_of_stranger(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(pause) = &mut self.read_pause {
            ready!(pause.as_mut().poll(context));
            self.read_pause = None;
        }
        let length = buffer.remaining().min(STRANGER_READ_BYTES);
        let mut part = ReadBuf::new(buffer.initialize_unfilled_to(length));
        ready!(Pin::new(&mut self.io).poll_read(context, &mut part))?;
        let read = part.filled().len();
        buffer.advance(read);
        self.read_pause = Some(Box::pin(sleep(STRANGER_READ_PAUSE)));
        self.received = self.received.saturating_add(read);
        if self.received > MAX_STRANGER_BYTES {
            self.usage.close();
        }
        self.note_read(read);
        Poll::Ready(Ok(()))
    }

    /// Also closes when this token is cancelled.
    pub(super) fn close_when(&mut self, withdrawn: &CancellationToken) {
        self.withdrawn = Some(Box::pin(withdrawn.clone().cancelled_owned()));
    }

    /// The result of an operation; an error if it waits on a connection that has to close. HTTP/2
    /// stops reading while a write waits, so a peer that reads nothing is noticed only here.
    fn unless_closed<T>(
        &mut self,
        context: &mut Context<'_>,
        result: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if result.is_pending() && self.must_close(context) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        result
    }

    fn note_read(&mut self, bytes: usize) {
        self.preface_left = self.preface_left.saturating_sub(bytes);
        if self.stage == Stage::Preface && self.preface_left == 0 {
            self.enter(Stage::Stranger);
        }
    }

    fn enter(&mut self, stage: Stage) {
        self.stage = stage;
        let limit = match stage {
            Stage::Preface => Some(PREFACE_TIMEOUT),
            Stage::Stranger => {
                Some((self.lifetime).map_or(STRANGER_TIMEOUT, |it| it.min(STRANGER_TIMEOUT)))
            }
            Stage::Caller => self.lifetime,
        };
        let left = limit.map(|limit| limit.saturating_sub(self.accepted.elapsed()));
        self.timer = left.map(|left| Box::pin(sleep(left)));
    }

    fn must_close(&mut self, context: &mut Context<'_>) -> bool {
        let withdrawn = self.withdrawn.as_mut();
        if self.closed.as_mut().poll(context).is_ready()
            || withdrawn.is_some_and(|it| it.as_mut().poll(context).is_ready())
        {
            return true;
        }
        while let Some(timer) = &mut self.timer {
            if timer.as_mut().poll(context).is_pending() {
                return false;
            }
            let is_over = (self.lifetime).is_some_and(|limit| self.accepted.elapsed() >= limit);
            if is_over || self.stage != Stage::Stranger || !self.usage.is_authenticated() {
                return true;
            }
            self.enter(Stage::Caller);
        }
        false
    }
}

impl AsyncRead for LimitedConnection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // Before the read, so that a peer that never stops sending is closed, too.
        if self.must_close(context) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        if !self.usage.is_authenticated() {
            return self.poll_read_of_stranger(context, buffer);
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(context, buffer))?;
        self.note_read(buffer.filled().len() - before);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for LimitedConnection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(context, bytes);
        self.unless_closed(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(context, slices);
        self.unless_closed(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.io).poll_flush(context);
        self.unless_closed(context, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut_down = Pin::new(&mut self.io).poll_shutdown(context);
        self.unless_closed(context, shut_down)
    }
}

impl Connected for LimitedConnection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.io.connect_info()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio_stream::StreamExt as _;
    use tonic::transport::server::TcpIncoming;

    use super::{super::connections::Connections, *};
    use crate::rpc::TrafficLimits;

    const AGE: Duration = Duration::from_hours(1);

    fn limits(connections: usize) -> TrafficLimits {
        TrafficLimits {
            connections,
            connection_age: Some(AGE),
            ..TrafficLimits::default()
        }
    }

    /// Both ends of a connection, with the token that closes it.
    async fn connection() -> (LimitedConnection, TcpStream, CancellationToken) {
        let listener = TcpIncoming::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let close_all = CancellationToken::new();
        let mut incoming = Connections::new(listener, limits(1), close_all.clone());
        let caller = TcpStream::connect(address).await.unwrap();
        (incoming.next().await.unwrap().unwrap(), caller, close_all)
    }

    /// Reads until the connection ends, and returns its time and the number of bytes.
    async fn end_of(mut connection: LimitedConnection) -> (Duration, usize) {
        let begun = connection.accepted;
        let mut read = Vec::new();
        let error = connection.read_to_end(&mut read).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        (begun.elapsed(), read.len())
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_without_a_preface_is_closed() {
        for bytes in [0, 1, PREFACE_BYTES - 1] {
            let (connection, mut caller, _close_all) = connection().await;
            caller.write_all(&vec![b'x'; bytes]).await.unwrap();
            assert_eq!(end_of(connection).await.1, bytes);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_without_an_authenticated_call_is_closed_after_a_minute() {
        let (connection, mut caller, _close_all) = connection().await;
        caller.write_all(&[b'x'; PREFACE_BYTES]).await.unwrap();
        let (open, _) = end_of(connection).await;
        assert!(
            open >= STRANGER_TIMEOUT && open < STRANGER_TIMEOUT * 2,
            "{open:?}"
        );
    }

    #[tokio::test]
    async fn a_connection_that_sends_much_without_an_authenticated_call_is_closed() {
        let (connection, mut caller, _close_all) = connection().await;
        tokio::spawn(async move { caller.write_all(&vec![b'x'; 2 * MAX_STRANGER_BYTES]).await });
        let (open, read) = end_of(connection).await;
        assert!(read <= MAX_STRANGER_BYTES + STRANGER_READ_BYTES, "{read}");
        assert!(open < PREFACE_TIMEOUT, "{open:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_of_a_caller_is_open_for_twice_the_age() {
        let (mut connection, mut caller, _close_all) = connection().await;
        connection.usage = authenticated();
        caller.write_all(&[b'x'; PREFACE_BYTES]).await.unwrap();
        let (open, read) = end_of(connection).await;
        assert_eq!(read, PREFACE_BYTES);
        assert!(
            open >= AGE * 2 && open < AGE * 2 + PREFACE_TIMEOUT,
            "{open:?}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_ends_with_its_certificate() {
        let (mut connection, mut caller, _close_all) = connection().await;
        connection.usage = authenticated();
        connection.close_after(AGE / 2);
        caller.write_all(&[b'x'; PREFACE_BYTES]).await.unwrap();
        let (open, _) = end_of(connection).await;
        assert!(
            open >= AGE / 2 && open < AGE / 2 + PREFACE_TIMEOUT,
            "{open:?}"
        );
    }

    #[tokio::test]
    async fn all_connections_close_at_once() {
        let (connection, _caller, close_all) = connection().await;
        close_all.cancel();
        assert!(end_of(connection).await.0 < PREFACE_TIMEOUT);
    }

    fn authenticated() -> Arc<ConnectionUsage> {
        let usage = ConnectionUsage::new(false, CancellationToken::new());
        usage.set_authenticated(None);
        Arc::new(usage)
    }
}
