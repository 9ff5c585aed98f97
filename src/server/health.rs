//! What the health service says, for each service of the contract and for the whole server.
//!
//! Readiness, that is whether to send calls here, follows the database: it has to answer, take
//! writes, and have every migration. Liveness, that is whether the process should be restarted,
//! does not: a restart mends no database, and would take away what recovers by itself.

use std::time::Duration;

use tokio::{
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
        PgConnectOptions, PgPool, pool,
        schema::{self, SchemaError},
    },
};

/// The services whose readiness is reported; the empty name stands for the whole server.
const SERVICES: [&str; 4] = [
    "",
    heist_service_server::SERVICE_NAME,
    token_service_server::SERVICE_NAME,
    notification_service_server::SERVICE_NAME,
];

/// The name under which a liveness probe asks: serving for as long as the process answers.
const LIVENESS: &str = "liveness";

/// How often the database is looked at, and how long it may take to answer.
const INTERVAL: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(2);
/// So many failures in a row, and the server is not ready any more: one that was a hiccup must
/// not take every replica out of service at the same moment.
const FALL: u32 = 3;
/// So many successes in a row, and it is ready again.
const RISE: u32 = 2;

/// Reports health until it is dropped.
pub struct Health {
    reporter: HealthReporter,
    /// Until it is withdrawn.
    following: Option<JoinHandle<()>>,
}

impl Health {
    /// Begins as ready: to be called when the database has just been found fit. Looks at it on a
    /// connection of its own, so that a pool which is busy does not look like a database that
    /// is away.
    #[must_use]
    pub async fn start(
        database: PgConnectOptions,
        engine: EngineHealth,
    ) -> (Self, HealthServer<impl HealthService>) {
        let (reporter, service) = tonic_health::server::health_reporter();
        report(&reporter, ServingStatus::Serving).await;
        reporter
            .set_service_status(LIVENESS, ServingStatus::Serving)
            .await;
        let following = tokio::spawn(follow(
            reporter.clone(),
            pool::connect_lazy(database, 1),
            engine,
        ));
        let health = Self {
            reporter,
            following: Some(following),
        };
        (health, service)
    }

    /// Reports that this server is not ready, for good.
    pub async fn withdraw(&mut self) {
        if let Some(following) = self.following.take() {
            following.abort();
            // It must not have the last word.
            let _ = following.await;
            report(&self.reporter, ServingStatus::NotServing).await;
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

async fn report(reporter: &HealthReporter, status: ServingStatus) {
    for service in SERVICES {
        reporter.set_service_status(service, status).await;
    }
}

async fn follow(reporter: HealthReporter, pool: PgPool, engine: EngineHealth) {
    let mut readiness = Readiness::new();
    loop {
        sleep(INTERVAL).await;
        let found = look(&pool, &engine).await;
        if !readiness.note(found.is_ok()) {
            continue;
        }
        match found {
            Ok(()) => {
                tracing::info!("ready again");
                report(&reporter, ServingStatus::Serving).await;
            }
            Err(error) => {
                tracing::error!(%error, "not ready");
                report(&reporter, ServingStatus::NotServing).await;
            }
        }
    }
}

/// Why calls had better not be sent here.
#[derive(Debug, thiserror::Error)]
enum Unfit {
    #[error(transparent)]
    Schema(#[from] SchemaError),
    #[error("orders are waiting, and none has got anywhere for 5 s")]
    Stalled,
}

async fn look(pool: &PgPool, engine: &EngineHealth) -> Result<(), Unfit> {
    match timeout(PATIENCE, schema::check_serviceable(pool)).await {
        Ok(found) => found?,
        Err(_elapsed) => return Err(SchemaError::timed_out().into()),
    }
    if engine.is_stalled() {
        return Err(Unfit::Stalled);
    }
    Ok(())
}

/// Ready or not, with hysteresis.
struct Readiness {
    ready: bool,
    /// Looks in a row that found otherwise.
    against: u32,
}

impl Readiness {
    fn new() -> Self {
        Self {
            ready: true,
            against: 0,
        }
    }

    /// Whether this look changes something.
    fn note(&mut self, good: bool) -> bool {
        if good == self.ready {
            self.against = 0;
            return false;
        }
        self.against += 1;
        let changes = self.against >= if self.ready { FALL } else { RISE };
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

    /// What it is after each look; `x`: a failure.
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
    fn three_failures_in_a_row_take_a_server_out_and_two_successes_bring_it_back() {
        assert_eq!(after("..x.xx.xxxx"), "+++++++++--");
        assert_eq!(after("xxx.x.x..x"), "++------++");
        assert_eq!(after("xxx..xx.xxx"), "++--++++++-");
    }
}
