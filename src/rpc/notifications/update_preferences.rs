//! `NotificationService.UpdatePreferences`

use tonic::{Request, Response, Status};

use super::email_preference;
use crate::{
    pb::{UpdatePreferencesRequest, UpdatePreferencesResponse},
    rpc::{Api, fields::Fields, status},
};

pub(super) async fn handle(
    api: &Api,
    request: Request<UpdatePreferencesRequest>,
) -> Result<Response<UpdatePreferencesResponse>, Status> {
    let deadline = api.accept(&request)?;
    let message = request.get_ref();
    let mut fields = Fields::default();
    let user_id = fields.user_id("user_id", message.user_id);
    let preference = email_preference::from_wire(message.email);
    if preference.is_none() {
        fields.violate("email", "must be one of the named values");
    }
    fields.check()?;

    let preference = preference.flatten();
    let stored = (api.engine)
        .set_email_preference(user_id, preference, deadline)
        .await
        .map_err(|error| status::fault(&error))?;
    if !stored {
        return Err(status::user_not_found(user_id));
    }
    Ok(Response::new(UpdatePreferencesResponse {
        email: email_preference::to_wire(preference).into(),
    }))
}
