//! Faults around the server's process: its log, its callers' deadlines, its caches.

use std::{
    collections::BTreeMap,
    process::Stdio,
    time::{Duration, Instant},
};

use tokio::{task::JoinSet, time::sleep};

use super::{
    arena::{Arena, PLAYERS},
    bars::{Bar, Bars, Limit},
    load::{Call, Group, Load, Samples},
    raw,
};

fn heists(callers: usize) -> Group {
    let call = Call::Heist {
        attackers: 1..=PLAYERS,
        victims: 1..=PLAYERS,
    };
    Group::new("others", callers, call)
}

/// The server logs into a pipe of 64 KiB that is never read.
pub async fn log_pipe_full(arena: &mut Arena, bars: &mut Bars) -> anyhow::Result<()> {
    let control = log_pipe(arena, arena.log()?.into()).await?;
    let unread = log_pipe(arena, Stdio::piped()).await?;
    bars.add(
        Bar::new(
            "success ÷ control",
            unread.rate / control.rate,
            "",
            Limit::AtLeast(0.9),
        )
        .noting(format!("control {:.0}/s, log read", control.rate)),
    );
    let alive = f64::from(u8::from(unread.is_live));
    bars.add(Bar::new("live", alive, "", Limit::AtLeast(1.0)));
    let dropped = unread.dropped_lines;
    bars.add(Bar::new(
        "dropped lines counted",
        dropped,
        "",
        Limit::AtLeast(1.0),
    ));
    bars.add(
        Bar::new(
            "time to exit on SIGTERM",
            unread.exit_s,
            "s",
            Limit::AtMost(5.0),
        )
        .noting(format!("control {:.1} s", control.exit_s)),
    );
    Ok(())
}

struct WithLog {
    rate: f64,
    is_live: bool,
    dropped_lines: f64,
    exit_s: f64,
}

async fn log_pipe(arena: &Arena, log: Stdio) -> anyhow::Result<WithLog> {
    let variables = [("RUST_LOG", "debug"), ("HEIST_SHUTDOWN_DELAY", "0s")];
    let running = arena.serve_with(&arena.url(), &variables, log).await?;
    let load = Load::start(running.address(), &[heists(8)]);
    // More lines than the pipe and the queue of the log hold.
    sleep(Duration::from_secs(3)).await;
    let from = Instant::now();
    sleep(arena.lasting(3, 10)).await;
    let to = Instant::now();
    let is_live = running.is_live().await.unwrap_or(false);
    let dropped_lines = running
        .metric("heist_log_dropped_total")
        .await
        .unwrap_or(0.0);
    let samples = load.stop().await?;
    let exit_s = running
        .stop()
        .await
        .map_or(f64::INFINITY, |took| took.as_secs_f64());
    arena.check_books(&samples).await?;
    Ok(WithLog {
        rate: samples.rate("others", from, to),
        is_live,
        dropped_lines,
        exit_s,
    })
}

/// Deadlines so short that many calls miss them.
pub async fn short_deadlines(arena: &mut Arena, bars: &mut Bars) -> anyhow::Result<()> {
    let running = arena.serve(&arena.url()).await?;
    let address = running.address();
    let end = Instant::now() + arena.lasting(5, 20);
    let mut callers = JoinSet::new();
    for milliseconds in [1, 2, 5, 10, 20, 40, 80, 160] {
        let client = raw::connect(address).await?;
        let deadline = Duration::from_millis(milliseconds);
        callers.spawn(async move {
            let mut codes: BTreeMap<String, u32> = BTreeMap::new();
            while Instant::now() < end {
                let first = rand::random_range(1..PLAYERS);
                let code =
                    raw::execute_heist(&client, address, [first, first + 1], deadline).await?;
                *codes.entry(format!("{code:?}")).or_default() += 1;
            }
            anyhow::Ok(codes)
        });
    }
    let mut codes: BTreeMap<String, u32> = BTreeMap::new();
    while let Some(ended) = callers.join_next().await {
        for (code, count) in ended?? {
            *codes.entry(code).or_default() += count;
        }
    }
    running.stop().await?;
    let expected = ["Ok", "DeadlineExceeded"];
    let others = codes
        .iter()
        .filter(|(code, _)| !expected.contains(&code.as_str()));
    let count = others.map(|(_, count)| *count).sum::<u32>();
    bars.add(
        Bar::new(
            "answers other than OK and DEADLINE_EXCEEDED",
            f64::from(count),
            "",
            Limit::AtMost(0.0),
        )
        .noting(format!("{codes:?}")),
    );
    arena.check_books(&Samples(Vec::new())).await
}

/// Many players, a fresh server, and callers whose deadline is shorter than the first read of the
/// distribution of points. The players stay: deleting them would take minutes, and this fault is the
/// last one.
pub async fn first_board(arena: &mut Arena, bars: &mut Bars) -> anyhow::Result<()> {
    let extra = if arena.long { 1_000_000 } else { 200_000 };
    arena
        .execute(&format!(
            r#"INSERT INTO "User" ("name", "monthlyPoints")
            SELECT 'Crowd', (random() * 1000000)::integer FROM generate_series(1, {extra});
            ANALYZE "User""#
        ))
        .await?;
    let cold = board_ms(arena, None).await?;
    let deadline = Duration::from_secs_f64((cold / 2.0).max(5.0) / 1000.0);
    let first = board_ms(arena, Some(deadline)).await?;
    bars.add(
        Bar::new("first success", first / 1000.0, "s", Limit::AtMost(5.0)).noting(format!(
            "deadlines of {:.0} ms; the first board takes {cold:.0} ms",
            deadline.as_secs_f64() * 1000.0
        )),
    );
    Ok(())
}

/// The time until the first board of a fresh server, in ms; NaN where none came in 8 s.
async fn board_ms(arena: &Arena, deadline: Option<Duration>) -> anyhow::Result<f64> {
    let running = arena.serve(&arena.url()).await?;
    let group = Group {
        deadline: deadline.unwrap_or(Duration::from_secs(8)),
        ..Group::new("boards", 4, Call::Board(1..=PLAYERS))
    };
    let begun = Instant::now();
    let load = Load::start(running.address(), &[group]);
    sleep(Duration::from_secs(8)).await;
    let samples = load.stop().await?;
    running.kill().await?;
    let first = samples.first_success("boards", begun);
    Ok(first.map_or(f64::NAN, |time| time.as_secs_f64() * 1000.0))
}
