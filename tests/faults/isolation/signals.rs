//! Signals between replicas.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use anyhow::ensure;
use heist::pb::{WatchPointsRequest, heist_service_client::HeistServiceClient};
use tokio::{
    task::JoinHandle,
    time::{sleep, timeout},
};
use tonic::transport::Endpoint;

use super::{
    arena::{Arena, PLAYERS, Running},
    bars::{Bar, Bars, Limit, count},
    load::{Call, Group, Load, Outcome},
    tap::{Phase, Silence, Tap},
};

/// A watcher needs to know of a heist within this time.
const KNOWN_WITHIN: Duration = Duration::from_secs(10);

/// What one watcher received, with the times.
#[derive(Default)]
struct Seen {
    /// Ids of heists.
    changes: Vec<(Instant, i64)>,
    resyncs: Vec<Instant>,
}

/// The connection on which a replica listens for the signals of the others falls silent.
pub async fn listener_silent(arena: &mut Arena, bars: &mut Bars) -> anyhow::Result<()> {
    let tap = Tap::start(arena.postgres.socket()?).await?;
    let watching = arena.serve(&Arena::url_through(tap.address)).await?;
    let executing = arena.serve(&arena.url()).await?;
    let silence = async || {
        let silenced = tap.silence_listeners(Silence::Answers);
        ensure!(silenced > 0, "no connection listens");
        Ok(())
    };
    watchers_learn_of_all(arena, bars, watching, executing, silence).await
}

/// The connection on which a replica sends signals to the others falls silent.
pub async fn sender_silent(arena: &mut Arena, bars: &mut Bars) -> anyhow::Result<()> {
    let tap = Tap::start(arena.postgres.socket()?).await?;
    let watching = arena.serve(&arena.url()).await?;
    let executing = arena.serve(&Arena::url_through(tap.address)).await?;
    let silence = async || {
        tap.arm(Phase::Notify, Silence::Requests);
        let struck = timeout(Duration::from_secs(5), async {
            while !tap.has_struck() {
                sleep(Duration::from_millis(1)).await;
            }
        });
        ensure!(struck.await.is_ok(), "no signal was sent");
        Ok(())
    };
    watchers_learn_of_all(arena, bars, watching, executing, silence).await
}

async fn watchers_learn_of_all(
    arena: &Arena,
    bars: &mut Bars,
    watching: Running,
    executing: Running,
    silence: impl AsyncFnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let (seen, watcher) = watch(&watching).await?;
    let call = Call::Heist {
        attackers: 1..=PLAYERS,
        victims: 1..=PLAYERS,
    };
    let load = Load::start(executing.address(), &[Group::new("others", 2, call)]);
    sleep(arena.control()).await;
    let changes_before = seen.lock().expect("no holder panics").changes.len();
    ensure!(
        changes_before > 0,
        "the watcher got no change before the fault"
    );

    silence().await?;
    let fault = Instant::now();
    sleep(arena.lasting(8, 60)).await;
    let samples = load.stop().await?;
    sleep(KNOWN_WITHIN).await;
    watcher.abort();
    watching.kill().await?;
    executing.kill().await?;

    let seen = std::mem::take(&mut *seen.lock().expect("no holder panics"));
    let heists = (samples.0.iter()).filter_map(|sample| match sample.outcome {
        Outcome::Done(id) if sample.called > fault => Some((id, sample.answered)),
        _ => None,
    });
    let delays = heists.map(|(id, answered)| {
        let change = (seen.changes.iter())
            .find(|(_, seen)| *seen == id)
            .map(|(at, _)| *at);
        let resync = (seen.resyncs.iter()).find(|at| **at >= answered).copied();
        let known = change.into_iter().chain(resync).min();
        known.map(|at| at.saturating_duration_since(answered))
    });
    let delays: Vec<Option<Duration>> = delays.collect();
    let unknown = delays.iter().filter(|delay| delay.is_none()).count();
    let slowest = delays.iter().flatten().max().copied().unwrap_or_default();
    let resyncs = seen.resyncs.iter().filter(|at| **at > fault).count();
    let unknown = count(unknown);
    bars.add(
        Bar::new(
            "heists that a watcher never learnt of",
            unknown,
            "",
            Limit::AtMost(0.0),
        )
        .noting(format!("of {}; {resyncs} times resync", delays.len())),
    );
    bars.add(Bar::new(
        "longest until a change or resync",
        slowest.as_secs_f64(),
        "s",
        Limit::AtMost(KNOWN_WITHIN.as_secs_f64()),
    ));
    arena.check_books(&samples).await
}

async fn watch(running: &Running) -> anyhow::Result<(Arc<Mutex<Seen>>, JoinHandle<()>)> {
    let channel = Endpoint::from_shared(format!("http://{}", running.address()))?
        .connect()
        .await?;
    let mut client = HeistServiceClient::new(channel);
    let mut stream = client
        .watch_points(WatchPointsRequest {})
        .await?
        .into_inner();
    let seen = Arc::new(Mutex::new(Seen::default()));
    let shared = Arc::clone(&seen);
    let watcher = tokio::spawn(async move {
        while let Ok(Some(message)) = stream.message().await {
            let now = Instant::now();
            let mut seen = shared.lock().expect("no holder panics");
            if message.resync {
                seen.resyncs.push(now);
            } else {
                seen.changes.push((now, message.heist_id));
            }
        }
    });
    Ok((seen, watcher))
}
