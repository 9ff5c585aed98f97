//! PostgreSQL closes connections under the server's hands.

use std::time::Duration;

use tonic::Code::Unavailable;

use crate::harness::{Refusal, World, all_at_once, new_request_id, until};

#[test]
fn callers_who_repeat_what_was_unavailable_execute_each_heist_once() {
    let setup = World::setup().rules(|rules| {
        rules.cooldown = Duration::ZERO;
        rules.protection = None;
    });
    setup.run(async |world| {
        let players = world.crowd("Player", 4).points(10_000).tokens(60).await;
        let callers = (0..4_usize).map(|index| {
            let (attacker, victim) = (players[index].clone(), players[(index + 1) % 4].clone());
            async move {
                for _ in 0..50 {
                    let id = new_request_id();
                    while let Err(status) = attacker.robs_with_id(&id, &victim).await {
                        Refusal::from(status).is(Unavailable, "DATABASE_UNAVAILABLE");
                    }
                }
            }
        });
        let callers: Vec<_> = callers.map(tokio::spawn).collect();
        for blow in 1..=15 {
            // Let some heists happen before the next one.
            until("heists happen between the blows", async || {
                (world.count_heists().await >= blow * 10).then_some(())
            })
            .await;
            world.sessions_are_terminated().await;
        }
        for caller in callers {
            caller.await.unwrap();
        }
        assert_eq!(world.count_heists().await, 200);
    });
}

#[test]
fn reads_and_awards_recover_by_themselves() {
    World::run(async |world| {
        let ada = world.player("Ada").await;
        let friend = world.player("Friend").await;
        // Every connection that the server may have is open, and then dead.
        all_at_once((0..40).map(|_| world.get_balance(ada.id))).await;
        world.sessions_are_terminated().await;
        while let Err(status) = world.get_balance(ada.id).await {
            Refusal::from(status).is(Unavailable, "DATABASE_UNAVAILABLE");
        }
        world.sessions_are_terminated().await;
        while let Err(status) = ada.earns_a_token_for(&friend).await {
            Refusal::from(status).is(Unavailable, "DATABASE_UNAVAILABLE");
        }
        assert_eq!(ada.tokens().await.balance, 1);
    });
}
