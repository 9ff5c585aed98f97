//! The load generator, which runs as a separate process.

use std::{
    collections::BTreeMap,
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use tokio::{runtime::Handle, sync::mpsc, task::JoinSet, time::sleep_until};

use super::{
    caller::Caller,
    plan::{Call, Plan},
    tally::{Line, Tally},
};

/// Time limit for the answers after the last call of an open loop.
const PATIENCE: Duration = Duration::from_secs(15);

/// The interval that is measured.
#[derive(Clone, Copy)]
struct Window {
    from: Instant,
    to: Instant,
}

/// Runs the plan. Prints `begin` and `end` at the ends of the measured interval, and then one line
/// for each kind of call.
pub fn run(plan: &Plan) -> anyhow::Result<()> {
    // One thread, to leave the cores to the processes under test.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let callers = Caller::all(plan).await.context("cannot connect")?;
        let from = Instant::now() + plan.warm_up();
        let window = Window {
            from,
            to: from + plan.run(),
        };
        let marks = tokio::spawn(async move {
            sleep_until(window.from.into()).await;
            println!("begin");
            sleep_until(window.to.into()).await;
            println!("end");
        });
        let (tallies, time) = if plan.callers > 0 {
            closed_loop(plan, callers, window).await?
        } else {
            open_loop(plan, callers, window).await?
        };
        marks.await?;
        for (call, tally) in tallies {
            println!("{}", Line(call, &tally.summary(time)));
        }
        Ok(())
    })
}

type Tallies = BTreeMap<Call, Tally>;

/// Every caller has one call at a time. Only calls answered within the window count.
async fn closed_loop(
    plan: &Plan,
    callers: Vec<Caller>,
    window: Window,
) -> anyhow::Result<(Tallies, Duration)> {
    let call = plan.calls.first().context("nothing to call")?.call;
    let mut loops = JoinSet::new();
    for mut caller in callers.into_iter().take(plan.callers) {
        loops.spawn(async move {
            let mut tally = Tally::default();
            let mut last_answer = window.from;
            loop {
                let begun = Instant::now();
                if begun >= window.to || caller.is_done(call) {
                    return (tally, last_answer);
                }
                let result = caller.call(call).await;
                let answered = Instant::now();
                if window.from <= answered && answered < window.to {
                    last_answer = answered;
                    tally.add(answered - begun, result);
                }
            }
        });
    }
    let mut total = Tally::default();
    let mut last_answer = window.from;
    while let Some(ended) = loops.join_next().await {
        let (tally, answered) = ended?;
        total.merge(tally);
        last_answer = last_answer.max(answered);
    }
    Ok(([(call, total)].into(), last_answer - window.from))
}

/// Calls start at random times, at the rate of each stream, without waiting for earlier answers. A
/// latency counts from the time at which the call was due.
async fn open_loop(
    plan: &Plan,
    callers: Vec<Caller>,
    window: Window,
) -> anyhow::Result<(Tallies, Duration)> {
    let schedule = schedule(plan, window);
    let (answered, mut answers) = mpsc::unbounded_channel();
    let runtime = Handle::current();
    // A separate thread, because it sleeps more exactly than the runtime's timer.
    let pacer = thread::spawn(move || {
        for (index, (due, call)) in schedule.into_iter().enumerate() {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            let mut caller = callers[index % callers.len()].clone();
            let answered = answered.clone();
            runtime.spawn(async move {
                let result = caller.call(call).await;
                // The receiver is gone once PATIENCE has passed.
                let _ = answered.send((call, due, due.elapsed(), result));
            });
        }
    });

    let mut tallies = Tallies::new();
    let receive_all = async {
        while let Some((call, due, latency, result)) = answers.recv().await {
            if due >= window.from {
                tallies.entry(call).or_default().add(latency, result);
            }
        }
    };
    tokio::time::timeout_at((window.to + PATIENCE).into(), receive_all)
        .await
        .context("calls of the open loop were not answered")?;
    pacer.join().ok().context("the pacer panicked")?;
    Ok((tallies, plan.run()))
}

/// When each call is due, from the beginning of the warm-up to the end of the window.
fn schedule(plan: &Plan, window: Window) -> Vec<(Instant, Call)> {
    let mut schedule = Vec::new();
    for stream in &plan.calls {
        let mut due = Instant::now();
        while due < window.to {
            schedule.push((due, stream.call));
            // Independent callers: the time to the next call is distributed exponentially.
            let until_next_s = -(1.0 - rand::random::<f64>()).ln() / stream.per_second;
            due += Duration::from_secs_f64(until_next_s);
        }
    }
    schedule.sort_unstable();
    schedule
}
