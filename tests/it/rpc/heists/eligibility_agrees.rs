//! `CheckEligibility`, `BatchCheckEligibility` and `GetLeaderboard` agree with each other and with
//! `ExecuteHeist`.

use std::{collections::HashMap, time::Duration};

use heist::{
    domain::rules::Protection,
    pb::{Eligibility, GetLeaderboardRequest},
};
use rand::{RngExt as _, SeedableRng as _, rngs::SmallRng};

use crate::{
    harness::{Player, World},
    rpc::heists::check_eligibility::comes_true,
};

const PLAYERS: usize = 12;
const ROUNDS: usize = 60;
const HOUR: Duration = Duration::from_hours(1);

/// Players with various points and tokens, after some heists between them.
async fn society(world: &World, random: &mut SmallRng) -> Vec<Player> {
    let mut players = Vec::new();
    for number in 0..PLAYERS {
        let points = [0, 1, 9, 10, 19, 20, 21, 99, 100, 2000, 50_000][random.random_range(0..11)];
        let tokens = [0, 1, 2, 8][random.random_range(0..4)];
        let player = world.player(&format!("Player {number}"));
        players.push(player.points(points).tokens(tokens).await);
    }
    players
}

/// The attacker's eligibility against all players; the three RPCs must agree.
async fn told(world: &World, attacker: i32, ids: &[i32]) -> HashMap<i32, Eligibility> {
    let batch = world.eligibilities(attacker, ids).await;
    let request = GetLeaderboardRequest {
        viewer_id: attacker,
        ..Default::default()
    };
    let board = world.get_leaderboard(request).await.unwrap();
    assert_eq!(board.entries.len(), PLAYERS);
    for entry in board.entries {
        let of_the_batch = batch
            .iter()
            .find(|it| it.victim_id == entry.user_id)
            .unwrap();
        match entry.eligibility {
            Some(eligibility) => assert_eq!(&eligibility, of_the_batch),
            None => assert_eq!(entry.user_id, attacker),
        }
    }
    for of_the_batch in &batch {
        let alone = world.eligibility(attacker, of_the_batch.victim_id).await;
        assert_eq!(&alone, of_the_batch);
    }
    batch.into_iter().map(|it| (it.victim_id, it)).collect()
}

#[test]
fn the_three_eligibility_answers_agree_with_heists() {
    for seed in 0..4 {
        let mut random = SmallRng::seed_from_u64(seed);
        let setup = World::setup().rules(|rules| {
            rules.steal_percentage = random.random_range(1..=100);
            rules.max_steal_points = random.random_bool(0.5).then(|| random.random_range(1..300));
            rules.min_target_points = random.random_range(0..40);
            rules.cooldown = HOUR * random.random_range(0..3);
            rules.protection = random.random_bool(0.7).then(|| Protection {
                after: random.random_range(1..4),
                window: 2 * HOUR,
            });
        });
        setup.run(async |world| {
            let players = society(world, &mut random).await;
            let unknown = i32::MAX - 1;
            let mut ids: Vec<i32> = players.iter().map(|player| player.id).collect();
            ids.push(unknown);
            let mut reasons = HashMap::new();
            for _ in 0..ROUNDS {
                let attacker = &players[random.random_range(0..PLAYERS)];
                if random.random_bool(0.2) && attacker.tokens().await.earned > 0 {
                    let ago = HOUR.mul_f64(random.random_range(0.0..4.0));
                    attacker.last_heist_was(ago).await;
                }
                if random.random_bool(0.1) {
                    world
                        .all_heists_were(HOUR.mul_f64(random.random_range(0.0..3.0)))
                        .await;
                }
                let told = told(world, attacker.id, &ids).await;
                let mut victim = &told[&ids[random.random_range(0..=PLAYERS)]];
                // Where something can happen, it often should.
                if let Some(other) = told.values().find(|it| it.eligible)
                    && random.random_bool(0.5)
                {
                    victim = other;
                }
                *reasons.entry(victim.reason).or_insert(0) += 1;
                comes_true(world, attacker.id, victim).await;
            }
            assert!(reasons.len() >= 3, "a dull world: {reasons:?}");
            assert!(world.count_heists().await >= 3, "a dull world: {reasons:?}");
        });
    }
}
