//! How often players may be called for, each minute and replica.

use std::{num::NonZeroU32, time::Duration};

use heist::{pb, settings::RateLimits};
use tonic::Code;

use crate::harness::{
    PATIENCE, Refusal, Setup, World, all_at_once, connect, contract,
    identity::{Issuer, call_as},
    process::Heist,
    until,
    wire::{self, Method, methods_of_the_contract},
};

const MINUTE: Duration = Duration::from_mins(1);

/// The default limits, and nothing else in a robber's way.
fn limited() -> Setup {
    let setup = World::setup().rates(RateLimits::default());
    setup.rules(|rules| {
        rules.cooldown = Duration::ZERO;
        rules.protection = None;
    })
}

fn once_a_minute() -> RateLimits {
    RateLimits {
        heists: NonZeroU32::new(1),
        others: NonZeroU32::new(1),
    }
}

/// Checks for a refusal that asks the caller to wait for at most a minute.
#[track_caller]
fn is_rate_limited(status: tonic::Status) -> Duration {
    let refusal = Refusal::from(status).is(Code::ResourceExhausted, "RATE_LIMITED");
    let wait = refusal.wait();
    assert!(wait > Duration::ZERO && wait <= MINUTE, "{wait:?}");
    wait
}

#[test]
fn one_player_executes_ten_of_five_hundred_rapid_heists_over_all_connections() {
    limited().run(async |world| {
        let ada = world.player("Ada").tokens(500).await;
        let ben = world.player("Ben").points(100_000).await;
        let mut worlds = Vec::new();
        for _ in 0..5 {
            worlds.push(world.through(connect(world.address).await));
        }
        let calls = (0..500).map(|call| ada.seen_by(&worlds[call % 5]).robs(&ben));
        let answers = all_at_once(calls).await;
        let refused: Vec<_> = answers.into_iter().filter_map(Result::err).collect();
        assert_eq!(refused.len(), 490);
        for status in refused {
            is_rate_limited(status);
        }
        assert_eq!(world.count_heists().await, 10);
    });
}

#[test]
fn sixty_of_five_hundred_rapid_reads_of_one_player_are_answered() {
    limited().run(async |world| {
        let ada = world.player("Ada").tokens(1).await;
        let ben = world.player("Ben").points(1000).await;
        let balances = (0..250).map(|_| world.get_balance(ada.id));
        let counts = (0..250).map(|_| world.get_unread_count(ada.id));
        let (balances, counts) = (all_at_once(balances).await, all_at_once(counts).await);
        let refused: Vec<_> = (balances.into_iter().filter_map(Result::err))
            .chain(counts.into_iter().filter_map(Result::err))
            .collect();
        assert_eq!(refused.len(), 440);
        for status in refused {
            is_rate_limited(status);
        }
        // Others, and heists, have limits of their own.
        world.get_balance(ben.id).await.unwrap();
        ada.robs(&ben).await.unwrap();
    });
}

#[test]
fn the_wait_is_until_the_minute_is_over_and_does_not_grow_by_asking() {
    World::setup().rates(once_a_minute()).run(async |world| {
        let ada = world.player("Ada").await;
        world.get_balance(ada.id).await.unwrap();
        let mut wait = MINUTE;
        for _ in 0..20 {
            let refused = world.refuses(world.get_balance(ada.id)).await;
            assert_eq!(refused.fact("limit_per_minute"), "1");
            assert!(refused.wait() < wait, "it gets shorter");
            wait = refused.wait();
        }
    });
}

/// Which calls are not limited for a player, and why, is in `rpc/methods.rs`.
#[test]
fn every_call_that_names_a_player_counts_for_them() {
    World::setup().rates(once_a_minute()).run(async |world| {
        let mut for_unknown = Vec::new();
        for (id, method) in methods_of_the_contract().into_iter().enumerate() {
            // The same unknown player in each field.
            let player = i32::try_from(id).unwrap() + 1_000_000;
            let message = contract::with_all_ids(&method, player);
            let mut refused = None;
            for _ in 0..2 {
                refused = wire::call(&world.channel, &method, message.clone())
                    .await
                    .err();
            }
            match refused {
                Some(status) if status.code() == Code::ResourceExhausted => {
                    is_rate_limited(status);
                }
                _ => for_unknown.push(method.name().to_owned()),
            }
        }
        for_unknown.sort();
        assert_eq!(
            for_unknown,
            ["BatchGetBalances", "GetHeist", "GetRules", "WatchPoints"]
        );
    });
}

#[test]
fn every_call_of_a_player_counts_for_them_whatever_it_names() {
    let issuer = Issuer::new();
    World::setup().rates(once_a_minute()).run(async |world| {
        let (server, channel) = world.guarded(issuer.options()).await;
        for (id, path) in [
            "GetHeist",
            "GetLeaderboard",
            "GetBalance",
            "BatchGetBalances",
        ]
        .into_iter()
        .enumerate()
        {
            let token = issuer.player(i32::try_from(id).unwrap() + 1);
            let service = if path.contains("Balance") {
                "TokenService"
            } else {
                "HeistService"
            };
            let method = Method::named(&format!("/heist.v1.{service}/{path}"));
            // The request names no player, and some are malformed.
            let ask = || call_as(&channel, Some(&token), &method, Vec::new());
            let _ = ask().await;
            is_rate_limited(ask().await.unwrap_err());
        }
        // A service that names no player is not limited.
        let token = issuer.service("heist.read");
        let method = Method::named("/heist.v1.HeistService/GetLeaderboard");
        for _ in 0..3 {
            call_as(&channel, Some(&token), &method, Vec::new())
                .await
                .unwrap();
        }
        server.stop(PATIENCE).await;
    });
}

#[test]
fn an_award_counts_for_the_referred_player() {
    World::setup().rates(once_a_minute()).run(async |world| {
        let ada = world.player("Ada").await;
        let friends = world.crowd("Friend", 20).await;
        for friend in &friends {
            ada.earns_a_token_for(friend).await.unwrap();
        }
        let again = ada.earns_a_token_for(&friends[0]).await;
        is_rate_limited(again.unwrap_err());
    });
}

#[test]
fn malformed_calls_count_and_calls_without_a_player_do_not() {
    World::setup().rates(once_a_minute()).run(async |world| {
        let ada = world.player("Ada").tokens(1).await;
        let ben = world.player("Ben").points(1000).await;
        let malformed = world.refuses(ada.robs_with_id("?", &ben)).await;
        malformed.names(&["request_id"]);
        is_rate_limited(ada.robs(&ben).await.unwrap_err());

        for _ in 0..3 {
            world
                .refuses(world.get_balance(0))
                .await
                .names(&["user_id"]);
            let board = world.get_leaderboard(pb::GetLeaderboardRequest::default());
            assert_eq!(board.await.unwrap().entries.len(), 2);
        }
    });
}

#[test]
fn each_replica_counts_for_itself_and_the_cooldown_holds_for_all() {
    let setup = World::setup().rates(once_a_minute());
    setup.run(async |world| {
        let (replica, there) = world.replica().await;
        let ada = world.player("Ada").tokens(5).await;
        let ben = world.player("Ben").points(1000).await;
        ada.robs(&ben).await.unwrap();
        is_rate_limited(ada.robs(&ben).await.unwrap_err());
        let refused = world.refuses(ada.seen_by(&there).robs(&ben)).await;
        refused.is(Code::FailedPrecondition, "COOLDOWN_ACTIVE");
        replica.stop(PATIENCE).await;
    });
}

#[test]
fn calls_are_not_counted_while_heists_are_off() {
    let setup = World::setup().rates(once_a_minute()).switched_off();
    setup.run(async |world| {
        for _ in 0..3 {
            let refused = world.refuses(world.get_balance(1)).await;
            refused.is(Code::FailedPrecondition, "FEATURE_DISABLED");
        }
    });
}

#[test]
fn refused_heists_are_in_the_audit_log() {
    World::run(async |world| {
        let server = Heist::serve()
            .env("DATABASE_URL", &world.database_url)
            .env("HEIST_AUTH", "none")
            .env("HEIST_RATE_LIMIT_PER_MINUTE", "1")
            .serving()
            .await;
        let there = world.through(connect(server.address).await);
        let ada = world.player("Ada").tokens(5).await.seen_by(&there);
        let ben = world.player("Ben").points(1000).await;
        ada.robs(&ben).await.unwrap();
        is_rate_limited(ada.robs(&ben).await.unwrap_err());
        until("it is logged", async || {
            server.has_said("RATE_LIMITED").then_some(())
        })
        .await;
        assert_eq!(server.stopped_by("TERM").await.code, Some(0));
    });
}
