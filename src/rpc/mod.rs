//! The contract's three services over tonic: each method parses its request into checked types,
//! calls inward, and renders the answer. One folder per service, one file per method.

mod accept;
mod audit;
mod call_counter;
mod client_address;
mod connection_info;
mod deadline;
mod fields;
mod heists;
mod methods;
mod notifications;
mod paging;
mod rate_limiter;
mod render;
mod status;
mod stream;
mod stream_reads;
mod stream_slots;
mod tokens;
mod traffic;

pub mod layers;

use std::sync::Arc;

use tonic::service::Routes;

use self::methods::MAX_REQUEST_BYTES;
pub use self::{
    client_address::TrustedProxies,
    connection_info::{ConnectionInfo, ConnectionUsage},
    paging::PageTokenKey,
    stream_reads::StreamReads,
    traffic::{Traffic, TrafficLimits},
};
use crate::{
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

/// The parts that the methods call.
#[derive(Clone)]
pub struct Api {
    /// Executes every change of the books.
    pub engine: Engine,
    /// The primary, for streams and for answers that depend on its clock.
    pub pool: PgPool,
    /// For all other reads.
    pub reads: Reads,
    pub settings: LiveSettings,
    pub page_token_key: PageTokenKey,
    pub ranks: Ranks,
    pub events: Events,
    pub stream_reads: StreamReads,
    pub traffic: Arc<Traffic>,
}

impl Api {
    /// The three services of the contract, without the [`layers`].
    #[must_use]
    pub fn into_routes(self) -> Routes {
        let heists =
            HeistServiceServer::new(self.clone()).max_decoding_message_size(MAX_REQUEST_BYTES);
        let tokens =
            TokenServiceServer::new(self.clone()).max_decoding_message_size(MAX_REQUEST_BYTES);
        let notifications =
            NotificationServiceServer::new(self).max_decoding_message_size(MAX_REQUEST_BYTES);
        Routes::new(heists)
            .add_service(tokens)
            .add_service(notifications)
    }
}
