//! `HeistService.GetHeistStats`

use heist::pb::{GetHeistStatsRequest, GetHeistStatsResponse};
use tonic::Code::NotFound;

use crate::harness::{Player, World, all_at_once};

async fn stats(world: &World, player: &Player) -> GetHeistStatsResponse {
    let request = GetHeistStatsRequest { user_id: player.id };
    world.get_heist_stats(request).await.unwrap()
}

#[test]
fn a_player_without_heists_has_zeros() {
    World::run(async |world| {
        let ada = world.player("Ada").points(500).tokens(3).await;
        assert_eq!(stats(world, &ada).await, GetHeistStatsResponse::default());
    });
}

#[test]
fn both_sides_are_summed_up_each_for_itself() {
    let setup = World::setup().rules(|rules| rules.cooldown = std::time::Duration::ZERO);
    setup.run(async |world| {
        let ada = world.player("Ada").points(1000).tokens(3).await;
        let ben = world.player("Ben").points(1000).tokens(1).await;
        let carl = world.player("Carl").points(200).await;
        // 1000 → 950 → 903, then 47 + 50 + 10 more for Ada.
        ada.robs(&ben).await.unwrap();
        ada.robs(&ben).await.unwrap();
        ada.robs(&carl).await.unwrap();
        ben.robs(&ada).await.unwrap();
        // Refused and replayed calls do not count.
        ada.robs(&ben).await.unwrap_err();
        let expected = |robbed, lost, points_stolen, points_lost| GetHeistStatsResponse {
            heists_as_attacker: robbed,
            heists_as_victim: lost,
            points_stolen,
            points_lost,
        };
        assert_eq!(stats(world, &ada).await, expected(3, 1, 107, 55));
        assert_eq!(stats(world, &ben).await, expected(1, 2, 55, 97));
        assert_eq!(stats(world, &carl).await, expected(0, 1, 0, 10));
    });
}

#[test]
fn heists_with_players_who_left_still_count() {
    World::run(async |world| {
        let ada = world.player("Ada").points(1000).tokens(1).await;
        let ben = world.player("Ben").points(1000).tokens(1).await;
        ada.robs(&ben).await.unwrap();
        ben.robs(&ada).await.unwrap();
        let before = stats(world, &ada).await;
        ben.leaves().await;
        assert_eq!(stats(world, &ada).await, before);
        assert_eq!((before.points_stolen, before.points_lost), (50, 52));
    });
}

#[test]
fn sums_may_pass_what_fits_into_32_bits() {
    let setup = World::setup().rules(|rules| {
        rules.steal_percentage = 100;
        rules.max_steal_points = None;
        rules.cooldown = std::time::Duration::ZERO;
        rules.protection = None;
    });
    setup.run(async |world| {
        let ada = world.player("Ada").points(i32::MAX).tokens(2).await;
        let ben = world.player("Ben").tokens(2).await;
        for _ in 0..2 {
            ben.robs(&ada).await.unwrap();
            ada.robs(&ben).await.unwrap();
        }
        let twice = 2 * i64::from(i32::MAX);
        for player in [&ada, &ben] {
            let stats = stats(world, player).await;
            assert_eq!((stats.points_stolen, stats.points_lost), (twice, twice));
        }
    });
}

#[test]
fn many_heists_at_once_are_all_counted() {
    let setup = World::setup().rules(|rules| rules.protection = None);
    setup.run(async |world| {
        let robbers = world.crowd("Robber", 40).tokens(1).await;
        let rich = world.player("Rich").points(100_000).await;
        all_at_once(robbers.iter().map(|robber| robber.robs(&rich))).await;
        let stats = stats(world, &rich).await;
        assert_eq!(stats.heists_as_victim, 40);
        assert_eq!(stats.points_lost, i64::from(100_000 - rich.points().await));
    });
}

#[test]
fn an_unknown_player_has_no_stats() {
    World::run(async |world| {
        for user_id in [1_000_000, i32::MAX] {
            let call = world.get_heist_stats(GetHeistStatsRequest { user_id });
            world.refuses(call).await.is(NotFound, "USER_NOT_FOUND");
        }
    });
}
