//! `NotificationService.StreamNotifications`
//!
//! A stream is a cursor: after each signal it reads the notifications after the last one that it
//! sent. A lost signal delays notifications and skips none.

use std::time::Duration;

use tokio::time::{sleep, timeout};
use tonic::{Request, Response, Status};

use crate::{
    domain::{
        ids::{NotificationId, UserId},
        notification::Notification,
    },
    events::StreamWaker,
    fault::Fault,
    pb::{StreamNotificationsRequest, StreamNotificationsResponse},
    rpc::{
        Api, accept,
        deadline::read_within,
        fields::Fields,
        render, status,
        stream::{Items, TooSlow, Writer, stream},
        stream_reads::StreamReads,
    },
    store::{
        PgPool, StoreError,
        notifications::{self, Range},
        players,
    },
};

/// Rows of one read.
const ROWS: u8 = 100;
/// The time limit of a read, after which the database counts as unavailable.
const READ_TIMEOUT: Duration = Duration::from_secs(5);
/// The pause between reads while the database is unavailable.
const PAUSE: Duration = Duration::from_secs(1);

type Item = StreamNotificationsResponse;

pub(super) async fn handle(
    api: &Api,
    request: Request<StreamNotificationsRequest>,
) -> Result<Response<Items<Item>>, Status> {
    let deadline = api.accept(&request)?;
    let message = request.get_ref();
    let mut fields = Fields::default();
    let user_id = fields.user_id("user_id", message.user_id);
    let after =
        (message.after_id != 0).then(|| fields.notification_id("after_id", message.after_id));
    fields.check()?;

    let slot = api.traffic.streams.take(Some(user_id))?;
    // Listens before it reads, so that a notification in between causes a signal.
    let waker = api.events.waker(user_id);
    let read = async {
        let exists = players::exists(&api.pool, user_id).await?;
        let cursor = match after {
            Some(after) => Some(after),
            None => newest(&api.pool, user_id).await?,
        };
        Ok((exists, cursor))
    };
    let (exists, cursor) = read_within(deadline, "opening a stream", read).await?;
    if !exists {
        return Err(status::user_not_found(user_id));
    }

    let feed = Feed {
        user_id,
        cursor,
        waker,
        pool: api.pool.clone(),
        reads: api.stream_reads.clone(),
    };
    let caller = accept::caller(&request);
    let items = stream(&api.events, &api.settings, caller, slot, |writer| {
        feed.run(writer)
    });
    Ok(Response::new(items))
}

/// The player's newest notification.
async fn newest(pool: &PgPool, user_id: UserId) -> Result<Option<NotificationId>, StoreError> {
    let page = notifications::page(pool, user_id, false, Range::Newest, 1).await?;
    Ok(page.first().map(|newest| newest.id))
}

/// Writes one stream.
struct Feed {
    user_id: UserId,
    /// The last notification that was sent, or the one after which the stream begins.
    cursor: Option<NotificationId>,
    waker: StreamWaker,
    pool: PgPool,
    reads: StreamReads,
}

impl Feed {
    /// Sends notifications until the stream must end, and returns its status.
    async fn run(mut self, writer: Writer<Item>) -> Status {
        loop {
            match self.send_new(&writer).await {
                Ok(()) => self.waker.woken().await,
                Err(status) => return status,
            }
        }
    }

    async fn send_new(&mut self, writer: &Writer<Item>) -> Result<(), Status> {
        loop {
            let page = match self.read().await {
                Ok(page) => page,
                Err(ReadError::DatabaseAway) => {
                    sleep(PAUSE).await;
                    continue;
                }
                Err(ReadError::Other(error)) => {
                    return Err(status::fault(&Fault::after(&error, "streaming")));
                }
            };
            let is_last = page.len() < usize::from(ROWS);
            for notification in page.into_iter().rev() {
                let id = notification.id;
                let item = StreamNotificationsResponse {
                    notification: Some(render::notification(notification)),
                };
                let sent = writer.send(item).await;
                sent.map_err(|TooSlow| status::slow_reader(self.cursor))?;
                self.cursor = Some(id);
            }
            if is_last {
                return Ok(());
            }
        }
    }

    /// The [`ROWS`] oldest notifications after the cursor, newest first.
    async fn read(&self) -> Result<Vec<Notification>, ReadError> {
        let _permit = self.reads.permit().await;
        let range = Range::After(self.cursor);
        let page = notifications::page(&self.pool, self.user_id, false, range, ROWS.into());
        match timeout(READ_TIMEOUT, page).await {
            Ok(Ok(page)) => Ok(page),
            Ok(Err(StoreError::Unavailable(error))) => {
                tracing::warn!(%error, "streams wait for the database");
                Err(ReadError::DatabaseAway)
            }
            Ok(Err(error)) => Err(ReadError::Other(error)),
            Err(_elapsed) => {
                tracing::warn!("streams wait for the database: a read timed out");
                Err(ReadError::DatabaseAway)
            }
        }
    }
}

/// Why a read failed.
enum ReadError {
    /// The read can be repeated later.
    DatabaseAway,
    Other(StoreError),
}
