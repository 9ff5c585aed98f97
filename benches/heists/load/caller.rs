//! One caller: makes the requests, sends them, and returns the result of each.

use std::sync::{
    Arc,
    atomic::{AtomicI32, Ordering},
};

use heist::pb::{
    AwardTokenRequest, CheckEligibilityRequest, ExecuteHeistRequest, GetBalanceRequest,
    GetLeaderboardRequest, GetUnreadCountRequest, heist_service_client::HeistServiceClient,
    notification_service_client::NotificationServiceClient,
    token_service_client::TokenServiceClient,
};
use rand::RngExt as _;
use tonic::{Status, transport::Channel};
use tonic_types::StatusExt as _;

use super::plan::{Call, Plan};

const PAGE_SIZE: i32 = 50;
const HOT_VICTIM: i32 = 1;

/// A caller on one of the connections.
#[derive(Clone)]
pub struct Caller {
    heists: HeistServiceClient<Channel>,
    tokens: TokenServiceClient<Channel>,
    notifications: NotificationServiceClient<Channel>,
    /// The attacker of this caller's hot heists.
    attacker: i32,
    players: i32,
    referrers: i32,
    next_referred: Arc<AtomicI32>,
}

impl Caller {
    /// As many as the plan has callers, spread over the connections; for an open loop, one for
    /// each connection.
    pub async fn all(plan: &Plan) -> Result<Vec<Self>, tonic::transport::Error> {
        let endpoint = Channel::from_shared(format!("http://{}", plan.address))
            .expect("an address makes a URL")
            .tcp_nodelay(true);
        let mut channels = Vec::new();
        for _ in 0..plan.connections {
            channels.push(endpoint.connect().await?);
        }
        let next_referred = Arc::new(AtomicI32::new(plan.first_referred));
        let callers = (0..plan.callers.max(plan.connections)).map(|index| {
            let channel = channels[index % channels.len()].clone();
            Self {
                heists: HeistServiceClient::new(channel.clone()),
                tokens: TokenServiceClient::new(channel.clone()),
                notifications: NotificationServiceClient::new(channel),
                attacker: HOT_VICTIM + 1 + i32::try_from(index).unwrap_or(0),
                players: plan.players,
                referrers: plan.referrers,
                next_referred: Arc::clone(&next_referred),
            }
        });
        Ok(callers.collect())
    }

    /// Calls once. An error is the reason of the refusal, or the status code where it has none.
    pub async fn call(&mut self, call: Call) -> Result<(), String> {
        let answer = match call {
            Call::Heist => {
                let (attacker, victim) = self.two_players();
                self.rob(attacker, victim).await
            }
            Call::HotHeist => self.rob(self.attacker, HOT_VICTIM).await,
            Call::Award => return self.award().await,
            Call::Balance => {
                let user_id = self.player();
                let request = GetBalanceRequest { user_id };
                self.tokens.get_balance(request).await.map(drop)
            }
            Call::UnreadCount => {
                let user_id = self.player();
                let request = GetUnreadCountRequest { user_id };
                self.notifications.get_unread_count(request).await.map(drop)
            }
            Call::Eligibility => {
                let (attacker_id, victim_id) = self.two_players();
                let request = CheckEligibilityRequest {
                    attacker_id,
                    victim_id,
                };
                self.heists.check_eligibility(request).await.map(drop)
            }
            Call::Leaderboard => {
                let request = GetLeaderboardRequest {
                    viewer_id: self.player(),
                    page_size: PAGE_SIZE,
                    page_token: String::new(),
                };
                return match self.heists.get_leaderboard(request).await {
                    Ok(page) if page.get_ref().entries.len() == 50 => Ok(()),
                    Ok(_) => Err("SHORT_PAGE".to_owned()),
                    Err(status) => Err(reason(&status)),
                };
            }
        };
        answer.map_err(|status| reason(&status))
    }

    async fn rob(&mut self, attacker_id: i32, victim_id: i32) -> Result<(), Status> {
        let request = ExecuteHeistRequest {
            attacker_id,
            victim_id,
            // Random like those of the raw heists, so that the index costs both sides the same.
            request_id: uuid::Builder::from_random_bytes(rand::random())
                .into_uuid()
                .to_string(),
        };
        self.heists.execute_heist(request).await.map(drop)
    }

    async fn award(&mut self) -> Result<(), String> {
        let referred_id = self.next_referred.fetch_add(1, Ordering::Relaxed);
        let request = AwardTokenRequest {
            referrer_id: 1 + referred_id % self.referrers,
            referred_id,
            referred_name: String::new(),
        };
        match self.tokens.award_token(request).await {
            Ok(answer) if answer.get_ref().already_awarded => Err("ALREADY_AWARDED".to_owned()),
            Ok(_) => Ok(()),
            Err(status) => Err(reason(&status)),
        }
    }

    /// Whether every referred player of the plan has been awarded.
    pub fn is_done(&self, call: Call) -> bool {
        call == Call::Award && self.next_referred.load(Ordering::Relaxed) > self.players
    }

    fn player(&self) -> i32 {
        rand::rng().random_range(1..=self.players)
    }

    fn two_players(&self) -> (i32, i32) {
        let first = self.player();
        let step = rand::rng().random_range(1..self.players);
        (first, 1 + (first - 1 + step) % self.players)
    }
}

fn reason(status: &Status) -> String {
    status
        .get_details_error_info()
        .map_or_else(|| format!("{:?}", status.code()), |info| info.reason)
}
