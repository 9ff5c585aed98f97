//! Invalid requests: several bad fields at once, limits of texts and pages, and bytes that are not
//! a message. `bad_fields` covers each field alone.

use heist::pb;
use prost::Message as _;
use tonic::Code;

use crate::harness::{
    Player, World, all_at_once, new_request_id, pages,
    wire::{self, methods_of_the_contract},
};

const NO_IDS: [i32; 3] = [0, -1, i32::MIN];
const NO_UUIDS: [&str; 8] = [
    "0",
    " ",
    "not-a-uuid",
    "0199c0de-0000-7000-8000-00000000000",
    "0199c0de-0000-7000-8000-0000000000000",
    "0199c0de-0000-7000-8000-00000000000g",
    " 0199c0de-0000-7000-8000-000000000000",
    "0199c0de-0000-7000-8000-000000000000\0",
];

/// Two players; the first could rob the second.
async fn players(world: &World) -> (Player, Player) {
    let ada = world.player("Ada").points(100).tokens(1).await;
    let ben = world.player("Ben").points(1000).await;
    (ada, ben)
}

#[test]
fn a_request_id_is_a_uuid() {
    World::run(async |world| {
        let (ada, ben) = players(world).await;
        let long = "0".repeat(10_000);
        for no_uuid in NO_UUIDS.into_iter().chain([long.as_str()]) {
            let refusal = world.refuses(ada.robs_with_id(no_uuid, &ben)).await;
            refusal.names(&["request_id"]);
        }
    });
}

#[test]
fn all_bad_fields_of_a_heist_are_named() {
    World::run(async |world| {
        let request = pb::ExecuteHeistRequest {
            attacker_id: 0,
            victim_id: -1,
            request_id: "?".to_owned(),
        };
        let refusal = world.refuses(world.execute_heist(request)).await;
        refusal.names(&["attacker_id", "victim_id", "request_id"]);
    });
}

#[test]
fn the_name_of_a_signup_is_short_and_printable() {
    World::run(async |world| {
        let (ada, ben) = players(world).await;
        let award = |name: &str| {
            world.award_token(pb::AwardTokenRequest {
                referrer_id: ada.id,
                referred_id: ben.id,
                referred_name: name.to_owned(),
            })
        };
        let too_long = "x".repeat(201);
        let far_too_long = "x".repeat(60_000);
        for name in [
            "a\0b",
            "a\nb",
            "a\tb",
            "\u{1b}[31mred",
            "a\u{7f}b",
            "a\u{85}b",
            &too_long,
            &far_too_long,
        ] {
            world.refuses(award(name)).await.names(&["referred_name"]);
        }
        // Characters count, not bytes, and blanks around it do not.
        award(&format!(" {} ", "🦊".repeat(200))).await.unwrap();
    });
}

#[test]
fn a_name_of_blanks_is_none() {
    World::run(async |world| {
        let (ada, ben) = players(world).await;
        let request = pb::AwardTokenRequest {
            referrer_id: ada.id,
            referred_id: ben.id,
            referred_name: " \n ".to_owned(),
        };
        world.award_token(request).await.unwrap();
        let told = ada.notifications().await.remove(0);
        assert_eq!(
            told.message,
            "Ben joined with your code. You earned a heist token."
        );
    });
}

#[test]
fn a_page_has_one_to_a_hundred_entries() {
    World::run(async |world| {
        let ada = world.player("Ada").await;
        for page_size in [-1, 101, 65_536, 65_546, i32::MAX, i32::MIN] {
            let request = pb::ListNotificationsRequest {
                user_id: ada.id,
                page_size,
                ..Default::default()
            };
            world
                .refuses(world.list_notifications(request))
                .await
                .names(&["page_size"]);
        }
    });
}

#[test]
fn forged_page_tokens_are_refused() {
    World::run(async |world| {
        let ada = world.player("Ada").await;
        for friend in world.crowd("Friend", 3).await {
            ada.earns_a_token_for(&friend).await.unwrap();
        }
        let request = pb::ListNotificationsRequest {
            user_id: ada.id,
            page_size: 1,
            ..Default::default()
        };
        let good = pages::next_token(world, request.clone()).await;
        pages::refuses_tokens(world, request, pages::forgeries_of(&good)).await;
    });
}

#[test]
fn notifications_to_mark_are_named_by_positive_ids_or_a_last_one() {
    World::run(async |world| {
        let ada = world.player("Ada").await;
        let friend = world.player("Friend").await;
        ada.earns_a_token_for(&friend).await.unwrap();
        for (ids, up_to_id, fields) in [
            (vec![], 0, &["notification_ids"][..]),
            (vec![], -1, &["up_to_id"]),
            (vec![], i64::MIN, &["up_to_id"]),
            (vec![0], 0, &["notification_ids[0]"]),
            (
                vec![1, -1, 2, i64::MIN],
                0,
                &["notification_ids[1]", "notification_ids[3]"],
            ),
            (vec![0], -1, &["notification_ids[0]", "up_to_id"]),
            (vec![1; 501], 0, &["notification_ids"]),
            (vec![1; 6000], i64::MAX, &["notification_ids"]),
        ] {
            let request = pb::MarkNotificationsReadRequest {
                user_id: ada.id,
                notification_ids: ids,
                up_to_id,
            };
            world
                .refuses(world.mark_notifications_read(request))
                .await
                .names(fields);
        }
    });
}

#[test]
fn at_most_ten_of_five_hundred_bad_ids_are_named() {
    World::run(async |world| {
        let ada = world.player("Ada").await;
        let request = pb::MarkNotificationsReadRequest {
            user_id: ada.id,
            notification_ids: vec![i64::MIN; 500],
            up_to_id: 0,
        };
        let refusal = world.refuses(world.mark_notifications_read(request)).await;
        let fields: Vec<String> = (0..10)
            .map(|index| format!("notification_ids[{index}]"))
            .collect();
        let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
        refusal.names(&fields);
    });
}

#[test]
fn a_message_over_the_limit_is_refused_unread() {
    World::run(async |world| {
        let (ada, ben) = players(world).await;
        let huge = "x".repeat(1_000_000);
        let refused = world.refuses(ada.robs_with_id(&huge, &ben)).await;
        assert!(matches!(
            refused.code(),
            Code::OutOfRange | Code::ResourceExhausted
        ));
    });
}

#[test]
fn garbage_does_not_stop_the_server() {
    World::run(async |world| {
        let (ada, ben) = players(world).await;
        let garbage = [
            vec![0xff; 16],
            vec![0x08],
            vec![0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f],
            vec![0; 1000],
            (0..=255).collect(),
            pb::Heist::default().encode_to_vec(),
            b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        ];
        let calls = methods_of_the_contract().into_iter().flat_map(|method| {
            let channel = world.channel.clone();
            garbage.clone().map(|message| {
                let (channel, method) = (channel.clone(), method.clone());
                async move { (method.clone(), wire::call(&channel, &method, message).await) }
            })
        });
        let calls: Vec<_> = calls.collect();
        for (method, answer) in all_at_once(calls).await {
            if let Err(status) = answer {
                let expected = [Code::InvalidArgument, Code::NotFound, Code::Unimplemented];
                assert!(expected.contains(&status.code()), "{method:?}: {status:?}");
            }
        }
        ada.robs(&ben).await.unwrap();
    });
}

#[test]
fn bytes_that_are_not_http_2_do_not_stop_the_server() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    World::run(async |world| {
        let (ada, ben) = players(world).await;
        for bytes in [
            &b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..],
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
            &[0; 4096],
        ] {
            let mut connection = tokio::net::TcpStream::connect(world.address).await.unwrap();
            connection.write_all(bytes).await.unwrap();
            connection.shutdown().await.unwrap();
            let mut answer = Vec::new();
            // It may answer, or hang up in the midst of it.
            let _ = connection.read_to_end(&mut answer).await;
        }
        // A connection that says nothing at all does not keep the server from stopping.
        let silent = tokio::net::TcpStream::connect(world.address).await.unwrap();
        ada.robs(&ben).await.unwrap();
        drop(silent);
    });
}

#[test]
fn ids_of_viewers_and_players_are_positive() {
    World::run(async |world| {
        let (ada, ben) = players(world).await;
        for no_id in NO_IDS {
            for (attacker_id, victim_id, fields) in [
                (no_id, ben.id, &["attacker_id"][..]),
                (ada.id, no_id, &["victim_id"]),
                (no_id, no_id, &["attacker_id", "victim_id"]),
            ] {
                let request = pb::CheckEligibilityRequest {
                    attacker_id,
                    victim_id,
                };
                world
                    .refuses(world.check_eligibility(request))
                    .await
                    .names(fields);
            }
            for (attacker_id, victim_ids, fields) in [
                (no_id, vec![ben.id], &["attacker_id"][..]),
                (no_id, vec![], &["attacker_id", "victim_ids"]),
                (
                    no_id,
                    vec![no_id, ben.id, no_id],
                    &["attacker_id", "victim_ids[0]", "victim_ids[2]"],
                ),
                (ada.id, vec![ada.id, no_id], &["victim_ids[1]"]),
            ] {
                let request = pb::BatchCheckEligibilityRequest {
                    attacker_id,
                    victim_ids,
                };
                world
                    .refuses(world.batch_check_eligibility(request))
                    .await
                    .names(fields);
            }
            let request = pb::BatchGetBalancesRequest {
                user_ids: vec![ada.id, no_id, ben.id, no_id],
            };
            world
                .refuses(world.batch_get_balances(request))
                .await
                .names(&["user_ids[1]", "user_ids[3]"]);
        }
    });
}

#[test]
fn at_most_ten_of_two_hundred_bad_players_are_named() {
    World::run(async |world| {
        let named = |field: &str| -> Vec<String> {
            (0..10).map(|index| format!("{field}[{index}]")).collect()
        };
        let request = pb::BatchGetBalancesRequest {
            user_ids: vec![i32::MIN; 200],
        };
        let refusal = world.refuses(world.batch_get_balances(request)).await;
        refusal.names(
            &named("user_ids")
                .iter()
                .map(String::as_str)
                .collect::<Vec<_>>(),
        );
        let request = pb::BatchCheckEligibilityRequest {
            attacker_id: 1,
            victim_ids: vec![i32::MIN; 200],
        };
        let refusal = world.refuses(world.batch_check_eligibility(request)).await;
        refusal.names(
            &named("victim_ids")
                .iter()
                .map(String::as_str)
                .collect::<Vec<_>>(),
        );
    });
}

#[test]
fn the_pages_of_heists_token_events_and_the_leaderboard_have_their_sizes() {
    World::run(async |world| {
        let (ada, _) = players(world).await;
        for page_size in [-1, 101, 65_536, 65_637, i32::MAX, i32::MIN] {
            let call = world.list_heists(pb::ListHeistsRequest {
                user_id: ada.id,
                page_size,
                ..Default::default()
            });
            world.refuses(call).await.names(&["page_size"]);
            let call = world.list_token_events(pb::ListTokenEventsRequest {
                user_id: ada.id,
                page_size,
                ..Default::default()
            });
            world.refuses(call).await.names(&["page_size"]);
        }
        for page_size in [-1, 201, 65_536, 65_737, i32::MAX, i32::MIN] {
            let call = world.get_leaderboard(pb::GetLeaderboardRequest {
                viewer_id: ada.id,
                page_size,
                ..Default::default()
            });
            world.refuses(call).await.names(&["page_size"]);
        }
    });
}

#[test]
fn all_bad_fields_of_a_list_are_named_before_the_page_token() {
    World::run(async |world| {
        let call = world.list_heists(pb::ListHeistsRequest {
            user_id: 0,
            role: 9,
            page_size: -1,
            page_token: "?".to_owned(),
        });
        let refusal = world.refuses(call).await;
        refusal.names(&["user_id", "role", "page_size"]);
        let call = world.list_token_events(pb::ListTokenEventsRequest {
            user_id: -1,
            page_size: 101,
            page_token: "?".to_owned(),
        });
        world.refuses(call).await.names(&["user_id", "page_size"]);
        let call = world.get_leaderboard(pb::GetLeaderboardRequest {
            viewer_id: -1,
            page_size: 201,
            page_token: "?".to_owned(),
        });
        world.refuses(call).await.names(&["viewer_id", "page_size"]);
    });
}

/// An adjustment that would be fine.
fn adjustment(player: &Player) -> pb::AdjustBalanceRequest {
    pb::AdjustBalanceRequest {
        user_id: player.id,
        delta: 1,
        reason: "for the story".to_owned(),
        request_id: new_request_id(),
    }
}

#[test]
fn an_adjustment_names_a_player_and_is_not_nothing() {
    World::run(async |world| {
        let (ada, _) = players(world).await;
        for user_id in NO_IDS {
            let call = world.adjust_balance(pb::AdjustBalanceRequest {
                user_id,
                ..adjustment(&ada)
            });
            world.refuses(call).await.names(&["user_id"]);
        }
        let call = world.adjust_balance(pb::AdjustBalanceRequest {
            delta: 0,
            ..adjustment(&ada)
        });
        world.refuses(call).await.names(&["delta"]);
    });
}

#[test]
fn an_adjustment_has_a_request_id() {
    World::run(async |world| {
        let (ada, _) = players(world).await;
        for no_uuid in NO_UUIDS.into_iter().chain([""]) {
            let call = world.adjust_balance(pb::AdjustBalanceRequest {
                request_id: no_uuid.to_owned(),
                ..adjustment(&ada)
            });
            world.refuses(call).await.names(&["request_id"]);
        }
    });
}

#[test]
fn an_adjustment_has_a_reason_of_one_to_five_hundred_printable_characters() {
    World::run(async |world| {
        let (ada, _) = players(world).await;
        let because = |reason: &str| {
            world.adjust_balance(pb::AdjustBalanceRequest {
                reason: reason.to_owned(),
                ..adjustment(&ada)
            })
        };
        let too_long = "x".repeat(501);
        let far_too_long = "x".repeat(60_000);
        for reason in [
            "",
            " ",
            "\t\n\u{a0}\u{2003}",
            "\0",
            "a\0b",
            "a\nb",
            "a\rb",
            "\u{1b}[2Jgone",
            "a\u{9b}b",
            &too_long,
            &far_too_long,
        ] {
            world.refuses(because(reason)).await.names(&["reason"]);
        }
        // Characters count, not bytes, and blanks around it do not.
        for reason in [
            "x",
            &format!("  {} ", "🦊".repeat(500)),
            "'; DROP TABLE \"User\"; --",
        ] {
            because(reason).await.unwrap();
        }
    });
}

#[test]
fn all_bad_fields_of_an_adjustment_are_named() {
    World::run(async |world| {
        let call = world.adjust_balance(pb::AdjustBalanceRequest::default());
        let refusal = world.refuses(call).await;
        refusal.names(&["user_id", "delta", "reason", "request_id"]);
    });
}
