//! Callers that execute heists without pause, each with one call at a time. A caller repeats a call
//! with its request id until it gets an answer that settles it.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use heist::pb::{ExecuteHeistRequest, heist_service_client::HeistServiceClient};
use rand::RngExt as _;
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};
use tonic::{
    Code, Request, Status,
    transport::{Channel, Endpoint},
};
use uuid::Uuid;

/// Players 1 to this one.
pub const PLAYERS: i32 = 200;
const CALLERS: usize = 12;
/// How long a caller waits for an answer.
const DEADLINE: Duration = Duration::from_secs(3);
/// An answer after this much more has come too late.
const GRACE: Duration = Duration::from_millis(500);
const PAUSE: Duration = Duration::from_millis(20);

pub struct Callers {
    tasks: JoinSet<Vec<Call>>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    stopped: AtomicBool,
    /// When the last heist was answered that was called after the one before was.
    latest: Mutex<Option<(Instant, Instant)>>,
}

/// One request id, and how it went.
#[derive(Debug)]
pub struct Call {
    pub request_id: Uuid,
    pub attacker: i32,
    pub victim: i32,
    /// Tries without an answer, by status code.
    pub unresolved: BTreeMap<String, u32>,
    /// Answers that came later than they may, or that a defect gave.
    pub defects: Vec<String>,
    pub answered: Instant,
    /// `Err`: refused, for this reason.
    pub answer: Result<Heist, String>,
}

/// The numbers of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heist {
    pub id: i64,
    pub stolen: i32,
    pub attacker_after: i32,
    pub victim_after: i32,
    pub tokens_remaining: i32,
}

impl Callers {
    pub fn start(address: SocketAddr) -> Self {
        let shared = Arc::new(Shared::default());
        let endpoint = Endpoint::from_shared(format!("http://{address}"))
            .expect("an address makes a URL")
            .connect_timeout(Duration::from_secs(1));
        let mut tasks = JoinSet::new();
        for _ in 0..CALLERS {
            let client = HeistServiceClient::new(endpoint.connect_lazy());
            tasks.spawn(call_until_stopped(client, Arc::clone(&shared)));
        }
        Self { tasks, shared }
    }

    /// When a heist was answered that was called after `from`.
    pub async fn until_answered(&self, from: Instant, limit: Duration) -> anyhow::Result<Instant> {
        let answered = async {
            loop {
                let latest = *self.shared.latest.lock().expect("no holder panics");
                if let Some((_, answered)) = latest.filter(|(called, _)| *called > from) {
                    return answered;
                }
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(limit, answered)
            .await
            .context("the service did not come back")
    }

    /// Stops the callers after each has the answer to its last call.
    pub async fn stop(mut self, limit: Duration) -> anyhow::Result<Vec<Call>> {
        self.shared.stopped.store(true, Ordering::Relaxed);
        let mut calls = Vec::new();
        let collect = async {
            while let Some(ended) = self.tasks.join_next().await {
                calls.extend(ended?);
            }
            anyhow::Ok(())
        };
        timeout(limit, collect)
            .await
            .context("calls were never answered")??;
        ensure!(!calls.is_empty(), "no call was made");
        calls.sort_by_key(|call| call.answered);
        Ok(calls)
    }
}

async fn call_until_stopped(
    mut client: HeistServiceClient<Channel>,
    shared: Arc<Shared>,
) -> Vec<Call> {
    let mut calls = Vec::new();
    while !shared.stopped.load(Ordering::Relaxed) {
        calls.push(call(&mut client, &shared).await);
        sleep(Duration::from_millis(2)).await;
    }
    calls
}

async fn call(client: &mut HeistServiceClient<Channel>, shared: &Shared) -> Call {
    let request_id = Uuid::now_v7();
    let attacker = rand::rng().random_range(1..=PLAYERS);
    let victim = 1 + (attacker - 1 + rand::rng().random_range(1..PLAYERS)) % PLAYERS;
    let mut unresolved = BTreeMap::new();
    let mut defects = Vec::new();
    loop {
        let mut request = Request::new(ExecuteHeistRequest {
            attacker_id: attacker,
            victim_id: victim,
            request_id: request_id.to_string(),
        });
        request.set_timeout(DEADLINE);
        let called = Instant::now();
        let result = timeout(DEADLINE + GRACE, client.execute_heist(request)).await;
        let answered = Instant::now();
        let answer = match result {
            Ok(Ok(answer)) => {
                let answer = answer.into_inner();
                let heist = answer.heist.expect("an answer has a heist");
                let mut latest = shared.latest.lock().expect("no holder panics");
                *latest = (*latest).max(Some((called, answered)));
                Ok(Heist {
                    id: heist.id,
                    stolen: heist.points_stolen,
                    attacker_after: heist.attacker_points_after,
                    victim_after: heist.victim_points_after,
                    tokens_remaining: answer.tokens_remaining,
                })
            }
            Ok(Err(status)) if is_unresolved(&status) => {
                *unresolved
                    .entry(format!("{:?}", status.code()))
                    .or_default() += 1;
                sleep(PAUSE).await;
                continue;
            }
            Ok(Err(status)) if status.code() == Code::Internal => {
                defects.push(status.to_string());
                sleep(PAUSE).await;
                continue;
            }
            Ok(Err(status)) => Err(status.message().to_owned()),
            Err(_elapsed) => {
                defects.push(format!("no answer within {DEADLINE:?} and {GRACE:?}"));
                continue;
            }
        };
        return Call {
            request_id,
            attacker,
            victim,
            unresolved,
            defects,
            answered,
            answer,
        };
    }
}

/// Whether it may have happened or may happen yet: the service is away, or the connection to it
/// broke, which the HTTP/2 library calls by several names but never by one of ours.
fn is_unresolved(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::Unavailable
            | Code::DeadlineExceeded
            | Code::Aborted
            | Code::Unknown
            | Code::Cancelled
    ) || (status.code() == Code::Internal && !status.message().starts_with("Internal error "))
}
