//! Server streams: items pass through a bounded channel, and every stream ends with a status.

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
use crate::{auth::Caller, events::Events, settings::LiveSettings, telemetry::request};

/// The capacity of the channel, in items. Together with HTTP/2's flow control it bounds the memory
/// of a stream.
const CHANNEL_ITEMS: usize = 16;
/// The time for which the reader may leave a full channel unread.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// A stream of the contract.
pub(super) type Items<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// The writing end of a stream.
pub(super) struct Writer<T>(mpsc::Sender<T>);

/// The reader has not read for [`READ_TIMEOUT`].
pub(super) struct TooSlow;

impl<T> Writer<T> {
    /// Sends an item as soon as the channel has room.
    pub(super) async fn send(&self, item: T) -> Result<(), TooSlow> {
        match timeout(READ_TIMEOUT, self.0.send(item)).await {
            // An error means that the receiver is gone, and `stream` is about to drop this task.
            Ok(_) => Ok(()),
            Err(_elapsed) => Err(TooSlow),
        }
    }
}

/// A stream that `feed` writes. It ends when `feed` returns a status, the reader is gone, the
/// caller's credentials expire, the stream is too old, the feature is disabled, or the server stops.
/// `slot` is freed when writing ends, even if the reader has not taken all items.
pub(super) fn stream<T, F>(
    events: &Events,
    settings: &LiveSettings,
    caller: &Caller,
    slot: StreamSlot,
    feed: impl FnOnce(Writer<T>) -> F,
) -> Items<T>
where
    T: Send + 'static,
    F: Future<Output = Status> + Send + 'static,
{
    let (items, queued) = mpsc::channel(CHANNEL_ITEMS);
    let (ending, ended) = oneshot::channel();
    let feed = request::carry(request::current(), feed(Writer(items.clone())));
    let (events, settings) = (events.clone(), settings.clone());
    let valid_until = caller.valid_until;
    tokio::spawn(async move {
        let status = tokio::select! {
            status = feed => status,
            () = slot.too_old() => status::stream_too_old(),
            () = events.streams_end() => status::shutting_down(),
            () = settings.switched_off() => status::feature_disabled(),
            () = expiry(valid_until) => status::unauthenticated("The token has expired."),
            () = items.closed() => return,
        };
        drop(slot);
        // An error means that the reader is gone.
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
        // The sender is dropped without a status only if the feed has panicked.
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
    use crate::rpc::stream_slots::StreamSlots;
    use crate::settings::Settings;

    fn events() -> Events {
        Events::without_tasks().0
    }

    /// A slot of a stream without a maximum age.
    fn slot() -> StreamSlot {
        StreamSlots::new(1, 1, None).take(None).unwrap()
    }

    fn enabled() -> LiveSettings {
        LiveSettings::fixed(Settings::default())
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
    async fn a_reader_that_stops_reading_gets_the_queued_items_and_slow_reader() {
        let begun = Instant::now();
        let mut items = stream(
            &events(),
            &enabled(),
            &Caller::UNAUTHENTICATED,
            slot(),
            count_upwards,
        );
        assert_eq!(items.next().await.unwrap().unwrap(), 0);
        sleep(READ_TIMEOUT * 2).await;
        let mut queued = 0;
        let status = loop {
            match items.next().await.unwrap() {
                Ok(_) => queued += 1,
                Err(status) => break status,
            }
        };
        assert_eq!(queued, CHANNEL_ITEMS, "memory is bounded");
        assert_eq!(status.code(), Code::Aborted);
        assert_eq!(reason(&status), "SLOW_READER");
        assert!(items.next().await.is_none());
        assert_eq!(begun.elapsed(), READ_TIMEOUT * 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_resumes_in_time_gets_every_item() {
        let mut items = stream(
            &events(),
            &enabled(),
            &Caller::UNAUTHENTICATED,
            slot(),
            count_upwards,
        );
        for expected in 0..100 {
            assert_eq!(items.next().await.unwrap().unwrap(), expected);
            if expected % 20 == 0 {
                sleep(READ_TIMEOUT / 2).await;
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_stopping_server_ends_streams_after_the_queued_items() {
        let events = events();
        let mut items = stream(
            &events,
            &enabled(),
            &Caller::UNAUTHENTICATED,
            slot(),
            |writer| async move {
                let _ = writer.send(1).await;
                pending().await
            },
        );
        sleep(Duration::from_secs(1)).await;
        events.end_streams();
        assert_eq!(items.next().await.unwrap().unwrap(), 1);
        let status = items.next().await.unwrap().unwrap_err();
        assert_eq!(status.code(), Code::Unavailable);
        assert_eq!(reason(&status), "SHUTTING_DOWN");
        assert!(items.next().await.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_of_a_stopping_server_ends_at_once() {
        let events = events();
        events.end_streams();
        let mut items = stream::<u64, _>(
            &events,
            &enabled(),
            &Caller::UNAUTHENTICATED,
            slot(),
            |_writer| pending(),
        );
        let status = items.next().await.unwrap().unwrap_err();
        assert_eq!(reason(&status), "SHUTTING_DOWN");
    }

    #[tokio::test(start_paused = true)]
    async fn the_feed_is_dropped_with_its_reader() {
        let (alive, ended) = oneshot::channel::<()>();
        let items = stream::<u64, _>(
            &events(),
            &enabled(),
            &Caller::UNAUTHENTICATED,
            slot(),
            |_writer| async move {
                let _alive = alive;
                pending().await
            },
        );
        drop(items);
        ended.await.unwrap_err();
    }

    #[tokio::test(start_paused = true)]
    async fn a_panic_of_the_feed_ends_the_stream_with_internal() {
        let mut items = stream::<u64, _>(
            &events(),
            &enabled(),
            &Caller::UNAUTHENTICATED,
            slot(),
            |_writer| async { panic!("on purpose") },
        );
        let status = items.next().await.unwrap().unwrap_err();
        assert_eq!(status.code(), Code::Internal);
    }
}
