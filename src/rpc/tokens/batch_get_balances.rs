//! `TokenService.BatchGetBalances`

use tonic::{Request, Response, Status};

use crate::{
    pb::{BatchGetBalancesRequest, BatchGetBalancesResponse},
    rpc::{
        Api,
        deadline::read_within,
        fields::{Fields, MAX_BATCH},
        render, status,
    },
    store::tokens,
};

pub(super) async fn handle(
    api: &Api,
    request: Request<BatchGetBalancesRequest>,
) -> Result<Response<BatchGetBalancesResponse>, Status> {
    let deadline = api.accept(&request)?;
    let mut fields = Fields::default();
    let user_ids = fields.user_ids("user_ids", &request.get_ref().user_ids, MAX_BATCH);
    fields.check()?;

    let players = &user_ids;
    let read = (api.reads).run(|pool| async move { tokens::accounts(&pool, players).await });
    let accounts = read_within(deadline, "reading balances", read).await?;
    let balances = (user_ids.into_iter()).map(|user_id| {
        let account = accounts.get(&user_id);
        account
            .map(|account| render::balance(user_id, account))
            .ok_or_else(|| status::user_not_found(user_id))
    });
    Ok(Response::new(BatchGetBalancesResponse {
        balances: balances.collect::<Result<_, _>>()?,
    }))
}
