//! `HeistService.GetHeist`

use heist::pb::{self, GetHeistRequest};
use tonic::Code::NotFound;

use crate::harness::World;

async fn get(world: &World, heist_id: i64) -> pb::Heist {
    let answer = world.get_heist(GetHeistRequest { heist_id }).await.unwrap();
    answer.heist.expect("an answer has a heist")
}

#[test]
fn a_heist_is_what_its_attacker_was_answered() {
    World::run(async |world| {
        let ada = world.player("Ada").points(7).tokens(1).await;
        let ben = world.player("Ben").points(1000).tokens(1).await;
        let there = ada.robs(&ben).await.unwrap().heist.unwrap();
        let back = ben.robs(&ada).await.unwrap().heist.unwrap();
        assert_eq!(get(world, there.id).await, there);
        assert_eq!(get(world, back.id).await, back);
        assert_eq!(
            (there.attacker_points_before, there.attacker_points_after),
            (7, 57)
        );
    });
}

#[test]
fn names_are_current() {
    World::run(async |world| {
        let ada = world.player("Ada").tokens(1).await;
        let ben = world.player("Ben").points(1000).await;
        let heist = ada.robs(&ben).await.unwrap().heist.unwrap();
        ada.is_renamed("Countess").await;
        let expected = pb::Heist {
            attacker_name: "Countess".to_owned(),
            ..heist
        };
        assert_eq!(get(world, expected.id).await, expected);
    });
}

#[test]
fn deleted_players_have_no_name_and_their_points_stay_in_the_books() {
    World::run(async |world| {
        let ada = world.player("Ada").tokens(1).await;
        let ben = world.player("Ben").points(1000).await;
        let heist = ada.robs(&ben).await.unwrap().heist.unwrap();

        ada.leaves().await;
        let without_attacker = pb::Heist {
            attacker_id: 0,
            attacker_name: String::new(),
            ..heist
        };
        assert_eq!(get(world, without_attacker.id).await, without_attacker);

        ben.leaves().await;
        let without_both = pb::Heist {
            victim_id: 0,
            victim_name: String::new(),
            ..without_attacker
        };
        assert_eq!(get(world, without_both.id).await, without_both);
    });
}

#[test]
fn an_unknown_heist_is_not_found() {
    World::run(async |world| {
        let ada = world.player("Ada").tokens(1).await;
        let ben = world.player("Ben").points(1000).await;
        let friend = world.player("Friend").await;
        let heist = ada.robs(&ben).await.unwrap().heist.unwrap();
        // Awards draw their numbers from the same sequence.
        ada.earns_a_token_for(&friend).await.unwrap();
        let award: i64 = sqlx::query_scalar(r#"SELECT "id" FROM "HeistTokenAward""#)
            .fetch_one(&world.pool)
            .await
            .unwrap();
        for heist_id in [award, heist.id + 1000, i64::MAX] {
            let call = world.get_heist(GetHeistRequest { heist_id });
            let refusal = world.refuses(call).await.is(NotFound, "HEIST_NOT_FOUND");
            assert_eq!(refusal.fact("heist_id"), heist_id.to_string());
        }
    });
}
