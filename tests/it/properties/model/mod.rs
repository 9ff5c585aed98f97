//! Random concurrent programs of all calls, checked against a sequential model.
//!
//! Callers race, repeat each other's request ids, rob players that the application deletes meanwhile,
//! and read in between. Their history, with the times of every call and answer, must be
//! [explained](explain) by a sequential [model](sequential). Otherwise the test fails with the
//! smallest part of the history that the model cannot explain.
//!
//! `HEIST_MODEL_MINUTES=120 cargo test --release --test it model` runs new programs for two hours.
//! `HEIST_MODEL_SEED=7` repeats one program. The seed determines the calls, not their interleaving, so
//! that a failure may need repetitions, for which `HEIST_MODEL_MINUTES` also serves.

mod caller;
mod explain;
mod history;
mod ledger;
mod program;
mod reads;
mod sequential;

use std::{
    str::FromStr,
    time::{Duration, Instant},
};

use heist::domain::rules::Protection;

use self::{
    caller::Caller,
    explain::Evidence,
    history::{Answer, Fact, Operation, Outcome},
    program::Program,
    sequential::{Rules, Start},
};
use crate::harness::{Setup, World};

/// Programs of a run without other instructions.
const PROGRAMS: usize = 6;
/// Longer than any history: what began in it never ends in it.
const FOREVER: Duration = Duration::from_hours(24);

#[test]
fn a_sequential_model_explains_concurrent_answers() {
    play_programs(false);
}

#[test]
fn a_sequential_model_explains_answers_under_connection_loss() {
    play_programs(true);
}

/// Or else the two tests above would say nothing.
#[test]
fn one_false_number_in_a_history_is_found_and_minimized() {
    let seed = seed();
    let program = Program::random(seed, false);
    play(&program, false, |evidence| {
        evidence.explain().unwrap();
        let mut falsified = 0;
        for index in 0..evidence.history.len() {
            let mut history = evidence.history.to_vec();
            if !falsify(&mut history[index].outcome) {
                continue;
            }
            falsified += 1;
            let lie = format!("{:?}", history[index]);
            let contradiction = Evidence {
                history: &history,
                note_ids: evidence.note_ids.clone(),
                ..*evidence
            }
            .explain()
            .unwrap_err();
            assert!(contradiction.contains(&lie), "{lie}\n{contradiction}");
            let lines = contradiction.lines().count();
            assert!(lines < history.len() / 4, "{contradiction}");
        }
        assert!(falsified > 50, "{falsified}");
    });
}

/// Changes one number to what it cannot be; whether there is one.
fn falsify(outcome: &mut Outcome) -> bool {
    const TOO_MUCH: i32 = 1_000_000;
    let number = match outcome {
        Outcome::Done(Answer::Robbed(heist)) => &mut heist.victim_after,
        Outcome::Done(Answer::Account { account, .. }) => &mut account.balance,
        Outcome::Done(Answer::Marked { unread, .. }) => unread,
        Outcome::Saw(facts) => match facts.first_mut() {
            Some(Fact::Tokens(_, number) | Fact::Points(_, number) | Fact::Unread(_, number)) => {
                number
            }
            Some(Fact::Account(_, account)) => &mut account.earned,
            _ => return false,
        },
        _ => return false,
    };
    *number += TOO_MUCH;
    true
}

fn play_programs(faults: bool) {
    let minutes: Option<u64> = variable("HEIST_MODEL_MINUTES");
    let until = minutes.map(|minutes| Instant::now() + Duration::from_mins(minutes));
    let mut played = 0;
    let mut explained = 0;
    loop {
        let seed = seed();
        let program = Program::random(seed, faults);
        play(&program, faults, |evidence| {
            explained += (evidence.explain())
                .unwrap_or_else(|contradiction| panic!("HEIST_MODEL_SEED={seed}: {contradiction}"));
        });
        played += 1;
        let goes_on = until.map_or(played < PROGRAMS, |until| Instant::now() < until);
        if !goes_on {
            break;
        }
    }
    println!("{explained} answers of {played} programs are explained");
}

/// That of the instructions, or any.
fn seed() -> u64 {
    let seed = variable("HEIST_MODEL_SEED").unwrap_or_else(|| u64::from(rand::random::<u32>()));
    println!("HEIST_MODEL_SEED={seed}");
    seed
}

fn play(program: &Program, faults: bool, look: impl FnOnce(&Evidence<'_>)) {
    under(program.rules).run(async |world| {
        create(world, &program.cast).await;
        ledger::record(&world.pool).await;
        let history = record(world, program, faults).await;
        let changes = ledger::changes(&world.pool).await;
        look(&Evidence {
            rules: program.rules,
            cast: &program.cast,
            history: &history,
            changes: &changes,
            note_ids: ledger::note_ids(&world.pool).await,
        });
    });
}

async fn record(world: &World, program: &Program, faults: bool) -> Vec<Operation> {
    let begun = Instant::now();
    let callers: Vec<_> = (program.callers.iter().cloned().enumerate())
        .map(|(number, calls)| {
            tokio::spawn(Caller::new(number, world.clone(), begun, faults).play(calls))
        })
        .collect();
    let mut history = Vec::new();
    for caller in callers {
        while faults && !caller.is_finished() {
            world.end_sessions("%").await;
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
        history.extend(caller.await.expect("a caller panicked"));
    }
    history
}

fn under(rules: Rules) -> Setup {
    World::setup().rules(|set| {
        set.steal_percentage = rules.percentage;
        set.max_steal_points = rules.cap;
        set.min_target_points = rules.minimum;
        set.cooldown = if rules.cooldown {
            FOREVER
        } else {
            Duration::ZERO
        };
        set.protection = (rules.protected_after).map(|after| Protection {
            after,
            window: FOREVER,
        });
    })
}

async fn create(world: &World, cast: &[Start]) {
    let mut players = Vec::new();
    for start in cast {
        let mut player = world
            .player(&format!("Player {}", start.id))
            .points(start.points)
            .tokens(start.tokens);
        if let Some(by) = start.referred_by {
            let by = usize::try_from(by - 1).expect("ids begin with 1");
            player = player.referred_by(&players[by]);
        }
        let player = player.await;
        assert_eq!(player.id, start.id, "a fresh database");
        players.push(player);
    }
}

fn variable<T: FromStr>(name: &str) -> Option<T> {
    let value = std::env::var(name).ok()?;
    let Ok(value) = value.parse() else {
        panic!("{name} is not a number: {value}")
    };
    Some(value)
}
