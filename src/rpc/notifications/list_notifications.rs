//! `NotificationService.ListNotifications`

use tonic::{Request, Response, Status};

use crate::{
    domain::ids::NotificationId,
    pb::{ListNotificationsRequest, ListNotificationsResponse},
    rpc::{Api, deadline::read_within, fields::Fields, render, status},
    store::notifications::{self, Range},
};

const DEFAULT_PAGE_SIZE: u16 = 20;
const MAX_PAGE_SIZE: u16 = 100;

pub(super) async fn handle(
    api: &Api,
    request: Request<ListNotificationsRequest>,
) -> Result<Response<ListNotificationsResponse>, Status> {
    let deadline = api.accept(&request)?;
    let message = request.get_ref();
    let mut fields = Fields::default();
    let user_id = fields.user_id("user_id", message.user_id);
    let page_size = fields.page_size(message.page_size, DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE);
    fields.check()?;
    let unread_only = message.unread_only;
    let list: [&[u8]; 3] = [
        b"ListNotifications",
        &user_id.get().to_be_bytes(),
        &[u8::from(unread_only)],
    ];
    let page = &(api.page_token_key).page(&list, page_size, &message.page_token)?;

    let read = (api.reads).run(|pool| async move {
        let range = match page.after() {
            None => Range::Newest,
            Some([id, _]) => Range::Before(NotificationId::new(id)?),
        };
        let rows = page.rows_to_read();
        let notifications = notifications::page(&pool, user_id, unread_only, range, rows).await?;
        // Read last: a player who exists now was not deleted during the other reads.
        let unread_count = notifications::unread_count(&pool, user_id).await?;
        Ok((unread_count, notifications))
    });
    let (unread_count, mut notifications) =
        read_within(deadline, "listing notifications", read).await?;
    let unread_count = unread_count.ok_or_else(|| status::user_not_found(user_id))?;

    let next_page_token = page.cut(&mut notifications, |last| [last.id.get(), 0]);
    Ok(Response::new(ListNotificationsResponse {
        notifications: (notifications.into_iter())
            .map(render::notification)
            .collect(),
        next_page_token,
        unread_count,
    }))
}
