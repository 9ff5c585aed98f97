//! `TokenService.GetBalance`

use heist::pb;
use tonic::Code::NotFound;

use crate::harness::{World, to_time};

#[test]
fn a_player_who_never_had_a_token_has_a_balance_of_zero() {
    World::run(async |world| {
        let ada = world.player("Ada").await;
        let expected = pb::TokenBalance {
            user_id: ada.id,
            ..Default::default()
        };
        assert_eq!(world.get_balance(ada.id).await.unwrap(), expected);
    });
}

#[test]
fn a_balance_tells_what_was_earned_and_spent_and_when() {
    World::run(async |world| {
        let ada = world.player("Ada").tokens(1).await;
        let friend = world.player("Friend").await;
        let rich = world.player("Rich").points(1000).await;
        let award = ada.earns_a_token_for(&friend).await.unwrap();
        let heist = ada.robs(&rich).await.unwrap().heist.unwrap();

        let balance = world.get_balance(ada.id).await.unwrap();

        let expected = pb::TokenBalance {
            user_id: ada.id,
            balance: 1,
            total_earned: 2,
            total_spent: 1,
            last_earned_time: award.balance.unwrap().last_earned_time,
            last_spent_time: heist.create_time,
        };
        assert_eq!(balance, expected);
        assert!(to_time(balance.last_earned_time) < to_time(balance.last_spent_time));
    });
}

#[test]
fn an_unknown_player_has_no_balance() {
    World::run(async |world| {
        for unknown in [1_000_000, i32::MAX] {
            let refusal = world.refuses(world.get_balance(unknown)).await;
            let refusal = refusal.is(NotFound, "USER_NOT_FOUND");
            assert_eq!(refusal.fact("user_id"), unknown.to_string());
        }
    });
}
