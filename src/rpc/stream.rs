//! What a server stream sends: items through a bounded channel, and how it ends.

use std::{
    future::pending,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep_until, timeout},
};
use tokio_stream::Stream;
use tonic::Status;

use super::{status, stream_slots::StreamSlot};
use crate::{auth::Caller, events::Events, telemetry::request};

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

/// A stream that `feed` writes until it returns how the stream ends, the reader is gone, what says
/// who the reader is expires, the stream is too old, or the server stops. Its place is free when nothing is written any more,
/// whether or not the reader takes what was.
pub(super) fn stream<T, F>(
    events: &Events,
    caller: &Caller,
    slot: StreamSlot,
    feed: impl FnOnce(Writer<T>) -> F,
) -> Items<T>
where
    T: Send + 'static,
    F: Future<Output = Status> + Send + 'static,
{
    let (items, queued) = mpsc::channel(BACKLOG);
    let (ending, ended) = oneshot::channel();
    let feed = request::carry(request::current(), feed(Writer(items.clone())));
    let events = events.clone();
    let valid_until = caller.valid_until;
    tokio::spawn(async move {
        let status = tokio::select! {
            status = feed => status,
            () = slot.too_old() => status::stream_too_old(),
            () = events.streams_end() => status::shutting_down(),
            () = expiry(valid_until) => status::unauthenticated("The token has expired."),
            () = items.closed() => return,
        };
        drop(slot);
        // A reader that has just gone does not want to know.
        let _ = ending.send(status);
    });
    Box::pin(Reader {
        queued,
        ended: Some(ended),
    })
}

async fn expiry(valid_until: Option<Instant>) {
    match valid_until {
        Some(moment) => sleep_until(moment).await,
        None => pending().await,
    }
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
        // A stream that a panic cut short has to look like one.
        let status = ending.unwrap_or_else(|_| status::internal("a stream broke off", "streaming"));
        Poll::Ready(Some(Err(status)))
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::sleep;
    use tokio_stream::StreamExt as _;
    use tonic::Code;
    use tonic_types::StatusExt as _;

    use super::*;
    use crate::rpc::{TrafficLimits, stream_slots::StreamSlots};

    fn events() -> Events {
        Events::without_tasks().0
    }

    /// A place without a limit.
    fn slot() -> StreamSlot {
        let limits = TrafficLimits {
            connection_age: None,
            ..TrafficLimits::default()
        };
        StreamSlots::new(limits).take(None).unwrap()
    }

    fn reason(status: &Status) -> String {
        status.get_details_error_info().unwrap().reason
    }

    async fn count_upwards(writer: Writer<u64>) -> Status {
        for number in 0.. {
            if let Err(TooSlow) = writer.send(number).await {
                return status::slow_watcher();
            }
        }
        unreachable!("numbers do not end")
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_who_stops_reading_gets_what_was_queued_and_then_why() {
        let begun = Instant::now();
        let mut items = stream(&events(), &Caller::ANYBODY, slot(), count_upwards);
        assert_eq!(items.next().await.unwrap().unwrap(), 0);
        sleep(PATIENCE * 2).await;
        let mut queued = 0;
        let status = loop {
            match items.next().await.unwrap() {
                Ok(_) => queued += 1,
                Err(status) => break status,
            }
        };
        assert_eq!(queued, BACKLOG, "memory is bounded");
        assert_eq!(status.code(), Code::Aborted);
        assert_eq!(reason(&status), "SLOW_READER");
        assert!(items.next().await.is_none());
        assert_eq!(begun.elapsed(), PATIENCE * 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_who_comes_back_in_time_misses_nothing() {
        let mut items = stream(&events(), &Caller::ANYBODY, slot(), count_upwards);
        for expected in 0..100 {
            assert_eq!(items.next().await.unwrap().unwrap(), expected);
            if expected % 20 == 0 {
                sleep(PATIENCE / 2).await;
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_stops_ends_streams_after_what_is_queued() {
        let events = events();
        let mut items = stream(&events, &Caller::ANYBODY, slot(), |writer| async move {
            let _ = writer.send(1).await;
            pending().await
        });
        sleep(Duration::from_secs(1)).await;
        events.end_streams();
        assert_eq!(items.next().await.unwrap().unwrap(), 1);
        let status = items.next().await.unwrap().unwrap_err();
        assert_eq!(status.code(), Code::Unavailable);
        assert_eq!(reason(&status), "SHUTTING_DOWN");
        assert!(items.next().await.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn who_opens_a_stream_of_a_server_that_stops_is_told_so() {
        let events = events();
        events.end_streams();
        let mut items = stream::<u64, _>(&events, &Caller::ANYBODY, slot(), |_writer| pending());
        let status = items.next().await.unwrap().unwrap_err();
        assert_eq!(reason(&status), "SHUTTING_DOWN");
    }

    #[tokio::test(start_paused = true)]
    async fn what_feeds_a_stream_ends_with_its_reader() {
        let (alive, ended) = oneshot::channel::<()>();
        let items = stream::<u64, _>(&events(), &Caller::ANYBODY, slot(), |_writer| async move {
            let _alive = alive;
            pending().await
        });
        drop(items);
        ended.await.unwrap_err();
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_breaks_off_does_not_look_complete() {
        let mut items = stream::<u64, _>(&events(), &Caller::ANYBODY, slot(), |_writer| async {
            panic!("on purpose")
        });
        let status = items.next().await.unwrap().unwrap_err();
        assert_eq!(status.code(), Code::Internal);
    }
}
