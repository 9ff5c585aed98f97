//! `TokenService.AdjustBalance`

use heist::pb::{AdjustBalanceRequest, TokenBalance};
use time::OffsetDateTime;
use tonic::Code::{AlreadyExists, FailedPrecondition, NotFound};
use uuid::Uuid;

use crate::{
    harness::{Player, Refusal, World, all_at_once, new_request_id},
    rpc::tokens::list_token_events::explains_the_balance,
};

/// A call that no other one repeats.
pub fn adjustment(player: &Player, delta: i32) -> AdjustBalanceRequest {
    AdjustBalanceRequest {
        user_id: player.id,
        delta,
        reason: "for the story".to_owned(),
        request_id: new_request_id(),
    }
}

async fn adjust(world: &World, request: AdjustBalanceRequest) -> TokenBalance {
    let answer = world.adjust_balance(request).await.unwrap();
    assert!(!answer.replayed);
    answer.balance.unwrap()
}

async fn count_adjustments(world: &World, player: &Player) -> i64 {
    sqlx::query_scalar(r#"SELECT count(*) FROM "HeistTokenAdjustment" WHERE "userId" = $1"#)
        .bind(player.id)
        .fetch_one(&world.pool)
        .await
        .unwrap()
}

#[test]
fn tokens_are_granted_and_revoked() {
    World::run(async |world| {
        let ada = world.player("Ada").await;
        let expected = |balance, total_earned, total_spent| TokenBalance {
            user_id: ada.id,
            balance,
            total_earned,
            total_spent,
            ..Default::default()
        };
        assert_eq!(adjust(world, adjustment(&ada, 5)).await, expected(5, 5, 0));
        assert_eq!(adjust(world, adjustment(&ada, -2)).await, expected(3, 5, 2));
        assert_eq!(adjust(world, adjustment(&ada, -3)).await, expected(0, 5, 5));
        assert_eq!(adjust(world, adjustment(&ada, 1)).await, expected(1, 6, 5));
        assert_eq!(world.get_balance(ada.id).await.unwrap(), expected(1, 6, 5));
        explains_the_balance(world, &ada).await;
    });
}

#[test]
fn a_granted_token_buys_a_heist_and_a_revoked_one_does_not() {
    World::run(async |world| {
        let ada = world.player("Ada").await;
        let rich = world.player("Rich").points(1000).await;
        adjust(world, adjustment(&ada, 1)).await;
        adjust(world, adjustment(&ada, -1)).await;
        let refusal = world.refuses(ada.robs(&rich)).await;
        refusal.is(FailedPrecondition, "INSUFFICIENT_TOKENS");
        adjust(world, adjustment(&ada, 1)).await;
        ada.robs(&rich).await.unwrap();
    });
}

#[test]
fn adjustments_count_as_neither_earned_nor_spent_heists() {
    World::run(async |world| {
        let ada = world.player("Ada").tokens(1).await;
        let rich = world.player("Rich").points(1000).await;
        let friend = world.player("Friend").await;
        ada.robs(&rich).await.unwrap();
        ada.earns_a_token_for(&friend).await.unwrap();
        let before = world.get_balance(ada.id).await.unwrap();
        adjust(world, adjustment(&ada, 3)).await;
        let after = adjust(world, adjustment(&ada, -3)).await;
        // Neither the cooldown nor anything else counts from here.
        assert_eq!(after.last_spent_time, before.last_spent_time);
        assert_eq!(after.last_earned_time, before.last_earned_time);
        assert_eq!(ada.notifications().await.len(), 2);
    });
}

#[test]
fn who_and_why_and_when_are_recorded() {
    World::run(async |world| {
        let ada = world.player("Ada").await;
        let request = AdjustBalanceRequest {
            reason: " Lost in the outage of May, ticket 4711 🎫 ".to_owned(),
            ..adjustment(&ada, 2)
        };
        adjust(world, request.clone()).await;
        let row: (i32, i32, i32, String, String, Uuid, OffsetDateTime) = sqlx::query_as(
            r#"SELECT "userId", "delta", "balanceAfter", "actor", "reason", "requestId", "createdAt"
            FROM "HeistTokenAdjustment""#,
        )
        .fetch_one(&world.pool)
        .await
        .unwrap();
        let (user_id, delta, balance_after, actor, reason, request_id, created_at) = row;
        assert_eq!((user_id, delta, balance_after), (ada.id, 2, 2));
        assert_eq!(actor, "unauthenticated caller");
        assert_eq!(reason, "Lost in the outage of May, ticket 4711 🎫");
        assert_eq!(request_id.to_string(), request.request_id);
        assert!((OffsetDateTime::now_utc() - created_at).abs() < time::Duration::MINUTE);
    });
}

#[test]
fn a_balance_never_falls_below_zero() {
    World::run(async |world| {
        let ada = world.player("Ada").tokens(3).await;
        let never = world.player("Never").await;
        for (player, delta, balance) in [
            (&ada, -4, "3"),
            (&ada, -1000, "3"),
            (&ada, -i32::MAX, "3"),
            (&ada, i32::MIN, "3"),
            (&never, -1, "0"),
            (&never, i32::MIN, "0"),
        ] {
            let call = world.adjust_balance(adjustment(player, delta));
            let refusal = world.refuses(call).await;
            let refusal = refusal.is(FailedPrecondition, "INSUFFICIENT_TOKENS");
            assert_eq!(refusal.fact("balance"), balance);
            assert!(refusal.has_no_wait());
        }
        adjust(world, adjustment(&ada, -3)).await;
    });
}

#[test]
fn a_revocation_beyond_the_balance_is_always_refused() {
    World::run(async |world| {
        let ada = world.player("Ada").tokens(100).await;
        adjust(world, adjustment(&ada, -90)).await;
        // The total of revoked tokens would not fit either: that is not what is wrong.
        for delta in [-11, -i32::MAX, i32::MIN] {
            let refusal = world
                .refuses(world.adjust_balance(adjustment(&ada, delta)))
                .await;
            refusal.is(FailedPrecondition, "INSUFFICIENT_TOKENS");
        }
    });
}

#[test]
fn totals_fill_32_bits_and_no_more() {
    World::run(async |world| {
        let ada = world.player("Ada").await;
        let friend = world.player("Friend").await;
        adjust(world, adjustment(&ada, i32::MAX)).await;
        for delta in [1, i32::MAX] {
            let refusal = world
                .refuses(world.adjust_balance(adjustment(&ada, delta)))
                .await;
            refusal.names(&["delta"]);
        }
        ada.earns_a_token_for(&friend).await.unwrap_err();
        let balance = adjust(world, adjustment(&ada, -i32::MAX)).await;
        assert_eq!((balance.balance, balance.total_spent), (0, i32::MAX));
        // The total of earned tokens would overflow, although the balance is 0.
        let refusal = world
            .refuses(world.adjust_balance(adjustment(&ada, 1)))
            .await;
        refusal.names(&["delta"]);
        explains_the_balance(world, &ada).await;
    });
}

#[test]
fn a_repeated_call_adjusts_once_and_returns_the_current_balance() {
    World::run(async |world| {
        let ada = world.player("Ada").await;
        let grant = adjustment(&ada, 5);
        let first = adjust(world, grant.clone()).await;
        for _ in 0..3 {
            let again = world.adjust_balance(grant.clone()).await.unwrap();
            assert!(again.replayed);
            assert_eq!(again.balance, Some(first));
        }
        adjust(world, adjustment(&ada, -4)).await;
        let again = world.adjust_balance(grant).await.unwrap();
        assert!(again.replayed);
        assert_eq!(again.balance.unwrap().balance, 1);
        assert_eq!(count_adjustments(world, &ada).await, 2);
    });
}

#[test]
fn a_repeated_revocation_is_answered_although_a_new_one_would_be_refused() {
    World::run(async |world| {
        let ada = world.player("Ada").tokens(2).await;
        let revocation = adjustment(&ada, -2);
        adjust(world, revocation.clone()).await;
        let again = world.adjust_balance(revocation).await.unwrap();
        assert!(again.replayed);
        assert_eq!(again.balance.unwrap().balance, 0);
    });
}

#[test]
fn a_refused_adjustment_succeeds_after_a_grant() {
    World::run(async |world| {
        let ada = world.player("Ada").await;
        let revocation = adjustment(&ada, -2);
        let refusal = world
            .refuses(world.adjust_balance(revocation.clone()))
            .await;
        refusal.is(FailedPrecondition, "INSUFFICIENT_TOKENS");
        adjust(world, adjustment(&ada, 2)).await;
        assert_eq!(adjust(world, revocation).await.balance, 0);
    });
}

#[test]
fn request_ids_are_compared_as_uuids() {
    World::run(async |world| {
        let ada = world.player("Ada").await;
        let id = Uuid::now_v7();
        let grant = |request_id: String| AdjustBalanceRequest {
            request_id,
            ..adjustment(&ada, 1)
        };
        adjust(world, grant(id.to_string())).await;
        for spelling in [
            id.to_string().to_uppercase(),
            id.simple().to_string(),
            id.urn().to_string(),
        ] {
            assert!(
                world
                    .adjust_balance(grant(spelling))
                    .await
                    .unwrap()
                    .replayed
            );
        }
        // Blanks around the reason do not make it another one.
        let blank = AdjustBalanceRequest {
            reason: "  for the story ".to_owned(),
            ..grant(id.to_string())
        };
        assert!(world.adjust_balance(blank).await.unwrap().replayed);
    });
}

#[test]
fn parallel_calls_with_one_id_are_one_adjustment() {
    World::run(async |world| {
        let ada = world.player("Ada").await;
        let grant = adjustment(&ada, 3);
        let answers = all_at_once((0..30).map(|_| world.adjust_balance(grant.clone()))).await;
        let answers: Vec<_> = answers.into_iter().map(Result::unwrap).collect();
        assert_eq!(answers.iter().filter(|answer| !answer.replayed).count(), 1);
        assert!(
            answers
                .iter()
                .all(|answer| answer.balance.unwrap().balance == 3)
        );
        assert_eq!(count_adjustments(world, &ada).await, 1);
    });
}

#[test]
fn a_request_id_is_bound_to_player_delta_and_reason() {
    World::run(async |world| {
        let ada = world.player("Ada").tokens(10).await;
        let ben = world.player("Ben").tokens(10).await;
        let first = adjustment(&ada, 3);
        adjust(world, first.clone()).await;
        for other in [
            AdjustBalanceRequest {
                user_id: ben.id,
                ..first.clone()
            },
            AdjustBalanceRequest {
                delta: 4,
                ..first.clone()
            },
            AdjustBalanceRequest {
                delta: -3,
                ..first.clone()
            },
            AdjustBalanceRequest {
                reason: "For the story".to_owned(),
                ..first.clone()
            },
        ] {
            let refusal = world.refuses(world.adjust_balance(other)).await;
            refusal.is(AlreadyExists, "REQUEST_ID_REUSED");
        }
    });
}

#[test]
fn parallel_calls_for_different_players_with_one_id_are_one_adjustment() {
    World::run(async |world| {
        for _ in 0..5 {
            let crowd = world.crowd("Player", 10).await;
            let id = new_request_id();
            let calls = crowd.iter().map(|player| {
                world.adjust_balance(AdjustBalanceRequest {
                    request_id: id.clone(),
                    ..adjustment(player, 1)
                })
            });
            let answers = all_at_once(calls).await;
            assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1);
            for refused in answers.into_iter().filter_map(Result::err) {
                Refusal::from(refused).is(AlreadyExists, "REQUEST_ID_REUSED");
            }
        }
    });
}

#[test]
fn a_heist_and_an_adjustment_may_have_the_same_request_id() {
    World::run(async |world| {
        let ada = world.player("Ada").tokens(1).await;
        let ben = world.player("Ben").points(1000).await;
        let request = adjustment(&ada, 1);
        assert!(
            !ada.robs_with_id(&request.request_id, &ben)
                .await
                .unwrap()
                .replayed
        );
        assert_eq!(adjust(world, request).await.balance, 1);
    });
}

#[test]
fn parallel_revocations_succeed_once_per_token() {
    World::run(async |world| {
        let ada = world.player("Ada").tokens(10).await;
        let answers =
            all_at_once((0..40).map(|_| world.adjust_balance(adjustment(&ada, -1)))).await;
        let (done, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
        assert_eq!((done.len(), refused.len()), (10, 30));
        for refused in refused {
            let refusal = Refusal::from(refused.unwrap_err());
            refusal.is(FailedPrecondition, "INSUFFICIENT_TOKENS");
        }
        explains_the_balance(world, &ada).await;
    });
}

#[test]
fn a_burst_for_many_players_adjusts_each_as_asked() {
    World::run(async |world| {
        let crowd = world.crowd("Player", 20).tokens(5).await;
        let calls = (0..200_i32).map(|round| {
            let player = &crowd[usize::try_from(round % 20).unwrap()];
            world.adjust_balance(adjustment(player, 1 + round / 20))
        });
        for answer in all_at_once(calls).await {
            assert!(!answer.unwrap().replayed);
        }
        for player in &crowd {
            assert_eq!(player.tokens().await.balance, 5 + 55);
            explains_the_balance(world, player).await;
        }
    });
}

#[test]
fn one_bad_call_of_a_burst_is_refused_alone() {
    World::run(async |world| {
        let ada = world.player("Ada").tokens(1).await;
        let full = world.player("Full").tokens(i32::MAX).await;
        let calls = (0..20).flat_map(|_| {
            [
                world.adjust_balance(adjustment(&ada, 1)),
                world.adjust_balance(adjustment(&full, 1)),
            ]
        });
        for (index, answer) in all_at_once(calls).await.into_iter().enumerate() {
            match index % 2 {
                0 => drop(answer.unwrap()),
                _ => drop(Refusal::from(answer.unwrap_err()).names(&["delta"])),
            }
        }
        assert_eq!(ada.tokens().await.balance, 21);
    });
}

#[test]
fn an_unknown_player_is_not_adjusted() {
    World::run(async |world| {
        let gone = world.player("Gone").tokens(3).await;
        let request = adjustment(&gone, 1);
        adjust(world, request.clone()).await;
        gone.leaves().await;
        for user_id in [gone.id, 1_000_000, i32::MAX] {
            let request = AdjustBalanceRequest {
                user_id,
                ..request.clone()
            };
            let refusal = world.refuses(world.adjust_balance(request)).await;
            let refusal = refusal.is(NotFound, "USER_NOT_FOUND");
            assert_eq!(refusal.fact("user_id"), user_id.to_string());
        }
    });
}
