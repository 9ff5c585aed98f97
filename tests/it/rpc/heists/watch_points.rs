//! `HeistService.WatchPoints`: every change of points, or word that some may have been missed.

use std::{collections::HashMap, time::Duration};

use heist::pb::{GetLeaderboardRequest, PointsChange, WatchPointsResponse};
use tokio::time::{Instant, timeout};

use crate::{
    harness::{
        PATIENCE, Player, World, all_at_once, new_request_id, process::Heist, streams::Watcher,
        until,
    },
    leaderboard_cache::{Board, Effect, Place},
};

/// What a heist that moved so many points is told as.
fn moved(
    heist_id: i64,
    attacker: (i32, i32),
    victim: (i32, i32),
    points: i32,
) -> WatchPointsResponse {
    let change = |(user_id, monthly_points), delta| PointsChange {
        user_id,
        monthly_points,
        delta,
    };
    WatchPointsResponse {
        heist_id,
        changes: vec![change(attacker, points), change(victim, -points)],
        resync: false,
    }
}

/// Robs, and says what watchers have to be told.
async fn rob(attacker: &Player, victim: &Player) -> WatchPointsResponse {
    let heist = attacker.robs(victim).await.unwrap().heist.unwrap();
    moved(
        heist.id,
        (attacker.id, heist.attacker_points_after),
        (victim.id, heist.victim_points_after),
        heist.points_stolen,
    )
}

#[test]
fn a_watcher_gets_resync_and_then_every_change() {
    World::run(async |world| {
        let robbers = world.crowd("Robber", 3).tokens(1).await;
        let ben = world.player("Ben").points(1000).await;
        let mut watcher = world.watch_points().await;
        let first = watcher.next().await.unwrap();
        let resync = WatchPointsResponse {
            resync: true,
            ..Default::default()
        };
        assert_eq!(first, resync);
        for robber in robbers {
            let expected = rob(&robber, &ben).await;
            assert_eq!(watcher.change().await, expected);
        }
    });
}

#[test]
fn calls_that_move_no_points_send_no_change() {
    World::run(async |world| {
        let ada = world.player("Ada").tokens(1).await;
        let ben = world.player("Ben").points(1000).tokens(1).await;
        let mut watcher = world.watch_points().await;
        let id = new_request_id();
        let heist = ada.robs_with_id(&id, &ben).await.unwrap().heist.unwrap();
        assert_eq!(watcher.change().await.heist_id, heist.id);

        // A replay, a refusal and an award.
        assert!(ada.robs_with_id(&id, &ben).await.unwrap().replayed);
        ada.robs(&ben).await.unwrap_err();
        let friend = world.player("Friend").await;
        ben.earns_a_token_for(&friend).await.unwrap();
        let expected = rob(&ben, &ada).await;
        assert_eq!(watcher.change().await, expected);
    });
}

#[test]
fn every_server_tells_of_every_heist() {
    World::run(async |world| {
        let (replica, there) = world.replica().await;
        let robbers = world.crowd("Robber", 6).tokens(1).await;
        let ben = world.player("Ben").points(1000).await;
        let mut watchers = [world.watch_points().await, there.watch_points().await];
        both_hear_both(world, &there, &mut watchers).await;
        for (number, robber) in robbers.iter().enumerate() {
            let robber = robber.seen_by([world, &there][number % 2]);
            let expected = rob(&robber, &ben).await;
            for watcher in &mut watchers {
                assert_eq!(watcher.change().await, expected);
            }
        }
        replica.stop(PATIENCE).await;
    });
}

/// Robs on each server until the watchers have been told of heists on both: a server that has just
/// started may not listen yet.
async fn both_hear_both(here: &World, there: &World, watchers: &mut [Watcher; 2]) {
    let victim = here.player("Victim").points(1_000_000).await;
    for world in [here, there] {
        until("both servers hear each other", async || {
            let robber = here.player("Robber").tokens(1).await.seen_by(world);
            let heist_id = rob(&robber, &victim).await.heist_id;
            let mut heard = 0;
            for watcher in &mut *watchers {
                let hears = async { while watcher.change().await.heist_id != heist_id {} };
                heard += usize::from(timeout(Duration::from_secs(1), hears).await.is_ok());
            }
            (heard == watchers.len()).then_some(())
        })
        .await;
    }
}

#[test]
fn a_disconnected_listener_makes_watchers_resynchronise_and_recovers() {
    World::run(async |world| {
        let (replica, there) = world.replica().await;
        let mut watchers = [world.watch_points().await, there.watch_points().await];
        for _ in 0..3 {
            both_hear_both(world, &there, &mut watchers).await;
            assert_eq!(world.end_sessions("LISTEN%").await, 2);
            for watcher in &mut watchers {
                watcher.resync().await;
            }
        }
        both_hear_both(world, &there, &mut watchers).await;
        replica.stop(PATIENCE).await;
    });
}

#[test]
fn a_silent_listener_makes_watchers_resynchronise_and_recovers() {
    World::run(async |world| {
        let (replica, there) = world.replica().await;
        let mut watchers = [world.watch_points().await, there.watch_points().await];
        both_hear_both(world, &there, &mut watchers).await;

        // As when the network loses a connection without a word to either end.
        let sessions = world.listening_sessions().await;
        assert_eq!(sessions.len(), 2);
        for session in &sessions {
            signal(*session, "STOP").await;
        }
        for watcher in &mut watchers {
            watcher.resync().await;
        }
        both_hear_both(world, &there, &mut watchers).await;
        for session in &sessions {
            signal(*session, "CONT").await;
        }
        replica.stop(PATIENCE).await;
    });
}

async fn signal(process: i32, signal: &str) {
    let sent = tokio::process::Command::new("sh")
        .args(["-c", r#"kill -s "$1" "$2""#, "sh", signal])
        .arg(process.to_string())
        .status();
    assert!(sent.await.expect("there is a shell").success());
}

#[test]
fn a_killed_server_makes_watchers_of_other_servers_resynchronise() {
    World::run(async |world| {
        let killed = Heist::serve()
            .env("DATABASE_URL", &world.database_url)
            .env("DATABASE_DIRECT_URL", world.own_url())
            .env("HEIST_AUTH", "none")
            .serving()
            .await;
        let there = world.through(crate::harness::connect(killed.address).await);
        let mut watchers = [world.watch_points().await, there.watch_points().await];
        both_hear_both(world, &there, &mut watchers).await;
        let [mut watcher, _] = watchers;
        killed.signal("KILL").await;
        watcher.resync().await;
    });
}

/// A crowd robs at random through two servers.
async fn plunder(worlds: [World; 2], players: Vec<Player>, times: usize) {
    let robbers = (0..players.len()).map(|index| {
        let (players, worlds) = (players.clone(), worlds.clone());
        async move {
            for turn in 0..times {
                let victim = (index + rand::random_range(1..players.len())) % players.len();
                let robber = players[index].seen_by(&worlds[turn % 2]);
                robber.robs(&players[victim]).await.unwrap();
            }
        }
    });
    all_at_once(robbers).await;
}

/// Thirty players without cooldown and protection, and a second server.
fn plundering(body: impl AsyncFnOnce([World; 2], Vec<Player>)) {
    let setup = World::setup().rules(|rules| {
        rules.cooldown = Duration::ZERO;
        rules.protection = None;
    });
    setup.run(async |world| {
        let (replica, there) = world.replica().await;
        let mut players = Vec::new();
        for points in [2000, 3000, 4000] {
            let kind = format!("Owner of {points}");
            players.extend(world.crowd(&kind, 10).points(points).tokens(20).await);
        }
        body([world.clone(), there], players).await;
        replica.stop(PATIENCE).await;
    });
}

/// Keeps a copy of all points until it equals the database after the load.
async fn keeps_a_copy(world: World, mut watcher: Watcher, load: Load) {
    let mut copy = HashMap::new();
    let mut newest_heists: HashMap<i32, i64> = HashMap::new();
    let begun = Instant::now();
    loop {
        let Ok(message) = timeout(Duration::from_millis(100), watcher.next()).await else {
            if load.is_over() && copy == world.all_points().await {
                return;
            }
            assert!(begun.elapsed() < PATIENCE * 2, "the copy is wrong");
            continue;
        };
        let message = message.unwrap();
        if message.resync {
            copy = world.all_points().await;
        }
        for change in message.changes {
            let newest = newest_heists.entry(change.user_id).or_default();
            if message.heist_id > *newest {
                *newest = message.heist_id;
                copy.insert(change.user_id, change.monthly_points);
            }
        }
    }
}

/// Whether there is still something going on.
#[derive(Clone)]
struct Load(tokio_util::sync::CancellationToken);

impl Load {
    fn new() -> Self {
        Self(tokio_util::sync::CancellationToken::new())
    }

    fn is_over(&self) -> bool {
        self.0.is_cancelled()
    }

    fn end(&self) {
        self.0.cancel();
    }
}

#[test]
fn copies_built_from_changes_are_right_after_load_through_two_servers() {
    plundering(async |worlds, players| {
        let load = Load::new();
        let mut copies = Vec::new();
        for world in &worlds {
            let watcher = world.watch_points().await;
            copies.push(tokio::spawn(keeps_a_copy(
                world.clone(),
                watcher,
                load.clone(),
            )));
        }
        plunder(worlds, players, 15).await;
        load.end();
        for copy in copies {
            copy.await.unwrap();
        }
    });
}

/// The first places, as the leaderboard has them.
async fn first_places(world: &World, count: i32) -> Vec<heist::pb::LeaderboardEntry> {
    let request = GetLeaderboardRequest {
        page_size: count,
        ..Default::default()
    };
    world.get_leaderboard(request).await.unwrap().entries
}

/// Keeps the example's copy until it is what the leaderboard says after the load; how often a
/// change was applied to it without loading.
async fn keeps_the_top(world: World, mut watcher: Watcher, load: Load) -> usize {
    const PLACES: i32 = 15;
    let mut board = Board::new(15);
    let mut applied = 0;
    let begun = Instant::now();
    loop {
        let Ok(message) = timeout(Duration::from_millis(100), watcher.next()).await else {
            let mut now = Board::new(15);
            now.load(first_places(&world, PLACES).await);
            if load.is_over() && board.places() == now.places() {
                return applied;
            }
            assert!(begun.elapsed() < PATIENCE * 2, "the copy is wrong");
            continue;
        };
        match board.apply(&message.unwrap()) {
            Effect::Nothing => {}
            Effect::Changed => applied += 1,
            Effect::Reload => {
                board.load(first_places(&world, PLACES).await);
            }
        }
    }
}

#[test]
fn the_examples_copy_of_the_top_is_right_after_load_through_two_servers() {
    plundering(async |worlds, players| {
        let load = Load::new();
        let mut copies = Vec::new();
        for world in &worlds {
            let watcher = world.watch_points().await;
            copies.push(tokio::spawn(keeps_the_top(
                world.clone(),
                watcher,
                load.clone(),
            )));
        }
        plunder(worlds, players, 15).await;
        load.end();
        for copy in copies {
            assert!(copy.await.unwrap() > 0, "it only ever loaded");
        }
    });
}

/// A board of three places with players 1, 2 and 3; further players are below it.
fn board_of_three() -> Board {
    let entry = |user_id, monthly_points| heist::pb::LeaderboardEntry {
        user_id,
        name: format!("Player {user_id}"),
        monthly_points,
        ..Default::default()
    };
    let mut board = Board::new(3);
    assert!(board.load(vec![entry(1, 300), entry(2, 200), entry(3, 100)]));
    board
}

fn order(board: &Board) -> Vec<i32> {
    board
        .places()
        .iter()
        .map(|Place { user_id, .. }| *user_id)
        .collect()
}

#[test]
fn the_examples_copy_reloads_when_the_top_is_incomplete() {
    let mut board = board_of_three();
    // Two players of the board pass each other.
    assert_eq!(
        board.apply(&moved(10, (2, 310), (1, 190), 110)),
        Effect::Changed
    );
    assert_eq!(order(&board), [2, 1, 3]);
    // A change that was overtaken by the one before.
    assert_eq!(board.apply(&moved(9, (1, 999), (2, 0), 1)), Effect::Nothing);
    assert_eq!(order(&board), [2, 1, 3]);
    // A heist between two players far below the board.
    assert_eq!(
        board.apply(&moved(11, (8, 60), (9, 40), 10)),
        Effect::Nothing
    );
    // Among equals the higher id is first.
    assert_eq!(
        board.apply(&moved(12, (2, 190), (8, 99), 1)),
        Effect::Changed
    );
    assert_eq!(order(&board), [2, 1, 3]);
    // The last place may belong to a player below the board now.
    assert_eq!(board.apply(&moved(13, (8, 99), (3, 99), 1)), Effect::Reload);

    // A player enters whose name the copy does not have.
    let mut board = board_of_three();
    assert_eq!(
        board.apply(&moved(10, (8, 100), (9, 40), 10)),
        Effect::Reload
    );
    let mut board = board_of_three();
    let resync = WatchPointsResponse {
        resync: true,
        ..Default::default()
    };
    assert_eq!(board.apply(&resync), Effect::Reload);
}
