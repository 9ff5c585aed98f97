//! `HeistService.GetHeist`

use tonic::{Request, Response, Status};

use crate::{
    pb::{GetHeistRequest, GetHeistResponse},
    rpc::{Api, accept, deadline::read_within, fields::Fields, render, status},
    store::heists,
};

pub(super) async fn handle(
    api: &Api,
    request: Request<GetHeistRequest>,
) -> Result<Response<GetHeistResponse>, Status> {
    let deadline = api.accept(&request)?;
    let mut fields = Fields::default();
    let id = fields.heist_id("heist_id", request.get_ref().heist_id);
    fields.check()?;

    let read = (api.reads).run(|pool| async move { heists::get(&pool, id).await });
    let heist = read_within(deadline, "reading a heist", read)
        .await?
        .filter(|heist| accept::may_see(&request, heist))
        .ok_or_else(|| status::heist_not_found(id))?;
    Ok(Response::new(GetHeistResponse {
        heist: Some(render::heist(&heist)),
    }))
}
