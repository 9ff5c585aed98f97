//! `TokenService.BatchGetBalances`

use heist::pb::{BatchGetBalancesRequest, TokenBalance};
use tonic::Code::NotFound;

use crate::harness::{World, all_at_once};

async fn balances(world: &World, user_ids: &[i32]) -> Vec<TokenBalance> {
    let request = BatchGetBalancesRequest {
        user_ids: user_ids.to_vec(),
    };
    world.batch_get_balances(request).await.unwrap().balances
}

#[test]
fn a_batch_answers_like_single_calls_in_request_order() {
    World::run(async |world| {
        let ada = world.player("Ada").tokens(3).await;
        let friend = world.player("Friend").await;
        let rich = world.player("Rich").points(1000).await;
        ada.earns_a_token_for(&friend).await.unwrap();
        ada.robs(&rich).await.unwrap();
        for asked in [
            vec![ada.id, friend.id, rich.id],
            vec![rich.id, ada.id, friend.id],
            vec![ada.id],
            vec![friend.id, ada.id, friend.id, friend.id, ada.id],
        ] {
            let answer = balances(world, &asked).await;
            assert_eq!(answer.len(), asked.len());
            for (user_id, balance) in asked.into_iter().zip(answer) {
                assert_eq!(balance, world.get_balance(user_id).await.unwrap());
            }
        }
    });
}

#[test]
fn one_to_two_hundred_players_make_a_batch() {
    World::run(async |world| {
        let crowd = world.crowd("Player", 200).tokens(2).await;
        let all: Vec<i32> = crowd.iter().map(|player| player.id).collect();
        for count in [1, 199, 200] {
            let answer = balances(world, &all[..count]).await;
            let told: Vec<i32> = answer.iter().map(|balance| balance.user_id).collect();
            assert_eq!(told, all[..count]);
            assert!(answer.iter().all(|balance| balance.balance == 2));
        }
        for user_ids in [vec![], [all, vec![1]].concat(), vec![1; 5000]] {
            let call = world.batch_get_balances(BatchGetBalancesRequest { user_ids });
            world.refuses(call).await.names(&["user_ids"]);
        }
    });
}

#[test]
fn the_first_unknown_player_is_named() {
    World::run(async |world| {
        let ada = world.player("Ada").tokens(1).await;
        let gone = world.player("Gone").tokens(1).await;
        gone.leaves().await;
        for (user_ids, missing) in [
            (vec![ada.id, gone.id, i32::MAX], gone.id),
            (vec![i32::MAX, ada.id, gone.id], i32::MAX),
        ] {
            let call = world.batch_get_balances(BatchGetBalancesRequest { user_ids });
            let refusal = world.refuses(call).await.is(NotFound, "USER_NOT_FOUND");
            assert_eq!(refusal.fact("user_id"), missing.to_string());
        }
    });
}

#[test]
fn a_balance_is_always_what_was_earned_less_what_was_spent() {
    let setup = World::setup().rules(|rules| {
        rules.cooldown = std::time::Duration::ZERO;
        rules.protection = None;
    });
    setup.run(async |world| {
        let ada = world.player("Ada").points(5000).tokens(60).await;
        let ben = world.player("Ben").points(5000).tokens(60).await;
        let heists: Vec<_> = (0..60)
            .flat_map(|_| [ada.robs(&ben), ben.robs(&ada)])
            .collect();
        let heists = tokio::spawn(all_at_once(heists));
        while !heists.is_finished() {
            for balance in balances(world, &[ada.id, ben.id]).await {
                assert_eq!(balance.balance, balance.total_earned - balance.total_spent);
            }
        }
        heists.await.unwrap();
    });
}
