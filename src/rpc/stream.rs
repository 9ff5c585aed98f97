//! What a server stream sends: items through a bounded channel, and how it ends.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};
use tokio_stream::Stream;
use tonic::Status;

use super::status;
use crate::events::Events;

/// Items that wait for a reader. It bounds the memory of a stream together with HTTP/2's flow
/// control.
const BACKLOG: usize = 16;
/// How long a reader may leave a full channel unread.
const PATIENCE: Duration = Duration::from_secs(30);

/// A stream of the contract.
pub(super) type Items<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// The end of a stream that is written to.
pub(super) struct Writer<T>(mpsc::Sender<T>);

/// The reader has not read for long.
pub(super) struct TooSlow;

impl<T> Writer<T> {
    /// Waits until there is room.
    pub(super) async fn send(&self, item: T) -> Result<(), TooSlow> {
        match timeout(PATIENCE, self.0.send(item)).await {
            // Where the reader is gone, so is soon whoever writes.
            Ok(_) => Ok(()),
            Err(_elapsed) => Err(TooSlow),
        }
    }
}

/// A stream that `feed` writes until it returns how the stream ends, the reader is gone, or the
/// server stops.
pub(super) fn stream<T, F>(events: &Events, feed: impl FnOnce(Writer<T>) -> F) -> Items<T>
where
    T: Send + 'static,
    F: Future<Output = Status> + Send + 'static,
{
    let (items, queued) = mpsc::channel(BACKLOG);
    let (ending, ended) = oneshot::channel();
    let feed = feed(Writer(items.clone()));
    let events = events.clone();
    tokio::spawn(async move {
        let status = tokio::select! {
            status = feed => status,
            () = events.streams_end() => status::shutting_down(),
            () = items.closed() => return,
        };
        // A reader that has just gone does not want to know.
        let _ = ending.send(status);
    });
    Box::pin(Reader {
        queued,
        ended: Some(ended),
    })
}

struct Reader<T> {
    queued: mpsc::Receiver<T>,
    ended: Option<oneshot::Receiver<Status>>,
}

impl<T> Stream for Reader<T> {
    type Item = Result<T, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(item) = ready!(self.queued.poll_recv(context)) {
            return Poll::Ready(Some(Ok(item)));
        }
        let Some(ended) = &mut self.ended else {
            return Poll::Ready(None);
        };
        let ending = ready!(Pin::new(ended).poll(context));
        self.ended = None;
        Poll::Ready(ending.ok().map(Err))
    }
}
