//! `HeistService.GetHeistStats`

use tonic::{Request, Response, Status};

use crate::{
    pb::{GetHeistStatsRequest, GetHeistStatsResponse},
    rpc::{Api, deadline::read_within, fields::Fields, status},
    store::{heists, players},
};

pub(super) async fn handle(
    api: &Api,
    request: Request<GetHeistStatsRequest>,
) -> Result<Response<GetHeistStatsResponse>, Status> {
    let deadline = api.accept(&request)?;
    let mut fields = Fields::default();
    let user_id = fields.user_id("user_id", request.get_ref().user_id);
    fields.check()?;

    let read = (api.reads).run(|pool| async move {
        let stats = heists::stats(&pool, user_id).await?;
        // Read last: a player who exists now was not deleted during the other reads.
        let exists = players::exists(&pool, user_id).await?;
        Ok((exists, stats))
    });
    let (exists, stats) = read_within(deadline, "summing up heists", read).await?;
    if !exists {
        return Err(status::user_not_found(user_id));
    }
    Ok(Response::new(GetHeistStatsResponse {
        heists_as_attacker: stats.heists_as_attacker,
        heists_as_victim: stats.heists_as_victim,
        points_stolen: stats.points_stolen,
        points_lost: stats.points_lost,
    }))
}
