//! Connections: how many there are, and how long one may say nothing or stay.
//!
//! What HTTP/2 and tonic have no limit for. tonic asks a connection that has reached its age to
//! close, and waits; it closes none by force after a grace period that began with asking, it
//! waits for ever for the first bytes, and takes any number of connections.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, Sleep, sleep},
};
use tokio_stream::Stream;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::server::{Connected, TcpConnectInfo, TcpIncoming};

/// With how many bytes every HTTP/2 connection begins.
const PREFACE_BYTES: usize = 24;
/// How long they may take to come.
const PREFACE_TIMEOUT: Duration = Duration::from_secs(10);
/// Before the next attempt to accept a connection where the process or the machine has no room
/// for one. Without it the attempts would take a processor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The connections that are accepted.
pub(super) struct GuardedIncoming {
    listener: TcpIncoming,
    free: Arc<Semaphore>,
    /// The longest that a connection is open; `None`: for ever.
    lifetime: Option<Duration>,
    cut: CancellationToken,
    /// Whether the last connection was refused, so that a flood of them is one line of the log.
    is_full: bool,
    pause: Option<Pin<Box<Sleep>>>,
}

impl GuardedIncoming {
    /// `age` is after how long a connection is asked to close. It may take as long again, since
    /// streams that were opened just before it may be open for an `age` of their own. When `cut`
    /// is cancelled, every connection is closed at once.
    pub(super) fn new(
        listener: TcpIncoming,
        most: usize,
        age: Option<Duration>,
        cut: CancellationToken,
    ) -> Self {
        Self {
            listener,
            free: Arc::new(Semaphore::new(most)),
            lifetime: age.map(|age| age * 2),
            cut,
            is_full: false,
            pause: None,
        }
    }

    /// The connection with its limits, or `None` where there are too many and it was closed.
    fn admit(&mut self, io: TcpStream) -> Option<Guarded> {
        let was_full = self.is_full;
        let slot = Arc::clone(&self.free).try_acquire_owned().ok();
        self.is_full = slot.is_none();
        if self.is_full && !was_full {
            tracing::warn!("refusing connections: as many are open as HEIST_CONNECTION_LIMIT says");
        }
        Some(Guarded {
            io,
            _slot: slot?,
            accepted: Instant::now(),
            lifetime: self.lifetime,
            preface_left: PREFACE_BYTES,
            expiry: Some(Box::pin(sleep(PREFACE_TIMEOUT))),
            cut: Box::pin(self.cut.clone().cancelled_owned()),
        })
    }
}

impl Stream for GuardedIncoming {
    type Item = io::Result<Guarded>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(pause) = &mut self.pause {
                ready!(pause.as_mut().poll(context));
                self.pause = None;
            }
            match ready!(Pin::new(&mut self.listener).poll_next(context)) {
                Some(Ok(io)) => {
                    if let Some(connection) = self.admit(io) {
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

/// A connection with its limits.
pub(super) struct Guarded {
    io: TcpStream,
    _slot: OwnedSemaphorePermit,
    accepted: Instant,
    lifetime: Option<Duration>,
    preface_left: usize,
    /// When it is closed, whatever happens on it: first for want of a beginning, then of age.
    expiry: Option<Pin<Box<Sleep>>>,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Guarded {
    fn note_read(&mut self, bytes: usize) {
        if self.preface_left == 0 {
            return;
        }
        self.preface_left = self.preface_left.saturating_sub(bytes);
        if self.preface_left == 0 {
            let lifetime = self.lifetime;
            let left = lifetime.map(|lifetime| lifetime.saturating_sub(self.accepted.elapsed()));
            self.expiry = left.map(|left| Box::pin(sleep(left)));
        }
    }

    fn has_to_close(&mut self, context: &mut Context<'_>) -> bool {
        self.cut.as_mut().poll(context).is_ready()
            || (self.expiry.as_mut()).is_some_and(|expiry| expiry.as_mut().poll(context).is_ready())
    }
}

impl AsyncRead for Guarded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        // HTTP/2 always waits to read, so that this is the place to hear of an end.
        if Pin::new(&mut self.io)
            .poll_read(context, buffer)?
            .is_ready()
        {
            self.note_read(buffer.filled().len() - before);
            return Poll::Ready(Ok(()));
        }
        if self.has_to_close(context) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Poll::Pending
    }
}

impl AsyncWrite for Guarded {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}

impl Connected for Guarded {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.io.connect_info()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio_stream::StreamExt as _;

    use super::*;

    const AGE: Duration = Duration::from_hours(1);

    /// A connection as both ends have it, with the switch that cuts it.
    async fn connection() -> (Guarded, TcpStream, CancellationToken) {
        let listener = TcpIncoming::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let cut = CancellationToken::new();
        let mut incoming = GuardedIncoming::new(listener, 1, Some(AGE), cut.clone());
        let caller = TcpStream::connect(address).await.unwrap();
        (incoming.next().await.unwrap().unwrap(), caller, cut)
    }

    /// Reads until the connection ends, and returns after how long and how much that was.
    async fn end_of(mut connection: Guarded) -> (Duration, usize) {
        let begun = connection.accepted;
        let mut read = Vec::new();
        let error = connection.read_to_end(&mut read).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        (begun.elapsed(), read.len())
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_begin_is_cut_off() {
        for bytes in [0, 1, PREFACE_BYTES - 1] {
            let (connection, mut caller, _cut) = connection().await;
            caller.write_all(&vec![b'x'; bytes]).await.unwrap();
            assert_eq!(end_of(connection).await.1, bytes);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_begins_may_stay_for_twice_the_age() {
        let (connection, mut caller, _cut) = connection().await;
        caller.write_all(&[b'x'; PREFACE_BYTES]).await.unwrap();
        let (open, read) = end_of(connection).await;
        assert_eq!(read, PREFACE_BYTES);
        assert!(
            open >= AGE * 2 && open < AGE * 2 + PREFACE_TIMEOUT,
            "{open:?}"
        );
    }

    #[tokio::test]
    async fn all_are_cut_at_once() {
        let (connection, _caller, cut) = connection().await;
        cut.cancel();
        assert!(end_of(connection).await.0 < PREFACE_TIMEOUT);
    }
}
