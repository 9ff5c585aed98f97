//! `NotificationService.ListNotifications`

use tonic::{Request, Response, Status};

use super::{
    Api,
    deadline::{self, read_within},
    fields::Fields,
    render, status,
};
use crate::{
    domain::ids::NotificationId,
    pb::{ListNotificationsRequest, ListNotificationsResponse},
    store::notifications,
};

const DEFAULT_PAGE_SIZE: u16 = 20;
const MAX_PAGE_SIZE: u16 = 100;

pub(super) async fn handle(
    api: &Api,
    request: Request<ListNotificationsRequest>,
) -> Result<Response<ListNotificationsResponse>, Status> {
    let deadline = deadline::of(&request);
    let message = request.get_ref();
    let mut fields = Fields::default();
    let user_id = fields.user_id("user_id", message.user_id);
    let page_size = fields.page_size(message.page_size, DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE);
    fields.check()?;
    let unread_only = message.unread_only;
    let same_request: [&[u8]; 3] = [
        b"ListNotifications",
        &user_id.0.to_be_bytes(),
        &[u8::from(unread_only)],
    ];
    let before = (api.page_token_key)
        .open(&same_request, &message.page_token)?
        .map(NotificationId);

    let read = async {
        let unread_count = notifications::unread_count(&api.pool, user_id).await?;
        // One more than fits tells whether there is another page.
        let limit = i64::from(page_size) + 1;
        let page = notifications::page(&api.pool, user_id, unread_only, before, limit).await?;
        Ok((unread_count, page))
    };
    let (unread_count, mut page) = read_within(deadline, "listing notifications", read).await?;
    let unread_count = unread_count.ok_or_else(|| status::user_not_found(user_id))?;

    let more = page.len() > usize::from(page_size);
    page.truncate(usize::from(page_size));
    let next_page_token = (page.last().filter(|_| more))
        .map(|last| api.page_token_key.sign(&same_request, last.id.0))
        .unwrap_or_default();
    Ok(Response::new(ListNotificationsResponse {
        notifications: page.into_iter().map(render::notification).collect(),
        next_page_token,
        unread_count,
    }))
}
