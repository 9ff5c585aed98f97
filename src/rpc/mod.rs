//! The only folder that knows tonic and prost: parse a request into types that cannot be
//! wrong, call inward, render the answer. One file per RPC.

mod award_token;
mod deadline;
mod execute_heist;
mod fields;
mod gate;
mod get_balance;
mod get_unread_count;
mod list_notifications;
mod mark_notifications_read;
mod page_token;
mod render;
mod services;
mod status;

use std::sync::Arc;

use tonic::service::Routes;

pub use self::page_token::PageTokenKey;
use crate::{
    engine::Engine,
    pb::{
        heist_service_server::HeistServiceServer,
        notification_service_server::NotificationServiceServer,
        token_service_server::TokenServiceServer,
    },
    settings::Settings,
    store::PgPool,
};

/// The largest request that is read, in bytes. The longest list that the contract allows
/// takes a tenth of it.
const MAX_REQUEST_BYTES: usize = 64 * 1024;

/// What the RPCs work with.
#[derive(Clone)]
pub struct Api {
    /// Executes what changes the books.
    pub engine: Engine,
    /// For reads.
    pub pool: PgPool,
    pub settings: Arc<Settings>,
    pub page_token_key: PageTokenKey,
}

impl Api {
    /// The three services of the contract.
    #[must_use]
    pub fn into_routes(self) -> Routes {
        let gate = gate::FeatureGate::new(Arc::clone(&self.settings));
        Routes::new(gate.guard(
            HeistServiceServer::new(self.clone()).max_decoding_message_size(MAX_REQUEST_BYTES),
        ))
        .add_service(gate.guard(
            TokenServiceServer::new(self.clone()).max_decoding_message_size(MAX_REQUEST_BYTES),
        ))
        .add_service(gate.guard(
            NotificationServiceServer::new(self).max_decoding_message_size(MAX_REQUEST_BYTES),
        ))
    }
}
