//! Puts the parts of a server together.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{sync::watch, time::sleep};
use tonic::service::Routes;

use super::{
    health::Health,
    listener::{self, Listener},
    options::{Options, ServerError},
    tls,
};
use crate::{
    auth::Authenticator,
    domain::mailing::{Mailing, MailingNow},
    engine::{Engine, OnCommit, Workers},
    events::{self, Events, Tasks},
    mail::Mailer,
    pb,
    rpc::{Api, PageTokenKey, StreamReads, Traffic, layers},
    settings::LiveSettings,
    store::{
        PgPool, StoreError, emails,
        leaderboard::Ranks,
        pool,
        reads::Reads,
        schema::{self, SchemaError},
        secrets,
    },
};

/// Connections to the database that are open before the first call. Further ones open on demand.
const WARM_CONNECTIONS: u32 = 4;
/// The pause between attempts to start while the database is unavailable.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// A server that accepts calls.
pub struct Server {
    address: SocketAddr,
    pub(super) health: Health,
    pub(super) listener: Listener,
    pub(super) traffic: Arc<Traffic>,
    pub(super) workers: Workers,
    pub(super) events: Events,
    pub(super) event_tasks: Tasks,
    pub(super) mailer: Option<Mailer>,
    pub(super) reads: Reads,
    pub(super) pool: PgPool,
}

impl Server {
    /// Starts a server on a database that has the application's tables and every migration. While
    /// the database is unavailable, it waits and does not listen: Kubernetes would restart a process
    /// that exits, with growing pauses.
    ///
    /// # Errors
    ///
    /// The schema lacks something, the database refuses the connection, or the server cannot listen
    /// on the address.
    pub async fn start(options: Options) -> Result<Self, ServerError> {
        let databases = options.databases().await?;
        let authenticator = Authenticator::open(options.auth).await?;
        let certificates = match options.tls {
            Some(files) => Some(tls::open(files).await?),
            None => None,
        };
        let mail = match options.mail {
            Some(mail) => Some((mail.templates.open().await?, mail)),
            None => None,
        };
        let primary = databases.primary;
        let pool = pool::connect_lazy_to_primary(primary.clone(), options.max_connections);
        pool::watch(&pool, "primary");
        let warm = WARM_CONNECTIONS.min(options.max_connections);
        let page_token_key = once_available(async || {
            schema::check(&primary.newest()).await?;
            pool::warm(&pool, warm).await?;
            if let Some((_, mail)) = &mail
                && let Some(column) = &mail.templates.language_column
            {
                emails::check_language_column(&pool, column).await?;
            }
            Ok(PageTokenKey::new(&secrets::page_token_key(&pool).await?))
        })
        .await?;

        let (incoming, address) = listener::listen(options.listen)?;

        let (events, event_tasks) = events::start(pool.clone(), databases.listen);
        let mailing =
            (mail.as_ref()).map(|(_, mail)| while_enabled(mail.mailing, options.settings.clone()));
        let mailer = (mail.zip(mailing.clone())).map(|((templates, mail), mailing)| {
            Mailer::start(pool.clone(), mail, templates, mailing)
        });
        let on_commit = on_commit(events.clone(), mailer.as_ref());
        let (engine, workers) = Engine::start(pool.clone(), options.limits, mailing, on_commit);
        let engine_health = engine.health();
        let traffic = Arc::new(Traffic::new(options.traffic));
        let reads = match &databases.replica {
            None => Reads::on_primary(pool.clone()),
            Some(replica) => {
                Reads::with_replica(pool.clone(), &primary, replica, options.max_connections)
            }
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
        let (health, health_service) = Health::start(primary, engine_health).await;

        let mut routes = api.into_routes().add_service(health_service);
        if options.reflection {
            routes = add_reflection(routes);
        }
        let services = layers::wrap(
            routes,
            authenticator,
            options.settings,
            &traffic,
            &options.trusted_proxies,
        );
        let listener = listener::serve(incoming, certificates, services, options.traffic);
        Ok(Self {
            address,
            health,
            listener,
            traffic,
            workers,
            events,
            event_tasks,
            mailer,
            reads,
            pool,
        })
    }

    /// The address that it listens on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A receiver of the server's readiness and of its changes.
    #[must_use]
    pub fn readiness(&self) -> watch::Receiver<bool> {
        self.health.readiness()
    }

    /// Resolves when the server ends without [`Server::stop`].
    ///
    /// # Panics
    ///
    /// Never: the listener ends only with an error before it is told to stop.
    pub async fn failed(&mut self) -> ServerError {
        match (&mut self.listener.serving).await {
            Ok(Ok(())) => unreachable!("the listener was not told to stop"),
            Ok(Err(error)) => error.into(),
            Err(panic) => panic.into(),
        }
    }
}

/// How e-mail is sent at this moment; `None` while the settings disable it.
fn while_enabled(mailing: Mailing, settings: LiveSettings) -> MailingNow {
    Arc::new(move || settings.now().email_enabled.then_some(mailing))
}

/// Reports each commit to streams, other replicas and the mail worker.
fn on_commit(events: Events, mailer: Option<&Mailer>) -> OnCommit {
    let wake_mailer = mailer.map(Mailer::waker);
    Arc::new(move |changes| {
        events.publish(changes);
        if let Some(wake) = &wake_mailer {
            wake();
        }
    })
}

/// Repeats an attempt while the database is unavailable.
async fn once_available<T>(
    attempt: impl AsyncFn() -> Result<T, SchemaError>,
) -> Result<T, SchemaError> {
    loop {
        match attempt().await {
            Err(SchemaError::Store(error @ StoreError::Unavailable(_))) => {
                tracing::warn!(%error, "waiting for the database");
                sleep(RETRY_PAUSE).await;
            }
            result => return result,
        }
    }
}

/// Adds reflection in the two versions that clients use.
fn add_reflection(routes: Routes) -> Routes {
    let builder = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(pb::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            // grpcurl needs it to print the details of errors.
            .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
    };
    let v1 = (builder().build_v1()).expect("the built-in descriptors are valid");
    let v1alpha = (builder().build_v1alpha()).expect("the built-in descriptors are valid");
    routes.add_service(v1).add_service(v1alpha)
}
