//! The options of a server, and the errors of running it.

use std::net::SocketAddr;

use super::tls::TlsOptions;
use crate::{
    auth,
    engine::Limits,
    mail,
    rpc::{TrafficLimits, TrustedProxies},
    settings::LiveSettings,
    store::{
        StoreError,
        pool::{ConnectOptions, DatabaseUrl},
        schema::SchemaError,
        signals::ListenOptions,
    },
    watched::WatchedError,
};

/// The options of a server.
#[derive(Clone, Debug)]
pub struct Options {
    pub database: DatabaseUrl,
    /// The same database without a pooler in between, for `LISTEN`; `None`: there is no pooler.
    pub direct_database: Option<DatabaseUrl>,
    /// A replica for reads; `None`: reads go to the primary.
    pub read_database: Option<DatabaseUrl>,
    /// The limit of connections to each of the databases.
    pub max_connections: u32,
    /// The address of the gRPC listener; port 0: any free port.
    pub listen: SocketAddr,
    pub reflection: bool,
    /// How callers are authenticated.
    pub auth: auth::Options,
    /// `None`: plaintext.
    pub tls: Option<TlsOptions>,
    pub settings: LiveSettings,
    pub limits: Limits,
    pub traffic: TrafficLimits,
    /// Proxies that tell the address of their clients.
    pub trusted_proxies: TrustedProxies,
    /// How e-mail is sent while the settings enable it; `None`: never.
    pub mail: Option<mail::Options>,
}

/// The databases of a server, with credentials that may change.
pub(super) struct Databases {
    pub(super) primary: ConnectOptions,
    pub(super) replica: Option<ConnectOptions>,
    pub(super) listen: ListenOptions,
}

impl Options {
    pub(super) async fn databases(&self) -> Result<Databases, WatchedError> {
        let primary = self.database.follow().await?;
        let replica = match &self.read_database {
            Some(replica) => Some(replica.follow().await?),
            None => None,
        };
        let direct = match &self.direct_database {
            Some(direct) => Some(direct.follow().await?),
            None => None,
        };
        let listen = ListenOptions {
            is_direct: direct.is_some(),
            database: direct.unwrap_or_else(|| primary.clone()),
        };
        Ok(Databases {
            primary,
            replica,
            listen,
        })
    }
}

/// Why a server could not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    #[error(transparent)]
    Schema(#[from] SchemaError),
    #[error(transparent)]
    File(#[from] WatchedError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("cannot listen on {address}: {cause}")]
    Listen {
        address: SocketAddr,
        cause: std::io::Error,
    },
    #[error("the gRPC server failed: {0}")]
    Serve(#[from] tonic::transport::Error),
    #[error("the gRPC server ended unexpectedly: {0}")]
    Panic(#[from] tokio::task::JoinError),
}
