//! Groups of callers, and the outcome and latency of each of their calls.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    ops::RangeInclusive,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Context as _;
use heist::pb::{
    ExecuteHeistRequest, GetBalanceRequest, GetLeaderboardRequest, MarkNotificationsReadRequest,
    heist_service_client::HeistServiceClient,
    notification_service_client::NotificationServiceClient,
    token_service_client::TokenServiceClient,
};
use rand::RngExt as _;
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};
use tonic::{
    Code, Request, Status,
    transport::{Channel, Endpoint},
};
use tonic_types::StatusExt as _;
use uuid::Uuid;

use super::bars::count;

/// An answer after the deadline and this much more counts as none.
const GRACE: Duration = Duration::from_millis(500);
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(10);
const STOP_LIMIT: Duration = Duration::from_secs(30);

pub type Players = RangeInclusive<i32>;

/// What the callers of a group call.
#[derive(Clone, Debug)]
pub enum Call {
    Heist {
        attackers: Players,
        victims: Players,
    },
    Balance(Players),
    MarkRead(Players),
    Board(Players),
}

#[derive(Clone)]
pub struct Group {
    pub name: &'static str,
    pub call: Call,
    pub callers: usize,
    pub deadline: Duration,
    /// Players of a failed call are left to one caller, which repeats calls for them.
    pub avoids_failures: bool,
}

impl Group {
    pub fn new(name: &'static str, callers: usize, call: Call) -> Self {
        Self {
            name,
            call,
            callers,
            deadline: Duration::from_secs(2),
            avoids_failures: false,
        }
    }
}

#[derive(Clone, Debug)]
pub struct Sample {
    pub group: &'static str,
    pub called: Instant,
    pub answered: Instant,
    /// Attacker and victim; of other calls the player twice.
    pub players: [i32; 2],
    pub outcome: Outcome,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The id of a heist, or 0.
    Done(i64),
    Refused {
        code: Code,
        reason: String,
        has_retry_info: bool,
    },
    NoAnswer,
}

impl Outcome {
    pub fn is_done(&self) -> bool {
        matches!(self, Self::Done(_))
    }

    pub fn name(&self) -> String {
        match self {
            Self::Done(_) => "OK".to_owned(),
            Self::Refused { code, reason, .. } if reason.is_empty() => format!("{code:?}"),
            Self::Refused { reason, .. } => reason.clone(),
            Self::NoAnswer => "no answer".to_owned(),
        }
    }
}

pub struct Load {
    tasks: JoinSet<Vec<Sample>>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    stopped: AtomicBool,
    paused: Mutex<BTreeSet<&'static str>>,
    avoided: Mutex<BTreeSet<i32>>,
    /// Pairs of players whose call failed.
    failed: Mutex<Vec<[i32; 2]>>,
}

/// The calls of a load, in the order of their answers.
pub struct Samples(pub Vec<Sample>);

impl Load {
    pub fn start(address: SocketAddr, groups: &[Group]) -> Self {
        let shared = Arc::new(Shared::default());
        let mut tasks = JoinSet::new();
        for group in groups {
            for _ in 0..group.callers {
                let caller = Caller::new(address, group.clone(), Arc::clone(&shared));
                tasks.spawn(caller.call_until_stopped());
            }
            if group.avoids_failures {
                let caller = Caller::new(address, group.clone(), Arc::clone(&shared));
                tasks.spawn(caller.repeat_failures());
            }
        }
        Self { tasks, shared }
    }

    pub fn pause(&self, group: &'static str) {
        (self.shared.paused.lock().expect("no holder panics")).insert(group);
    }

    pub fn resume(&self, group: &'static str) {
        (self.shared.paused.lock().expect("no holder panics")).remove(group);
    }

    pub async fn stop(mut self) -> anyhow::Result<Samples> {
        self.shared.stopped.store(true, Ordering::Relaxed);
        let mut samples = Vec::new();
        let collect = async {
            while let Some(ended) = self.tasks.join_next().await {
                samples.extend(ended?);
            }
            anyhow::Ok(())
        };
        timeout(STOP_LIMIT, collect)
            .await
            .context("the callers did not end")??;
        samples.sort_by_key(|sample| sample.answered);
        Ok(Samples(samples))
    }
}

impl Samples {
    pub fn of<'a>(&'a self, group: &'a str) -> impl Iterator<Item = &'a Sample> {
        self.0.iter().filter(move |sample| sample.group == group)
    }

    /// Successful calls per second that were answered in this interval.
    pub fn rate(&self, group: &str, from: Instant, to: Instant) -> f64 {
        let done = (self.of(group))
            .filter(|sample| (from..to).contains(&sample.answered) && sample.outcome.is_done());
        let count = count(done.count());
        count / (to - from).as_secs_f64()
    }

    /// The 99th percentile of the latencies of calls that began in this interval, in ms.
    pub fn p99_ms(&self, group: &str, from: Instant, to: Instant) -> f64 {
        let begun = self
            .of(group)
            .filter(|sample| (from..to).contains(&sample.called));
        let mut latencies: Vec<Duration> = begun
            .map(|sample| sample.answered - sample.called)
            .collect();
        latencies.sort_unstable();
        let place = (latencies.len() * 99).div_ceil(100).max(1) - 1;
        latencies
            .get(place)
            .map_or(f64::NAN, |latency| latency.as_secs_f64() * 1000.0)
    }

    /// The same of calls that began and were answered in this interval: for a control, which must not
    /// hold what a fault after it delays.
    pub fn control_p99_ms(&self, group: &str, from: Instant, to: Instant) -> f64 {
        let answered = self.0.iter().filter(|sample| sample.answered < to).cloned();
        Self(answered.collect()).p99_ms(group, from, to)
    }

    /// The largest latency of calls that began in this interval, in ms.
    pub fn slowest_ms(&self, group: &str, from: Instant, to: Instant) -> f64 {
        let begun = self
            .of(group)
            .filter(|sample| (from..to).contains(&sample.called));
        let slowest = begun.map(|sample| sample.answered - sample.called).max();
        slowest.map_or(f64::NAN, |latency| latency.as_secs_f64() * 1000.0)
    }

    /// Failed calls that began in this interval, by outcome.
    pub fn failures(&self, group: &str, from: Instant, to: Instant) -> BTreeMap<String, usize> {
        let mut failures = BTreeMap::new();
        for sample in self
            .of(group)
            .filter(|sample| (from..to).contains(&sample.called))
        {
            if !sample.outcome.is_done() {
                *failures.entry(sample.outcome.name()).or_default() += 1;
            }
        }
        failures
    }

    /// From `from` until the first success of a call that began after it.
    pub fn first_success(&self, group: &str, from: Instant) -> Option<Duration> {
        let first =
            (self.of(group)).find(|sample| sample.called >= from && sample.outcome.is_done())?;
        Some(first.answered - from)
    }
}

struct Caller {
    group: Group,
    channel: Channel,
    shared: Arc<Shared>,
    samples: Vec<Sample>,
}

impl Caller {
    fn new(address: SocketAddr, group: Group, shared: Arc<Shared>) -> Self {
        let endpoint = Endpoint::from_shared(format!("http://{address}"))
            .expect("an address makes a URL")
            .connect_timeout(Duration::from_secs(1));
        Self {
            group,
            channel: endpoint.connect_lazy(),
            shared,
            samples: Vec::new(),
        }
    }

    fn is_stopped(&self) -> bool {
        self.shared.stopped.load(Ordering::Relaxed)
    }

    async fn call_until_stopped(mut self) -> Vec<Sample> {
        while !self.is_stopped() {
            let is_paused =
                (self.shared.paused.lock().expect("no holder panics")).contains(self.group.name);
            if is_paused {
                sleep(PAUSE_AFTER_FAILURE).await;
                continue;
            }
            let players = self.players();
            let outcome = self.call(players).await;
            if !outcome.is_done() {
                if self.group.avoids_failures {
                    let mut avoided = self.shared.avoided.lock().expect("no holder panics");
                    avoided.extend(players);
                    (self.shared.failed.lock().expect("no holder panics")).push(players);
                }
                sleep(PAUSE_AFTER_FAILURE).await;
            }
        }
        self.samples
    }

    /// Repeats failed calls, in turns, until they succeed. Its samples stand under the name `failed`.
    async fn repeat_failures(mut self) -> Vec<Sample> {
        self.group.name = "failed";
        let mut pairs = Vec::new();
        while !self.is_stopped() {
            pairs.append(&mut self.shared.failed.lock().expect("no holder panics"));
            let mut still_failing = Vec::new();
            for players in std::mem::take(&mut pairs) {
                if !self.is_stopped() && !self.call(players).await.is_done() {
                    still_failing.push(players);
                }
            }
            pairs = still_failing;
            sleep(PAUSE_AFTER_FAILURE).await;
        }
        self.samples
    }

    fn players(&self) -> [i32; 2] {
        let mut random = rand::rng();
        loop {
            let players = match &self.group.call {
                Call::Heist { attackers, victims } => [
                    random.random_range(attackers.clone()),
                    random.random_range(victims.clone()),
                ],
                Call::Balance(players) | Call::MarkRead(players) | Call::Board(players) => {
                    [random.random_range(players.clone()); 2]
                }
            };
            let is_heist = matches!(self.group.call, Call::Heist { .. });
            let avoided = self.shared.avoided.lock().expect("no holder panics");
            let is_avoided = players.iter().any(|player| avoided.contains(player));
            if !(is_avoided || is_heist && players[0] == players[1]) {
                return players;
            }
        }
    }

    async fn call(&mut self, players: [i32; 2]) -> Outcome {
        let called = Instant::now();
        let limit = self.group.deadline + GRACE;
        let outcome = match timeout(limit, self.send(players)).await {
            Ok(Ok(heist_id)) => Outcome::Done(heist_id),
            Ok(Err(status)) => Outcome::Refused {
                code: status.code(),
                reason: (status.get_details_error_info())
                    .map_or_else(String::new, |info| info.reason),
                has_retry_info: status.get_details_retry_info().is_some(),
            },
            Err(_elapsed) => Outcome::NoAnswer,
        };
        self.samples.push(Sample {
            group: self.group.name,
            called,
            answered: Instant::now(),
            players,
            outcome: outcome.clone(),
        });
        outcome
    }

    async fn send(&self, [player, other]: [i32; 2]) -> Result<i64, Status> {
        let channel = self.channel.clone();
        match self.group.call {
            Call::Heist { .. } => {
                let request = self.request(ExecuteHeistRequest {
                    attacker_id: player,
                    victim_id: other,
                    request_id: Uuid::now_v7().to_string(),
                });
                let answer = HeistServiceClient::new(channel)
                    .execute_heist(request)
                    .await?;
                Ok(answer.into_inner().heist.map_or(0, |heist| heist.id))
            }
            Call::Balance(_) => {
                let request = self.request(GetBalanceRequest { user_id: player });
                TokenServiceClient::new(channel)
                    .get_balance(request)
                    .await?;
                Ok(0)
            }
            Call::MarkRead(_) => {
                let request = self.request(MarkNotificationsReadRequest {
                    user_id: player,
                    up_to_id: i64::MAX,
                    ..Default::default()
                });
                NotificationServiceClient::new(channel)
                    .mark_notifications_read(request)
                    .await?;
                Ok(0)
            }
            Call::Board(_) => {
                let request = self.request(GetLeaderboardRequest {
                    viewer_id: player,
                    page_size: 10,
                    page_token: String::new(),
                });
                HeistServiceClient::new(channel)
                    .get_leaderboard(request)
                    .await?;
                Ok(0)
            }
        }
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.set_timeout(self.group.deadline);
        request
    }
}
