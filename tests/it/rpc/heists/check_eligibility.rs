//! `HeistService.CheckEligibility`: whether a heist is possible, or the first reason why not.

use std::time::Duration;

use heist::pb::{self, RefusalReason};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tonic::Code;

use crate::{
    harness::{Player, World, snapshot, to_time},
    rpc::heists::heist_refusals::{UNKNOWN_PLAYER, protected, resting},
};

const HOUR: Duration = Duration::from_hours(1);

/// A request without a request id.
fn heist(attacker_id: i32, victim_id: i32) -> pb::ExecuteHeistRequest {
    pb::ExecuteHeistRequest {
        attacker_id,
        victim_id,
        request_id: String::new(),
    }
}

/// Executes the heist and checks that it goes as its eligibility said.
pub async fn comes_true(world: &World, attacker_id: i32, said: &pb::Eligibility) {
    let call = world.execute_heist(heist(attacker_id, said.victim_id));
    if said.eligible {
        let answer = call
            .await
            .unwrap_or_else(|refused| panic!("{said:?}, but {refused:?}"));
        let heist = answer.heist.unwrap();
        assert_eq!(said.reason(), RefusalReason::Unspecified);
        assert_eq!(heist.points_stolen, said.points_at_stake);
        assert_eq!(heist.victim_name, said.victim_name);
        assert_eq!(heist.victim_points_before, said.victim_points);
        assert_eq!(answer.tokens_remaining + 1, said.tokens_available);
        assert_eq!(
            (said.cooldown_end_time, said.protection_end_time),
            (None, None)
        );
        return;
    }
    assert_eq!(said.points_at_stake, 0, "{said:?}");
    let code = match said.reason() {
        RefusalReason::Unspecified => panic!("not eligible, and no reason: {said:?}"),
        RefusalReason::SelfTarget => Code::InvalidArgument,
        RefusalReason::AttackerNotFound | RefusalReason::TargetNotFound => Code::NotFound,
        _ => Code::FailedPrecondition,
    };
    let reason = said.reason().as_str_name().replace("REFUSAL_REASON_", "");
    let refusal = world.refuses(call).await.is(code, &reason);
    assert_eq!(refusal.message(), said.message);
    let told = |fact: &str| OffsetDateTime::parse(refusal.fact(fact), &Rfc3339).unwrap();
    match said.reason() {
        RefusalReason::CooldownActive => {
            assert_eq!(told("cooldown_end_time"), to_time(said.cooldown_end_time));
        }
        RefusalReason::TargetProtected => {
            assert_eq!(
                told("protection_end_time"),
                to_time(said.protection_end_time)
            );
        }
        RefusalReason::InsufficientPoints => {
            assert_eq!(
                refusal.fact("victim_points"),
                said.victim_points.to_string()
            );
        }
        _ => {}
    }
}

/// Checks the reason, and that a heist is refused for it.
async fn is_refused(world: &World, attacker_id: i32, victim_id: i32, reason: RefusalReason) {
    let said = world.eligibility(attacker_id, victim_id).await;
    assert!(!said.eligible);
    assert_eq!(said.reason(), reason, "{said:?}");
    assert_eq!(said.victim_id, victim_id);
    comes_true(world, attacker_id, &said).await;
}

#[test]
fn an_eligible_victim_comes_with_the_points_at_stake() {
    World::run(async |world| {
        let ada = world.player("Ada").tokens(3).await;
        let ben = world.player("Ben").points(1000).await;
        let expected = pb::Eligibility {
            victim_id: ben.id,
            eligible: true,
            message: "A heist would steal 50 points.".to_owned(),
            victim_name: "Ben".to_owned(),
            victim_points: 1000,
            points_at_stake: 50,
            tokens_available: 3,
            ..Default::default()
        };
        let said = world.eligibility(ada.id, ben.id).await;
        assert_eq!(said, expected);
        comes_true(world, ada.id, &said).await;
    });
}

#[test]
fn robbing_oneself_is_refused_before_existence() {
    World::run(async |world| {
        let ada = world.player("Ada").points(1000).tokens(1).await;
        for player in [ada.id, UNKNOWN_PLAYER, i32::MAX] {
            is_refused(world, player, player, RefusalReason::SelfTarget).await;
        }
    });
}

#[test]
fn a_missing_attacker_is_reported_before_a_missing_victim() {
    World::run(async |world| {
        let ben = world.player("Ben").points(1000).await;
        for victim in [ben.id, UNKNOWN_PLAYER + 1] {
            is_refused(
                world,
                UNKNOWN_PLAYER,
                victim,
                RefusalReason::AttackerNotFound,
            )
            .await;
        }
    });
}

#[test]
fn a_missing_victim_is_reported_before_missing_tokens() {
    World::run(async |world| {
        let ada = world.player("Ada").await;
        for victim in [UNKNOWN_PLAYER, i32::MAX] {
            is_refused(world, ada.id, victim, RefusalReason::TargetNotFound).await;
        }
    });
}

#[test]
fn missing_tokens_are_reported_before_times_and_points() {
    World::run(async |world| {
        let spent = world.player("Spent").tokens(1).await;
        let rich = world.player("Rich").points(1000).await;
        spent.robs(&rich).await.unwrap();
        let never = world.player("Never").await;
        let victims = [rich.id, protected(world, 19).await.id];
        for (attacker, victim) in [
            (&spent, victims[0]),
            (&spent, victims[1]),
            (&never, victims[1]),
        ] {
            is_refused(
                world,
                attacker.id,
                victim,
                RefusalReason::InsufficientTokens,
            )
            .await;
        }
    });
}

#[test]
fn the_cooldown_is_reported_before_the_victims_state() {
    World::run(async |world| {
        let resting = resting(world).await;
        let poor = world.player("Poor").points(19).await;
        for victim in [poor, protected(world, 500).await] {
            is_refused(world, resting.id, victim.id, RefusalReason::CooldownActive).await;
        }
    });
}

#[test]
fn too_few_points_are_reported_before_the_protection() {
    World::run(async |world| {
        let ada = world.player("Ada").tokens(1).await;
        let victim = protected(world, 19).await;
        is_refused(world, ada.id, victim.id, RefusalReason::InsufficientPoints).await;
    });
}

#[test]
fn the_protection_is_reported_last() {
    World::run(async |world| {
        let ada = world.player("Ada").tokens(1).await;
        let victim = protected(world, 20).await;
        is_refused(world, ada.id, victim.id, RefusalReason::TargetProtected).await;
    });
}

#[test]
fn unknown_players_get_no_details() {
    World::run(async |world| {
        let ada = world.player("Ada").points(7).tokens(1).await;
        let of_unknown = world.eligibility(ada.id, UNKNOWN_PLAYER).await;
        assert_eq!(
            (of_unknown.victim_name.as_str(), of_unknown.victim_points),
            ("", 0)
        );
        assert_eq!(of_unknown.tokens_available, 1);
        let by_unknown = world.eligibility(UNKNOWN_PLAYER, ada.id).await;
        assert_eq!(
            (by_unknown.victim_name.as_str(), by_unknown.victim_points),
            ("Ada", 7)
        );
        assert_eq!(by_unknown.tokens_available, 0);
    });
}

/// When the cooldown and the protection end, as far as they are said to be in effect.
async fn ends(
    world: &World,
    attacker: &Player,
    victim: &Player,
) -> (Option<OffsetDateTime>, Option<OffsetDateTime>) {
    let said = world.eligibility(attacker.id, victim.id).await;
    let time = |timestamp: Option<prost_types::Timestamp>| timestamp.map(|it| to_time(Some(it)));
    (time(said.cooldown_end_time), time(said.protection_end_time))
}

#[test]
fn cooldown_and_protection_are_reported_to_the_microsecond() {
    World::run(async |world| {
        let resting = resting(world).await;
        let rested = world.player("Rested").await;
        let protected = protected(world, 19).await;
        let free = world.player("Free").await;
        let column = |query| sqlx::query_scalar::<_, OffsetDateTime>(query).bind(protected.id);
        let first_robbery = column(r#"SELECT min("createdAt") FROM "Heist" WHERE "victimId" = $1"#)
            .fetch_one(&world.pool)
            .await
            .unwrap();
        let last_heist: OffsetDateTime = resting.last_spent_at().await;
        let cooldown = Some(last_heist + 24 * HOUR);
        let protection = Some(first_robbery + 48 * HOUR);

        assert_eq!(
            ends(world, &resting, &protected).await,
            (cooldown, protection)
        );
        assert_eq!(ends(world, &resting, &free).await, (cooldown, None));
        assert_eq!(ends(world, &resting, &resting).await, (cooldown, None));
        assert_eq!(ends(world, &rested, &protected).await, (None, protection));
        assert_eq!(ends(world, &rested, &free).await, (None, None));
        assert_eq!(
            ends(world, &protected, &protected).await,
            (None, protection)
        );
    });
}

#[test]
fn ended_cooldowns_and_protections_are_not_reported() {
    World::run(async |world| {
        let ada = resting(world).await;
        let protected = protected(world, 500).await;
        ada.last_heist_was(24 * HOUR).await;
        world.all_heists_were(48 * HOUR).await;
        assert_eq!(ends(world, &ada, &protected).await, (None, None));
        let said = world.eligibility(ada.id, protected.id).await;
        assert!(said.eligible);
        comes_true(world, ada.id, &said).await;
    });
}

#[test]
fn without_cooldown_and_protection_there_is_no_end_to_tell() {
    let setup = World::setup().rules(|rules| {
        rules.cooldown = Duration::ZERO;
        rules.protection = None;
    });
    setup.run(async |world| {
        let ada = resting(world).await;
        let robbed = protected(world, 500).await;
        assert_eq!(ends(world, &ada, &robbed).await, (None, None));
        comes_true(world, ada.id, &world.eligibility(ada.id, robbed.id).await).await;
    });
}

#[test]
fn points_at_stake_follow_the_settings() {
    let setup = World::setup().rules(|rules| {
        rules.steal_percentage = 30;
        rules.max_steal_points = Some(200);
        rules.min_target_points = 10;
    });
    setup.run(async |world| {
        for (points, at_stake) in [
            (9, 0),
            (10, 3),
            (11, 3),
            (666, 199),
            (667, 200),
            (668, 200),
            (i32::MAX, 200),
        ] {
            let ada = world.player("Ada").tokens(1).await;
            let victim = world.player("Victim").points(points).await;
            let said = world.eligibility(ada.id, victim.id).await;
            assert_eq!(
                (said.eligible, said.points_at_stake),
                (at_stake > 0, at_stake),
                "{points}"
            );
            comes_true(world, ada.id, &said).await;
        }
    });
}

#[test]
fn negative_points_are_reported() {
    World::run(async |world| {
        let ada = world.player("Ada").tokens(1).await;
        let debtor = world.player("Debtor").await;
        debtor.has_negative_points(-30).await;
        let said = world.eligibility(ada.id, debtor.id).await;
        assert_eq!(
            (said.reason(), said.victim_points),
            (RefusalReason::InsufficientPoints, -30)
        );
        comes_true(world, ada.id, &said).await;
    });
}

#[test]
fn eligibility_writes_nothing_and_waits_for_no_lock() {
    World::run(async |world| {
        let ada = world.player("Ada").tokens(1).await;
        let ben = world.player("Ben").points(1000).await;
        let before = snapshot(&world.pool).await;
        let transaction = world.application_with_locks(&[&ada, &ben]).await;
        for _ in 0..10 {
            assert!(world.eligibility(ada.id, ben.id).await.eligible);
        }
        transaction.rollback().await;
        assert_eq!(snapshot(&world.pool).await, before);
    });
}
