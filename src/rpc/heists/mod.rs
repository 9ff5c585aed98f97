//! `heist.v1.HeistService`: one file per method.

mod batch_check_eligibility;
mod check_eligibility;
mod execute_heist;
mod get_heist;
mod get_heist_stats;
mod get_leaderboard;
mod get_rules;
mod list_heists;
mod watch_points;

use tonic::{Request, Response, Status, async_trait};

use crate::{
    pb::{self, heist_service_server::HeistService},
    rpc::{Api, stream::Items},
};

type Answer<T> = Result<Response<T>, Status>;

#[async_trait]
impl HeistService for Api {
    async fn execute_heist(
        &self,
        request: Request<pb::ExecuteHeistRequest>,
    ) -> Answer<pb::ExecuteHeistResponse> {
        execute_heist::handle(self, request).await
    }

    async fn check_eligibility(
        &self,
        request: Request<pb::CheckEligibilityRequest>,
    ) -> Answer<pb::CheckEligibilityResponse> {
        check_eligibility::handle(self, request).await
    }

    async fn batch_check_eligibility(
        &self,
        request: Request<pb::BatchCheckEligibilityRequest>,
    ) -> Answer<pb::BatchCheckEligibilityResponse> {
        batch_check_eligibility::handle(self, request).await
    }

    async fn get_heist(
        &self,
        request: Request<pb::GetHeistRequest>,
    ) -> Answer<pb::GetHeistResponse> {
        get_heist::handle(self, request).await
    }

    async fn list_heists(
        &self,
        request: Request<pb::ListHeistsRequest>,
    ) -> Answer<pb::ListHeistsResponse> {
        list_heists::handle(self, request).await
    }

    async fn get_heist_stats(
        &self,
        request: Request<pb::GetHeistStatsRequest>,
    ) -> Answer<pb::GetHeistStatsResponse> {
        get_heist_stats::handle(self, request).await
    }

    async fn get_rules(
        &self,
        request: Request<pb::GetRulesRequest>,
    ) -> Answer<pb::GetRulesResponse> {
        get_rules::handle(self, &request)
    }

    async fn get_leaderboard(
        &self,
        request: Request<pb::GetLeaderboardRequest>,
    ) -> Answer<pb::GetLeaderboardResponse> {
        get_leaderboard::handle(self, request).await
    }

    type WatchPointsStream = Items<pb::WatchPointsResponse>;

    async fn watch_points(
        &self,
        request: Request<pb::WatchPointsRequest>,
    ) -> Answer<Self::WatchPointsStream> {
        watch_points::handle(self, &request)
    }
}
