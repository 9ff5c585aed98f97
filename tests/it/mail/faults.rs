//! Failing providers, and servers that are killed while they send. An e-mail that may have left is
//! never retried automatically, one that certainly did not leave is, and callers are not affected.

use std::time::{Duration, Instant};

use heist::domain::mailing::Mailing;
use tokio::net::TcpListener;

use crate::harness::{
    PATIENCE, Player, World, connect,
    mail::{Behaviour, Email, Provider, Received, mailing},
    process::Serving,
    until,
};

/// Ada and Ben have addresses, and Ada robs Ben.
async fn one_robs_another(world: &World, there: &World) -> (Player, Player) {
    let ada = world.player("Ada").tokens(3).email("ada@example.com").await;
    let ben = world
        .player("Ben")
        .points(1000)
        .email("ben@example.com")
        .await;
    let ada = ada.seen_by(there);
    ada.robs(&ben).await.unwrap();
    (ada, ben)
}

async fn there(world: &World, server: &Serving) -> World {
    world.through(connect(server.address).await)
}

fn says(email: &Email, what: &str) -> bool {
    email.error.as_deref().is_some_and(|it| it.contains(what))
}

/// FM-2 of the review.
#[test]
fn fm_2_email_service_unavailable() {
    World::run(async |world| {
        // A port on which no server listens.
        let place = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let provider = Provider::start_as(Behaviour::UNAVAILABLE).await;
        let mut options = provider.options(Mailing::immediate());
        let mut absent = Provider::start().await;
        absent.url = format!("http://{}", place.local_addr().unwrap());
        drop(place);
        options.provider = absent.options(Mailing::immediate()).provider;

        // The heist succeeds and writes both notifications.
        let (server, there) = world.mailing_replica(options).await;
        let (ada, ben) = one_robs_another(world, &there).await;
        assert_eq!(ben.points().await, 950);
        assert_eq!(ada.notifications().await.len(), 1);
        assert_eq!(ben.notifications().await.len(), 1);
        // The e-mails did not leave and are queued again.
        let emails = world.all_emails_wait_after(1).await;
        assert!(
            emails.iter().all(|it| says(it, "cannot be reached")),
            "{emails:?}"
        );
        assert!(world.trouble("sendgrid").await.is_some());
        server.stop(PATIENCE).await;

        // The provider answers 503, then works, and the e-mails are sent.
        let (server, _) = world.mailing_through(&provider).await;
        world.queue_has_been_due_for(1).await;
        until("the provider receives a request", async || {
            (!provider.received().is_empty()).then_some(())
        })
        .await;
        provider.does(Behaviour::Accept);
        world.all_emails_are_sent_at_last().await;
        server.stop(PATIENCE).await;
        assert_eq!(world.trouble("sendgrid").await, None);
        assert_eq!(ben.notifications().await.len(), 1);
    });
}

/// Chaos test 3 of the review: a provider that answers after 30 seconds.
#[test]
fn chaos_3_email_service_timeout() {
    let setup = World::setup().rules(|rules| rules.cooldown = Duration::ZERO);
    setup.run(async |world| {
        let provider = Provider::start_as(Behaviour::AcceptAfter(Duration::from_secs(30))).await;
        let options = provider.options_with(Mailing::immediate(), Duration::from_millis(500));
        let (server, there) = world.mailing_replica(options).await;
        let ada = world
            .player("Ada")
            .tokens(60)
            .email("ada@example.com")
            .await;
        let mut with_mail = Vec::new();
        let mut without = Vec::new();
        // Alternates between both servers, so that load on the machine affects both. Each victim is
        // robbed once.
        for number in 0..60 {
            let address = format!("victim{number}@example.com");
            let victim = world.player("Victim").points(1000).email(&address).await;
            let (through, times) = if victim.id % 2 == 0 {
                (&there, &mut with_mail)
            } else {
                (world, &mut without)
            };
            let begun = Instant::now();
            ada.seen_by(through).robs(&victim).await.unwrap();
            times.push(begun.elapsed());
        }
        for times in [&mut with_mail, &mut without] {
            times.sort_unstable();
        }
        let (with_mail, without) = (with_mail[15], without[15]);
        println!("median heist: {with_mail:?} with a hanging provider, {without:?} without e-mail");
        // A coarse bound: callers do not wait for the provider's time-out of 500 ms.
        assert!(
            with_mail < without * 3 + Duration::from_millis(20),
            "{with_mail:?}, {without:?}"
        );
        assert_eq!(ada.notifications().await.len(), 60);

        // E-mails with an attempt may have left and are parked. The others stay queued.
        provider.has_received(1).await;
        until("some e-mails are parked", async || {
            let emails = world.emails().await;
            let parked = emails
                .iter()
                .filter(|it| it.state.as_deref() == Some("UNKNOWN"));
            (parked.count() > 0).then_some(())
        })
        .await;
        let emails = world.emails().await;
        let unknown: Vec<_> = (emails.iter())
            .filter(|it| it.state.as_deref() == Some("UNKNOWN"))
            .collect();
        assert!(
            unknown.iter().all(|it| says(it, "none within 500ms")),
            "{unknown:?}"
        );
        let waiting = emails
            .iter()
            .filter(|it| it.state.as_deref() == Some("QUEUED"))
            .count();
        assert!(waiting >= 40, "{waiting}");
        server.stop(PATIENCE).await;
    });
}

#[test]
fn a_rate_limit_of_the_provider_pauses_all_emails() {
    World::run(async |world| {
        let limit = Behaviour::Answer("429 Too Many Requests\r\nretry-after: 600", "");
        let provider = Provider::start_as(limit).await;
        let (server, there) = world.mailing_through(&provider).await;
        let (ada, ben) = one_robs_another(world, &there).await;
        world.all_emails_wait_after(1).await;
        assert!(world.provider_pause("sendgrid").await > Duration::from_mins(9));

        provider.does(Behaviour::Accept);
        world.all_heists_were(Duration::from_hours(1)).await;
        ada.last_heist_was(Duration::from_hours(25)).await;
        ada.robs(&ben).await.unwrap();
        let asked = provider.received().len();
        world.queue_has_been_due_for(1).await;
        world.all_emails_are_sent_at_last().await;
        server.stop(PATIENCE).await;
        assert_eq!(provider.received().len(), asked + 4, "each once");
    });
}

#[test]
fn an_email_that_fails_for_a_day_is_parked() {
    World::run(async |world| {
        let provider = Provider::start_as(Behaviour::Answer("408 Request Timeout", "")).await;
        let (server, there) = world.mailing_through(&provider).await;
        one_robs_another(world, &there).await;
        world.all_emails_wait_after(1).await;
        world.queue_has_been_due_for(1).await;
        world.all_emails_wait_after(2).await;
        world.patience_is_over().await;
        world.queue_has_been_due_for(1).await;
        let emails = world.all_emails_are("FAILED").await;
        assert!(
            emails
                .iter()
                .all(|it| says(it, "HTTP 408") && it.attempts == Some(3))
        );
        server.stop(PATIENCE).await;
        assert_eq!(provider.received().len(), 6);
    });
}

#[test]
fn an_email_that_no_server_sent_for_a_day_is_parked() {
    World::run(async |world| {
        let provider = Provider::start_as(Behaviour::Answer("408 Request Timeout", "")).await;
        let (server, there) = world.mailing_through(&provider).await;
        one_robs_another(world, &there).await;
        world.all_emails_wait_after(1).await;
        server.stop(PATIENCE).await;
        world
            .all_emails_are_queued_since(Duration::from_hours(25))
            .await;
        provider.does(Behaviour::Accept);
        let (server, _) = world.mailing_through(&provider).await;
        let emails = world.all_emails_are("FAILED").await;
        assert!(emails.iter().all(|it| says(it, "within the time limit")));
        server.stop(PATIENCE).await;
        assert_eq!(provider.received().len(), 2);
    });
}

#[test]
fn a_refused_email_is_parked_at_once() {
    World::run(async |world| {
        let body = r#"{"errors":[{"message":"ada@example.com","field":"personalizations.0.to"}]}"#;
        let provider = Provider::start_as(Behaviour::Answer("400 Bad Request", body)).await;
        let (server, there) = world.mailing_through(&provider).await;
        one_robs_another(world, &there).await;
        let emails = world.all_emails_are("FAILED").await;
        for email in &emails {
            assert_eq!(
                email.error.as_deref(),
                Some("HTTP 400 of personalizations.0.to")
            );
            assert_eq!(email.attempts, Some(1));
        }
        assert_eq!(world.trouble("sendgrid").await, None);
        server.stop(PATIENCE).await;
    });
}

#[test]
fn an_invalid_address_is_parked_at_once() {
    World::run(async |world| {
        let provider = Provider::start().await;
        let (server, there) = world.mailing_through(&provider).await;
        let ada = world
            .player("Ada")
            .email("ada\r\nBcc: all@example.com")
            .await;
        let eve = world.player("Eve").referred_by(&ada).await;
        ada.seen_by(&there).earns_a_token_for(&eve).await.unwrap();
        let emails = world.all_emails_are("FAILED").await;
        assert!(says(&emails[0], "address is invalid"), "{emails:?}");
        server.stop(PATIENCE).await;
        assert!(provider.received().is_empty());
    });
}

#[test]
fn a_rejected_key_loses_no_email() {
    for head in [
        "401 Unauthorized",
        "403 Forbidden",
        "302 Found\r\nlocation: /login",
    ] {
        World::run(async |world| {
            let provider = Provider::start_as(Behaviour::Answer(head, "")).await;
            let (server, there) = world.mailing_through(&provider).await;
            one_robs_another(world, &there).await;
            let emails = world.all_emails_wait_after(1).await;
            assert!(
                emails.iter().all(|it| says(it, "check the settings")),
                "{emails:?}"
            );
            let trouble = world.trouble("sendgrid").await.unwrap();
            assert!(trouble.contains("check the settings"), "{trouble}");
            server.stop(PATIENCE).await;
        });
    }
}

#[test]
fn an_email_that_may_have_left_is_parked_and_never_retried() {
    for behaviour in [
        Behaviour::HangUp,
        Behaviour::Babble,
        Behaviour::NeverAnswer,
        Behaviour::Answer("500 Internal Server Error", ""),
        Behaviour::Answer("502 Bad Gateway", ""),
        Behaviour::Answer("503 Service Unavailable", ""),
        Behaviour::Answer("200 OK", ""),
        Behaviour::Answer("504 Gateway Timeout", ""),
    ] {
        World::run(async |world| {
            let provider = Provider::start_as(behaviour.clone()).await;
            let options = provider.options_with(Mailing::immediate(), Duration::from_millis(500));
            let (server, there) = world.mailing_replica(options).await;
            one_robs_another(world, &there).await;
            let emails = world.all_emails_are("UNKNOWN").await;
            assert!(
                emails.iter().all(|it| it.attempts == Some(1)),
                "{behaviour:?}: {emails:?}"
            );
            // Another server with a working provider does not send it either.
            provider.does(Behaviour::Accept);
            server.stop(PATIENCE).await;
            let (server, _) = world.mailing_through(&provider).await;
            world.queue_has_been_due_for(1).await;
            server.stop(PATIENCE).await;
            assert_eq!(world.emails().await, emails);
            assert_eq!(provider.received().len(), 2, "{behaviour:?}");
        });
    }
}

#[test]
fn a_truncated_body_after_status_202_means_sent() {
    World::run(async |world| {
        let provider = Provider::start_as(Behaviour::AcceptCutShort).await;
        let (server, there) = world.mailing_through(&provider).await;
        one_robs_another(world, &there).await;
        world.all_emails_are("SENT").await;
        server.stop(PATIENCE).await;
        assert_eq!(provider.received().len(), 2);
    });
}

#[test]
fn two_processes_share_the_queue_and_send_each_email_once() {
    World::run(async |world| {
        let provider = Provider::start_as(Behaviour::AcceptAfter(Duration::from_millis(20))).await;
        let one = mailing(world, &provider.url).serving().await;
        let other = mailing(world, &provider.url).serving().await;
        let ada = world
            .player("Ada")
            .tokens(40)
            .email("ada@example.com")
            .await;
        let ben = world
            .player("Ben")
            .points(100_000)
            .email("ben@example.com")
            .await;
        let (here, there) = (there(world, &one).await, there(world, &other).await);
        let heists = (0..40).map(|number| {
            let through = if number % 2 == 0 { &here } else { &there };
            ada.seen_by(through).robs(&ben)
        });
        for answer in crate::harness::all_at_once(heists).await {
            answer.unwrap();
        }
        let emails = world.all_emails_are("SENT").await;
        assert_eq!(emails.len(), 80);
        assert!(emails.iter().all(|it| it.attempts == Some(1)));
        let received = provider.received();
        let mut references: Vec<_> = received.iter().map(Received::reference).collect();
        references.sort_unstable();
        references.dedup();
        assert_eq!((references.len(), received.len()), (80, 80));
        for server in [one, other] {
            assert_eq!(server.stopped_by("TERM").await.code, Some(0));
        }
    });
}

#[test]
fn a_server_killed_between_claim_and_send_sends_nothing_twice() {
    World::run(async |world| {
        // The port accepts connections and sends no byte, so no TLS handshake completes.
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}", silent.local_addr().unwrap());
        let server = mailing(world, &url).serving().await;
        let there = there(world, &server).await;
        one_robs_another(world, &there).await;
        world.all_emails_are("SENDING").await;
        server.stopped_by("KILL").await;
        drop(there);

        claims_end_as_unknown(world, 0).await;
    });
}

#[test]
fn a_server_killed_between_send_and_record_sends_nothing_twice() {
    World::run(async |world| {
        let provider = Provider::start_as(Behaviour::NeverAnswer).await;
        let server = mailing(world, &provider.url).serving().await;
        let there = there(world, &server).await;
        one_robs_another(world, &there).await;
        // The provider has the e-mails, and the server has no answer.
        assert_eq!(provider.has_received(2).await.len(), 2);
        server.stopped_by("KILL").await;
        drop(there);

        claims_end_as_unknown(world, 0).await;
        assert_eq!(provider.received().len(), 2);
    });
}

/// A second server with a working provider does not touch the claims of the killed one until they
/// expire, then parks the e-mails, and sends `sent` e-mails itself.
async fn claims_end_as_unknown(world: &World, sent: usize) {
    let works = Provider::start().await;
    let (server, _) = world.mailing_through(&works).await;
    world.all_emails_are("SENDING").await;
    world.claims_have_ended().await;
    let emails = world.all_emails_are("UNKNOWN").await;
    assert!(
        emails.iter().all(|it| says(it, "claim expired")),
        "{emails:?}"
    );
    server.stop(PATIENCE).await;
    assert_eq!(works.received().len(), sent);
}

#[test]
fn a_server_that_stops_releases_attempts_that_were_not_begun() {
    World::run(async |world| {
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}", silent.local_addr().unwrap());
        let server = mailing(world, &url).serving().await;
        let there = there(world, &server).await;
        one_robs_another(world, &there).await;
        world.all_emails_are("SENDING").await;
        let ended = server.stopped_by("TERM").await;
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let emails = world.emails().await;
        assert!(
            emails
                .iter()
                .all(|it| it.state.as_deref() == Some("QUEUED")),
            "{emails:?}"
        );

        let works = Provider::start().await;
        let (server, _) = world.mailing_through(&works).await;
        world.all_emails_are("SENT").await;
        server.stop(PATIENCE).await;
        assert_eq!(works.received().len(), 2);
    });
}

#[test]
fn a_provider_without_tls_behind_https_gets_no_email() {
    World::run(async |world| {
        // Answers with HTTP where TLS is expected.
        let provider = Provider::start().await;
        let url = provider.url.replace("http://", "https://");
        let server = mailing(world, &url).serving().await;
        let there = there(world, &server).await;
        one_robs_another(world, &there).await;
        let emails = world.all_emails_wait_after(1).await;
        assert!(
            emails.iter().all(|it| says(it, "cannot be reached")),
            "{emails:?}"
        );
        assert!(provider.received().is_empty());
        assert_eq!(server.stopped_by("TERM").await.code, Some(0));
    });
}

#[test]
fn neither_addresses_nor_keys_are_logged() {
    World::run(async |world| {
        let body = r#"{"errors":[{"message":"ada@example.com","field":"ada@example.com"}]}"#;
        let provider = Provider::start_as(Behaviour::Answer("400 Bad Request", body)).await;
        let server = mailing(world, &provider.url)
            .env("RUST_LOG", "trace")
            .serving()
            .await;
        let there = there(world, &server).await;
        let ada = one_robs_another(world, &there).await.0;
        world.all_emails_are("FAILED").await;
        provider.does(Behaviour::Accept);
        ada.robs(&world.player("Cy").points(100).await)
            .await
            .unwrap();
        until("the e-mail is sent", async || {
            let emails = world.emails().await;
            (emails[2].state.as_deref() == Some("SENT")).then_some(())
        })
        .await;
        let ended = server.stopped_by("TERM").await;
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert!(ended.stderr.contains(r#""email.outcome":"sent""#));
        assert!(ended.stderr.contains(r#""email.outcome":"failed""#));
        for secret in ["ada@example.com", "ben@example.com", "hunter2"] {
            assert!(!ended.stderr.contains(secret), "{secret}");
        }
    });
}
