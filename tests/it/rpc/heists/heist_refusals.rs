//! `HeistService.ExecuteHeist`: refusals and their order.

use std::time::Duration;

use heist::pb;
use tonic::Code::{AlreadyExists, FailedPrecondition, InvalidArgument, NotFound};

use crate::harness::{Player, World, all_at_once, new_request_id};

pub const UNKNOWN_PLAYER: i32 = 1_000_000;
const HOUR: Duration = Duration::from_hours(1);

fn heist(attacker_id: i32, victim_id: i32) -> pb::ExecuteHeistRequest {
    pb::ExecuteHeistRequest {
        attacker_id,
        victim_id,
        request_id: String::new(),
    }
}

/// A player with a token and a running cooldown.
pub async fn resting(world: &World) -> Player {
    let robber = world.player("Resting").tokens(2).await;
    let other = world.player("Other").points(20).await;
    robber.robs(&other).await.unwrap();
    robber
}

/// A player with this number of points left, protected after ten robberies.
pub async fn protected(world: &World, points_left: i32) -> Player {
    // Each robbery steals one point at least.
    let points_at_first = (points_left + 10..10_000)
        .find(|points| (0..10).fold(*points, |left, _| left - left * 5 / 100) == points_left)
        .unwrap();
    let victim = world.player("Protected").points(points_at_first).await;
    let robbers = world.crowd("Robber", 10).tokens(1).await;
    for answer in all_at_once(robbers.iter().map(|robber| robber.robs(&victim))).await {
        answer.unwrap();
    }
    assert_eq!(victim.points().await, points_left);
    victim
}

#[test]
fn players_cannot_rob_themselves() {
    World::run(async |world| {
        let ada = world.player("Ada").points(1000).tokens(1).await;
        let refusal = world.refuses(ada.robs(&ada)).await;
        refusal.is(InvalidArgument, "SELF_TARGET");
    });
}

#[test]
fn an_attacker_has_to_exist() {
    World::run(async |world| {
        let ben = world.player("Ben").points(1000).await;
        let refusal = world
            .refuses(world.execute_heist(heist(UNKNOWN_PLAYER, ben.id)))
            .await;
        refusal.is(NotFound, "ATTACKER_NOT_FOUND");
    });
}

#[test]
fn a_victim_has_to_exist() {
    World::run(async |world| {
        let ada = world.player("Ada").tokens(1).await;
        for unknown in [UNKNOWN_PLAYER, i32::MAX] {
            let refusal = world
                .refuses(world.execute_heist(heist(ada.id, unknown)))
                .await;
            refusal.is(NotFound, "TARGET_NOT_FOUND");
        }
    });
}

#[test]
fn a_heist_costs_a_token() {
    World::run(async |world| {
        let never_had_one = world.player("Ada").points(100).await;
        let spent_it = world.player("Ben").tokens(1).await;
        let rich = world.player("Carl").points(1000).await;
        spent_it.robs(&rich).await.unwrap();
        spent_it.last_heist_was(25 * HOUR).await;

        for attacker in [never_had_one, spent_it] {
            let refusal = world.refuses(attacker.robs(&rich)).await;
            let refusal = refusal.is(FailedPrecondition, "INSUFFICIENT_TOKENS");
            assert_eq!(refusal.fact("tokens_required"), "1");
            assert!(refusal.has_no_wait());
        }
    });
}

#[test]
fn a_victim_needs_twenty_points() {
    World::run(async |world| {
        let ada = world.player("Ada").tokens(1).await;
        for points in [19, 1, 0] {
            let poor = world.player("Poor").points(points).await;
            let refusal = world.refuses(ada.robs(&poor)).await;
            let refusal = refusal.is(FailedPrecondition, "INSUFFICIENT_POINTS");
            assert_eq!(refusal.fact("victim_points"), points.to_string());
            assert_eq!(refusal.fact("points_required"), "20");
            assert!(refusal.has_no_wait());
        }
    });
}

#[test]
fn a_heist_of_zero_points_is_refused() {
    let setup = World::setup().rules(|rules| rules.min_target_points = 0);
    setup.run(async |world| {
        let ada = world.player("Ada").tokens(1).await;
        let poor = world.player("Poor").points(19).await;
        let refusal = world.refuses(ada.robs(&poor)).await;
        let refusal = refusal.is(FailedPrecondition, "INSUFFICIENT_POINTS");
        assert_eq!(refusal.fact("points_required"), "20");

        let just_enough = world.player("Enough").points(20).await;
        ada.robs(&just_enough).await.unwrap();
    });
}

#[test]
fn a_higher_minimum_protects_richer_players() {
    let setup = World::setup().rules(|rules| rules.min_target_points = 500);
    setup.run(async |world| {
        let ada = world.player("Ada").tokens(1).await;
        let poor = world.player("Poor").points(499).await;
        let refusal = world.refuses(ada.robs(&poor)).await;
        let refusal = refusal.is(FailedPrecondition, "INSUFFICIENT_POINTS");
        assert_eq!(refusal.fact("points_required"), "500");
    });
}

#[test]
fn a_malformed_request_is_refused_before_players_are_read() {
    World::run(async |world| {
        let ada = world.player("Ada").await;
        let mut request = heist(ada.id, ada.id);
        request.request_id = "not a uuid".to_owned();
        world
            .refuses(world.execute_heist(request))
            .await
            .names(&["request_id"]);
    });
}

#[test]
fn robbing_oneself_is_refused_before_existence() {
    World::run(async |world| {
        let refusal = world
            .refuses(world.execute_heist(heist(UNKNOWN_PLAYER, UNKNOWN_PLAYER)))
            .await;
        refusal.is(InvalidArgument, "SELF_TARGET");
    });
}

#[test]
fn an_unknown_attacker_is_refused_before_an_unknown_victim() {
    World::run(async |world| {
        let refusal = world
            .refuses(world.execute_heist(heist(UNKNOWN_PLAYER, UNKNOWN_PLAYER + 1)))
            .await;
        refusal.is(NotFound, "ATTACKER_NOT_FOUND");
    });
}

#[test]
fn an_unknown_victim_is_refused_before_missing_tokens() {
    World::run(async |world| {
        let ada = world.player("Ada").await;
        let refusal = world
            .refuses(world.execute_heist(heist(ada.id, UNKNOWN_PLAYER)))
            .await;
        refusal.is(NotFound, "TARGET_NOT_FOUND");
    });
}

#[test]
fn missing_tokens_are_refused_before_the_cooldown() {
    World::run(async |world| {
        let ada = world.player("Ada").tokens(1).await;
        let rich = world.player("Carl").points(1000).await;
        ada.robs(&rich).await.unwrap();
        let refusal = world.refuses(ada.robs(&rich)).await;
        refusal.is(FailedPrecondition, "INSUFFICIENT_TOKENS");
    });
}

#[test]
fn missing_tokens_are_refused_before_poor_and_protected_victims() {
    World::run(async |world| {
        let ada = world.player("Ada").await;
        for victim in [
            world.player("Poor").points(19).await,
            protected(world, 500).await,
        ] {
            let refusal = world.refuses(ada.robs(&victim)).await;
            refusal.is(FailedPrecondition, "INSUFFICIENT_TOKENS");
        }
    });
}

#[test]
fn the_cooldown_is_refused_before_poor_victims() {
    World::run(async |world| {
        let robber = resting(world).await;
        let poor = world.player("Poor").points(19).await;
        let refusal = world.refuses(robber.robs(&poor)).await;
        refusal.is(FailedPrecondition, "COOLDOWN_ACTIVE");
    });
}

#[test]
fn the_cooldown_is_refused_before_protected_victims() {
    World::run(async |world| {
        let robber = resting(world).await;
        let victim = protected(world, 500).await;
        let refusal = world.refuses(robber.robs(&victim)).await;
        refusal.is(FailedPrecondition, "COOLDOWN_ACTIVE");
    });
}

#[test]
fn a_poor_victim_is_refused_before_a_protected_one() {
    World::run(async |world| {
        let robber = world.player("Ada").tokens(1).await;
        let victim = protected(world, 19).await;
        let refusal = world.refuses(robber.robs(&victim)).await;
        refusal.is(FailedPrecondition, "INSUFFICIENT_POINTS");
    });
}

#[test]
fn a_protected_victim_is_refused_when_nothing_else_is_wrong() {
    World::run(async |world| {
        let robber = world.player("Ada").tokens(1).await;
        let victim = protected(world, 500).await;
        let refusal = world.refuses(robber.robs(&victim)).await;
        refusal.is(FailedPrecondition, "TARGET_PROTECTED");
    });
}

#[test]
fn a_used_request_id_is_reported_before_every_rule() {
    World::run(async |world| {
        let ada = world.player("Ada").tokens(1).await;
        let ben = world.player("Ben").points(1000).await;
        let id = new_request_id();
        ada.robs_with_id(&id, &ben).await.unwrap();

        for victim_id in [ada.id, UNKNOWN_PLAYER] {
            let request = pb::ExecuteHeistRequest {
                request_id: id.clone(),
                ..heist(ada.id, victim_id)
            };
            let refusal = world.refuses(world.execute_heist(request)).await;
            refusal.is(AlreadyExists, "REQUEST_ID_REUSED");
        }
    });
}

#[test]
fn a_refused_heist_does_not_use_its_request_id_up() {
    World::run(async |world| {
        let ada = world.player("Ada").await;
        let ben = world.player("Ben").points(1000).await;
        let friend = world.player("Friend").await;
        let id = new_request_id();
        let refusal = world.refuses(ada.robs_with_id(&id, &ben)).await;
        refusal.is(FailedPrecondition, "INSUFFICIENT_TOKENS");

        ada.earns_a_token_for(&friend).await.unwrap();
        let answer = ada.robs_with_id(&id, &ben).await.unwrap();
        assert!(!answer.replayed);
    });
}

#[test]
fn a_victim_with_old_negative_points_is_poor() {
    World::run(async |world| {
        let ada = world.player("Ada").tokens(1).await;
        for points in [-5, i32::MIN] {
            let debtor = world.player("Debtor").await;
            debtor.has_negative_points(points).await;
            let refusal = world.refuses(ada.robs(&debtor)).await;
            let refusal = refusal.is(FailedPrecondition, "INSUFFICIENT_POINTS");
            assert_eq!(refusal.fact("victim_points"), points.to_string());
        }
    });
}

#[test]
fn an_attacker_with_old_negative_points_must_reach_zero() {
    World::run(async |world| {
        let rich = world.player("Carl").points(1000).await;
        let too_deep = world.player("Ada").tokens(1).await;
        too_deep.has_negative_points(-51).await;
        world
            .refuses(too_deep.robs(&rich))
            .await
            .is(FailedPrecondition, "POINTS_LIMIT_REACHED");

        let just_so = world.player("Ben").tokens(1).await;
        just_so.has_negative_points(-50).await;
        just_so.robs(&rich).await.unwrap();
        assert_eq!(just_so.points().await, 0);
    });
}

#[test]
fn points_that_overflow_fail_one_heist_only() {
    let setup = World::setup().limits(|limits| limits.workers = 1);
    setup.run(async |world| {
        let full = world.player("Full").points(i32::MAX - 10).tokens(1).await;
        let robbers = world.crowd("Robber", 8).tokens(1).await;
        let rich = world.player("Carl").points(1_000_000).await;
        world
            .refuses(full.robs(&rich))
            .await
            .is(FailedPrecondition, "POINTS_LIMIT_REACHED");

        let burst = robbers
            .iter()
            .chain([&full])
            .map(|robber| robber.robs(&rich));
        let mut answers = all_at_once(burst).await;
        crate::harness::Refusal::from(answers.pop().unwrap().unwrap_err())
            .is(FailedPrecondition, "POINTS_LIMIT_REACHED");
        for answer in answers {
            answer.unwrap();
        }
        assert_eq!(world.count_heists().await, 8);
    });
}
