//! The only place that puts the parts together, and takes them apart again.

mod connection;
mod guard;
mod health;
mod tls;

use std::{io, net::SocketAddr, pin::Pin, sync::Arc, time::Duration};

use rustls::ServerConfig;
use tokio::{
    sync::oneshot,
    task::JoinHandle,
    time::{Instant, sleep, timeout_at},
};
use tokio_stream::{Stream, StreamExt as _};
use tokio_util::sync::CancellationToken;
use tonic::{service::Routes, transport::server::TcpIncoming};

pub use self::tls::TlsOptions;
use self::{connection::Connection, guard::GuardedIncoming, health::Health};
use crate::{
    auth::{self, Authenticator},
    domain::mailing::{Mailing, MailingNow},
    engine::{Engine, Limits, OnCommit, Workers},
    events::{Events, Tasks},
    mail::{self, Mailer},
    pb,
    rpc::{Api, PageTokenKey, StreamReads, Traffic, TrafficLimits, layers},
    settings::LiveSettings,
    store::{
        PgPool, StoreError,
        leaderboard::Ranks,
        pool::{self, DatabaseUrl},
        reads::Reads,
        schema::{self, SchemaError},
        secrets,
        signals::ListenOptions,
    },
    watched::{Watched, WatchedError},
};

/// How many calls on one connection may be given up before the server has looked at them. A
/// connection that exceeds it is closed, with every call on it. The default of 20 is exceeded
/// by one burst of calls whose deadline passes, so that one impatient caller would cost all
/// others of its process their answers.
const MAX_UNSEEN_RESETS: usize = 1024;

/// How often a connection is asked for a sign of life, so that the streams of a caller who is
/// gone without a word do not stay open.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Calls and streams on one connection at a time; more wait at the caller. It keeps one connection
/// from taking all places there are.
const MAX_CONCURRENT_CALLS: u32 = 4096;
/// All headers of one call, in bytes, as HTTP/2 counts them.
const MAX_HEADER_BYTES: u32 = 16 * 1024;
/// Bytes of one call, and of all calls on a connection, that may be on their way unread. The
/// largest request fits the first.
const CALL_WINDOW_BYTES: u32 = 128 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;

/// How long, when the server stops and every call has been answered, answers may take to leave and
/// streams to take their last message. A stream whose reader does not read never does.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// How often it is looked whether all calls have been answered.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// Connections that are open before the first call comes; the others are opened when needed.
const WARM_CONNECTIONS: u32 = 4;
/// Between attempts to start on a database that is away.
const PAUSE: Duration = Duration::from_secs(1);

/// What a server needs to run.
#[derive(Clone, Debug)]
pub struct Options {
    pub database: DatabaseUrl,
    /// The same database past a pooler, to listen on; `None`: there is no pooler.
    pub direct_database: Option<DatabaseUrl>,
    /// A replica for reads; `None`: the primary.
    pub read_database: Option<DatabaseUrl>,
    /// To each of them.
    pub max_connections: u32,
    /// Where gRPC is served; port 0: any free one.
    pub listen: SocketAddr,
    pub reflection: bool,
    /// How callers are told apart.
    pub auth: auth::Options,
    /// `None`: plaintext.
    pub tls: Option<TlsOptions>,
    pub settings: LiveSettings,
    pub limits: Limits,
    pub traffic: TrafficLimits,
    /// How players are mailed while the settings say that they are. None: they are not.
    pub mail: Option<mail::Options>,
}

impl Options {
    fn listen_options(&self) -> ListenOptions {
        let direct = self.direct_database.as_ref();
        ListenOptions {
            database: (direct.unwrap_or(&self.database)).connect_options().clone(),
            is_direct: direct.is_some(),
        }
    }
}

/// A server that accepts calls.
pub struct Server {
    address: SocketAddr,
    health: Health,
    stop_accepting: oneshot::Sender<()>,
    serving: JoinHandle<Result<(), tonic::transport::Error>>,
    cut_connections: CancellationToken,
    traffic: Arc<Traffic>,
    workers: Workers,
    events: Events,
    event_tasks: Tasks,
    mailer: Option<Mailer>,
    reads: Reads,
    pool: PgPool,
}

/// Why a server could not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    #[error(transparent)]
    Schema(#[from] SchemaError),
    #[error(transparent)]
    Keys(#[from] WatchedError),
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

impl Server {
    /// Starts a server on a database that has the application's tables and every migration.
    /// Waits for a database that is away, and listens only then: a process that gave up would be
    /// started again and again, with longer and longer pauses.
    ///
    /// # Errors
    ///
    /// What is missing of the schema, a database that refuses us, or an address that cannot be
    /// listened on.
    pub async fn start(options: Options) -> Result<Self, ServerError> {
        let listen_options = options.listen_options();
        let authenticator = Authenticator::open(options.auth).await?;
        let certificates = match options.tls {
            Some(files) => Some(tls::open(files).await?),
            None => None,
        };
        let connect_options = options.database.connect_options();
        let pool = pool::connect_lazy_to_primary(connect_options.clone(), options.max_connections);
        pool::watch(&pool);
        let warm = WARM_CONNECTIONS.min(options.max_connections);
        let page_token_key = once_available(async || {
            schema::check(connect_options).await?;
            pool::warm(&pool, warm).await?;
            Ok(PageTokenKey::new(&secrets::page_token_key(&pool).await?))
        })
        .await?;

        let incoming = listen(options.listen)?;
        let address = incoming.local_addr().map_err(|cause| ServerError::Listen {
            address: options.listen,
            cause,
        })?;

        let (events, event_tasks) = Events::start(pool.clone(), listen_options);
        let mailing =
            (options.mail.as_ref()).map(|mail| as_switched(mail.mailing, options.settings.clone()));
        let mailer = (options.mail.zip(mailing.clone()))
            .map(|(mail, mailing)| Mailer::start(pool.clone(), mail, mailing));
        let on_commit = tell(events.clone(), mailer.as_ref());
        let (engine, workers) = Engine::start(pool.clone(), options.limits, mailing, on_commit);
        let engine_health = engine.health();
        let traffic = Arc::new(Traffic::new(options.traffic));
        let reads = match &options.read_database {
            None => Reads::on_primary(pool.clone()),
            Some(replica) => Reads::with_replica(
                pool.clone(),
                connect_options,
                replica.connect_options(),
                options.max_connections,
            ),
        };
        let api = Api {
            engine,
            pool: pool.clone(),
            settings: options.settings.clone(),
            page_token_key,
            ranks: Ranks::new(reads.clone()),
            reads: reads.clone(),
            events: events.clone(),
            stream_reads: StreamReads::with_connections(options.max_connections),
            traffic: Arc::clone(&traffic),
        };
        let (health, health_service) = Health::start(connect_options.clone(), engine_health).await;

        let mut routes = api.into_routes().add_service(health_service);
        if options.reflection {
            routes = add_reflection(routes);
        }
        let services = layers::wrap(routes, authenticator, options.settings, &traffic);
        let (stop_accepting, stopped) = oneshot::channel();
        let cut_connections = CancellationToken::new();
        let connection_age = options.traffic.connection_age;
        let incoming = GuardedIncoming::new(
            incoming,
            options.traffic.connections,
            connection_age,
            cut_connections.clone(),
        );
        let mut builder = tonic::transport::Server::builder();
        if let Some(age) = connection_age {
            builder = builder.max_connection_age(age);
        }
        let serving = builder
            .max_concurrent_streams(MAX_CONCURRENT_CALLS)
            .http2_max_header_list_size(MAX_HEADER_BYTES)
            .initial_stream_window_size(CALL_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .http2_max_pending_accept_reset_streams(Some(MAX_UNSEEN_RESETS))
            .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
            .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
            .serve_with_incoming_shutdown(services, connections(incoming, certificates), async {
                // Also when the sender is dropped.
                let _ = stopped.await;
            });
        Ok(Self {
            address,
            health,
            stop_accepting,
            serving: tokio::spawn(serving),
            cut_connections,
            traffic,
            workers,
            events,
            event_tasks,
            mailer,
            reads,
            pool,
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Resolves when the server ends without having been told to.
    pub async fn failed(&mut self) -> ServerError {
        match (&mut self.serving).await {
            Ok(Ok(())) => unreachable!("nobody told it to stop"),
            Ok(Err(error)) => error.into(),
            Err(panic) => panic.into(),
        }
    }

    /// Reports itself as not ready, and goes on serving for so long: load balancers notice, and
    /// send new calls elsewhere.
    pub async fn withdraw(&mut self, delay: Duration) {
        self.health.withdraw().await;
        sleep(delay).await;
    }

    /// Ends in order: reports itself as not ready, ends streams, accepts no more connections,
    /// lets calls in progress finish, settles what the engine accepted and what the mail worker
    /// began, closes the database. Takes
    /// `grace` at the most; what is still running then is cut off.
    pub async fn stop(mut self, grace: Duration) {
        let until = Instant::now() + grace;
        self.health.withdraw().await;
        self.events.end_streams();
        if let Some(mailer) = &self.mailer {
            mailer.stop();
        }
        let _ = self.stop_accepting.send(());
        let finished = async {
            tokio::select! {
                _ = &mut self.serving => {}
                () = stuck_streams_alone_are_left(&self.traffic) => {
                    tracing::info!("cutting off streams that are not read");
                }
            }
        };
        if timeout_at(until, finished).await.is_err() {
            tracing::warn!("cutting off calls that outlasted the grace period");
        }
        self.cut_connections.cancel();
        if timeout_at(until, self.workers.finish()).await.is_err() {
            tracing::warn!("leaving orders that outlasted the grace period");
        }
        self.events.stop();
        if timeout_at(until, self.event_tasks.finish()).await.is_err() {
            tracing::warn!("the other replicas were not told everything");
        }
        if let Some(mailer) = self.mailer
            && timeout_at(until, mailer.finish()).await.is_err()
        {
            tracing::warn!("leaving mails of which nobody knows what became of them");
        }
        let _ = timeout_at(until, self.reads.close()).await;
        let _ = timeout_at(until, self.pool.close()).await;
    }
}

/// Resolves when whoever reads has been told everything: no call has been in progress for long
/// enough, not even one that was on its way when the server began to stop.
async fn stuck_streams_alone_are_left(traffic: &Traffic) {
    let mut idle_since = Instant::now();
    while idle_since.elapsed() < LAST_WORDS {
        sleep(LOOK_INTERVAL).await;
        if !traffic.is_idle() {
            idle_since = Instant::now();
        }
    }
}

fn listen(address: SocketAddr) -> Result<TcpIncoming, ServerError> {
    let incoming =
        TcpIncoming::bind(address).map_err(|cause| ServerError::Listen { address, cause })?;
    // An answer is one small packet: it should not wait for more to send.
    Ok(incoming.with_nodelay(Some(true)))
}

/// Players are mailed as long as the settings say so.
fn as_switched(mailing: Mailing, settings: LiveSettings) -> MailingNow {
    Arc::new(move || settings.now().email_enabled.then_some(mailing))
}

/// Whoever waits for news of a commit.
fn tell(events: Events, mailer: Option<&Mailer>) -> OnCommit {
    let wake_mailer = mailer.map(Mailer::waker);
    Arc::new(move |changes| {
        events.publish(changes);
        if let Some(wake) = &wake_mailer {
            wake();
        }
    })
}

/// Tries until the database is there.
async fn once_available<T>(
    attempt: impl AsyncFn() -> Result<T, SchemaError>,
) -> Result<T, SchemaError> {
    loop {
        match attempt().await {
            Err(SchemaError::Store(error @ StoreError::Unavailable(_))) => {
                tracing::warn!(%error, "waiting for the database");
                sleep(PAUSE).await;
            }
            result => return result,
        }
    }
}

/// What is served, once TLS is spoken where there are certificates for it.
fn connections(
    incoming: GuardedIncoming,
    certificates: Option<Watched<ServerConfig>>,
) -> Pin<Box<dyn Stream<Item = io::Result<Connection>> + Send>> {
    match certificates {
        Some(certificates) => Box::pin(tls::handshakes(incoming, certificates)),
        None => Box::pin(incoming.map(|accepted| accepted.map(Connection::Plain))),
    }
}

/// Reflection in the two versions that clients ask for.
fn add_reflection(routes: Routes) -> Routes {
    let builder = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(pb::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let v1 = builder().build_v1().expect("our own descriptors are valid");
    let v1alpha = builder()
        .build_v1alpha()
        .expect("our own descriptors are valid");
    routes.add_service(v1).add_service(v1alpha)
}
