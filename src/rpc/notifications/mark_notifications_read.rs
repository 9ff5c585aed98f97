//! `NotificationService.MarkNotificationsRead`

use tonic::{Request, Response, Status};

use crate::{
    pb::{MarkNotificationsReadRequest, MarkNotificationsReadResponse},
    rpc::{Api, fields::Fields, status},
};

const MAX_IDS: usize = 500;

pub(super) async fn handle(
    api: &Api,
    request: Request<MarkNotificationsReadRequest>,
) -> Result<Response<MarkNotificationsReadResponse>, Status> {
    let deadline = api.accept(&request)?;
    let message = request.get_ref();
    let mut fields = Fields::default();
    let user_id = fields.user_id("user_id", message.user_id);
    if message.notification_ids.len() > MAX_IDS {
        fields.violate(
            "notification_ids",
            format!("must not be more than {MAX_IDS}"),
        );
    }
    let ids = (message.notification_ids.iter().take(MAX_IDS).enumerate())
        .map(|(index, id)| fields.notification_id(&format!("notification_ids[{index}]"), *id))
        .collect();
    let up_to =
        (message.up_to_id != 0).then(|| fields.notification_id("up_to_id", message.up_to_id));
    if message.notification_ids.is_empty() && up_to.is_none() {
        fields.violate("notification_ids", "must not be empty where up_to_id is 0");
    }
    fields.check()?;

    let marked = (api.engine)
        .mark_read(user_id, ids, up_to, deadline)
        .await
        .map_err(|error| status::fault(&error))?
        .ok_or_else(|| status::user_not_found(user_id))?;
    Ok(Response::new(MarkNotificationsReadResponse {
        marked_count: marked.marked,
        unread_count: marked.unread,
    }))
}
