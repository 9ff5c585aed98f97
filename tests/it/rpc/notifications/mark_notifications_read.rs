//! `NotificationService.MarkNotificationsRead`

use heist::pb::{MarkNotificationsReadRequest, MarkNotificationsReadResponse};
use time::OffsetDateTime;
use tonic::Code::NotFound;

use crate::harness::{Player, World, all_at_once, until};

/// A player with so many notifications, and their ids, oldest first.
async fn told(world: &World, times: usize) -> (Player, Vec<i64>) {
    let player = world.player("Ada").await;
    for friend in world.crowd("Friend", times).await {
        player.earns_a_token_for(&friend).await.unwrap();
    }
    let mut ids: Vec<i64> = (player.notifications().await.iter())
        .map(|notification| notification.id)
        .collect();
    ids.reverse();
    (player, ids)
}

fn mark(player: &Player, notification_ids: &[i64], up_to_id: i64) -> MarkNotificationsReadRequest {
    MarkNotificationsReadRequest {
        user_id: player.id,
        notification_ids: notification_ids.to_vec(),
        up_to_id,
    }
}

fn answer(marked_count: i32, unread_count: i32) -> MarkNotificationsReadResponse {
    MarkNotificationsReadResponse {
        marked_count,
        unread_count,
    }
}

async fn read(player: &Player) -> Vec<i64> {
    let mut read: Vec<i64> = (player.notifications().await.into_iter())
        .filter(|notification| notification.read)
        .map(|notification| notification.id)
        .collect();
    read.reverse();
    read
}

#[test]
fn named_notifications_are_marked_once() {
    World::run(async |world| {
        let (ada, ids) = told(world, 5).await;
        let two = [ids[1], ids[3]];
        let first = world
            .mark_notifications_read(mark(&ada, &two, 0))
            .await
            .unwrap();
        assert_eq!(first, answer(2, 3));
        assert_eq!(read(&ada).await, two);
        assert_eq!(world.get_unread_count(ada.id).await.unwrap(), 3);

        let again = world
            .mark_notifications_read(mark(&ada, &two, 0))
            .await
            .unwrap();
        assert_eq!(again, answer(0, 3));
    });
}

#[test]
fn everything_up_to_an_id_is_marked() {
    World::run(async |world| {
        let (ada, ids) = told(world, 5).await;
        let first = world
            .mark_notifications_read(mark(&ada, &[], ids[2]))
            .await
            .unwrap();
        assert_eq!(first, answer(3, 2));
        assert_eq!(read(&ada).await, ids[..3]);
        let all = world
            .mark_notifications_read(mark(&ada, &[], i64::MAX))
            .await
            .unwrap();
        assert_eq!(all, answer(2, 0));
    });
}

#[test]
fn named_ones_and_those_up_to_an_id_go_together() {
    World::run(async |world| {
        let (ada, ids) = told(world, 5).await;
        let request = mark(&ada, &[ids[0], ids[4]], ids[1]);
        let marked = world.mark_notifications_read(request).await.unwrap();
        assert_eq!(marked, answer(3, 2));
        assert_eq!(read(&ada).await, [ids[0], ids[1], ids[4]]);
    });
}

#[test]
fn an_id_named_twice_counts_once() {
    World::run(async |world| {
        let (ada, ids) = told(world, 2).await;
        let request = mark(&ada, &[ids[0]; 500], 0);
        let marked = world.mark_notifications_read(request).await.unwrap();
        assert_eq!(marked, answer(1, 1));
    });
}

#[test]
fn notifications_of_other_players_are_not_marked() {
    World::run(async |world| {
        let (ada, ids) = told(world, 2).await;
        let (ben, others) = told(world, 2).await;
        let named = [others[0], ids[0], i64::MAX];
        let marked = world
            .mark_notifications_read(mark(&ada, &named, 0))
            .await
            .unwrap();
        assert_eq!(marked, answer(1, 1));
        let up_to_others = mark(&ada, &[], others[1]);
        let marked = world.mark_notifications_read(up_to_others).await.unwrap();
        assert_eq!(marked, answer(1, 0));
        assert!(read(&ben).await.is_empty());
    });
}

#[test]
fn parallel_calls_together_mark_each_one_once() {
    World::run(async |world| {
        let (ada, ids) = told(world, 20).await;
        let calls = (0..20).map(|first| {
            let window: Vec<i64> = (ids.iter().cycle().skip(first).take(5)).copied().collect();
            world.mark_notifications_read(mark(&ada, &window, 0))
        });
        let answers = all_at_once(calls).await;
        let marked: i32 = answers.into_iter().map(|it| it.unwrap().marked_count).sum();
        assert_eq!(marked, 20);
        assert_eq!(world.get_unread_count(ada.id).await.unwrap(), 0);
    });
}

#[test]
fn marking_while_more_arrive_never_miscounts() {
    World::run(async |world| {
        let ada = world.player("Ada").await;
        let friends = world.crowd("Friend", 30).await;
        let awards: Vec<_> = (friends.iter())
            .map(|friend| tokio::spawn(ada.earns_a_token_for(friend)))
            .collect();
        let marks = (0..30).map(|_| world.mark_notifications_read(mark(&ada, &[], i64::MAX)));
        let answers = all_at_once(marks).await;
        for award in awards {
            award.await.unwrap().unwrap();
        }
        let marked: i32 = answers
            .into_iter()
            .map(|it| {
                let it = it.unwrap();
                assert_eq!(it.unread_count, 0, "counted under the lock of the marking");
                it.marked_count
            })
            .sum();
        let unread = world.get_unread_count(ada.id).await.unwrap();
        assert_eq!(marked + unread, 30);
    });
}

#[test]
fn marking_is_tried_again_while_a_notification_is_held() {
    World::run(async |world| {
        let ada = world.player("Ada").tokens(1).await;
        let ben = world.player("Ben").points(1000).await;
        ada.robs(&ben).await.unwrap();
        // As the claim of an e-mail does, but for longer.
        let mut application = world.application().await;
        application
            .execute(r#"SELECT FROM "HeistNotification" FOR UPDATE"#)
            .await;
        let marking = tokio::spawn(world.mark_notifications_read(mark(&ben, &[], i64::MAX)));
        let waits_since = || async {
            sqlx::query_scalar::<_, Option<OffsetDateTime>>(
                "SELECT max(query_start) FROM pg_stat_activity
                WHERE datname = current_database() AND wait_event_type = 'Lock'",
            )
            .fetch_one(&world.pool)
            .await
            .unwrap()
        };
        let first = until("an attempt waits", waits_since).await;
        until("another attempt waits", async || {
            waits_since().await.filter(|since| *since > first)
        })
        .await;
        application.commit().await;
        assert_eq!(marking.await.unwrap().unwrap(), answer(1, 0));
    });
}

#[test]
fn an_unknown_player_marks_no_notification() {
    World::run(async |world| {
        for user_id in [1_000_000, i32::MAX] {
            let request = MarkNotificationsReadRequest {
                user_id,
                notification_ids: vec![1],
                up_to_id: 0,
            };
            let refusal = world.refuses(world.mark_notifications_read(request)).await;
            refusal.is(NotFound, "USER_NOT_FOUND");
        }
    });
}
