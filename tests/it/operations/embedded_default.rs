//! `heist` without a `DATABASE_URL`: what a newcomer sees first.

use std::{fs::File, path::Path};

use heist::pb;
use tonic::{Response, transport::Channel};

use crate::harness::{
    connect,
    postgres::Directory,
    process::{Heist, Serving},
    runtime, until,
};

fn heist_on(directory: &Directory) -> Heist {
    Heist::serve().env("HEIST_DATA_DIR", &directory.path)
}

/// Every process of PostgreSQL inherits the lock on its log. Taking the lock proves that none is left.
fn postgres_is_gone(directory: &Path) -> bool {
    let log = (directory.read_dir().unwrap())
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension().is_some_and(|ending| ending == "log"))
        .expect("it has started once");
    File::open(log).unwrap().try_lock().is_ok()
}

async fn rob(channel: &Channel, attacker_id: i32, victim_id: i32) -> Result<pb::Heist, String> {
    let request = pb::ExecuteHeistRequest {
        attacker_id,
        victim_id,
        request_id: String::new(),
    };
    let answer = pb::heist_service_client::HeistServiceClient::new(channel.clone())
        .execute_heist(request)
        .await;
    answer
        .map(|answer| answer.into_inner().heist.unwrap())
        .map_err(|status| status.message().to_owned())
}

async fn award(channel: &Channel, referrer_id: i32, referred_id: i32) -> pb::AwardTokenResponse {
    let request = pb::AwardTokenRequest {
        referrer_id,
        referred_id,
        referred_name: String::new(),
    };
    pb::token_service_client::TokenServiceClient::new(channel.clone())
        .award_token(request)
        .await
        .map(Response::into_inner)
        .unwrap()
}

async fn balance(channel: &Channel, user_id: i32) -> i32 {
    pb::token_service_client::TokenServiceClient::new(channel.clone())
        .get_balance(pb::GetBalanceRequest { user_id })
        .await
        .unwrap()
        .into_inner()
        .balance
        .unwrap()
        .balance
}

async fn stop(server: Serving, directory: &Directory) {
    let ended = server.stopped_by("TERM").await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(
        postgres_is_gone(&directory.path),
        "a process of PostgreSQL is left"
    );
}

#[test]
fn the_first_start_creates_demo_data_and_the_second_keeps_it() {
    runtime().block_on(async {
        let directory = Directory::create();
        let server = heist_on(&directory).serving().await;
        let address = server.address;
        for line in [
            format!("heist serves gRPC on {address}"),
            format!("Its data is in {}", directory.path.display()),
            format!("grpcurl -plaintext {address} list heist.v1.HeistService"),
        ] {
            until(&line, async || server.has_said(&line).then_some(())).await;
        }
        let channel = connect(address).await;
        // The lines that it says to try.
        let tokens = balance(&channel, 1).await;
        assert!(!award(&channel, 1, 50).await.already_awarded);
        let heist = rob(&channel, 1, 2).await.unwrap();
        assert_eq!(heist.points_stolen, heist.victim_points_before * 5 / 100);
        assert_eq!(balance(&channel, 1).await, tokens);
        stop(server, &directory).await;

        let server = heist_on(&directory).serving().await;
        let channel = connect(server.address).await;
        assert!(award(&channel, 1, 50).await.already_awarded);
        assert_eq!(balance(&channel, 1).await, tokens);
        stop(server, &directory).await;
    });
}

#[test]
fn a_killed_process_ends_its_postgresql_and_the_next_start_finds_the_data() {
    runtime().block_on(async {
        let directory = Directory::create();
        let server = heist_on(&directory).serving().await;
        let channel = connect(server.address).await;
        assert!(!award(&channel, 1, 50).await.already_awarded);
        server.stopped_by("KILL").await;

        // At once, while the old PostgreSQL is still stopping.
        let server = heist_on(&directory).serving().await;
        let channel = connect(server.address).await;
        assert!(award(&channel, 1, 50).await.already_awarded);
        server.stopped_by("KILL").await;
        until("PostgreSQL has ended", async || {
            postgres_is_gone(&directory.path).then_some(())
        })
        .await;
    });
}

#[test]
fn a_second_heist_on_the_same_data_is_refused_and_the_first_goes_on() {
    runtime().block_on(async {
        let directory = Directory::create();
        let first = heist_on(&directory).serving().await;

        let second = heist_on(&directory).ended().await;

        assert_eq!(second.code, Some(3));
        let complaint = second.complaint();
        assert!(
            complaint.contains("is in use by another heist"),
            "{complaint}"
        );
        assert!(
            complaint.contains(directory.path.to_str().unwrap()),
            "{complaint}"
        );
        let channel = connect(first.address).await;
        assert!(balance(&channel, 1).await > 0);
        stop(first, &directory).await;
    });
}

#[test]
fn a_folder_without_postgresql_is_one_line() {
    runtime().block_on(async {
        let directory = Directory::create();
        let ended = heist_on(&directory)
            .env("PG_BIN_DIR", "/nowhere")
            .ended()
            .await;
        assert_eq!(ended.code, Some(3));
        assert!(ended.complaint().contains("PG_BIN_DIR"), "{ended:?}");
    });
}
