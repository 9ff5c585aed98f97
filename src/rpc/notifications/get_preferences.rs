//! `NotificationService.GetPreferences`

use tonic::{Request, Response, Status};

use super::email_preference;
use crate::{
    pb::{GetPreferencesRequest, GetPreferencesResponse},
    rpc::{Api, deadline::read_within, fields::Fields, status},
    store::preferences,
};

pub(super) async fn handle(
    api: &Api,
    request: Request<GetPreferencesRequest>,
) -> Result<Response<GetPreferencesResponse>, Status> {
    let deadline = api.accept(&request)?;
    let mut fields = Fields::default();
    let user_id = fields.user_id("user_id", request.get_ref().user_id);
    fields.check()?;

    // From the primary, so that the answer follows an UpdatePreferences.
    let read = preferences::email(&api.pool, user_id);
    let preference = read_within(deadline, "reading preferences", read)
        .await?
        .ok_or_else(|| status::user_not_found(user_id))?;
    Ok(Response::new(GetPreferencesResponse {
        email: email_preference::to_wire(preference).into(),
    }))
}
