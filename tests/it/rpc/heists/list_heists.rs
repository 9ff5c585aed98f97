//! `HeistService.ListHeists`

use std::time::Duration;

use heist::pb::{Heist, HeistRole, ListHeistsRequest, ListNotificationsRequest};
use tonic::Code::NotFound;

use crate::harness::{
    Player, Setup, World, all_at_once,
    pages::{all_pages, forgeries_of, next_token, pages_while, refuses_tokens},
};

const ROLES: [HeistRole; 3] = [
    HeistRole::Unspecified,
    HeistRole::Attacker,
    HeistRole::Victim,
];

/// Without pauses and protection.
fn lawless() -> Setup {
    World::setup().rules(|rules| {
        rules.cooldown = Duration::ZERO;
        rules.protection = None;
    })
}

fn list(player: &Player, role: HeistRole) -> ListHeistsRequest {
    ListHeistsRequest {
        user_id: player.id,
        role: role.into(),
        ..Default::default()
    }
}

fn in_pages_of(page_size: i32, request: ListHeistsRequest) -> ListHeistsRequest {
    ListHeistsRequest {
        page_size,
        ..request
    }
}

/// Two players that have robbed each other `times` times each, in turns, and a heist between
/// others.
async fn rivals(world: &World, times: usize) -> (Player, Player) {
    let ada = world.player("Ada").points(20_000).tokens(200).await;
    let ben = world.player("Ben").points(20_000).tokens(200).await;
    let carl = world.player("Carl").points(20_000).tokens(1).await;
    let dora = world.player("Dora").points(20_000).await;
    for round in 0..times {
        ada.robs(&ben).await.unwrap();
        ben.robs(&ada).await.unwrap();
        if round == times / 2 {
            carl.robs(&dora).await.unwrap();
        }
    }
    (ada, ben)
}

async fn all(world: &World, request: ListHeistsRequest) -> Vec<Heist> {
    all_pages(world, request).await.concat()
}

fn ids(heists: &[Heist]) -> Vec<i64> {
    heists.iter().map(|heist| heist.id).collect()
}

#[test]
fn a_player_without_heists_has_an_empty_list() {
    World::run(async |world| {
        let ada = world.player("Ada").tokens(3).await;
        for role in ROLES {
            let answer = world.list_heists(list(&ada, role)).await.unwrap();
            assert_eq!(answer, heist::pb::ListHeistsResponse::default());
        }
    });
}

#[test]
fn a_role_lists_that_side_and_none_lists_both_newest_first() {
    lawless().run(async |world| {
        let (ada, ben) = rivals(world, 6).await;
        for (player, other) in [(&ada, &ben), (&ben, &ada)] {
            let robbed = all(world, list(player, HeistRole::Attacker)).await;
            let lost = all(world, list(player, HeistRole::Victim)).await;
            let both = all(world, list(player, HeistRole::Unspecified)).await;
            assert_eq!((robbed.len(), lost.len(), both.len()), (6, 6, 12));
            assert!(robbed.iter().all(|heist| heist.attacker_id == player.id));
            assert!(lost.iter().all(|heist| heist.victim_id == player.id));
            assert!(ids(&both).is_sorted_by(|newer, older| newer > older));
            let mut sides = [robbed, lost].concat();
            sides.sort_by_key(|heist| std::cmp::Reverse(heist.id));
            assert_eq!(sides, both);
            assert_eq!(both, all(world, list(other, HeistRole::Unspecified)).await);
        }
    });
}

#[test]
fn a_listed_heist_is_the_heist() {
    World::run(async |world| {
        let ada = world.player("Ada").tokens(1).await;
        let ben = world.player("Ben").points(1000).await;
        let heist = ada.robs(&ben).await.unwrap().heist.unwrap();
        let listed = all(world, list(&ben, HeistRole::Victim)).await;
        assert_eq!(listed, [heist]);
    });
}

#[test]
fn a_heist_stays_listed_when_the_other_player_leaves() {
    World::run(async |world| {
        let ada = world.player("Ada").tokens(1).await;
        let ben = world.player("Ben").points(1000).await;
        let heist = ada.robs(&ben).await.unwrap().heist.unwrap();
        ben.leaves().await;
        let listed = all(world, list(&ada, HeistRole::Unspecified)).await;
        let expected = Heist {
            victim_id: 0,
            victim_name: String::new(),
            ..heist
        };
        assert_eq!(listed, [expected]);
    });
}

#[test]
fn a_page_holds_the_newest_twenty_unless_asked_otherwise() {
    lawless().run(async |world| {
        let (ada, _) = rivals(world, 15).await;
        let newest_first = all(world, list(&ada, HeistRole::Unspecified)).await;
        assert_eq!(newest_first.len(), 30);
        for (page_size, expected) in [(0, 20), (1, 1), (29, 29), (30, 30), (31, 30), (100, 30)] {
            let request = in_pages_of(page_size, list(&ada, HeistRole::Unspecified));
            let page = world.list_heists(request).await.unwrap();
            assert_eq!(page.heists, newest_first[..expected], "of size {page_size}");
            let is_last = page.next_page_token.is_empty();
            assert_eq!(is_last, expected == 30, "of size {page_size}");
        }
    });
}

#[test]
fn pages_follow_each_other_without_gaps_or_repetitions() {
    lawless().run(async |world| {
        let (ada, _) = rivals(world, 12).await;
        for role in ROLES {
            let whole = all(world, in_pages_of(100, list(&ada, role))).await;
            for page_size in [1, 5, 11, 12, 13, 23, 24] {
                let pages = all_pages(world, in_pages_of(page_size, list(&ada, role))).await;
                let size = usize::try_from(page_size).unwrap();
                assert_eq!(pages.len(), whole.len().div_ceil(size));
                assert!(pages.iter().rev().skip(1).all(|page| page.len() == size));
                assert_eq!(pages.concat(), whole, "{role:?} by {page_size}");
            }
        }
    });
}

#[test]
fn heists_that_happen_meanwhile_make_no_gap_and_no_repetition() {
    lawless().run(async |world| {
        let (ada, ben) = rivals(world, 20).await;
        let before = ids(&all(world, list(&ada, HeistRole::Unspecified)).await);
        // All the time, on both sides, and not in step with the pages.
        let busy: Vec<_> = (0..60)
            .flat_map(|_| [ada.robs(&ben), ben.robs(&ada)])
            .collect();
        let busy = tokio::spawn(async move {
            for heist in busy {
                heist.await.unwrap();
            }
        });
        let mut rounds = 0;
        loop {
            let is_last = busy.is_finished();
            let request = in_pages_of(7, list(&ada, HeistRole::Unspecified));
            let seen = ids(&pages_while(world, request, tokio::task::yield_now).await.concat());
            assert!(seen.is_sorted_by(|newer, older| newer > older), "{seen:?}");
            // Everything older than the first one seen, to the last.
            let newest_first: Vec<i64> =
                sqlx::query_scalar(r#"SELECT "id" FROM "Heist" WHERE $1 IN ("attackerId", "victimId") AND "id" <= $2 ORDER BY "id" DESC"#)
                    .bind(ada.id)
                    .bind(seen[0])
                    .fetch_all(&world.pool)
                    .await
                    .unwrap();
            assert_eq!(seen, newest_first);
            assert!(seen.ends_with(&before));
            rounds += 1;
            if is_last {
                break;
            }
        }
        assert!(rounds > 1, "nothing happened meanwhile");
        busy.await.unwrap();
    });
}

#[test]
fn a_page_token_is_good_only_for_the_list_it_came_from() {
    lawless().run(async |world| {
        let (ada, ben) = rivals(world, 3).await;
        for role in ROLES {
            let request = in_pages_of(1, list(&ada, role));
            let token = next_token(world, request.clone()).await;
            // Another size is the same list.
            let larger = ListHeistsRequest {
                page_token: token.clone(),
                ..in_pages_of(100, request)
            };
            let rest = world.list_heists(larger).await.unwrap().heists;
            assert_eq!(rest, all(world, list(&ada, role)).await[1..]);
            for (player, other_role) in [
                (&ada, HeistRole::Attacker),
                (&ada, HeistRole::Victim),
                (&ada, HeistRole::Unspecified),
                (&ben, role),
            ] {
                if (player.id, other_role) != (ada.id, role) {
                    refuses_tokens(world, list(player, other_role), vec![token.clone()]).await;
                }
            }
        }
    });
}

#[test]
fn a_page_token_of_another_rpc_is_refused() {
    lawless().run(async |world| {
        let (ada, _) = rivals(world, 3).await;
        let of_notifications = ListNotificationsRequest {
            user_id: ada.id,
            page_size: 1,
            ..Default::default()
        };
        let of_events = heist::pb::ListTokenEventsRequest {
            user_id: ada.id,
            page_size: 1,
            ..Default::default()
        };
        let of_the_board = heist::pb::GetLeaderboardRequest {
            viewer_id: ada.id,
            page_size: 1,
            ..Default::default()
        };
        let of_heists = in_pages_of(1, list(&ada, HeistRole::Unspecified));
        let tokens = [
            next_token(world, of_notifications.clone()).await,
            next_token(world, of_events.clone()).await,
            next_token(world, of_the_board.clone()).await,
            next_token(world, of_heists.clone()).await,
        ];
        let but = |own: usize| {
            let mut others = tokens.to_vec();
            others.remove(own);
            others
        };
        refuses_tokens(world, of_notifications, but(0)).await;
        refuses_tokens(world, of_events, but(1)).await;
        refuses_tokens(world, of_the_board, but(2)).await;
        refuses_tokens(world, of_heists, but(3)).await;
    });
}

#[test]
fn forged_page_tokens_are_refused() {
    lawless().run(async |world| {
        let (ada, _) = rivals(world, 2).await;
        let request = in_pages_of(1, list(&ada, HeistRole::Attacker));
        let good = next_token(world, request.clone()).await;
        refuses_tokens(world, request, forgeries_of(&good)).await;
    });
}

#[test]
fn a_page_token_outlives_what_it_points_at() {
    lawless().run(async |world| {
        let (ada, ben) = rivals(world, 5).await;
        let request = in_pages_of(4, list(&ada, HeistRole::Unspecified));
        let before = all(world, request.clone()).await;
        let token = next_token(world, request.clone()).await;
        all_at_once((0..10).map(|_| ben.robs(&ada))).await;
        ben.leaves().await;
        let next = ListHeistsRequest {
            page_token: token,
            ..request
        };
        let page = world.list_heists(next).await.unwrap().heists;
        assert_eq!(ids(&page), ids(&before[4..8]));
    });
}

#[test]
fn an_unknown_player_has_no_heists() {
    World::run(async |world| {
        for user_id in [1_000_000, i32::MAX] {
            let request = ListHeistsRequest {
                user_id,
                ..Default::default()
            };
            let refusal = world.refuses(world.list_heists(request)).await;
            let refusal = refusal.is(NotFound, "USER_NOT_FOUND");
            assert_eq!(refusal.fact("user_id"), user_id.to_string());
        }
    });
}
