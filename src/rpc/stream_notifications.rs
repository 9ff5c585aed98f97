//! `NotificationService.StreamNotifications`
//!
//! A stream is a cursor: it reads what is in the table after the last notification that it
//! sent, whenever somebody says that there may be something. So none is skipped, whichever
//! signals are lost.

use std::time::Duration;

use tokio::time::sleep;
use tonic::{Request, Response, Status};

use super::{
    Api,
    deadline::{self, read_within},
    fields::Fields,
    render, status,
    stream::{Items, TooSlow, Writer, stream},
};
use crate::{
    domain::ids::{NotificationId, UserId},
    engine::EngineError,
    events::Mailbox,
    pb::{StreamNotificationsRequest, StreamNotificationsResponse},
    store::{
        PgPool, StoreError,
        notifications::{self, Range},
        players,
    },
};

/// Rows read at a time.
const ROWS: u8 = 100;
/// Before the next attempt where the database is away.
const PAUSE: Duration = Duration::from_secs(1);

type Item = StreamNotificationsResponse;

pub(super) async fn handle(
    api: &Api,
    request: Request<StreamNotificationsRequest>,
) -> Result<Response<Items<Item>>, Status> {
    let deadline = deadline::of(&request);
    let message = request.get_ref();
    let mut fields = Fields::default();
    let user_id = fields.user_id("user_id", message.user_id);
    let after =
        (message.after_id != 0).then(|| fields.notification_id("after_id", message.after_id));
    fields.check()?;

    // Listens before it looks, so that nothing falls in between.
    let mailbox = api.events.mailbox(user_id);
    let read = async {
        let exists = players::exists(&api.pool, user_id).await?;
        let newest = notifications::page(&api.pool, user_id, false, Range::Newest, 1).await?;
        Ok((exists, newest))
    };
    let (exists, newest) = read_within(deadline, "opening a stream", read).await?;
    if !exists {
        return Err(status::user_not_found(user_id));
    }
    let newest = newest.first().map_or(NotificationId(0), |newest| newest.id);

    let feed = Feed {
        user_id,
        cursor: after.unwrap_or(newest),
        mailbox,
        pool: api.pool.clone(),
    };
    let items = stream(&api.events, |writer| feed.run(writer));
    Ok(Response::new(items))
}

/// What keeps one stream supplied.
struct Feed {
    user_id: UserId,
    /// The last notification that was sent.
    cursor: NotificationId,
    mailbox: Mailbox,
    pool: PgPool,
}

impl Feed {
    /// Sends until it has to end, and returns why.
    async fn run(mut self, writer: Writer<Item>) -> Status {
        loop {
            match self.send_what_is_there(&writer).await {
                Ok(()) => self.mailbox.woken().await,
                Err(status) => return status,
            }
        }
    }

    async fn send_what_is_there(&mut self, writer: &Writer<Item>) -> Result<(), Status> {
        loop {
            let range = Range::After(self.cursor);
            let page = match notifications::page(
                &self.pool,
                self.user_id,
                false,
                range,
                ROWS.into(),
            )
            .await
            {
                Ok(page) => page,
                Err(StoreError::Unavailable(error)) => {
                    tracing::warn!(%error, "a stream waits for the database");
                    sleep(PAUSE).await;
                    continue;
                }
                Err(error) => return Err(status::fault(&EngineError::after(&error, "streaming"))),
            };
            let is_last = page.len() < usize::from(ROWS);
            for notification in page.into_iter().rev() {
                let id = notification.id;
                let item = StreamNotificationsResponse {
                    notification: Some(render::notification(notification)),
                };
                let sent = writer.send(item).await;
                sent.map_err(|TooSlow| status::slow_reader(self.cursor))?;
                self.cursor = id;
            }
            if is_last {
                return Ok(());
            }
        }
    }
}
