//! `/metrics` as Prometheus scrapes it, compared with what `docs/metrics.md` says.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::SocketAddr,
    path::Path,
};

use heist::pb::{AdjustBalanceRequest, CheckEligibilityRequest};

use crate::harness::{
    World, connect, http,
    mail::{Behaviour, Provider, mailing},
    new_request_id,
    process::{Heist, Serving},
    until,
};

/// What is known of a metric: its type and its labels.
type Families = BTreeMap<String, (String, BTreeSet<String>)>;

async fn measured(world: &World) -> (Serving, World) {
    let heist = Heist::serve()
        .env("DATABASE_URL", &world.database_url)
        .env("HEIST_AUTH", "none");
    measured_as(world, heist).await
}

async fn measured_as(world: &World, heist: Heist) -> (Serving, World) {
    let server = heist
        .env("HEIST_METRICS_LISTEN", "127.0.0.1:0")
        .serving()
        .await;
    let there = world.through(connect(server.address).await);
    (server, there)
}

async fn scrape(address: SocketAddr) -> String {
    let (status, body) = http::get(address, "/metrics").await;
    assert!(status.ends_with("200 OK"), "{status}");
    body
}

/// The value of a series that counts whole things; 0 where there is none.
fn value(scraped: &str, series: &str) -> u64 {
    let line = scraped.lines().find_map(|line| line.strip_prefix(series));
    line.map_or(0, |value| value.trim().parse().expect("a whole number"))
}

#[test]
fn exported_metrics_match_the_documentation() {
    World::run(async |world| {
        let provider = Provider::start().await;
        let (server, there) = measured_as(world, mailing(world, &provider.url)).await;
        let ada = world.player("Ada").tokens(1).await.seen_by(&there);
        let ben = world.player("Ben").points(1000).await;
        ada.robs(&ben).await.unwrap();
        ada.robs(&ben).await.unwrap_err();

        let address = server.metrics_address.unwrap();
        let scraped = until("the mail is counted", async || {
            let scraped = scrape(address).await;
            (scraped.contains("heist_emails_queue_age_seconds")).then_some(scraped)
        })
        .await;
        let exported = exported(&scraped);
        let documented = documented();
        let names = |families: &Families| families.keys().cloned().collect::<BTreeSet<_>>();
        assert_eq!(names(&exported), names(&documented));
        assert_eq!(exported, documented);
    });
}

#[test]
fn calls_and_heists_are_counted() {
    World::run(async |world| {
        let (server, there) = measured(world).await;
        let ada = world.player("Ada").tokens(1).await.seen_by(&there);
        let ben = world.player("Ben").points(1000).await;
        let new = world.player("New").await;
        ada.robs(&ben).await.unwrap();
        ada.robs(&ben).await.unwrap_err();
        ada.earns_a_token_for(&new).await.unwrap();
        ada.earns_a_token_for(&new).await.unwrap();
        let adjust = |delta| AdjustBalanceRequest {
            user_id: ben.id,
            delta,
            reason: "a test".to_owned(),
            request_id: new_request_id(),
        };
        there.adjust_balance(adjust(5)).await.unwrap();
        there.adjust_balance(adjust(-2)).await.unwrap();
        let malformed = CheckEligibilityRequest::default();
        there.check_eligibility(malformed).await.unwrap_err();

        let scraped = scrape(server.metrics_address.unwrap()).await;
        for (series, expected) in [
            (r#"heist_heists_total{outcome="EXECUTED"}"#, 1),
            (r#"heist_heists_total{outcome="INSUFFICIENT_TOKENS"}"#, 1),
            ("heist_points_stolen_total", 50),
            (r#"heist_awards_total{outcome="AWARDED"}"#, 1),
            (r#"heist_awards_total{outcome="ALREADY_AWARDED"}"#, 1),
            (r#"heist_tokens_earned_total{source="referral"}"#, 1),
            (r#"heist_tokens_earned_total{source="adjustment"}"#, 5),
            (r#"heist_tokens_spent_total{source="heist"}"#, 1),
            (r#"heist_tokens_spent_total{source="adjustment"}"#, 2),
            (
                r#"heist_notifications_created_total{type="HEIST_VICTIM"}"#,
                1,
            ),
            (
                r#"heist_notifications_created_total{type="TOKEN_EARNED"}"#,
                1,
            ),
            (r#"heist_engine_batch_size_sum{operation="heist"}"#, 2),
            (
                r#"heist_engine_queue_wait_seconds_count{operation="award"}"#,
                2,
            ),
            (
                r#"heist_engine_transactions_total{operation="heist",outcome="committed"}"#,
                1,
            ),
            (
                r#"heist_engine_transactions_total{operation="heist",outcome="empty"}"#,
                1,
            ),
            (
                r#"db_client_operation_duration_seconds_count{db_operation_name="players.lock",db_system_name="postgresql"}"#,
                6,
            ),
            (
                r#"rpc_server_call_duration_seconds_count{rpc_method="heist.v1.HeistService/ExecuteHeist",rpc_response_status_code="OK",rpc_system_name="grpc"}"#,
                1,
            ),
            (
                r#"rpc_server_call_duration_seconds_count{rpc_method="heist.v1.HeistService/ExecuteHeist",rpc_response_status_code="FAILED_PRECONDITION",rpc_system_name="grpc"}"#,
                1,
            ),
            (
                r#"heist_rpc_errors_total{reason="INVALID_REQUEST",rpc_method="heist.v1.HeistService/CheckEligibility",rpc_response_status_code="INVALID_ARGUMENT"}"#,
                1,
            ),
            (
                r#"heist_rpc_active_calls{rpc_method="heist.v1.HeistService/ExecuteHeist"}"#,
                0,
            ),
            (
                r#"db_client_connection_max{db_client_connection_pool_name="primary"}"#,
                10,
            ),
        ] {
            assert_eq!(value(&scraped, series), expected, "{series}\n{scraped}");
        }
    });
}

#[test]
fn emails_are_counted_by_outcome_and_by_state() {
    World::run(async |world| {
        let provider = Provider::start_as(Behaviour::Answer("400 Bad Request", "")).await;
        let (server, there) = measured_as(world, mailing(world, &provider.url)).await;
        let ada = world
            .player("Ada")
            .email("ada@example.com")
            .await
            .seen_by(&there);
        let referral = async |name: &str| {
            let new = world.player(name).await;
            ada.earns_a_token_for(&new).await.unwrap();
        };
        let counts = async |server: &Serving, series: &str, expected: u64| {
            until(series, async || {
                let scraped = scrape(server.metrics_address.unwrap()).await;
                (value(&scraped, series) == expected).then_some(())
            })
            .await;
        };
        let failed = r#"heist_emails_total{outcome="failed"}"#;
        let sent = r#"heist_emails_total{outcome="sent"}"#;
        referral("Ben").await;
        counts(&server, failed, 1).await;
        provider.does(Behaviour::Accept);
        referral("Cy").await;
        counts(&server, sent, 1).await;
        counts(&server, failed, 1).await;

        // A replica counts the queue first of all, and it is that of all replicas.
        let (other, _) = measured_as(world, mailing(world, &provider.url)).await;
        counts(&other, r#"heist_emails_queue_depth{state="failed"}"#, 1).await;
        counts(&other, sent, 0).await;
    });
}

#[test]
fn open_streams_are_seen_until_they_end() {
    World::run(async |world| {
        let (server, there) = measured(world).await;
        let address = server.metrics_address.unwrap();
        let open = async || {
            let series =
                r#"heist_rpc_active_calls{rpc_method="heist.v1.HeistService/WatchPoints"}"#;
            value(&scrape(address).await, series)
        };
        let mut watchers = Vec::new();
        for _ in 0..3 {
            let mut watcher = there.watch_points().await;
            watcher.resync().await;
            watchers.push(watcher);
        }
        assert_eq!(open().await, 3);
        drop(watchers);
        until("the streams are closed", async || {
            (open().await == 0).then_some(())
        })
        .await;
        let ended = r#"rpc_server_call_duration_seconds_count{rpc_method="heist.v1.HeistService/WatchPoints",rpc_response_status_code="CANCELLED",rpc_system_name="grpc"}"#;
        assert_eq!(value(&scrape(address).await, ended), 3);
    });
}

#[test]
fn caller_input_creates_no_metric_labels() {
    World::run(async |world| {
        let (server, there) = measured(world).await;
        for path in ["/heist.v1.HeistService/Nothing", "/a/b", "/c/d"] {
            let mut client = tonic::client::Grpc::new(there.channel.clone());
            client.ready().await.unwrap();
            let codec = tonic_prost::ProstCodec::<CheckEligibilityRequest, CheckEligibilityRequest>::default();
            let request = tonic::Request::new(CheckEligibilityRequest::default());
            client
                .unary(request, path.parse().unwrap(), codec)
                .await
                .unwrap_err();
        }
        let scraped = scrape(server.metrics_address.unwrap()).await;
        let other = r#"rpc_server_call_duration_seconds_count{rpc_method="_OTHER",rpc_response_status_code="UNIMPLEMENTED",rpc_system_name="grpc"}"#;
        assert_eq!(value(&scraped, other), 3);
        assert!(!scraped.contains("Nothing"));
    });
}

#[test]
fn metrics_are_at_one_path_or_nowhere() {
    World::run(async |world| {
        let (server, _) = measured(world).await;
        let address = server.metrics_address.unwrap();
        let (status, _) = http::get(address, "/").await;
        assert!(status.contains("404"), "{status}");
        let (status, _) = http::request(address, "POST", "/metrics").await;
        assert!(status.contains("405"), "{status}");

        let taken = Heist::serve()
            .env("DATABASE_URL", &world.database_url)
            .env("HEIST_AUTH", "none")
            .env("HEIST_METRICS_LISTEN", address.to_string());
        let ended = taken.ended().await;
        assert_eq!(ended.code, Some(3));
        assert!(ended.complaint().contains("cannot listen on"), "{ended:?}");

        let silent = Heist::serve()
            .env("DATABASE_URL", &world.database_url)
            .env("HEIST_AUTH", "none")
            .env("HEIST_METRICS_LISTEN", "");
        assert_eq!(silent.serving().await.metrics_address, None);
    });
}

/// Every metric of a scrape. The parts of a histogram count as one, without their `le`.
fn exported(scraped: &str) -> Families {
    let mut families = Families::new();
    for line in scraped.lines() {
        if let Some(declared) = line.strip_prefix("# TYPE ") {
            let (name, kind) = declared.split_once(' ').unwrap();
            families.insert(name.to_owned(), (kind.to_owned(), BTreeSet::new()));
        }
    }
    for line in scraped.lines().filter(|line| !line.starts_with('#')) {
        let (series, _) = line.rsplit_once(' ').unwrap();
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let family = ["", "_bucket", "_sum", "_count"].iter().find_map(|part| {
            let family = name.strip_suffix(part)?;
            families.contains_key(family).then(|| family.to_owned())
        });
        let (_, known) = (families.get_mut(&family.expect("a declared metric"))).unwrap();
        let names = labels.split(',').filter_map(|label| label.split_once('='));
        known.extend(
            names
                .map(|(name, _)| name.to_owned())
                .filter(|name| name != "le"),
        );
    }
    families
}

/// The table of `docs/metrics.md`.
fn documented() -> Families {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/metrics.md");
    let text = fs::read_to_string(path).unwrap();
    let (_, section) = text.split_once("## What is exported").unwrap();
    let (section, _) = section.split_once("\n## ").unwrap();
    let code = |cell: &str| -> BTreeSet<String> {
        let parts = cell.split('`').skip(1).step_by(2);
        parts.map(str::to_owned).collect()
    };
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let name = code(cells[0]).pop_first().unwrap();
        (name, (cells[1].to_owned(), code(cells[2])))
    })
    .collect()
}
