//! The only folder that knows tonic and prost: parse a request into types that cannot be
//! wrong, call inward, render the answer. One file per RPC.

mod access;
mod adjust_balance;
mod admission;
mod audit;
mod award_token;
mod batch_check_eligibility;
mod batch_get_balances;
mod calls;
mod check_eligibility;
mod deadline;
mod door;
mod execute_heist;
mod fields;
mod gate;
mod get_balance;
mod get_heist;
mod get_heist_stats;
mod get_leaderboard;
mod get_unread_count;
mod limiters;
mod list_heists;
mod list_notifications;
mod list_token_events;
mod mark_notifications_read;
mod observe;
mod paging;
mod rate_limiter;
mod render;
mod services;
mod status;
mod stream;
mod stream_notifications;
mod stream_slots;
mod watch_points;

use std::sync::Arc;

use tonic::service::Routes;

pub use self::{
    door::Peer,
    limiters::{Limiters, TrafficLimits},
    observe::Observe,
    paging::PageTokenKey,
    stream_notifications::StreamReads,
};
use crate::{
    auth::Authenticator,
    engine::Engine,
    events::Events,
    pb::{
        heist_service_server::HeistServiceServer,
        notification_service_server::NotificationServiceServer,
        token_service_server::TokenServiceServer,
    },
    settings::LiveSettings,
    store::{PgPool, leaderboard::Ranks, reads::Reads},
};

/// The largest request that is read, in bytes. The longest list that the contract allows
/// takes a tenth of it.
const MAX_REQUEST_BYTES: usize = 64 * 1024;

/// What the RPCs work with.
#[derive(Clone)]
pub struct Api {
    /// Executes what changes the books.
    pub engine: Engine,
    /// The primary: for streams, and what has to be told by the clock that decides.
    pub pool: PgPool,
    /// For all other reads.
    pub reads: Reads,
    pub settings: LiveSettings,
    pub page_token_key: PageTokenKey,
    pub ranks: Ranks,
    pub events: Events,
    pub stream_reads: StreamReads,
    pub limiters: Arc<Limiters>,
}

impl Api {
    fn gate(&self) -> gate::FeatureGate {
        gate::FeatureGate::new(self.settings.clone())
    }

    /// The three services of the contract, for callers whom `authenticator` knows.
    #[must_use]
    pub fn into_routes(self, authenticator: Authenticator) -> Routes {
        access::verify_table();
        let door = door::Door::new(authenticator);
        let gate = self.gate();
        let calls = self.limiters.calls.clone();
        let heists =
            HeistServiceServer::new(self.clone()).max_decoding_message_size(MAX_REQUEST_BYTES);
        let tokens =
            TokenServiceServer::new(self.clone()).max_decoding_message_size(MAX_REQUEST_BYTES);
        let notifications =
            NotificationServiceServer::new(self).max_decoding_message_size(MAX_REQUEST_BYTES);
        Routes::new(door.guard(gate.guard(calls.limit(heists))))
            .add_service(door.guard(gate.guard(calls.limit(tokens))))
            .add_service(door.guard(gate.guard(calls.limit(notifications))))
    }
}
