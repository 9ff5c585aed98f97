//! No answer exceeds 1 MiB, whatever the application's tables hold.

use std::time::Duration;

use heist::pb;
use prost::Message;

use crate::{
    harness::{World, all_at_once, new_request_id},
    rpc::tokens::adjust_balance::adjustment,
};

const MAX_BYTES: usize = 1 << 20;
/// Longest name in an answer, in characters.
const MAX_NAME: usize = 200;
/// Four bytes in UTF-8.
const FOX: &str = "🦊";

fn is_small(answer: &impl Message) {
    assert!(answer.encoded_len() < MAX_BYTES, "{}", answer.encoded_len());
}

/// All names become 400 kB long, and some of them 5 MB. The other texts of the application, too.
async fn everything_becomes_long(world: &World) {
    world
        .execute(&format!(
            r#"UPDATE "User"
            SET "name" = repeat('{FOX}', CASE WHEN "id" % 40 = 0 THEN 1250000 ELSE 100000 END);
            UPDATE "UserPointEvent" SET "description" = repeat('{FOX}', 1250000);
            UPDATE "PointEventTypeMaster" SET "description" = repeat('{FOX}', 1250000)"#
        ))
        .await;
}

#[test]
fn no_answer_exceeds_a_mebibyte_whatever_names_there_are() {
    let setup = World::setup().rules(|rules| {
        rules.cooldown = Duration::ZERO;
        rules.protection = None;
    });
    setup.run(async |world| {
        let ada = world.player("Ada").points(5000).tokens(200).await;
        let victims = world.crowd("Victim", 200).points(1000).await;
        everything_becomes_long(world).await;

        let id = new_request_id();
        let first = ada.robs_with_id(&id, &victims[0]).await.unwrap();
        is_small(&first);
        let again = ada.robs_with_id(&id, &victims[0]).await.unwrap();
        is_small(&again);
        let heist = again.heist.unwrap();
        assert_eq!(heist.attacker_name, FOX.repeat(MAX_NAME));
        assert_eq!(heist.victim_name, FOX.repeat(MAX_NAME));
        for answer in all_at_once(victims[1..110].iter().map(|it| ada.robs(it))).await {
            is_small(&answer.unwrap());
        }
        everything_becomes_long(world).await;

        let heist_id = heist.id;
        is_small(
            &world
                .get_heist(pb::GetHeistRequest { heist_id })
                .await
                .unwrap(),
        );
        let request = pb::ListHeistsRequest {
            user_id: ada.id,
            page_size: 100,
            ..Default::default()
        };
        let page = world.list_heists(request).await.unwrap();
        assert_eq!(page.heists.len(), 100);
        is_small(&page);
        let request = pb::GetLeaderboardRequest {
            viewer_id: ada.id,
            page_size: 200,
            ..Default::default()
        };
        let board = world.get_leaderboard(request).await.unwrap();
        assert_eq!(board.entries.len(), 200);
        is_small(&board);
        let request = pb::BatchCheckEligibilityRequest {
            attacker_id: ada.id,
            victim_ids: victims.iter().map(|it| it.id).collect(),
        };
        is_small(&world.batch_check_eligibility(request).await.unwrap());
        let request = pb::ListNotificationsRequest {
            user_id: ada.id,
            page_size: 100,
            ..Default::default()
        };
        let page = world.list_notifications(request).await.unwrap();
        assert_eq!(page.notifications.len(), 100);
        is_small(&page);
        let before = page.notifications.last().unwrap().id;
        let mut inbox = world.stream_notifications(ada.id, before).await.unwrap();
        is_small(&inbox.next().await.unwrap());
    });
}

#[test]
fn a_statement_of_the_longest_texts_stays_below_a_mebibyte() {
    World::run(async |world| {
        let ada = world.player("Ada").await;
        let friends = world.crowd("Friend", 50).await;
        everything_becomes_long(world).await;
        for friend in &friends {
            let award = pb::AwardTokenRequest {
                referrer_id: ada.id,
                referred_id: friend.id,
                referred_name: FOX.repeat(MAX_NAME),
            };
            is_small(&world.award_token(award).await.unwrap());
            let request = pb::AdjustBalanceRequest {
                reason: FOX.repeat(500),
                ..adjustment(&ada, 1)
            };
            is_small(&world.adjust_balance(request).await.unwrap());
        }
        let request = pb::ListTokenEventsRequest {
            user_id: ada.id,
            page_size: 100,
            ..Default::default()
        };
        let page = world.list_token_events(request).await.unwrap();
        assert_eq!(page.events.len(), 100);
        is_small(&page);
        let request = pb::ListNotificationsRequest {
            user_id: ada.id,
            page_size: 100,
            ..Default::default()
        };
        is_small(&world.list_notifications(request).await.unwrap());
    });
}
