//! The services of the contract: one line for each RPC.

use tonic::{Request, Response, Status, async_trait};

use super::{
    Api, adjust_balance, award_token, batch_check_eligibility, batch_get_balances,
    check_eligibility, execute_heist, get_balance, get_heist, get_heist_stats, get_leaderboard,
    get_unread_count, list_heists, list_notifications, list_token_events, mark_notifications_read,
    stream::Items, stream_notifications, watch_points,
};
use crate::pb::{
    self, heist_service_server::HeistService, notification_service_server::NotificationService,
    token_service_server::TokenService,
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

#[async_trait]
impl TokenService for Api {
    async fn award_token(
        &self,
        request: Request<pb::AwardTokenRequest>,
    ) -> Answer<pb::AwardTokenResponse> {
        award_token::handle(self, request).await
    }

    async fn get_balance(
        &self,
        request: Request<pb::GetBalanceRequest>,
    ) -> Answer<pb::GetBalanceResponse> {
        get_balance::handle(self, request).await
    }

    async fn batch_get_balances(
        &self,
        request: Request<pb::BatchGetBalancesRequest>,
    ) -> Answer<pb::BatchGetBalancesResponse> {
        batch_get_balances::handle(self, request).await
    }

    async fn list_token_events(
        &self,
        request: Request<pb::ListTokenEventsRequest>,
    ) -> Answer<pb::ListTokenEventsResponse> {
        list_token_events::handle(self, request).await
    }

    async fn adjust_balance(
        &self,
        request: Request<pb::AdjustBalanceRequest>,
    ) -> Answer<pb::AdjustBalanceResponse> {
        adjust_balance::handle(self, request).await
    }
}

#[async_trait]
impl NotificationService for Api {
    async fn list_notifications(
        &self,
        request: Request<pb::ListNotificationsRequest>,
    ) -> Answer<pb::ListNotificationsResponse> {
        list_notifications::handle(self, request).await
    }

    async fn get_unread_count(
        &self,
        request: Request<pb::GetUnreadCountRequest>,
    ) -> Answer<pb::GetUnreadCountResponse> {
        get_unread_count::handle(self, request).await
    }

    async fn mark_notifications_read(
        &self,
        request: Request<pb::MarkNotificationsReadRequest>,
    ) -> Answer<pb::MarkNotificationsReadResponse> {
        mark_notifications_read::handle(self, request).await
    }

    type StreamNotificationsStream = Items<pb::StreamNotificationsResponse>;

    async fn stream_notifications(
        &self,
        request: Request<pb::StreamNotificationsRequest>,
    ) -> Answer<Self::StreamNotificationsStream> {
        stream_notifications::handle(self, request).await
    }
}
