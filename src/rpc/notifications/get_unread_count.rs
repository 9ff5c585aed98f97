//! `NotificationService.GetUnreadCount`

use tonic::{Request, Response, Status};

use crate::{
    pb::{GetUnreadCountRequest, GetUnreadCountResponse},
    rpc::{Api, deadline::read_within, fields::Fields, status},
    store::notifications,
};

pub(super) async fn handle(
    api: &Api,
    request: Request<GetUnreadCountRequest>,
) -> Result<Response<GetUnreadCountResponse>, Status> {
    let deadline = api.accept(&request)?;
    let mut fields = Fields::default();
    let user_id = fields.user_id("user_id", request.get_ref().user_id);
    fields.check()?;

    let read =
        (api.reads).run(|pool| async move { notifications::unread_count(&pool, user_id).await });
    let unread_count = read_within(deadline, "counting unread notifications", read)
        .await?
        .ok_or_else(|| status::user_not_found(user_id))?;
    Ok(Response::new(GetUnreadCountResponse { unread_count }))
}
