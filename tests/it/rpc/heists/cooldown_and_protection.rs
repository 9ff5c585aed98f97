//! `HeistService.ExecuteHeist`: how long attackers wait and victims are left alone.

use std::time::Duration;

use heist::{domain::rules::Protection, pb::notification::Details};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tonic::Code::FailedPrecondition;

use crate::harness::{Player, World, all_at_once, to_time};

const HOUR: Duration = Duration::from_hours(1);
const MINUTE: Duration = Duration::from_mins(1);

#[track_caller]
fn assert_about(actual: Duration, expected: Duration) {
    let least = expected.saturating_sub(MINUTE / 2);
    assert!(
        (least..=expected).contains(&actual),
        "{actual:?} is not just below {expected:?}"
    );
}

#[test]
fn an_attacker_waits_a_day_and_gets_the_remaining_time() {
    World::run(async |world| {
        let ada = world.player("Ada").tokens(2).await;
        let ben = world.player("Ben").points(1000).await;
        let first = ada.robs(&ben).await.unwrap();

        let refusal = world.refuses(ada.robs(&ben)).await;

        let refusal = refusal.is(FailedPrecondition, "COOLDOWN_ACTIVE");
        assert_about(refusal.wait(), 24 * HOUR);
        let ends_at = OffsetDateTime::parse(refusal.fact("cooldown_end_time"), &Rfc3339).unwrap();
        assert_eq!(ends_at, to_time(first.cooldown_end_time));
        let for_people = ends_at.date().to_string();
        assert!(
            refusal.message().contains(&for_people),
            "{}",
            refusal.message()
        );
    });
}

#[test]
fn the_cooldown_ends_to_the_second() {
    World::run(async |world| {
        let ada = world.player("Ada").tokens(2).await;
        let ben = world.player("Ben").points(1000).await;
        ada.robs(&ben).await.unwrap();

        ada.last_heist_was(Duration::from_mins(24 * 60 - 1)).await;
        let refusal = world.refuses(ada.robs(&ben)).await;
        let refusal = refusal.is(FailedPrecondition, "COOLDOWN_ACTIVE");
        assert_about(refusal.wait(), MINUTE);

        ada.last_heist_was(24 * HOUR).await;
        ada.robs(&ben).await.unwrap();
    });
}

#[test]
fn a_victim_may_rob_back_at_once() {
    World::run(async |world| {
        let ada = world.player("Ada").points(1000).tokens(1).await;
        let ben = world.player("Ben").points(1000).tokens(1).await;
        ada.robs(&ben).await.unwrap();
        ben.robs(&ada).await.unwrap();
    });
}

#[test]
fn a_new_token_does_not_shorten_the_wait() {
    World::run(async |world| {
        let ada = world.player("Ada").tokens(1).await;
        let ben = world.player("Ben").points(1000).await;
        let friend = world.player("Friend").await;
        ada.robs(&ben).await.unwrap();
        ada.earns_a_token_for(&friend).await.unwrap();
        let refusal = world.refuses(ada.robs(&ben)).await;
        refusal.is(FailedPrecondition, "COOLDOWN_ACTIVE");
    });
}

#[test]
fn without_a_cooldown_nobody_waits() {
    let setup = World::setup().rules(|rules| rules.cooldown = Duration::ZERO);
    setup.run(async |world| {
        let ada = world.player("Ada").tokens(5).await;
        let ben = world.player("Ben").points(1000).await;
        for _ in 0..5 {
            ada.robs(&ben).await.unwrap();
        }
    });
}

/// Lets so many different players rob one.
async fn rob_times(world: &World, victim: &Player, times: usize) {
    let robbers = world.crowd("Robber", times).tokens(1).await;
    for answer in all_at_once(robbers.iter().map(|robber| robber.robs(victim))).await {
        answer.unwrap();
    }
}

#[test]
fn ten_robberies_protect_until_the_oldest_leaves_the_window() {
    World::run(async |world| {
        let late = world.player("Late").tokens(1).await;
        let rich = world.player("Carl").points(10_000).await;
        rob_times(world, &rich, 1).await;
        world.all_heists_were(30 * HOUR).await;
        rob_times(world, &rich, 9).await;

        let refusal = world.refuses(late.robs(&rich)).await;

        let refusal = refusal.is(FailedPrecondition, "TARGET_PROTECTED");
        assert_about(refusal.wait(), 18 * HOUR);
        let ends_at = OffsetDateTime::parse(refusal.fact("protection_end_time"), &Rfc3339).unwrap();
        let oldest = world.first_heist_at().await;
        assert_eq!(ends_at, oldest + 48 * HOUR);
    });
}

#[test]
fn the_protection_ends_to_the_second() {
    World::run(async |world| {
        let late = world.player("Late").tokens(1).await;
        let rich = world.player("Carl").points(10_000).await;
        rob_times(world, &rich, 10).await;

        world
            .all_heists_were(Duration::from_mins(48 * 60 - 1))
            .await;
        let refusal = world.refuses(late.robs(&rich)).await;
        let refusal = refusal.is(FailedPrecondition, "TARGET_PROTECTED");
        assert_about(refusal.wait(), MINUTE);

        world.all_heists_were(48 * HOUR).await;
        late.robs(&rich).await.unwrap();
    });
}

#[test]
fn nine_robberies_do_not_protect() {
    World::run(async |world| {
        let rich = world.player("Carl").points(10_000).await;
        rob_times(world, &rich, 9).await;
        rob_times(world, &rich, 1).await;
    });
}

#[test]
fn a_players_own_heists_do_not_protect_them() {
    let setup = World::setup().rules(|rules| rules.cooldown = Duration::ZERO);
    setup.run(async |world| {
        let robber = world.player("Ada").points(1000).tokens(11).await;
        let victims = world.crowd("Victim", 11).points(1000).await;
        for victim in &victims {
            robber.robs(victim).await.unwrap();
        }
        rob_times(world, &robber, 1).await;
    });
}

#[test]
fn the_tenth_robbery_tells_the_victim_the_end_of_the_protection() {
    World::run(async |world| {
        let rich = world.player("Carl").points(10_000).await;
        rob_times(world, &rich, 1).await;
        world.all_heists_were(30 * HOUR).await;
        rob_times(world, &rich, 9).await;

        let told: Vec<_> = (rich.notifications().await.into_iter())
            .map(|notification| match notification.details {
                Some(Details::HeistVictim(details)) => details.protection_end_time,
                other => panic!("{other:?}"),
            })
            .collect();

        let oldest = world.first_heist_at().await;
        assert_eq!(to_time(told[0]), oldest + 48 * HOUR);
        assert_eq!(told[1..], [None; 9]);
    });
}

#[test]
fn without_a_protection_window_no_victim_is_protected() {
    let setup = World::setup().rules(|rules| rules.protection = None);
    setup.run(async |world| {
        let rich = world.player("Carl").points(10_000).await;
        rob_times(world, &rich, 15).await;
        for notification in rich.notifications().await {
            let Some(Details::HeistVictim(details)) = notification.details else {
                panic!("{notification:?}");
            };
            assert_eq!(details.protection_end_time, None);
        }
    });
}

#[test]
fn protection_after_one_robbery_allows_one() {
    let setup = World::setup().rules(|rules| {
        rules.protection = Some(Protection {
            after: 1,
            window: HOUR,
        });
    });
    setup.run(async |world| {
        let late = world.player("Late").tokens(1).await;
        let rich = world.player("Carl").points(10_000).await;
        rob_times(world, &rich, 1).await;
        let refusal = world.refuses(late.robs(&rich)).await;
        refusal.is(FailedPrecondition, "TARGET_PROTECTED");
        world.all_heists_were(HOUR).await;
        late.robs(&rich).await.unwrap();
    });
}
