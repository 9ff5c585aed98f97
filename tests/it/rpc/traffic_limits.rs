//! How much a server takes on at a time, and what it does with more.

use std::time::Duration;

use heist::{pb::GetBalanceRequest, server::Server};
use tokio::time::Instant;
use tonic::{
    Code::{ResourceExhausted, Unavailable},
    Request,
    transport::Endpoint,
};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use crate::harness::{PATIENCE, Refusal, World, connect, until};

#[test]
fn a_call_beyond_the_limit_is_refused_at_once_and_health_answers() {
    let setup = World::setup().traffic(|traffic| traffic.calls = 2);
    setup.run(async |world| {
        let robbers = world.crowd("Robber", 2).tokens(1).await;
        let victims = world.crowd("Victim", 2).points(1000).await;
        let both = [&victims[0], &victims[1]];
        let transaction = world.application_with_locks(&both).await;
        let first = tokio::spawn(robbers[0].robs(&victims[0]));
        let second = tokio::spawn(robbers[1].robs(&victims[1]));
        world.sessions_wait_for_a_lock(2).await;

        let refused = world.get_balance(victims[0].id).await.unwrap_err();
        let refusal = Refusal::from(refused).is(Unavailable, "OVERLOADED");
        assert_eq!(refusal.wait(), Duration::from_millis(100));
        let request = HealthCheckRequest::default();
        let health = HealthClient::new(world.channel.clone())
            .check(request)
            .await;
        assert_eq!(health.unwrap().into_inner().status, 1, "busy is not dead");

        transaction.rollback().await;
        first.await.unwrap().unwrap();
        second.await.unwrap().unwrap();
        world.get_balance(victims[0].id).await.unwrap();
    });
}

#[test]
fn streams_are_limited_per_server() {
    let setup = World::setup().traffic(|traffic| traffic.streams = 2);
    setup.run(async |world| {
        let ada = world.player("Ada").await;
        let mut watcher = world.watch_points().await;
        watcher.resync().await;
        let inbox = ada.listens(world).await;
        let refused = world.stream_notifications(ada.id, 0).await.err().unwrap();
        let refusal = Refusal::from(refused).is(Unavailable, "OVERLOADED");
        assert!(refusal.wait() > Duration::ZERO);
        // Calls are not streams.
        world.get_balance(ada.id).await.unwrap();

        drop(inbox);
        until("the place is free", async || {
            world.stream_notifications(ada.id, 0).await.ok()
        })
        .await;
    });
}

#[test]
fn streams_are_limited_per_player() {
    let setup = World::setup().traffic(|traffic| traffic.player_streams = 2);
    setup.run(async |world| {
        let ada = world.player("Ada").await;
        let ben = world.player("Ben").await;
        let another_connection = world.through(connect(world.address).await);
        let first = ada.listens(world).await;
        let _second = ada.listens(&another_connection).await;
        for there in [world, &another_connection] {
            let refused = there.stream_notifications(ada.id, 0).await.err().unwrap();
            let refusal = Refusal::from(refused).is(ResourceExhausted, "TOO_MANY_STREAMS");
            assert_eq!(refusal.fact("limit"), "2");
            assert!(refusal.has_no_wait(), "waiting does not help");
        }
        let _of_ben = ben.listens(world).await;

        drop(first);
        until("the place is free", async || {
            world.stream_notifications(ada.id, 0).await.ok()
        })
        .await;
    });
}

#[test]
fn a_connection_too_many_is_closed_at_once_and_those_there_are_go_on() {
    let setup = World::setup().traffic(|traffic| traffic.connections = 2);
    setup.run(async |world| {
        let ada = world.player("Ada").await;
        world.get_balance(ada.id).await.unwrap();
        let second = world.through(connect(world.address).await);
        second.get_balance(ada.id).await.unwrap();

        let address = format!("http://{}", world.address);
        let third = world.through(Endpoint::from_shared(address).unwrap().connect_lazy());
        third.get_balance(ada.id).await.unwrap_err();
        world.get_balance(ada.id).await.unwrap();
        second.get_balance(ada.id).await.unwrap();

        drop(second);
        until("the place is free", async || {
            third.get_balance(ada.id).await.ok()
        })
        .await;
    });
}

#[test]
fn a_call_with_too_large_headers_is_refused_and_the_connection_stays() {
    World::run(async |world| {
        let ada = world.player("Ada").await;
        let answer = async |header: String| {
            let mut request = Request::new(GetBalanceRequest { user_id: ada.id });
            (request.metadata_mut()).insert("x-header", header.parse().unwrap());
            world.tokens.clone().get_balance(request).await
        };
        answer("x".repeat(10_000)).await.unwrap();
        let refused = answer("x".repeat(20_000)).await.unwrap_err();
        assert!(refused.message().contains("431"), "{refused:?}");
        answer(String::new()).await.unwrap();
    });
}

#[test]
fn old_connections_are_closed_and_their_streams_end_with_a_reason() {
    let setup = World::setup().traffic(|traffic| {
        traffic.connection_age = Some(Duration::from_secs(1));
        // The old one may still be there.
        traffic.connections = 3;
    });
    setup.run(async |world| {
        let ada = world.player("Ada").await;
        for _ in 0..5 {
            let inbox = ada.listens(world).await;
            let ended = Refusal::from(inbox.end().await);
            ended.is(Unavailable, "STREAM_TOO_OLD");
            // As callers do: a call may meet the end of a connection.
            until("a new connection", async || {
                world.get_balance(ada.id).await.ok()
            })
            .await;
        }
    });
}

#[test]
fn an_unread_stream_does_not_delay_the_shutdown() {
    World::run(async |world| {
        let options = world.options();
        let server = Server::start(options).await.unwrap();
        // So little room that the first item does not fit.
        let channel = Endpoint::from_shared(format!("http://{}", server.address()))
            .unwrap()
            .initial_stream_window_size(1)
            .connect()
            .await
            .unwrap();
        let there = world.through(channel);
        let unread = there.watch_points().await;
        let stopping = Instant::now();
        server.stop(PATIENCE).await;
        assert!(
            stopping.elapsed() < PATIENCE / 2,
            "it waited for the reader"
        );
        drop(unread);
    });
}
