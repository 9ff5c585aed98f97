//! `TokenService.ListTokenEvents`: the account statement.

use std::time::Duration;

use heist::pb::{
    ListTokenEventsRequest, ListTokenEventsResponse, TokenEvent,
    token_event::{Adjustment, HeistSpend, Referral, Source},
};
use tonic::Code::NotFound;

use crate::{
    harness::{
        Player, Setup, World, all_at_once,
        pages::{all_pages, forgeries_of, next_token, pages_while, refuses_tokens},
        to_time,
    },
    rpc::tokens::adjust_balance::adjustment,
};

fn list(player: &Player, page_size: i32) -> ListTokenEventsRequest {
    ListTokenEventsRequest {
        user_id: player.id,
        page_size,
        ..Default::default()
    }
}

/// The whole statement, newest first.
pub async fn statement(world: &World, player: &Player) -> Vec<TokenEvent> {
    all_pages(world, list(player, 100)).await.concat()
}

/// Checks that a statement explains a balance: each line follows from the one before, and the
/// last is what the player has.
pub async fn explains_the_balance(world: &World, player: &Player) {
    let mut balance = 0;
    let mut time = None;
    for event in statement(world, player).await.into_iter().rev() {
        balance += event.delta;
        assert_eq!(event.balance_after, balance, "{event:?}");
        assert!(event.source.is_some());
        let at = Some(to_time(event.create_time));
        assert!(at >= time, "{event:?} happened before {time:?}");
        time = at;
    }
    assert_eq!(world.get_balance(player.id).await.unwrap().balance, balance);
}

fn lawless() -> Setup {
    World::setup().rules(|rules| {
        rules.cooldown = Duration::ZERO;
        rules.protection = None;
    })
}

async fn adjust(world: &World, player: &Player, delta: i32) {
    world
        .adjust_balance(adjustment(player, delta))
        .await
        .unwrap();
}

/// A player with so many lines of each of the three kinds, mixed.
async fn busy(world: &World, times: usize) -> Player {
    let ada = world.player("Ada").await;
    let rich = world.player("Rich").points(50_000).await;
    for friend in world.crowd("Friend", times).await {
        ada.earns_a_token_for(&friend).await.unwrap();
        adjust(world, &ada, 2).await;
        ada.robs(&rich).await.unwrap();
    }
    ada
}

#[test]
fn a_player_without_tokens_has_an_empty_statement() {
    World::run(async |world| {
        let ada = world.player("Ada").points(500).await;
        let answer = world.list_token_events(list(&ada, 0)).await.unwrap();
        assert_eq!(answer, ListTokenEventsResponse::default());
    });
}

#[test]
fn awards_heists_and_adjustments_are_one_statement_newest_first() {
    World::run(async |world| {
        let ada = world.player("Ada").await;
        let friend = world.player("Friend").await;
        let rich = world.player("Rich").points(1000).await;
        let award = ada
            .earns_a_token_for(&friend)
            .await
            .unwrap()
            .balance
            .unwrap();
        adjust(world, &ada, 5).await;
        let heist = ada.robs(&rich).await.unwrap().heist.unwrap();
        adjust(world, &ada, -2).await;

        let events = statement(world, &ada).await;

        let adjusted = Source::Adjustment(Adjustment {
            actor: "unauthenticated caller".to_owned(),
            reason: "for the story".to_owned(),
        });
        let line = |event: &TokenEvent| {
            (
                event.delta,
                event.balance_after,
                event.source.clone().unwrap(),
            )
        };
        let expected = [
            (-2, 3, adjusted.clone()),
            (-1, 5, Source::Heist(HeistSpend { heist_id: heist.id })),
            (5, 6, adjusted),
            (
                1,
                1,
                Source::Referral(Referral {
                    referred_id: friend.id,
                }),
            ),
        ];
        assert_eq!(events.iter().map(line).collect::<Vec<_>>(), expected);
        assert_eq!(events[1].create_time, heist.create_time);
        assert_eq!(events[3].create_time, award.last_earned_time);
        explains_the_balance(world, &ada).await;
    });
}

#[test]
fn heists_of_others_are_not_on_a_statement() {
    World::run(async |world| {
        let ada = world.player("Ada").points(1000).await;
        let ben = world.player("Ben").tokens(2).await;
        // Being robbed and being referred cost and bring no token.
        ben.robs(&ada).await.unwrap();
        ben.earns_a_token_for(&ada).await.unwrap();
        assert_eq!(statement(world, &ada).await, []);
        assert_eq!(statement(world, &ben).await.len(), 3);
        explains_the_balance(world, &ben).await;
    });
}

#[test]
fn refused_and_repeated_calls_leave_no_line() {
    World::run(async |world| {
        let ada = world.player("Ada").await;
        let friend = world.player("Friend").await;
        let rich = world.player("Rich").points(1000).await;
        let grant = adjustment(&ada, 3);
        for _ in 0..3 {
            ada.earns_a_token_for(&friend).await.unwrap();
            world.adjust_balance(grant.clone()).await.unwrap();
        }
        world
            .adjust_balance(adjustment(&ada, -5))
            .await
            .unwrap_err();
        ada.robs(&ada).await.unwrap_err();
        let id = crate::harness::new_request_id();
        for _ in 0..3 {
            ada.robs_with_id(&id, &rich).await.unwrap();
        }
        assert_eq!(statement(world, &ada).await.len(), 3);
        explains_the_balance(world, &ada).await;
    });
}

#[test]
fn a_line_stays_when_the_other_player_leaves() {
    World::run(async |world| {
        let ada = world.player("Ada").await;
        let friend = world.player("Friend").await;
        let rich = world.player("Rich").points(1000).await;
        ada.earns_a_token_for(&friend).await.unwrap();
        let heist = ada.robs(&rich).await.unwrap().heist.unwrap();
        friend.leaves().await;
        rich.leaves().await;
        let sources: Vec<Option<Source>> = statement(world, &ada)
            .await
            .into_iter()
            .map(|event| event.source)
            .collect();
        let expected = [
            Some(Source::Heist(HeistSpend { heist_id: heist.id })),
            Some(Source::Referral(Referral { referred_id: 0 })),
        ];
        assert_eq!(sources, expected);
        explains_the_balance(world, &ada).await;
    });
}

#[test]
fn a_page_holds_the_newest_twenty_unless_asked_otherwise() {
    lawless().run(async |world| {
        let ada = busy(world, 9).await;
        let newest_first = statement(world, &ada).await;
        assert_eq!(newest_first.len(), 27);
        for (page_size, expected) in [(0, 20), (1, 1), (26, 26), (27, 27), (28, 27), (100, 27)] {
            let page = world
                .list_token_events(list(&ada, page_size))
                .await
                .unwrap();
            assert_eq!(page.events, newest_first[..expected], "of size {page_size}");
            assert_eq!(page.next_page_token.is_empty(), expected == 27);
        }
    });
}

#[test]
fn pages_follow_each_other_without_gaps_or_repetitions() {
    lawless().run(async |world| {
        let ada = busy(world, 8).await;
        let whole = statement(world, &ada).await;
        for page_size in [1, 2, 5, 7, 8, 23, 24] {
            let pages = all_pages(world, list(&ada, page_size)).await;
            assert_eq!(
                pages.len(),
                24_usize.div_ceil(usize::try_from(page_size).unwrap())
            );
            assert_eq!(pages.concat(), whole, "by {page_size}");
        }
        explains_the_balance(world, &ada).await;
    });
}

#[test]
fn lines_that_come_meanwhile_make_no_gap_and_no_repetition() {
    lawless().run(async |world| {
        let ada = busy(world, 5).await;
        let before = statement(world, &ada).await;
        let rich = world.player("Victim").points(50_000).await;
        let friends = world.crowd("New friend", 30).await;
        let calls = friends.iter().flat_map(|friend| {
            [
                drop_answer(ada.earns_a_token_for(friend)),
                drop_answer(world.adjust_balance(adjustment(&ada, 1))),
                drop_answer(ada.robs(&rich)),
            ]
        });
        let calls: Vec<_> = calls.collect();
        let busy = tokio::spawn(async move {
            for call in calls {
                call.await;
            }
        });
        let mut rounds = 0;
        loop {
            let is_last = busy.is_finished();
            let pages = pages_while(world, list(&ada, 4), tokio::task::yield_now).await;
            let seen = pages.concat();
            assert!(seen.ends_with(&before));
            // A gap or a repetition would break the chain of balances.
            let mut balance = 0;
            for event in seen.iter().rev() {
                balance += event.delta;
                assert_eq!(event.balance_after, balance, "{event:?}");
            }
            rounds += 1;
            if is_last {
                break;
            }
        }
        busy.await.unwrap();
        assert!(rounds > 1, "nothing happened meanwhile");
        assert_eq!(statement(world, &ada).await.len(), before.len() + 90);
    });
}

/// So that calls of all kinds fit into one list.
fn drop_answer<T: std::fmt::Debug + Send + 'static>(
    call: impl Future<Output = Result<T, tonic::Status>> + Send + 'static,
) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>> {
    Box::pin(async move {
        call.await.unwrap();
    })
}

#[test]
fn everything_at_once_still_adds_up() {
    lawless().run(async |world| {
        let ada = world.player("Ada").points(50_000).tokens(80).await;
        let ben = world.player("Ben").points(50_000).tokens(80).await;
        let friends = world.crowd("Friend", 40).await;
        let heists = (0..80).map(|round| {
            let (robber, robbed) = if round % 2 == 0 {
                (&ada, &ben)
            } else {
                (&ben, &ada)
            };
            drop_answer(robber.robs(robbed))
        });
        let awards = friends
            .iter()
            .map(|friend| drop_answer(ada.earns_a_token_for(friend)));
        let adjustments = (0..80).map(|round| {
            let delta = if round % 3 == 0 { -1 } else { 2 };
            let player = if round % 2 == 0 { &ada } else { &ben };
            let call = world.adjust_balance(adjustment(player, delta));
            // There may be nothing to revoke at that moment.
            let may_fail = async move { call.await.map(drop).or(Ok::<(), tonic::Status>(())) };
            drop_answer(may_fail)
        });
        let mut calls: Vec<_> = heists.chain(awards).chain(adjustments).collect();
        calls.rotate_left(60);
        all_at_once(calls).await;
        for player in [&ada, &ben] {
            explains_the_balance(world, player).await;
        }
        let spent = |events: Vec<TokenEvent>| {
            let spends = events
                .iter()
                .filter(|event| matches!(event.source, Some(Source::Heist(_))));
            spends.count()
        };
        assert_eq!(spent(statement(world, &ada).await), 40);
        assert_eq!(spent(statement(world, &ben).await), 40);
    });
}

#[test]
fn a_page_token_is_good_only_for_the_statement_it_came_from() {
    World::run(async |world| {
        let players = world.crowd("Player", 2).tokens(3).await;
        for player in &players {
            adjust(world, player, 1).await;
        }
        let token = next_token(world, list(&players[0], 1)).await;
        refuses_tokens(world, list(&players[1], 1), vec![token.clone()]).await;
        refuses_tokens(world, list(&players[0], 1), forgeries_of(&token)).await;
    });
}

#[test]
fn an_unknown_player_has_no_statement() {
    World::run(async |world| {
        let gone = world.player("Gone").tokens(3).await;
        gone.leaves().await;
        for user_id in [gone.id, 1_000_000, i32::MAX] {
            let request = ListTokenEventsRequest {
                user_id,
                ..Default::default()
            };
            let refusal = world.refuses(world.list_token_events(request)).await;
            refusal.is(NotFound, "USER_NOT_FOUND");
        }
    });
}
