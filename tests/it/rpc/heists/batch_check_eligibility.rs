//! `HeistService.BatchCheckEligibility`: a whole list of victims in one call.

use heist::pb::{BatchCheckEligibilityRequest, Eligibility, RefusalReason};

use crate::{
    harness::{World, all_at_once},
    rpc::heists::heist_refusals::{UNKNOWN_PLAYER, protected, resting},
};

fn victims(answer: &[Eligibility]) -> Vec<i32> {
    answer
        .iter()
        .map(|eligibility| eligibility.victim_id)
        .collect()
}

#[test]
fn victims_are_answered_in_request_order() {
    World::run(async |world| {
        let ada = world.player("Ada").tokens(1).await;
        let crowd = world.crowd("Victim", 30).points(1000).await;
        let mut asked: Vec<i32> = crowd.iter().map(|victim| victim.id).collect();
        for _ in 0..3 {
            let answer = world.eligibilities(ada.id, &asked).await;
            assert_eq!(victims(&answer), asked);
            assert!(answer.iter().all(|eligibility| eligibility.eligible));
            asked.rotate_left(7);
            asked[..20].reverse();
        }
    });
}

#[test]
fn a_victim_asked_twice_is_answered_twice() {
    World::run(async |world| {
        let ada = world.player("Ada").tokens(1).await;
        let ben = world.player("Ben").points(1000).await;
        let carl = world.player("Carl").points(500).await;
        let asked = [ben.id, carl.id, ben.id, ben.id];
        let answer = world.eligibilities(ada.id, &asked).await;
        assert_eq!(victims(&answer), asked);
        assert_eq!(answer[0], answer[2]);
        assert_eq!(answer[0], answer[3]);
        let at_stake: Vec<i32> = answer.iter().map(|it| it.points_at_stake).collect();
        assert_eq!(at_stake, [50, 25, 50, 50]);
    });
}

#[test]
fn each_victim_has_an_answer_of_their_own() {
    World::run(async |world| {
        let ada = world.player("Ada").points(1000).tokens(1).await;
        let ben = world.player("Ben").points(1000).await;
        let poor = world.player("Poor").points(19).await;
        let protected = protected(world, 500).await;
        let asked = [
            ada.id,
            UNKNOWN_PLAYER,
            poor.id,
            protected.id,
            ben.id,
            i32::MAX,
        ];
        let answer = world.eligibilities(ada.id, &asked).await;
        let reasons: Vec<RefusalReason> = answer.iter().map(Eligibility::reason).collect();
        assert_eq!(
            reasons,
            [
                RefusalReason::SelfTarget,
                RefusalReason::TargetNotFound,
                RefusalReason::InsufficientPoints,
                RefusalReason::TargetProtected,
                RefusalReason::Unspecified,
                RefusalReason::TargetNotFound,
            ]
        );
        assert_eq!(victims(&answer), asked);
    });
}

#[test]
fn an_unknown_attacker_is_refused() {
    World::run(async |world| {
        let ben = world.player("Ben").points(1000).await;
        let answer = world
            .eligibilities(
                UNKNOWN_PLAYER,
                &[ben.id, UNKNOWN_PLAYER, UNKNOWN_PLAYER + 1],
            )
            .await;
        let reasons: Vec<RefusalReason> = answer.iter().map(Eligibility::reason).collect();
        assert_eq!(
            reasons,
            [
                RefusalReason::AttackerNotFound,
                RefusalReason::SelfTarget,
                RefusalReason::AttackerNotFound,
            ]
        );
    });
}

#[test]
fn a_batch_says_what_single_questions_say() {
    World::run(async |world| {
        let protected = protected(world, 500).await;
        let poor = world.player("Poor").points(19).await;
        let robber = world.player("Robber").points(200).tokens(1).await;
        let attackers = [
            robber,
            resting(world).await,
            protected.clone(),
            poor.clone(),
        ];
        let asked: Vec<i32> = (attackers.iter().map(|player| player.id))
            .chain([UNKNOWN_PLAYER])
            .collect();
        for attacker in &asked {
            let answer = world.eligibilities(*attacker, &asked).await;
            for (victim, eligibility) in asked.iter().zip(answer) {
                assert_eq!(eligibility, world.eligibility(*attacker, *victim).await);
            }
        }
    });
}

#[test]
fn one_to_two_hundred_victims_make_a_batch() {
    World::run(async |world| {
        let ada = world.player("Ada").tokens(1).await;
        let crowd = world.crowd("Victim", 200).points(1000).await;
        let all: Vec<i32> = crowd.iter().map(|victim| victim.id).collect();
        for count in [1, 2, 199, 200] {
            let answer = world.eligibilities(ada.id, &all[..count]).await;
            assert_eq!(victims(&answer), all[..count]);
        }
        let too_many = [all, vec![ada.id]].concat();
        for victim_ids in [vec![], too_many, vec![ada.id; 5000]] {
            let request = BatchCheckEligibilityRequest {
                attacker_id: ada.id,
                victim_ids,
            };
            let refusal = world.refuses(world.batch_check_eligibility(request)).await;
            refusal.names(&["victim_ids"]);
        }
    });
}

#[test]
fn all_of_a_batch_is_of_one_moment() {
    let setup = World::setup().rules(|rules| {
        rules.cooldown = std::time::Duration::ZERO;
        rules.protection = None;
    });
    setup.run(async |world| {
        let looker = world.player("Looker").await;
        let ada = world.player("Ada").points(5000).tokens(50).await;
        let ben = world.player("Ben").points(5000).tokens(50).await;
        let heists: Vec<_> = (0..50)
            .flat_map(|_| [ada.robs(&ben), ben.robs(&ada)])
            .collect();
        let heists = tokio::spawn(all_at_once(heists));
        while !heists.is_finished() {
            let answer = world.eligibilities(looker.id, &[ada.id, ben.id]).await;
            let points: i32 = answer.iter().map(|it| it.victim_points).sum();
            assert_eq!(points, 10_000);
        }
        for answer in heists.await.unwrap() {
            answer.unwrap();
        }
    });
}
