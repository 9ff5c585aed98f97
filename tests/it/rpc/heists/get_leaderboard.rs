//! `HeistService.GetLeaderboard`

use heist::pb::{
    Eligibility, GetLeaderboardRequest, GetLeaderboardResponse, LeaderboardEntry, RefusalReason,
};
use sqlx::PgPool;
use tonic::Code::NotFound;

use crate::harness::{
    Player, World,
    pages::{all_pages, forgeries_of, next_token, refuses_tokens},
};

fn board(page_size: i32) -> GetLeaderboardRequest {
    GetLeaderboardRequest {
        page_size,
        ..Default::default()
    }
}

fn seen_by(viewer: &Player, page_size: i32) -> GetLeaderboardRequest {
    GetLeaderboardRequest {
        viewer_id: viewer.id,
        ..board(page_size)
    }
}

/// Players with these points, and so many tokens each as they have points in their last digit.
async fn players(world: &World, points: &[i32]) -> Vec<Player> {
    let mut players = Vec::new();
    for (number, points) in points.iter().enumerate() {
        let player = world.player(&format!("Player {number}")).points(*points);
        players.push(player.tokens(points % 10).await);
    }
    players
}

/// Ranks, ids and points as SQL orders them.
async fn as_sql_orders(pool: &PgPool) -> Vec<(i32, i32, i32)> {
    sqlx::query_as(
        r#"SELECT
            (rank() OVER (ORDER BY "monthlyPoints" DESC))::integer, "id", "monthlyPoints"
        FROM "User"
        ORDER BY "monthlyPoints" DESC, "id" DESC"#,
    )
    .fetch_all(pool)
    .await
    .unwrap()
}

fn standings(entries: &[LeaderboardEntry]) -> Vec<(i32, i32, i32)> {
    entries
        .iter()
        .map(|entry| (entry.rank, entry.user_id, entry.monthly_points))
        .collect()
}

#[test]
fn a_board_without_players_is_empty() {
    World::run(async |world| {
        let answer = world.get_leaderboard(board(0)).await.unwrap();
        assert_eq!(answer, GetLeaderboardResponse::default());
    });
}

#[test]
fn the_best_stand_first_with_their_names_points_and_tokens() {
    World::run(async |world| {
        let players = players(world, &[12, 301, 45]).await;
        let entry = |rank, index: usize, monthly_points, token_balance| LeaderboardEntry {
            rank,
            user_id: players[index].id,
            name: format!("Player {index}"),
            monthly_points,
            token_balance,
            eligibility: None,
        };
        let answer = world.get_leaderboard(board(0)).await.unwrap();
        let expected = [entry(1, 1, 301, 1), entry(2, 2, 45, 5), entry(3, 0, 12, 2)];
        assert_eq!(answer.entries, expected);
        assert_eq!((answer.viewer, answer.next_page_token.as_str()), (None, ""));
    });
}

#[test]
fn equals_share_a_rank_and_the_next_rank_counts_them_all() {
    World::run(async |world| {
        players(world, &[50, 70, 50, 70, 70, 10, 50, 0]).await;
        let answer = world.get_leaderboard(board(0)).await.unwrap();
        let ranks: Vec<i32> = answer.entries.iter().map(|entry| entry.rank).collect();
        assert_eq!(ranks, [1, 1, 1, 4, 4, 4, 7, 8]);
    });
}

#[test]
fn a_tie_goes_on_over_the_border_of_a_page() {
    World::run(async |world| {
        players(world, &[9, 7, 7, 7, 7, 7, 3, 3]).await;
        for page_size in 1..=8 {
            let entries = all_pages(world, board(page_size)).await.concat();
            let ranks: Vec<i32> = entries.iter().map(|entry| entry.rank).collect();
            assert_eq!(ranks, [1, 2, 2, 2, 2, 2, 7, 7], "in pages of {page_size}");
        }
    });
}

#[test]
fn five_hundred_players_in_pages_stand_as_sql_orders_them() {
    World::run(async |world| {
        // Many ties, of all lengths, some of them over borders of pages.
        let points: Vec<i32> = (0..500)
            .map(|number| number * number % 97 * (number % 5))
            .collect();
        for points in points.chunks(100) {
            for points in points {
                world.player("Player").points(*points).await;
            }
        }
        let expected = as_sql_orders(&world.pool).await;
        for page_size in [1, 7, 49, 50, 100, 199, 200, 0] {
            let pages = all_pages(world, board(page_size)).await;
            let size = usize::try_from(page_size).unwrap();
            let size = if size == 0 { 50 } else { size };
            assert_eq!(pages.len(), 500_usize.div_ceil(size));
            assert_eq!(
                standings(&pages.concat()),
                expected,
                "in pages of {page_size}"
            );
        }
    });
}

#[test]
fn players_below_zero_stand_below_zero_and_in_pages_too() {
    World::run(async |world| {
        let players = players(world, &[5, 0, 0, 0, 0, 0]).await;
        for (player, points) in players[2..].iter().zip([-1, -1, -500, i32::MIN]) {
            player.has_negative_points(points).await;
        }
        let expected = as_sql_orders(&world.pool).await;
        for page_size in 1..=7 {
            let entries = all_pages(world, board(page_size)).await.concat();
            assert_eq!(standings(&entries), expected);
        }
        for (rank, user_id, points) in expected {
            let answer = world.get_leaderboard(GetLeaderboardRequest {
                viewer_id: user_id,
                ..board(1)
            });
            let own = answer.await.unwrap().viewer.unwrap();
            assert_eq!((own.rank, own.monthly_points), (rank, points));
        }
    });
}

#[test]
fn the_richest_possible_players_are_on_the_board() {
    World::run(async |world| {
        players(world, &[i32::MAX, i32::MAX, 1]).await;
        let expected = as_sql_orders(&world.pool).await;
        for page_size in 1..=3 {
            let entries = all_pages(world, board(page_size)).await.concat();
            assert_eq!(standings(&entries), expected);
        }
    });
}

#[test]
fn a_viewer_gets_their_own_place() {
    World::run(async |world| {
        let players = players(world, &[90, 81, 81, 81, 72, 63, 63, 54, 0]).await;
        let expected = as_sql_orders(&world.pool).await;
        for viewer in &players {
            let mut request = seen_by(viewer, 2);
            loop {
                let answer = world.get_leaderboard(request.clone()).await.unwrap();
                let own = answer.viewer.unwrap();
                let place = (own.rank, own.user_id, own.monthly_points);
                assert!(expected.contains(&place), "{place:?}");
                assert_eq!(own.user_id, viewer.id);
                assert_eq!(own.token_balance, own.monthly_points % 10);
                assert!(own.name.starts_with("Player "));
                assert_eq!(own.eligibility, None);
                if answer.next_page_token.is_empty() {
                    break;
                }
                request.page_token = answer.next_page_token;
            }
        }
    });
}

#[test]
fn a_viewer_sees_the_eligibility_of_others_and_none_for_themselves() {
    World::run(async |world| {
        let poor = world.player("Poor").points(19).await;
        let ada = world.player("Ada").points(500).tokens(1).await;
        let rich = world.player("Rich").points(10_000).await;
        let answer = world.get_leaderboard(seen_by(&ada, 0)).await.unwrap();
        let own: Vec<&LeaderboardEntry> = answer
            .entries
            .iter()
            .filter(|entry| entry.eligibility.is_none())
            .collect();
        assert_eq!(own, [answer.viewer.as_ref().unwrap()]);
        let of = |player: &Player| -> Eligibility {
            let entry = answer
                .entries
                .iter()
                .find(|entry| entry.user_id == player.id)
                .unwrap();
            entry.eligibility.clone().unwrap()
        };
        assert_eq!((of(&rich).eligible, of(&rich).points_at_stake), (true, 100));
        assert_eq!(of(&poor).reason(), RefusalReason::InsufficientPoints);
        for victim in [&poor, &rich] {
            assert_eq!(of(victim), world.eligibility(ada.id, victim.id).await);
        }
    });
}

#[test]
fn a_board_without_a_viewer_shows_no_eligibility() {
    World::run(async |world| {
        players(world, &[100, 200]).await;
        let answer = world.get_leaderboard(board(0)).await.unwrap();
        assert!(
            answer
                .entries
                .iter()
                .all(|entry| entry.eligibility.is_none())
        );
        assert_eq!(answer.viewer, None);
    });
}

#[test]
fn a_viewer_has_to_exist() {
    World::run(async |world| {
        let gone = world.player("Gone").points(100).await;
        gone.leaves().await;
        world.player("Ada").points(100).await;
        for viewer_id in [gone.id, i32::MAX] {
            let request = GetLeaderboardRequest {
                viewer_id,
                ..board(0)
            };
            let refusal = world.refuses(world.get_leaderboard(request)).await;
            let refusal = refusal.is(NotFound, "USER_NOT_FOUND");
            assert_eq!(refusal.fact("user_id"), viewer_id.to_string());
        }
    });
}

#[test]
fn a_viewer_gets_a_place_on_an_empty_page() {
    World::run(async |world| {
        let players = players(world, &[30, 20, 10]).await;
        let request = seen_by(&players[0], 2);
        let token = next_token(world, request.clone()).await;
        players[2].leaves().await;
        let last = GetLeaderboardRequest {
            page_token: token,
            ..request
        };
        let answer = world.get_leaderboard(last).await.unwrap();
        assert_eq!(
            (answer.entries, answer.next_page_token.as_str()),
            (vec![], "")
        );
        assert_eq!(answer.viewer.unwrap().rank, 1);
    });
}

#[test]
fn a_page_starts_after_the_cursor_when_players_move() {
    World::run(async |world| {
        let players = players(world, &[60, 50, 40, 30, 20, 10]).await;
        let token = next_token(world, board(3)).await;
        // The last of the first page falls to the end; the one before leaves.
        players[2].has_points(0).await;
        players[1].leaves().await;
        let next = GetLeaderboardRequest {
            page_token: token,
            ..board(3)
        };
        let answer = world.get_leaderboard(next).await.unwrap();
        let points: Vec<i32> = answer
            .entries
            .iter()
            .map(|entry| entry.monthly_points)
            .collect();
        assert_eq!(points, [30, 20, 10]);
        assert_ne!(answer.next_page_token, "");
    });
}

#[test]
fn a_heist_moves_places_at_once() {
    World::run(async |world| {
        let ada = world.player("Ada").points(960).tokens(1).await;
        let ben = world.player("Ben").points(1000).await;
        ada.robs(&ben).await.unwrap();
        let answer = world.get_leaderboard(seen_by(&ben, 0)).await.unwrap();
        assert_eq!(
            standings(&answer.entries),
            [(1, ada.id, 1010), (2, ben.id, 950)]
        );
        assert_eq!(answer.viewer.unwrap().rank, 2);
        assert_eq!(answer.entries[0].token_balance, 0);
    });
}

#[test]
fn a_page_token_is_good_only_for_the_viewer_it_came_from() {
    World::run(async |world| {
        let players = players(world, &[50, 40, 30, 20]).await;
        let requests = [board(1), seen_by(&players[0], 1), seen_by(&players[1], 1)];
        for (index, request) in requests.iter().enumerate() {
            let token = next_token(world, request.clone()).await;
            for (other, of_another) in requests.iter().enumerate() {
                if other != index {
                    refuses_tokens(world, of_another.clone(), vec![token.clone()]).await;
                }
            }
            // Another size is the same list.
            let larger = GetLeaderboardRequest {
                page_token: token,
                page_size: 200,
                ..request.clone()
            };
            let rest = world.get_leaderboard(larger).await.unwrap();
            assert_eq!(rest.entries.len(), 3);
        }
    });
}

#[test]
fn forged_page_tokens_are_refused() {
    World::run(async |world| {
        let players = players(world, &[50, 40]).await;
        for request in [board(1), seen_by(&players[0], 1)] {
            let good = next_token(world, request.clone()).await;
            refuses_tokens(world, request, forgeries_of(&good)).await;
        }
    });
}

#[test]
fn a_viewer_far_down_the_board_learns_their_rank_too() {
    World::run(async |world| {
        // Three on each step, so that a tie lies across the thousandth place.
        sqlx::query(
            r#"
            WITH player AS (
                INSERT INTO "User" ("name", "monthlyPoints")
                SELECT 'Player ' || number, 5000 - number / 3
                FROM generate_series(1, 3000) AS number
                RETURNING "id", "monthlyPoints"
            )
            INSERT INTO test.start ("userId", "points") SELECT "id", "monthlyPoints" FROM player"#,
        )
        .execute(&world.pool)
        .await
        .unwrap();
        let expected = as_sql_orders(&world.pool).await;
        let places = [
            0, 1, 2, 500, 997, 998, 999, 1000, 1001, 1002, 1003, 2500, 2999,
        ];
        for place in places {
            let (rank, viewer_id, points) = expected[place];
            let request = GetLeaderboardRequest {
                viewer_id,
                ..board(1)
            };
            let own = world
                .get_leaderboard(request)
                .await
                .unwrap()
                .viewer
                .unwrap();
            assert_eq!(
                (own.rank, own.monthly_points),
                (rank, points),
                "at place {place}"
            );
        }
    });
}
