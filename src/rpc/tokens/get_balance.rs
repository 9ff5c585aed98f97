//! `TokenService.GetBalance`

use tonic::{Request, Response, Status};

use crate::{
    pb::{GetBalanceRequest, GetBalanceResponse},
    rpc::{Api, deadline::read_within, fields::Fields, render, status},
    store::tokens,
};

pub(super) async fn handle(
    api: &Api,
    request: Request<GetBalanceRequest>,
) -> Result<Response<GetBalanceResponse>, Status> {
    let deadline = api.accept(&request)?;
    let mut fields = Fields::default();
    let user_id = fields.user_id("user_id", request.get_ref().user_id);
    fields.check()?;

    let read = (api.reads).run(|pool| async move { tokens::accounts(&pool, &[user_id]).await });
    let account = read_within(deadline, "reading a balance", read)
        .await?
        .remove(&user_id)
        .ok_or_else(|| status::user_not_found(user_id))?;
    Ok(Response::new(GetBalanceResponse {
        balance: Some(render::balance(user_id, &account)),
    }))
}
