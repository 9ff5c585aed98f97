//! What a test needs to tell its story.
//!
//! ```ignore
//! #[test]
//! fn a_heist_moves_points() {
//!     World::run(async |world| {
//!         let ada = world.player("Ada").tokens(1).await;
//!         let ben = world.player("Ben").points(1000).await;
//!         ada.robs(&ben).await.unwrap();
//!     });
//! }
//! ```
//!
//! When the body is over, the server is stopped as SIGTERM would, and the books are checked.

mod application;
mod books;
mod calls;
pub mod cluster;
pub mod contract;
pub mod http;
pub mod identity;
pub mod identity_provider;
pub mod mail;
pub mod pages;
pub mod pki;
mod players;
pub mod postgres;
pub mod process;
mod refusal;
mod snapshot;
pub mod streams;
pub mod wire;

use std::{
    future::Future,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use heist::{
    domain::rules::Rules,
    engine::Limits,
    pb::{
        heist_service_client::HeistServiceClient,
        notification_service_client::NotificationServiceClient,
        token_service_client::TokenServiceClient,
    },
    rpc::{TrafficLimits, TrustedProxies},
    server::{Options, Server},
    settings::{LiveSettings, RateLimits, Settings},
    store::pool::DatabaseUrl,
};
use sqlx::{
    Connection as _, PgConnection, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use time::OffsetDateTime;
use tokio::runtime::{Builder, Runtime};
use tonic::transport::{Channel, Endpoint};

use self::postgres::Database;
pub use self::{
    application::Application,
    players::{Answer, Player, new_request_id},
    refusal::Refusal,
    snapshot::snapshot,
};

/// Long enough for any machine; nothing ever waits for it to pass.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A running server, clients of its services, and a view into its database.
#[derive(Clone)]
pub struct World {
    pub heists: HeistServiceClient<Channel>,
    pub tokens: TokenServiceClient<Channel>,
    pub notifications: NotificationServiceClient<Channel>,
    pub channel: Channel,
    pub address: SocketAddr,
    /// The test's own connections, for looking and for moving rows in time.
    pub pool: PgPool,
    pub database_url: String,
    /// Past PgBouncer where the tests run with one.
    pub direct_url: Option<String>,
    pub settings: Settings,
}

/// How a world differs from the default one.
pub struct Setup {
    settings: Settings,
    limits: Limits,
    traffic: TrafficLimits,
}

impl World {
    /// Plays `body` in a world with the default rules, but for the limits of calls a minute.
    pub fn run(body: impl AsyncFnOnce(&Self)) {
        Self::setup().run(body);
    }

    pub fn setup() -> Setup {
        Setup {
            settings: Settings {
                rates: RateLimits::NONE,
                ..Settings::default()
            },
            limits: Limits::default(),
            traffic: TrafficLimits::default(),
        }
    }

    /// Clients of the server at this address, which works on this database.
    pub async fn new(
        pool: PgPool,
        database_url: &str,
        settings: Settings,
        address: SocketAddr,
    ) -> Self {
        let channel = connect(address).await;
        Self {
            heists: HeistServiceClient::new(channel.clone()),
            tokens: TokenServiceClient::new(channel.clone()),
            notifications: NotificationServiceClient::new(channel.clone()),
            channel,
            address,
            pool,
            database_url: database_url.to_owned(),
            direct_url: None,
            settings,
        }
    }

    /// What another server on the same database is started with.
    pub fn options(&self) -> Options {
        Options {
            direct_database: self.direct_url.as_deref().map(parsed),
            ..options(&self.database_url, self.settings.clone(), Limits::default())
        }
    }

    /// Of the database, for the test itself.
    pub fn own_url(&self) -> &str {
        self.direct_url.as_ref().unwrap_or(&self.database_url)
    }

    /// Connections for an engine of the test's own.
    pub fn engine_pool(&self, connections: u32) -> heist::store::PgPool {
        let database = parsed(&self.database_url);
        heist::store::pool::connect_lazy(database.connect_options().clone(), connections)
    }

    /// A session of the application.
    pub async fn session(&self) -> PgConnection {
        (PgConnection::connect(self.own_url()).await).expect("the database answers")
    }

    /// The same world, seen through another connection or another server.
    pub fn through(&self, channel: Channel) -> Self {
        Self {
            heists: HeistServiceClient::new(channel.clone()),
            tokens: TokenServiceClient::new(channel.clone()),
            notifications: NotificationServiceClient::new(channel.clone()),
            channel,
            ..self.clone()
        }
    }
}

impl Setup {
    pub fn rules(mut self, change: impl FnOnce(&mut Rules)) -> Self {
        change(Arc::make_mut(&mut self.settings.rules));
        self
    }

    pub fn switched_off(mut self) -> Self {
        self.settings.enabled = false;
        self
    }

    pub fn limits(mut self, change: impl FnOnce(&mut Limits)) -> Self {
        change(&mut self.limits);
        self
    }

    pub fn rates(mut self, rates: RateLimits) -> Self {
        self.settings.rates = rates;
        self
    }

    pub fn traffic(mut self, change: impl FnOnce(&mut TrafficLimits)) -> Self {
        change(&mut self.traffic);
        self
    }

    pub fn run(self, body: impl AsyncFnOnce(&World)) {
        runtime().block_on(async {
            let database = Database::migrated().await;
            let settings = self.settings.clone();
            let options = Options {
                direct_database: database.direct_url.as_deref().map(parsed),
                traffic: self.traffic,
                ..options(&database.url, settings, self.limits)
            };
            let server = Server::start(options).await.expect("the server starts");
            let pool = database.connect().await;
            let world = World {
                direct_url: database.direct_url.clone(),
                ..World::new(pool, &database.url, self.settings, server.address()).await
            };

            body(&world).await;

            let stopping = Instant::now();
            server.stop(PATIENCE).await;
            assert!(
                stopping.elapsed() < PATIENCE,
                "the server had to be cut off"
            );
            books::check(&world.pool, world.direct_url.is_some()).await;
            world.pool.close().await;
            database.discard().await;
        });
    }
}

/// What a server on this database is started with.
pub fn options(database_url: &str, settings: Settings, limits: Limits) -> Options {
    Options {
        database: parsed(database_url),
        direct_database: None,
        read_database: None,
        max_connections: 10,
        listen: "127.0.0.1:0".parse().expect("an address"),
        reflection: true,
        auth: heist::auth::Options::default(),
        tls: None,
        settings: LiveSettings::fixed(settings),
        limits,
        traffic: TrafficLimits::default(),
        trusted_proxies: TrustedProxies::default(),
        mail: None,
    }
}

fn parsed(url: &str) -> DatabaseUrl {
    DatabaseUrl::parse(url).expect("our own URL")
}

pub async fn connect(address: impl std::fmt::Display) -> Channel {
    Endpoint::from_shared(format!("http://{address}"))
        .expect("an address")
        .connect()
        .await
        .expect("the server listens")
}

/// Two threads, so that callers and server really race.
pub fn runtime() -> Runtime {
    Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime")
}

/// Makes all calls at the same time and returns their answers in the order of the calls.
pub async fn all_at_once<F>(calls: impl IntoIterator<Item = F>) -> Vec<F::Output>
where
    F: Future<Output: Send + 'static> + Send + 'static,
{
    let tasks: Vec<_> = calls.into_iter().map(tokio::spawn).collect();
    let mut answers = Vec::with_capacity(tasks.len());
    for task in tasks {
        answers.push(task.await.expect("a caller panicked"));
    }
    answers
}

/// The moment that an answer says.
#[track_caller]
pub fn to_time(timestamp: Option<prost_types::Timestamp>) -> OffsetDateTime {
    let timestamp = timestamp.expect("the answer says when");
    OffsetDateTime::from_unix_timestamp(timestamp.seconds).expect("a date of our times")
        + time::Duration::nanoseconds(timestamp.nanos.into())
}

/// Looks again and again until something can be seen.
pub async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(seen) = look().await {
            return seen;
        }
        assert!(begun.elapsed() < PATIENCE, "never happened: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn open(url: &str) -> PgPool {
    let options: PgConnectOptions = url.parse().expect("our own URL");
    PgPoolOptions::new()
        .max_connections(4)
        .connect_with(options.application_name("test"))
        .await
        .expect("the database answers")
}
