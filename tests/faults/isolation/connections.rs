//! Connections to the database that fall silent or end, while new ones work.

use std::time::{Duration, Instant};

use anyhow::ensure;
use tokio::time::{sleep, timeout};

use super::{
    arena::Arena,
    bars::{Bar, Bars, Limit, count},
    load::{Call, Group, Load, Samples},
    tap::{Phase, Silence, Tap},
    twin::{FAULTED, Twin, success_ratio},
};

const GROUP: &str = "others";
/// Until which time after the fault the others may notice it.
const RECOVERY: Duration = Duration::from_secs(3);
const RESUMES_WITHIN: Duration = Duration::from_secs(10);
const STRIKE_LIMIT: Duration = Duration::from_secs(5);

/// 16 callers that leave players of failed calls to a caller that repeats those calls.
fn callers() -> Group {
    let call = Call::Heist {
        attackers: FAULTED,
        victims: FAULTED,
    };
    Group {
        avoids_failures: true,
        ..Group::new(GROUP, 16, call)
    }
}

/// One connection falls silent in a phase of a batch.
pub async fn one_silent(
    arena: &mut Arena,
    bars: &mut Bars,
    phase: Phase,
    silence: Silence,
) -> anyhow::Result<()> {
    let tap = Tap::start(arena.postgres.socket()?).await?;
    let running = arena.serve(&Arena::url_through(tap.address)).await?;
    let load = Load::start(running.address(), &[callers()]);
    let twin = Twin::start(arena, &[callers()]).await?;
    sleep(Duration::from_secs(1)).await;
    let control = Instant::now();
    sleep(arena.control()).await;

    tap.arm(phase, silence);
    let armed = timeout(STRIKE_LIMIT, async {
        while !tap.has_struck() {
            sleep(Duration::from_millis(1)).await;
        }
    });
    ensure!(armed.await.is_ok(), "no batch reached the phase");
    let fault = Instant::now();
    sleep(arena.lasting(8, 15)).await;
    let is_ready = running.is_ready().await?;
    let end = Instant::now();
    let samples = load.stop().await?;
    let twins = twin.stop().await?;
    running.kill().await?;

    let before = samples.rate(GROUP, control, fault);
    let after = samples.rate(GROUP, fault + RECOVERY, end);
    let ratio = success_ratio(
        [&samples, &twins],
        GROUP,
        [control, fault],
        [fault + RECOVERY, end],
    );
    bars.add(
        Bar::new(
            "others' success ÷ control, from 3 s on",
            ratio,
            "",
            Limit::AtLeast(0.95),
        )
        .noting(format!("control {before:.0}/s")),
    );
    answered_in_time(bars, &samples, control, end);
    let blocked = longest_block_s(&samples, fault);
    bars.add(Bar::new(
        "longest block of a player",
        blocked,
        "s",
        Limit::AtMost(10.0),
    ));
    let truth = f64::from(u8::from(is_ready == (after > 0.0)));
    bars.add(
        Bar::new("readiness tells the truth", truth, "", Limit::AtLeast(1.0))
            .noting(format!("ready: {is_ready}")),
    );
    arena.check_books(&samples).await
}

fn answered_in_time(bars: &mut Bars, samples: &Samples, from: Instant, end: Instant) {
    let slowest = samples.slowest_ms(GROUP, from, end);
    let failures = samples.failures(GROUP, from, end);
    bars.add(
        Bar::new("slowest answer", slowest, "ms", Limit::AtMost(2100.0))
            .noting(format!("deadline 2 s; {failures:?}")),
    );
    let internal = count(
        (failures.iter())
            .filter(|(outcome, _)| outcome.contains("INTERNAL") || outcome.contains("Internal"))
            .map(|(_, count)| *count)
            .sum::<usize>(),
    );
    bars.add(Bar::new(
        "answers INTERNAL",
        internal,
        "",
        Limit::AtMost(0.0),
    ));
}

/// The longest time from the fault until a heist of the players of a failed call succeeded, in
/// seconds; infinite where none did.
fn longest_block_s(samples: &Samples, fault: Instant) -> f64 {
    let failed =
        (samples.0.iter()).filter(|sample| sample.answered > fault && !sample.outcome.is_done());
    let blocks = failed.map(|sample| {
        let success = (samples.0.iter()).find(|later| {
            later.players == sample.players
                && later.answered > sample.answered
                && later.outcome.is_done()
        });
        success.map_or(f64::INFINITY, |success| {
            (success.answered - fault).as_secs_f64()
        })
    });
    blocks.fold(0.0, f64::max)
}

/// Every open connection falls silent at once; the address still leads to a live primary.
pub async fn old_ones_silent(arena: &mut Arena, bars: &mut Bars) -> anyhow::Result<()> {
    let tap = Tap::start(arena.postgres.socket()?).await?;
    let running = arena.serve(&Arena::url_through(tap.address)).await?;
    let balances = Group::new("reads", 2, Call::Balance(FAULTED));
    let heists = Group {
        avoids_failures: false,
        ..callers()
    };
    let groups = [heists, balances];
    let load = Load::start(running.address(), &groups);
    let twin = Twin::start(arena, &groups).await?;
    sleep(Duration::from_secs(1)).await;
    let control = Instant::now();
    sleep(arena.control()).await;

    let silenced = tap.silence_all(Silence::Session);
    ensure!(silenced > 0, "there were no connections");
    let fault = Instant::now();
    sleep(RESUMES_WITHIN + arena.lasting(4, 10)).await;
    let is_ready = running.is_ready().await?;
    let end = Instant::now();
    let samples = load.stop().await?;
    let twins = twin.stop().await?;
    running.kill().await?;

    for group in [GROUP, "reads"] {
        let before = samples.rate(group, control, fault);
        let ratio = success_ratio(
            [&samples, &twins],
            group,
            [control, fault],
            [fault + RESUMES_WITHIN, end],
        );
        let resumed = samples.first_success(group, fault);
        let resumed = resumed.map_or(f64::NAN, |time| time.as_secs_f64());
        let what = format!("{group}: first success");
        bars.add(Bar::new(what, resumed, "s", Limit::AtMost(10.0)));
        let what = format!("{group}: success ÷ control, from 10 s on");
        bars.add(
            Bar::new(what, ratio, "", Limit::AtLeast(0.9))
                .noting(format!("control {before:.0}/s, {silenced} connections")),
        );
    }
    let ready = f64::from(u8::from(is_ready));
    bars.add(Bar::new("ready at the end", ready, "", Limit::AtLeast(1.0)));
    arena.check_books(&samples).await
}

/// PostgreSQL ends all sessions, ten times.
pub async fn sessions_ended(arena: &mut Arena, bars: &mut Bars) -> anyhow::Result<()> {
    let tap = Tap::start(arena.postgres.socket()?).await?;
    let running = arena.serve(&Arena::url_through(tap.address)).await?;
    let heists = Group {
        avoids_failures: false,
        ..callers()
    };
    let begun = Instant::now();
    let load = Load::start(running.address(), &[heists]);
    sleep(arena.control()).await;
    for _ in 0..10 {
        let end_sessions = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
            WHERE application_name = 'heist'";
        arena.execute(end_sessions).await?;
        sleep(arena.lasting(1, 2) / 2).await;
    }
    let end = Instant::now();
    let samples = load.stop().await?;
    running.stop().await?;
    let failures = samples.failures(GROUP, begun, end);
    let count = count(failures.values().sum::<usize>());
    bars.add(
        Bar::new("failed calls of ten moments", count, "", Limit::AtMost(0.0))
            .noting(format!("{failures:?}")),
    );
    arena.check_books(&samples).await
}
