//! `HeistService.ExecuteHeist`: the same call again.

use heist::pb::ExecuteHeistResponse;
use tonic::Code::AlreadyExists;
use uuid::Uuid;

use crate::harness::{Refusal, World, all_at_once, new_request_id};

/// The answer to a repeated call, made equal to the answer to the first one.
#[track_caller]
fn replay(answer: ExecuteHeistResponse) -> ExecuteHeistResponse {
    assert!(answer.replayed);
    ExecuteHeistResponse {
        replayed: false,
        ..answer
    }
}

#[test]
fn a_repeated_call_gets_the_first_answer_and_moves_nothing() {
    World::run(async |world| {
        let ada = world.player("Ada").points(100).tokens(2).await;
        let ben = world.player("Ben").points(1000).await;
        let id = new_request_id();
        let first = ada.robs_with_id(&id, &ben).await.unwrap();
        assert!(!first.replayed);

        for _ in 0..3 {
            let again = ada.robs_with_id(&id, &ben).await.unwrap();
            assert_eq!(replay(again), first);
        }
        assert_eq!((ada.points().await, ben.points().await), (150, 950));
        assert_eq!(ada.tokens().await.balance, 1);
    });
}

#[test]
fn request_ids_are_compared_as_uuids() {
    World::run(async |world| {
        let ada = world.player("Ada").tokens(2).await;
        let ben = world.player("Ben").points(1000).await;
        let id = Uuid::now_v7();
        let first = ada.robs_with_id(&id.to_string(), &ben).await.unwrap();
        for spelling in [
            id.to_string().to_uppercase(),
            id.simple().to_string(),
            id.urn().to_string(),
            id.braced().to_string(),
        ] {
            let again = ada.robs_with_id(&spelling, &ben).await.unwrap();
            assert_eq!(replay(again), first, "{spelling}");
        }
    });
}

#[test]
fn a_replay_works_in_the_cooldown_without_tokens_and_with_a_poor_and_protected_victim() {
    World::run(async |world| {
        let ada = world.player("Ada").tokens(1).await;
        let ben = world.player("Ben").points(20).await;
        let id = new_request_id();
        let first = ada.robs_with_id(&id, &ben).await.unwrap();
        let refusal = world.refuses(ada.robs(&ben)).await;
        refusal.is(tonic::Code::FailedPrecondition, "INSUFFICIENT_TOKENS");
        assert_eq!(replay(ada.robs_with_id(&id, &ben).await.unwrap()), first);
    });
}

#[test]
fn a_replay_repeats_the_original_points() {
    World::run(async |world| {
        let ada = world.player("Ada").tokens(1).await;
        let ben = world.player("Ben").points(1000).tokens(1).await;
        let carl = world.player("Carl").tokens(1).await;
        let id = new_request_id();
        let first = ada.robs_with_id(&id, &ben).await.unwrap();
        carl.robs(&ben).await.unwrap();
        ben.robs(&ada).await.unwrap();
        assert_eq!(replay(ada.robs_with_id(&id, &ben).await.unwrap()), first);
    });
}

#[test]
fn twenty_parallel_calls_with_one_id_are_one_heist() {
    World::run(async |world| {
        let ada = world.player("Ada").tokens(20).await;
        let ben = world.player("Ben").points(1000).await;
        let id = new_request_id();

        let answers = all_at_once((0..20).map(|_| ada.robs_with_id(&id, &ben))).await;

        let (replays, firsts): (Vec<_>, Vec<_>) = answers
            .into_iter()
            .map(Result::unwrap)
            .partition(|answer| answer.replayed);
        assert_eq!((firsts.len(), replays.len()), (1, 19));
        for again in replays {
            assert_eq!(replay(again), firsts[0]);
        }
        assert_eq!(world.count_heists().await, 1);
        assert_eq!(ada.tokens().await.balance, 19);
    });
}

#[test]
fn a_request_id_is_bound_to_its_players() {
    World::run(async |world| {
        let ada = world.player("Ada").points(500).tokens(2).await;
        let ben = world.player("Ben").points(1000).tokens(2).await;
        let carl = world.player("Carl").points(1000).tokens(2).await;
        let id = new_request_id();
        ada.robs_with_id(&id, &ben).await.unwrap();

        for (attacker, victim) in [(&ada, &carl), (&carl, &ben), (&ben, &ada), (&carl, &ada)] {
            let refusal = world.refuses(attacker.robs_with_id(&id, victim)).await;
            refusal.is(AlreadyExists, "REQUEST_ID_REUSED");
        }
    });
}

#[test]
fn parallel_calls_with_one_request_id_execute_one_heist() {
    World::run(async |world| {
        for _ in 0..5 {
            let robbers = world.crowd("Robber", 10).tokens(1).await;
            // Each with a victim of their own: no lock in common makes them queue.
            let victims = world.crowd("Victim", 10).points(1000).await;
            let id = new_request_id();
            let calls = (robbers.iter().zip(&victims))
                .map(|(robber, victim)| robber.robs_with_id(&id, victim));

            let answers = all_at_once(calls).await;

            assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1);
            for refused in answers.into_iter().filter_map(Result::err) {
                Refusal::from(refused).is(AlreadyExists, "REQUEST_ID_REUSED");
            }
        }
        assert_eq!(world.count_heists().await, 5);
    });
}

#[test]
fn heists_without_an_id_are_different_heists() {
    let setup = World::setup().rules(|rules| rules.cooldown = std::time::Duration::ZERO);
    setup.run(async |world| {
        let ada = world.player("Ada").tokens(3).await;
        let ben = world.player("Ben").points(1000).await;
        for _ in 0..3 {
            assert!(!ada.robs(&ben).await.unwrap().replayed);
        }
        assert_eq!(world.count_heists().await, 3);
    });
}
