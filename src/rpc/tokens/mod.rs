//! `heist.v1.TokenService`: one file per method.

mod adjust_balance;
mod award_token;
mod batch_get_balances;
mod get_balance;
mod list_token_events;

use tonic::{Request, Response, Status, async_trait};

use crate::{
    pb::{self, token_service_server::TokenService},
    rpc::Api,
};

type Answer<T> = Result<Response<T>, Status>;

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
