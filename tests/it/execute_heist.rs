//! `HeistService.ExecuteHeist`: what a heist answers, and what it writes.

use crate::harness::World;

/// Robs a fresh victim with so many points and says how many were stolen.
async fn steal_from(world: &World, points: i32) -> i32 {
    let attacker = world.player("Ada").tokens(1).await;
    let victim = world.player("Ben").points(points).await;
    let heist = attacker.robs(&victim).await.unwrap().heist.unwrap();
    assert_eq!(victim.points().await, points - heist.points_stolen);
    assert_eq!(attacker.points().await, heist.points_stolen);
    heist.points_stolen
}

#[test]
fn a_heist_steals_five_percent_rounded_down_and_a_hundred_at_the_most() {
    World::run(async |world| {
        for (points, stolen) in [
            (500, 25),
            (1000, 50),
            (2000, 100),
            (5000, 100),
            (20, 1),
            (39, 1),
            (40, 2),
            (1999, 99),
            (i32::MAX, 100),
        ] {
            assert_eq!(steal_from(world, points).await, stolen, "of {points}");
        }
    });
}
