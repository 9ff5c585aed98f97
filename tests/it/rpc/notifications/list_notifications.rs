//! `NotificationService.ListNotifications` and `GetUnreadCount`

use heist::pb::{
    ListNotificationsRequest, ListNotificationsResponse, MarkNotificationsReadRequest,
};
use tonic::Code::NotFound;

use crate::harness::{Player, World, all_at_once};

fn list(player: &Player) -> ListNotificationsRequest {
    ListNotificationsRequest {
        user_id: player.id,
        ..Default::default()
    }
}

/// A player with so many notifications.
async fn told(world: &World, times: usize) -> Player {
    let player = world.player("Ada").await;
    tell(world, &player, times).await;
    player
}

async fn tell(world: &World, player: &Player, times: usize) {
    let friends = world.crowd("Friend", times).await;
    let awards = friends
        .iter()
        .map(|friend| player.earns_a_token_for(friend));
    for answer in all_at_once(awards).await {
        answer.unwrap();
    }
}

fn ids(page: &ListNotificationsResponse) -> Vec<i64> {
    page.notifications
        .iter()
        .map(|notification| notification.id)
        .collect()
}

/// Follows the page tokens from a first request to the end.
async fn all_pages(world: &World, first: ListNotificationsRequest) -> Vec<Vec<i64>> {
    let mut pages = Vec::new();
    let mut request = first;
    loop {
        let page = world.list_notifications(request.clone()).await.unwrap();
        pages.push(ids(&page));
        if page.next_page_token.is_empty() {
            return pages;
        }
        request.page_token = page.next_page_token;
    }
}

#[test]
fn a_player_who_was_told_nothing_has_an_empty_list() {
    World::run(async |world| {
        let ada = world.player("Ada").await;
        let answer = world.list_notifications(list(&ada)).await.unwrap();
        assert_eq!(answer, ListNotificationsResponse::default());
        assert_eq!(world.get_unread_count(ada.id).await.unwrap(), 0);
    });
}

#[test]
fn a_page_holds_the_newest_twenty_unless_asked_otherwise() {
    World::run(async |world| {
        let ada = told(world, 25).await;
        let newest_first: Vec<i64> =
            sqlx::query_scalar(r#"SELECT "id" FROM "HeistNotification" ORDER BY "id" DESC"#)
                .fetch_all(&world.pool)
                .await
                .unwrap();
        for (page_size, expected) in [(0, 20), (1, 1), (24, 24), (25, 25), (26, 25), (100, 25)] {
            let request = ListNotificationsRequest {
                page_size,
                ..list(&ada)
            };
            let page = world.list_notifications(request).await.unwrap();
            assert_eq!(ids(&page), newest_first[..expected], "of size {page_size}");
            assert_eq!(
                page.next_page_token.is_empty(),
                expected == 25,
                "of size {page_size}"
            );
            assert_eq!(page.unread_count, 25);
        }
    });
}

#[test]
fn pages_follow_each_other_without_gaps_or_repetitions() {
    World::run(async |world| {
        let ada = told(world, 23).await;
        for page_size in [1, 5, 22, 23] {
            let request = ListNotificationsRequest {
                page_size,
                ..list(&ada)
            };
            let pages = all_pages(world, request).await;
            let size = usize::try_from(page_size).unwrap();
            assert_eq!(pages.len(), 23_usize.div_ceil(size));
            let all = pages.concat();
            assert_eq!(all.len(), 23);
            assert!(all.is_sorted_by(|newer, older| newer > older));
        }
    });
}

#[test]
fn notifications_written_meanwhile_shift_no_page() {
    World::run(async |world| {
        let ada = told(world, 12).await;
        let before = all_pages(world, list(&ada)).await.concat();
        let mut seen = Vec::new();
        let mut request = ListNotificationsRequest {
            page_size: 5,
            ..list(&ada)
        };
        loop {
            let page = world.list_notifications(request.clone()).await.unwrap();
            seen.extend(ids(&page));
            if page.next_page_token.is_empty() {
                break;
            }
            request.page_token = page.next_page_token;
            tell(world, &ada, 3).await;
        }
        assert_eq!(seen, before);
    });
}

#[test]
fn unread_only_lists_unread_notifications() {
    World::run(async |world| {
        let ada = told(world, 10).await;
        let all = all_pages(world, list(&ada)).await.concat();
        let (read, unread): (Vec<i64>, Vec<i64>) = all.iter().partition(|id| **id % 2 == 0);
        let request = MarkNotificationsReadRequest {
            user_id: ada.id,
            notification_ids: read.clone(),
            up_to_id: 0,
        };
        world.mark_notifications_read(request).await.unwrap();

        let request = ListNotificationsRequest {
            unread_only: true,
            page_size: 2,
            ..list(&ada)
        };
        assert_eq!(all_pages(world, request).await.concat(), unread);
        let everything = world.list_notifications(list(&ada)).await.unwrap();
        assert_eq!(ids(&everything), all);
        assert_eq!(
            usize::try_from(everything.unread_count).unwrap(),
            unread.len()
        );
        for notification in everything.notifications {
            assert_eq!(notification.read, read.contains(&notification.id));
        }
    });
}

#[test]
fn players_see_only_their_own_notifications() {
    World::run(async |world| {
        let ada = told(world, 3).await;
        let ben = told(world, 2).await;
        for (player, count) in [(ada, 3), (ben, 2)] {
            let page = world.list_notifications(list(&player)).await.unwrap();
            assert_eq!(page.notifications.len(), count);
            assert!(
                page.notifications
                    .iter()
                    .all(|told| told.user_id == player.id)
            );
            let unread = world.get_unread_count(player.id).await.unwrap();
            assert_eq!(usize::try_from(unread).unwrap(), count);
        }
    });
}

#[test]
fn names_in_notifications_are_current() {
    World::run(async |world| {
        let ada = world.player("Ada").tokens(1).await;
        let ben = world.player("Ben").points(1000).await;
        ada.robs(&ben).await.unwrap();
        ada.is_renamed("Countess").await;
        let told = ben.notifications().await.remove(0);
        assert_eq!(told.message, "Countess stole 50 of your monthly points.");
    });
}

#[test]
fn a_page_token_is_good_only_for_the_request_it_came_from() {
    World::run(async |world| {
        let ada = told(world, 3).await;
        let ben = told(world, 3).await;
        let first = ListNotificationsRequest {
            page_size: 1,
            ..list(&ada)
        };
        let page_token = (world.list_notifications(first.clone()).await.unwrap()).next_page_token;
        let with_token = |request: ListNotificationsRequest| ListNotificationsRequest {
            page_token: page_token.clone(),
            ..request
        };

        // Another size is the same list.
        let larger = ListNotificationsRequest {
            page_size: 2,
            ..with_token(first.clone())
        };
        let rest = world.list_notifications(larger).await.unwrap();
        assert_eq!(rest.notifications.len(), 2);

        let of_another_player = with_token(list(&ben));
        let of_another_filter = ListNotificationsRequest {
            unread_only: true,
            ..with_token(list(&ada))
        };
        for request in [of_another_player, of_another_filter] {
            let refusal = world.refuses(world.list_notifications(request)).await;
            refusal.names_the_page_token();
        }
    });
}

#[test]
fn a_page_token_of_another_server_on_the_same_database_is_good() {
    World::run(async |world| {
        let ada = told(world, 3).await;
        let (replica, there) = world.replica().await;
        let mut request = ListNotificationsRequest {
            page_size: 1,
            ..list(&ada)
        };
        let first = world.list_notifications(request.clone()).await.unwrap();
        request.page_token.clone_from(&first.next_page_token);
        let second = there.list_notifications(request).await.unwrap();
        assert!(ids(&second)[0] < ids(&first)[0]);
        replica.stop(crate::harness::PATIENCE).await;
    });
}

#[test]
fn an_unknown_player_has_no_notifications() {
    World::run(async |world| {
        for user_id in [1_000_000, i32::MAX] {
            let request = ListNotificationsRequest {
                user_id,
                ..Default::default()
            };
            let refusal = world.refuses(world.list_notifications(request)).await;
            refusal.is(NotFound, "USER_NOT_FOUND");
            let refusal = world.refuses(world.get_unread_count(user_id)).await;
            refusal.is(NotFound, "USER_NOT_FOUND");
        }
    });
}
