//! A database that is gone, or whose address leads to a proxy without a backend.

use std::time::{Duration, Instant};

use tokio::time::sleep;
use tonic::Code;

use super::{
    arena::{Arena, PLAYERS},
    bars::{Bar, Bars, Limit, count},
    load::{Call, Group, Load, Outcome, Samples},
};
use crate::proxy::{Line, Proxy};

const GROUPS: [&str; 2] = ["heists", "reads"];
/// Refusals are fast from this time after the fault on.
const NOTICED: Duration = Duration::from_secs(1);

fn groups() -> [Group; 2] {
    let players = 1..=PLAYERS;
    let heists = Call::Heist {
        attackers: players.clone(),
        victims: players.clone(),
    };
    [
        Group::new("heists", 8, heists),
        Group::new("reads", 4, Call::Balance(players)),
    ]
}

/// PostgreSQL is killed, and comes back.
pub async fn postgres_gone(arena: &mut Arena, bars: &mut Bars) -> anyhow::Result<()> {
    let running = arena.serve(&arena.url()).await?;
    let load = Load::start(running.address(), &groups());
    sleep(arena.control()).await;

    arena.postgres.kill().await?;
    let fault = Instant::now();
    sleep(arena.lasting(5, 20)).await;
    let is_ready = running.is_ready().await?;
    let is_live = running.is_live().await?;
    let end = Instant::now();
    arena.postgres.start_again().await?;
    let back = Instant::now();
    sleep(Duration::from_secs(4)).await;
    let samples = load.stop().await?;
    running.stop().await?;

    for group in GROUPS {
        fast_refusals(bars, &samples, group, fault + NOTICED, end);
        let first = samples.first_success(group, back);
        let first = first.map_or(f64::NAN, |time| time.as_secs_f64());
        let what = format!("{group}: first success after the return");
        bars.add(Bar::new(what, first, "s", Limit::AtMost(1.0)));
    }
    let truth = f64::from(u8::from(!is_ready && is_live));
    bars.add(
        Bar::new("not ready, and live", truth, "", Limit::AtLeast(1.0))
            .noting(format!("ready: {is_ready}, live: {is_live}")),
    );
    arena.check_books(&samples).await
}

fn fast_refusals(bars: &mut Bars, samples: &Samples, group: &str, from: Instant, to: Instant) {
    let p99 = samples.p99_ms(group, from, to);
    let failures = samples.failures(group, from, to);
    let what = format!("{group}: p99 of refusals");
    bars.add(Bar::new(what, p99, "ms", Limit::AtMost(100.0)).noting(format!("{failures:?}")));
    let others = (samples.of(group))
        .filter(|sample| (from..to).contains(&sample.called))
        .filter(|sample| !is_unavailable(&sample.outcome));
    let count = count(others.count());
    let what = format!("{group}: answers other than DATABASE_UNAVAILABLE with RetryInfo");
    bars.add(Bar::new(what, count, "", Limit::AtMost(0.0)));
}

fn is_unavailable(outcome: &Outcome) -> bool {
    matches!(
        outcome,
        Outcome::Refused { code: Code::Unavailable, reason, has_retry_info: true }
            if reason == "DATABASE_UNAVAILABLE"
    )
}

/// SIGTERM while PostgreSQL is gone.
pub async fn terminated(arena: &mut Arena, bars: &mut Bars) -> anyhow::Result<()> {
    let running = arena.serve(&arena.url()).await?;
    let load = Load::start(running.address(), &groups());
    sleep(Duration::from_secs(1)).await;
    arena.postgres.kill().await?;
    sleep(Duration::from_secs(1)).await;
    let took = running.stop().await;
    arena.postgres.start_again().await?;
    let samples = load.stop().await?;
    let took = took?.as_secs_f64();
    bars.add(Bar::new("time to exit", took, "s", Limit::AtMost(5.0)));
    arena.check_books(&samples).await
}

/// The address leads to a proxy that accepts connections and closes them at once.
pub async fn proxy_closes(arena: &mut Arena, bars: &mut Bars) -> anyhow::Result<()> {
    let proxy = Proxy::start(arena.postgres.socket()?).await?;
    // With TLS preferred, the first thing that the proxy cuts is the request for it.
    let url = Arena::url_through(proxy.address).replace("sslmode=disable", "sslmode=prefer");
    let running = arena.serve(&url).await?;
    let load = Load::start(running.address(), &groups());
    sleep(arena.control()).await;

    proxy.set(Line::Cut);
    let fault = Instant::now();
    sleep(arena.lasting(4, 10)).await;
    let end = Instant::now();
    proxy.set(Line::Open);
    let back = Instant::now();
    sleep(Duration::from_secs(3)).await;
    let samples = load.stop().await?;
    running.stop().await?;

    for group in GROUPS {
        fast_refusals(bars, &samples, group, fault + NOTICED, end);
        let internal = (samples.of(group)).filter(|sample| match &sample.outcome {
            Outcome::Refused { code, .. } => *code == Code::Internal,
            _ => false,
        });
        let count = count(internal.count());
        let what = format!("{group}: answers INTERNAL");
        bars.add(Bar::new(what, count, "", Limit::AtMost(0.0)));
        let first = samples.first_success(group, back);
        let first = first.map_or(f64::NAN, |time| time.as_secs_f64());
        let what = format!("{group}: first success after the return");
        bars.add(Bar::new(what, first, "s", Limit::AtMost(1.0)));
    }
    arena.check_books(&samples).await
}
