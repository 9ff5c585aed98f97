//! The health service, for each service of the contract and for the whole server.
//!
//! Readiness (whether to send calls here) follows the database: it must answer, accept writes, and
//! have every migration. Liveness (whether to restart the process) does not follow the database: a
//! restart would not repair it, and would interrupt a server that recovers by itself.

use std::time::Duration;

use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{sleep, timeout},
};
use tonic_health::{
    ServingStatus,
    pb::health_server::{Health as HealthService, HealthServer},
    server::HealthReporter,
};

use crate::{
    engine::EngineHealth,
    pb::{heist_service_server, notification_service_server, token_service_server},
    store::{
        PgPool,
        pool::{self, ConnectOptions},
        schema::{self, SchemaError},
    },
};

/// The services whose readiness is reported. The empty name stands for the whole server.
const SERVICES: [&str; 4] = [
    "",
    heist_service_server::SERVICE_NAME,
    token_service_server::SERVICE_NAME,
    notification_service_server::SERVICE_NAME,
];

/// The service name of liveness probes. It is serving for as long as the process answers.
const LIVENESS: &str = "liveness";

/// The interval of checks of the database, and the time limit of one.
const INTERVAL: Duration = Duration::from_secs(1);
const CHECK_TIMEOUT: Duration = Duration::from_secs(2);
/// Checks of a ready server between two preflights, which read the catalogue.
const CHECKS_PER_PREFLIGHT: u32 = 10;
/// Failed checks in a row after which the server is not ready. A single failure must not take every
/// replica out of service at the same moment.
const FAILURES_TO_UNREADY: u32 = 3;
/// Successful checks in a row after which it is ready again.
const SUCCESSES_TO_READY: u32 = 2;

/// Reports health until it is dropped.
pub struct Health {
    reporter: Reporter,
    /// `None` after [`Health::withdraw`].
    following: Option<JoinHandle<()>>,
}

impl Health {
    /// Begins as ready, so the caller must have checked the database. Further checks use a connection
    /// of their own: a busy pool is not an unavailable database.
    #[must_use]
    pub async fn start(
        database: ConnectOptions,
        engine: EngineHealth,
    ) -> (Self, HealthServer<impl HealthService>) {
        let (reporter, service) = tonic_health::server::health_reporter();
        reporter
            .set_service_status(LIVENESS, ServingStatus::Serving)
            .await;
        let reporter = Reporter {
            grpc: reporter,
            ready: watch::channel(true).0,
        };
        reporter.report(true).await;
        let following = tokio::spawn(follow(reporter.clone(), database, engine));
        let health = Self {
            reporter,
            following: Some(following),
        };
        (health, service)
    }

    /// A receiver of the server's readiness and of its changes.
    #[must_use]
    pub fn readiness(&self) -> watch::Receiver<bool> {
        self.reporter.ready.subscribe()
    }

    /// Reports this server as not ready until it ends.
    pub async fn withdraw(&mut self) {
        if let Some(following) = self.following.take() {
            following.abort();
            // The task must not report anything after this.
            let _ = following.await;
            self.reporter.report(false).await;
        }
    }
}

impl Drop for Health {
    fn drop(&mut self) {
        if let Some(following) = &self.following {
            following.abort();
        }
    }
}

/// Reports readiness to the health service and to other readers in this process.
#[derive(Clone)]
struct Reporter {
    grpc: HealthReporter,
    ready: watch::Sender<bool>,
}

impl Reporter {
    async fn report(&self, ready: bool) {
        let status = if ready {
            ServingStatus::Serving
        } else {
            ServingStatus::NotServing
        };
        for service in SERVICES {
            self.grpc.set_service_status(service, status).await;
        }
        self.ready.send_replace(ready);
    }
}

async fn follow(reporter: Reporter, database: ConnectOptions, engine: EngineHealth) {
    let connect = || pool::connect_lazy(database.clone(), 1);
    let mut pool = connect();
    let mut readiness = Readiness::new();
    let mut checks_since_preflight = 0;
    loop {
        sleep(INTERVAL).await;
        checks_since_preflight += 1;
        // After a failure each check has the preflight, so that a cure is noticed at once.
        let with_preflight = !readiness.ready || checks_since_preflight >= CHECKS_PER_PREFLIGHT;
        let mut found = check(&pool, with_preflight).await.map_err(Unfit::from);
        if found.is_err() {
            // The next check uses a new connection: this one may be silent for ever.
            pool = connect();
        } else if with_preflight {
            checks_since_preflight = 0;
        }
        if found.is_ok() && engine.is_stalled() {
            found = Err(Unfit::Stalled);
        }
        if !readiness.note(found.is_ok()) {
            continue;
        }
        match found {
            Ok(()) => {
                tracing::info!("ready again");
                reporter.report(true).await;
            }
            Err(error) => {
                tracing::error!(%error, "not ready");
                reporter.report(false).await;
            }
        }
    }
}

/// Why calls should go to other replicas.
#[derive(Debug, thiserror::Error)]
enum Unfit {
    #[error(transparent)]
    Schema(#[from] SchemaError),
    #[error("orders have been waiting for 5 s, and the database has answered none of them")]
    Stalled,
}

async fn check(pool: &PgPool, with_preflight: bool) -> Result<(), SchemaError> {
    let checking = async {
        schema::check_serviceable(pool).await?;
        if with_preflight {
            schema::check_fitness(pool).await?;
        }
        Ok(())
    };
    match timeout(CHECK_TIMEOUT, checking).await {
        Ok(found) => found,
        Err(_elapsed) => Err(SchemaError::timed_out()),
    }
}

/// Whether the server is ready, with hysteresis.
struct Readiness {
    ready: bool,
    /// Consecutive checks whose result differs from `ready`.
    against: u32,
}

impl Readiness {
    fn new() -> Self {
        Self {
            ready: true,
            against: 0,
        }
    }

    /// Notes the result of a check, and returns whether readiness has changed.
    fn note(&mut self, good: bool) -> bool {
        if good == self.ready {
            self.against = 0;
            return false;
        }
        self.against += 1;
        let changes = self.against
            >= if self.ready {
                FAILURES_TO_UNREADY
            } else {
                SUCCESSES_TO_READY
            };
        if changes {
            *self = Self {
                ready: good,
                against: 0,
            };
        }
        changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The readiness after each check; `x`: a failed check.
    fn after(looks: &str) -> String {
        let mut readiness = Readiness::new();
        let states = looks.chars().map(|look| {
            let was = readiness.ready;
            assert_eq!(readiness.note(look != 'x'), readiness.ready != was);
            if readiness.ready { '+' } else { '-' }
        });
        states.collect()
    }

    #[test]
    fn readiness_ends_after_three_failures_in_a_row_and_returns_after_two_successes() {
        assert_eq!(after("..x.xx.xxxx"), "+++++++++--");
        assert_eq!(after("xxx.x.x..x"), "++------++");
        assert_eq!(after("xxx..xx.xxx"), "++--++++++-");
    }
}
