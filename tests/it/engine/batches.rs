//! Orders in one batch: each gets the answer that it would get alone.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use heist::{
    domain::{
        heist::{HeistOrder, HeistOutcome},
        ids::{RequestId, UserId},
    },
    engine::{Engine, Limits, OnCommit},
    fault::Fault,
};
use sqlx::Executor as _;
use tokio::time::Instant;
use tonic::Code;

use crate::harness::{PATIENCE, Player, Refusal, Setup, World};

type Answer<'a> = Pin<Box<dyn Future<Output = Result<HeistOutcome, Fault>> + Send + 'a>>;

/// A world in which one transaction runs at a time.
fn one_at_a_time() -> Setup {
    World::setup()
        .rules(|rules| {
            rules.cooldown = Duration::ZERO;
            rules.protection = None;
        })
        .limits(|limits| limits.workers = 1)
}

fn order(world: &World, attacker: &Player, victim: &Player) -> HeistOrder {
    HeistOrder {
        attacker: UserId::new(attacker.id).unwrap(),
        victim: UserId::new(victim.id).unwrap(),
        request_id: RequestId::new(uuid::Uuid::now_v7()),
        client_address: None,
        rules: Arc::clone(&world.settings.rules),
    }
}

/// Executes all orders in one batch: it takes its orders when it has a connection.
async fn in_one_batch(world: &World, orders: Vec<HeistOrder>) -> Vec<Result<HeistOutcome, Fault>> {
    let limits = Limits {
        workers: 1,
        ..Limits::default()
    };
    let no_listener: OnCommit = Arc::new(|_| ());
    let pool = world.engine_pool(1);
    let only_connection = pool.acquire().await.unwrap();
    let (engine, workers) = Engine::start(pool, limits, None, no_listener);
    let deadline = Instant::now() + PATIENCE;

    let mut answers: Vec<Answer<'_>> = (orders.into_iter())
        .map(|order| Box::pin(engine.execute_heist(order, deadline)) as Answer<'_>)
        .collect();
    answers.iter_mut().for_each(queue);
    drop(only_connection);

    let mut outcomes = Vec::new();
    for answer in answers {
        outcomes.push(answer.await);
    }
    drop(engine);
    workers.finish().await;
    outcomes
}

/// An order is queued when its answer is first asked for.
fn queue(answer: &mut Answer<'_>) {
    let mut context = Context::from_waker(Waker::noop());
    assert!(matches!(answer.as_mut().poll(&mut context), Poll::Pending));
}

#[test]
fn ten_attackers_in_one_batch_see_the_points_as_if_they_had_come_alone() {
    one_at_a_time().run(async |world| {
        let victim = world.player("Victim").points(1000).await;
        let attackers = world.crowd("Attacker", 10).tokens(1).await;
        let orders = (attackers.iter())
            .map(|attacker| order(world, attacker, &victim))
            .collect();
        let mut points = 1000;
        let mut times = Vec::new();
        for outcome in in_one_batch(world, orders).await {
            let Ok(HeistOutcome::Executed { heist, .. }) = outcome else {
                panic!("{outcome:?}");
            };
            assert_eq!(heist.victim.points_before, points);
            points -= points * 5 / 100;
            assert_eq!(heist.victim.points_after, points);
            times.push(heist.created_at);
        }
        times.dedup();
        assert_eq!(times.len(), 1, "it was one batch");
        assert_eq!(victim.points().await, points);
    });
}

#[test]
fn one_failing_heist_in_a_batch_of_fifty_fails_alone() {
    one_at_a_time().run(async |world| {
        let victims = world.crowd("Victim", 50).points(1000).await;
        let attackers = world.crowd("Attacker", 50).tokens(1).await;
        let poisoned = 17;
        let trigger = format!(
            r#"
            CREATE FUNCTION poison() RETURNS trigger LANGUAGE plpgsql AS
                $$ BEGIN RAISE EXCEPTION 'poison'; END $$;
            CREATE TRIGGER poison BEFORE INSERT ON "Heist"
                FOR EACH ROW WHEN (NEW."victimId" = {}) EXECUTE FUNCTION poison();
            "#,
            victims[poisoned].id
        );
        world
            .pool
            .execute(sqlx::AssertSqlSafe(trigger))
            .await
            .unwrap();

        let orders = (attackers.iter().zip(&victims))
            .map(|(attacker, victim)| order(world, attacker, victim))
            .collect();
        let outcomes = in_one_batch(world, orders).await;
        for (index, outcome) in outcomes.iter().enumerate() {
            if index == poisoned {
                assert!(matches!(outcome, Err(Fault::Internal)), "{outcome:?}");
            } else {
                assert!(
                    matches!(outcome, Ok(HeistOutcome::Executed { .. })),
                    "{outcome:?}"
                );
            }
        }
        assert_eq!(attackers[poisoned].tokens().await.balance, 1);
        assert_eq!(world.count_heists().await, 49);
    });
}

#[test]
fn refusals_in_a_batch_do_not_affect_other_orders() {
    one_at_a_time().run(async |world| {
        let rich = world.player("Rich").points(1000).await;
        let poor = world.player("Poor").points(19).await;
        let attackers = world.crowd("Attacker", 20).tokens(1).await;
        let orders = (attackers.iter().enumerate())
            .map(|(index, attacker)| {
                order(world, attacker, if index % 2 == 0 { &rich } else { &poor })
            })
            .collect();
        for (index, outcome) in in_one_batch(world, orders).await.iter().enumerate() {
            match outcome {
                Ok(HeistOutcome::Executed { .. }) => assert_eq!(index % 2, 0),
                Ok(HeistOutcome::Refused { .. }) => assert_eq!(index % 2, 1),
                _ => panic!("{outcome:?}"),
            }
        }
    });
}

#[test]
fn a_full_queue_refuses_while_queued_calls_wait() {
    let setup = one_at_a_time().limits(|limits| {
        limits.queue = 2;
        limits.batch = 1;
    });
    setup.run(async |world| {
        let victim = world.player("Victim").points(1000).await;
        let attackers = world.crowd("Attacker", 3).tokens(1).await;
        let held = victim.locked().await;
        let running = tokio::spawn(attackers[0].robs(&victim));
        world.a_session_waits_for_a_lock().await;

        // One of the two waits in the queue; there is no room for the other.
        let mut one = tokio::spawn(attackers[1].robs(&victim));
        let mut other = tokio::spawn(attackers[2].robs(&victim));
        let (refused, waiting) = tokio::select! {
            refused = &mut one => (refused, other),
            refused = &mut other => (refused, one),
        };
        let refusal = Refusal::from(refused.unwrap().unwrap_err());
        let refusal = refusal.is(Code::Unavailable, "OVERLOADED");
        assert!(refusal.wait() > Duration::ZERO);
        assert!(!running.is_finished());

        held.rollback().await;
        running.await.unwrap().unwrap();
        waiting.await.unwrap().unwrap();
    });
}

#[test]
fn an_order_whose_deadline_passes_in_the_queue_is_not_executed() {
    one_at_a_time().run(async |world| {
        let victim = world.player("Victim").points(1000).await;
        let attackers = world.crowd("Attacker", 2).tokens(1).await;
        let held = victim.locked().await;
        let running = tokio::spawn(attackers[0].robs(&victim));
        world.a_session_waits_for_a_lock().await;

        let mut request = tonic::Request::new(heist::pb::ExecuteHeistRequest {
            attacker_id: attackers[1].id,
            victim_id: victim.id,
            request_id: String::new(),
        });
        request.set_timeout(Duration::from_millis(50));
        let late = world.heists.clone().execute_heist(request).await;
        late.unwrap_err();

        held.rollback().await;
        running.await.unwrap().unwrap();
        // Were the late one still to come, it would come before this one.
        attackers[1].robs(&victim).await.unwrap();
        assert_eq!(world.count_heists().await, 2);
    });
}

#[test]
fn a_deadlock_with_the_application_is_retried() {
    one_at_a_time().run(async |world| {
        let attacker = world.player("Attacker").tokens(1).await;
        let victim = world.player("Victim").points(1000).await;
        let mut application = victim.locked().await;
        // We give up first.
        let patient = "SET LOCAL deadlock_timeout = '1min'";
        application.execute(patient).await;
        let heist = tokio::spawn(attacker.robs(&victim));
        world.a_session_waits_for_a_lock().await;
        application.renames(&attacker, "Renamed").await;
        application.commit().await;
        let heist = heist.await.unwrap().unwrap().heist.unwrap();
        assert_eq!(heist.attacker_name, "Renamed");
    });
}
