//! The calls of the generated clients, as futures that can be spawned.

use std::future::Future;

use heist::pb;
use tonic::Response;

use super::{World, players::Answer};

macro_rules! calls {
    ($($client:ident.$rpc:ident($request:ident) -> $response:ident;)+) => {
        impl World {
            $(
                pub fn $rpc(
                    &self,
                    request: pb::$request,
                ) -> impl Future<Output = Answer<pb::$response>> + Send + use<> {
                    let mut client = self.$client.clone();
                    async move { client.$rpc(request).await.map(Response::into_inner) }
                }
            )+
        }
    };
}

calls! {
    heists.check_eligibility(CheckEligibilityRequest) -> CheckEligibilityResponse;
    heists.batch_check_eligibility(BatchCheckEligibilityRequest) -> BatchCheckEligibilityResponse;
    heists.get_heist(GetHeistRequest) -> GetHeistResponse;
    heists.list_heists(ListHeistsRequest) -> ListHeistsResponse;
    heists.get_heist_stats(GetHeistStatsRequest) -> GetHeistStatsResponse;
    heists.get_rules(GetRulesRequest) -> GetRulesResponse;
    heists.get_leaderboard(GetLeaderboardRequest) -> GetLeaderboardResponse;
    tokens.batch_get_balances(BatchGetBalancesRequest) -> BatchGetBalancesResponse;
    tokens.list_token_events(ListTokenEventsRequest) -> ListTokenEventsResponse;
    tokens.adjust_balance(AdjustBalanceRequest) -> AdjustBalanceResponse;
}

impl World {
    /// What the first can do to the second.
    pub async fn eligibility(&self, attacker_id: i32, victim_id: i32) -> pb::Eligibility {
        let request = pb::CheckEligibilityRequest {
            attacker_id,
            victim_id,
        };
        let answer = self.check_eligibility(request).await.unwrap();
        answer.eligibility.expect("an answer has an eligibility")
    }

    /// What the first can do to the others, in their order.
    pub async fn eligibilities(
        &self,
        attacker_id: i32,
        victim_ids: &[i32],
    ) -> Vec<pb::Eligibility> {
        let request = pb::BatchCheckEligibilityRequest {
            attacker_id,
            victim_ids: victim_ids.to_vec(),
        };
        let answer = self.batch_check_eligibility(request).await.unwrap();
        answer.eligibilities
    }
}
