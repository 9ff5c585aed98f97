//! `HeistService.ExecuteHeist`: many at the same time.

use std::time::Duration;

use tonic::Code::FailedPrecondition;

use crate::harness::{Refusal, World, all_at_once};

#[test]
fn one_token_buys_one_heist_under_parallel_calls() {
    World::run(async |world| {
        let ada = world.player("Ada").tokens(1).await;
        let victims = world.crowd("Victim", 20).points(1000).await;

        let answers = all_at_once(victims.iter().map(|victim| ada.robs(victim))).await;

        assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1);
        for refused in answers.into_iter().filter_map(Result::err) {
            Refusal::from(refused).is(FailedPrecondition, "INSUFFICIENT_TOKENS");
        }
        assert_eq!(ada.tokens().await.balance, 0);
    });
}

#[test]
fn parallel_calls_of_one_robber_succeed_once_per_cooldown() {
    World::run(async |world| {
        let ada = world.player("Ada").tokens(20).await;
        let ben = world.player("Ben").points(1000).await;

        let answers = all_at_once((0..20).map(|_| ada.robs(&ben))).await;

        assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1);
        for refused in answers.into_iter().filter_map(Result::err) {
            Refusal::from(refused).is(FailedPrecondition, "COOLDOWN_ACTIVE");
        }
        assert_eq!(ada.tokens().await.balance, 19);
    });
}

#[test]
fn exactly_ten_of_many_parallel_robberies_pass_the_protection() {
    World::run(async |world| {
        let robbers = world.crowd("Robber", 30).tokens(1).await;
        let rich = world.player("Carl").points(100_000).await;

        let answers = all_at_once(robbers.iter().map(|robber| robber.robs(&rich))).await;

        assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 10);
        for refused in answers.into_iter().filter_map(Result::err) {
            Refusal::from(refused).is(FailedPrecondition, "TARGET_PROTECTED");
        }
    });
}

/// Without pauses and protection, so that everything allowed is a matter of locks.
fn lawless() -> crate::harness::Setup {
    World::setup()
        .limits(|limits| limits.workers = 4)
        .rules(|rules| {
            rules.cooldown = Duration::ZERO;
            rules.protection = None;
        })
}

#[test]
fn mutual_heists_never_fail() {
    lawless().run(async |world| {
        let ada = world.player("Ada").points(10_000).tokens(150).await;
        let ben = world.player("Ben").points(10_000).tokens(150).await;
        let rounds =
            [(ada.clone(), ben.clone()), (ben, ada)].map(|(attacker, victim)| async move {
                for _ in 0..50 {
                    let three = (0..3).map(|_| attacker.robs(&victim));
                    for answer in all_at_once(three).await {
                        answer.unwrap();
                    }
                }
            });
        all_at_once(rounds).await;
        assert_eq!(world.count_heists().await, 300);
    });
}

#[test]
fn a_ring_of_robbers_never_sees_an_error() {
    lawless().run(async |world| {
        let ring = world.crowd("Robber", 6).points(10_000).tokens(40).await;
        let calls: Vec<_> = (0..240)
            .map(|round| {
                let distance = 1 + round / 6 % 5;
                let (attacker, victim) = (round % 6, (round + distance) % 6);
                ring[attacker].robs(&ring[victim])
            })
            .collect();
        for answer in all_at_once(calls).await {
            answer.unwrap();
        }
        assert_eq!(world.count_heists().await, 240);
    });
}

#[test]
fn parallel_heists_and_awards_of_the_same_players_succeed() {
    lawless().run(async |world| {
        let ada = world.player("Ada").points(10_000).tokens(30).await;
        let ben = world.player("Ben").points(10_000).tokens(30).await;
        let friends = world.crowd("Friend", 30).await;
        let heists = (0..30).map(|_| {
            let (there, back) = (ada.robs(&ben), ben.robs(&ada));
            tokio::spawn(async move { there.await.and(back.await).map(|_| ()) })
        });
        let awards = friends.iter().map(|friend| {
            let award = ada.earns_a_token_for(friend);
            tokio::spawn(async move { award.await.map(|_| ()) })
        });
        for call in heists.chain(awards).collect::<Vec<_>>() {
            call.await.unwrap().unwrap();
        }
        let tokens = ada.tokens().await;
        assert_eq!((tokens.balance, tokens.earned, tokens.spent), (30, 60, 30));
    });
}

#[test]
fn two_servers_on_one_database_keep_the_same_books() {
    lawless().run(async |world| {
        let (replica, there) = world.replica().await;

        let ada = world.player("Ada").points(10_000).tokens(60).await;
        let ben = world.player("Ben").points(10_000).tokens(60).await;
        let calls = (0..60).flat_map(|round| {
            let world = if round % 2 == 0 { world } else { &there };
            [(&ada, &ben), (&ben, &ada)]
                .map(|(attacker, victim)| attacker.seen_by(world).robs(victim))
        });
        for answer in all_at_once(calls).await {
            answer.unwrap();
        }
        assert_eq!(world.count_heists().await, 120);
        replica.stop(crate::harness::PATIENCE).await;
    });
}
