//! `TokenService.AwardToken`: one token for each referral.

use heist::pb::{self, NotificationType, notification::Details};
use sqlx::Row as _;
use time::OffsetDateTime;
use tonic::Code::{AlreadyExists, FailedPrecondition, InvalidArgument, NotFound};

use crate::harness::{Refusal, World, all_at_once, to_time};

const UNKNOWN_PLAYER: i32 = 1_000_000;

fn award(referrer_id: i32, referred_id: i32) -> pb::AwardTokenRequest {
    pb::AwardTokenRequest {
        referrer_id,
        referred_id,
        referred_name: String::new(),
    }
}

#[test]
fn a_referral_earns_one_token() {
    World::run(async |world| {
        let ada = world.player("Ada").points(70).await;
        let ben = world.player("Ben").referred_by(&ada).await;

        let answer = ada.earns_a_token_for(&ben).await.unwrap();

        assert!(!answer.already_awarded);
        let balance = answer.balance.unwrap();
        assert_eq!(
            balance,
            pb::TokenBalance {
                user_id: ada.id,
                balance: 1,
                total_earned: 1,
                total_spent: 0,
                last_earned_time: balance.last_earned_time,
                last_spent_time: None,
            }
        );
        let age = OffsetDateTime::now_utc() - to_time(balance.last_earned_time);
        assert!(age.abs() < time::Duration::MINUTE, "{age}");
        assert_eq!(world.get_balance(ada.id).await.unwrap(), balance);
        assert_eq!(ada.points().await, 70);
        assert_eq!(ben.tokens().await.balance, 0);
    });
}

#[test]
fn the_award_row_says_who_earned_it_for_whom() {
    World::run(async |world| {
        let ada = world.player("Ada").tokens(3).await;
        let ben = world.player("Ben").referred_by(&ada).await;

        let request = pb::AwardTokenRequest {
            referred_name: "  Benny ".to_owned(),
            ..award(ada.id, ben.id)
        };
        let answer = world.award_token(request).await.unwrap();

        let row = sqlx::query(r#"SELECT * FROM "HeistTokenAward""#)
            .fetch_one(&world.pool)
            .await
            .unwrap();
        assert!(row.get::<i64, _>("id") > 0);
        assert_eq!(row.get::<i32, _>("referrerId"), ada.id);
        assert_eq!(row.get::<i32, _>("referredId"), ben.id);
        assert_eq!(row.get::<&str, _>("referredName"), "Benny");
        assert_eq!(row.get::<i32, _>("balanceAfter"), 4);
        let created_at: OffsetDateTime = row.get("createdAt");
        assert_eq!(
            created_at,
            to_time(answer.balance.unwrap().last_earned_time)
        );
    });
}

#[test]
fn the_referrer_is_told_with_the_name_of_the_signup_or_of_the_account() {
    World::run(async |world| {
        let ada = world.player("Ada").await;
        let ben = world.player("Ben").await;
        let carl = world.player("Carl").await;
        let named = pb::AwardTokenRequest {
            referred_name: "Benny".to_owned(),
            ..award(ada.id, ben.id)
        };
        world.award_token(named).await.unwrap();
        ada.earns_a_token_for(&carl).await.unwrap();

        let told = ada.notifications().await;

        assert_eq!(told.len(), 2);
        for (notification, (name, referred, balance_after)) in
            told.iter().zip([("Carl", &carl, 2), ("Benny", &ben, 1)])
        {
            assert_eq!(notification.title, "Token earned!");
            let message = format!("{name} joined with your code. You earned a heist token.");
            assert_eq!(notification.message, message);
            assert_eq!(notification.r#type(), NotificationType::TokenEarned);
            assert!(!notification.read);
            let details = pb::notification::TokenEarned {
                referred_id: referred.id,
                referred_name: name.to_owned(),
                balance_after,
            };
            assert_eq!(notification.details, Some(Details::TokenEarned(details)));
        }
        assert!(ben.notifications().await.is_empty());
    });
}

#[test]
fn an_award_asked_for_again_is_the_same_award() {
    World::run(async |world| {
        let ada = world.player("Ada").await;
        let ben = world.player("Ben").referred_by(&ada).await;
        let first = ada.earns_a_token_for(&ben).await.unwrap();

        let before = crate::harness::snapshot(&world.pool).await;
        let again = ada.earns_a_token_for(&ben).await.unwrap();

        assert!(again.already_awarded);
        assert_eq!(again.balance, first.balance);
        assert_eq!(crate::harness::snapshot(&world.pool).await, before);
    });
}

#[test]
fn fifty_parallel_awards_for_one_signup_are_one_token() {
    World::run(async |world| {
        let ada = world.player("Ada").await;
        let ben = world.player("Ben").referred_by(&ada).await;

        let answers = all_at_once((0..50).map(|_| ada.earns_a_token_for(&ben))).await;

        let answers: Vec<_> = answers.into_iter().map(Result::unwrap).collect();
        let first = answers.iter().filter(|answer| !answer.already_awarded);
        assert_eq!(first.count(), 1);
        for answer in answers {
            assert_eq!(answer.balance.unwrap().balance, 1);
        }
        assert_eq!(ada.tokens().await.earned, 1);
    });
}

#[test]
fn fifty_signups_with_one_code_at_once_are_fifty_tokens() {
    World::run(async |world| {
        let ada = world.player("Ada").await;
        let friends = world.crowd("Friend", 50).referred_by(&ada).await;

        let answers = all_at_once(friends.iter().map(|friend| ada.earns_a_token_for(friend))).await;

        let mut balances: Vec<i32> = answers
            .into_iter()
            .map(|answer| answer.unwrap().balance.unwrap().balance)
            .collect();
        balances.sort_unstable();
        assert_eq!(balances, (1..=50).collect::<Vec<_>>());
        assert_eq!(ada.tokens().await.balance, 50);
        assert_eq!(ada.notifications().await.len(), 50);
    });
}

#[test]
fn parallel_claims_of_one_signup_earn_one_token() {
    World::run(async |world| {
        let claimants = world.crowd("Claimant", 20).await;
        let ben = world.player("Ben").await;

        let answers = all_at_once(claimants.iter().map(|it| it.earns_a_token_for(&ben))).await;

        assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1);
        for refused in answers.into_iter().filter_map(Result::err) {
            Refusal::from(refused).is(AlreadyExists, "REFERRAL_ALREADY_AWARDED");
        }
        assert_eq!(world.count_awards().await, 1);
    });
}

#[test]
fn two_players_who_refer_each_other_at_once_both_earn_a_token() {
    World::run(async |world| {
        let players = world.crowd("Player", 20).await;
        let pairs = players
            .chunks(2)
            .flat_map(|pair| [(&pair[0], &pair[1]), (&pair[1], &pair[0])]);
        for answer in all_at_once(pairs.map(|(one, other)| one.earns_a_token_for(other))).await {
            answer.unwrap();
        }
        assert_eq!(world.count_awards().await, 20);
    });
}

#[test]
fn players_cannot_refer_themselves() {
    World::run(async |world| {
        let ada = world.player("Ada").await;
        let refusal = world.refuses(ada.earns_a_token_for(&ada)).await;
        refusal.is(InvalidArgument, "SELF_REFERRAL");
        // The check comes before the players are read.
        let refusal = world
            .refuses(world.award_token(award(UNKNOWN_PLAYER, UNKNOWN_PLAYER)))
            .await;
        refusal.is(InvalidArgument, "SELF_REFERRAL");
    });
}

#[test]
fn both_players_of_a_referral_have_to_exist() {
    World::run(async |world| {
        let ada = world.player("Ada").await;
        for (referrer, referred, missing) in [
            (UNKNOWN_PLAYER, ada.id, UNKNOWN_PLAYER),
            (ada.id, UNKNOWN_PLAYER, UNKNOWN_PLAYER),
            (UNKNOWN_PLAYER, UNKNOWN_PLAYER + 1, UNKNOWN_PLAYER),
            (i32::MAX, ada.id, i32::MAX),
        ] {
            let refusal = world
                .refuses(world.award_token(award(referrer, referred)))
                .await;
            let refusal = refusal.is(NotFound, "USER_NOT_FOUND");
            assert_eq!(refusal.fact("user_id"), missing.to_string());
        }
    });
}

#[test]
fn only_the_referrer_of_the_account_earns_the_token() {
    World::run(async |world| {
        let ada = world.player("Ada").await;
        let other = world.player("Other").await;
        let ben = world.player("Ben").referred_by(&ada).await;

        let refusal = world.refuses(other.earns_a_token_for(&ben)).await;
        refusal.is(FailedPrecondition, "REFERRAL_MISMATCH");

        // Also after the token was earned.
        ada.earns_a_token_for(&ben).await.unwrap();
        let refusal = world.refuses(other.earns_a_token_for(&ben)).await;
        refusal.is(FailedPrecondition, "REFERRAL_MISMATCH");
    });
}

#[test]
fn a_token_is_earned_by_one_referrer_only() {
    World::run(async |world| {
        let ada = world.player("Ada").await;
        let other = world.player("Other").await;
        let ben = world.player("Ben").await;
        ada.earns_a_token_for(&ben).await.unwrap();
        let refusal = world.refuses(other.earns_a_token_for(&ben)).await;
        refusal.is(AlreadyExists, "REFERRAL_ALREADY_AWARDED");
    });
}

#[test]
fn tokens_that_do_not_fit_are_an_internal_error() {
    World::run(async |world| {
        let rich = world.player("Rich").tokens(i32::MAX).await;
        let ben = world.player("Ben").await;
        world
            .refuses(rich.earns_a_token_for(&ben))
            .await
            .tells_only_an_incident();
    });
}

#[test]
fn an_earned_token_can_be_spent_at_once() {
    World::run(async |world| {
        let ada = world.player("Ada").await;
        let friend = world.player("Friend").await;
        let rich = world.player("Rich").points(1000).await;
        ada.earns_a_token_for(&friend).await.unwrap();
        let answer = ada.robs(&rich).await.unwrap();
        assert_eq!(answer.tokens_remaining, 0);
    });
}
