//! Providers that do not work, and servers that die while they send. What may have left is never
//! sent again by itself, what surely did not is, and callers notice nothing.

use std::time::{Duration, Instant};

use heist::domain::mailing::Mailing;
use tokio::net::TcpListener;

use crate::harness::{
    PATIENCE, Player, World, connect,
    mail::{Behaviour, Email, Provider, Received, mailing},
    process::Serving,
    until,
};

/// Ada robs Ben, and both have addresses.
async fn one_robs_another(world: &World, there: &World) -> (Player, Player) {
    let ada = world
        .player("Ada")
        .tokens(3)
        .await
        .at(world, "ada@example.com")
        .await;
    let ben = world
        .player("Ben")
        .points(1000)
        .await
        .at(world, "ben@example.com")
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
        // Nobody listens there, as yet.
        let place = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let provider = Provider::start_as(Behaviour::Answer("503 Service Unavailable", "")).await;
        let mut options = provider.options(Mailing::Immediate);
        let mut nobody = Provider::start().await;
        nobody.url = format!("http://{}", place.local_addr().unwrap());
        drop(place);
        options.provider = nobody.options(Mailing::Immediate).provider;

        // The heist succeeds, and the notifications are in the application.
        let (server, there) = world.mailing_replica(options).await;
        let (ada, ben) = one_robs_another(world, &there).await;
        assert_eq!(ben.points().await, 950);
        assert_eq!(ada.notifications().await.len(), 1);
        assert_eq!(ben.notifications().await.len(), 1);
        // The mail did not leave, and waits.
        let emails = world.all_emails_wait_after(1).await;
        assert!(
            emails.iter().all(|it| says(it, "cannot be reached")),
            "{emails:?}"
        );
        assert!(world.trouble("sendgrid").await.is_some());
        server.stop(PATIENCE).await;

        // It answers again, but has no time; then it works: the mail is sent after all.
        let (server, _) = world
            .mailing_replica(provider.options(Mailing::Immediate))
            .await;
        world.queue_has_been_due_for(1).await;
        until("it is asked", async || {
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

/// Chaos test 3 of the review: a provider that takes thirty seconds.
#[test]
fn chaos_3_email_service_timeout() {
    let setup = World::setup().rules(|rules| rules.cooldown = Duration::ZERO);
    setup.run(async |world| {
        let provider = Provider::start_as(Behaviour::AcceptAfter(Duration::from_secs(30))).await;
        let options = provider.options_with(Mailing::Immediate, Duration::from_millis(500));
        let (server, there) = world.mailing_replica(options).await;
        let ada = world
            .player("Ada")
            .tokens(60)
            .await
            .at(world, "ada@example.com")
            .await;
        let mut with_mail = Vec::new();
        let mut without = Vec::new();
        // In turns, so that both see the same machine. Each victim is robbed once.
        for victim in world.crowd("victim", 60).points(1000).await {
            let victim = victim
                .clone()
                .at(world, &format!("{}@example.com", victim.id))
                .await;
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
        println!("median heist: {with_mail:?} with a dead provider, {without:?} without mail");
        // A bench would say it better; here it is enough that nobody waits for the provider.
        assert!(
            with_mail < without * 3 + Duration::from_millis(20),
            "{with_mail:?}, {without:?}"
        );
        assert_eq!(ada.notifications().await.len(), 60);

        // Those that were begun may have left: they are parked. The others wait for a provider
        // that works.
        provider.has_received(1).await;
        until("some are parked", async || {
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
fn a_rate_limit_makes_all_mail_wait() {
    World::run(async |world| {
        let limit = Behaviour::Answer("429 Too Many Requests\r\nretry-after: 600", "");
        let provider = Provider::start_as(limit).await;
        let (server, there) = world
            .mailing_replica(provider.options(Mailing::Immediate))
            .await;
        let (ada, ben) = one_robs_another(world, &there).await;
        world.all_emails_wait_after(1).await;
        let waits: bool = sqlx::query_scalar(
            r#"SELECT "pausedUntil" > now() + interval '9 minutes'
            FROM "HeistEmailProvider" WHERE "name" = 'sendgrid'"#,
        )
        .fetch_one(&world.pool)
        .await
        .unwrap();
        assert!(waits);

        provider.does(Behaviour::Accept);
        world.all_heists_were(Duration::from_hours(1)).await;
        ada.last_robbed_somebody(Duration::from_hours(25)).await;
        ada.robs(&ben).await.unwrap();
        let asked = provider.received().len();
        world.queue_has_been_due_for(1).await;
        world.all_emails_are_sent_at_last().await;
        server.stop(PATIENCE).await;
        assert_eq!(provider.received().len(), asked + 4, "each once");
    });
}

#[test]
fn what_cannot_be_sent_for_a_day_is_parked() {
    World::run(async |world| {
        let provider = Provider::start_as(Behaviour::Answer("500 Oh", "")).await;
        let (server, there) = world
            .mailing_replica(provider.options(Mailing::Immediate))
            .await;
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
                .all(|it| says(it, "HTTP 500") && it.attempts == Some(3))
        );
        server.stop(PATIENCE).await;
        assert_eq!(provider.received().len(), 6);
    });
}

#[test]
fn what_nobody_could_try_for_a_day_is_parked() {
    World::run(async |world| {
        let provider = Provider::start_as(Behaviour::Silent).await;
        let (server, there) = world
            .mailing_replica(provider.options(Mailing::Immediate))
            .await;
        one_robs_another(world, &there).await;
        server.stop(Duration::ZERO).await;
        sqlx::query(
            r#"UPDATE "HeistNotification" SET "emailState" = 'QUEUED', "emailAt" = now() - interval '25 hours'"#,
        )
        .execute(&world.pool)
        .await
        .unwrap();
        provider.does(Behaviour::Accept);
        let (server, _) = world
            .mailing_replica(provider.options(Mailing::Immediate))
            .await;
        let emails = world.all_emails_are("FAILED").await;
        assert!(emails.iter().all(|it| says(it, "in time")));
        server.stop(PATIENCE).await;
        assert!(provider.received().is_empty());
    });
}

#[test]
fn a_refused_mail_is_parked_at_once() {
    World::run(async |world| {
        let body = r#"{"errors":[{"message":"ada@example.com","field":"personalizations.0.to"}]}"#;
        let provider = Provider::start_as(Behaviour::Answer("400 Bad Request", body)).await;
        let (server, there) = world
            .mailing_replica(provider.options(Mailing::Immediate))
            .await;
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
fn an_address_that_is_none_is_parked_at_once() {
    World::run(async |world| {
        let provider = Provider::start().await;
        let (server, there) = world
            .mailing_replica(provider.options(Mailing::Immediate))
            .await;
        let ada = world
            .player("Ada")
            .await
            .at(world, "ada\r\nBcc: all@example.com")
            .await;
        let eve = world.player("Eve").referred_by(&ada).await;
        ada.seen_by(&there).earns_a_token_for(&eve).await.unwrap();
        let emails = world.all_emails_are("FAILED").await;
        assert!(says(&emails[0], "address is none"), "{emails:?}");
        server.stop(PATIENCE).await;
        assert!(provider.received().is_empty());
    });
}

#[test]
fn a_key_that_is_not_accepted_costs_no_mail() {
    for head in [
        "401 Unauthorized",
        "403 Forbidden",
        "302 Found\r\nlocation: /login",
    ] {
        World::run(async |world| {
            let provider = Provider::start_as(Behaviour::Answer(head, "")).await;
            let (server, there) = world
                .mailing_replica(provider.options(Mailing::Immediate))
                .await;
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
fn what_may_have_left_is_parked_and_never_sent_again() {
    for behaviour in [
        Behaviour::HangUp,
        Behaviour::Babble,
        Behaviour::NeverAnswer,
        Behaviour::Answer("502 Bad Gateway", ""),
        Behaviour::Answer("504 Gateway Timeout", ""),
    ] {
        World::run(async |world| {
            let provider = Provider::start_as(behaviour.clone()).await;
            let options = provider.options_with(Mailing::Immediate, Duration::from_millis(500));
            let (server, there) = world.mailing_replica(options).await;
            one_robs_another(world, &there).await;
            let emails = world.all_emails_are("UNKNOWN").await;
            assert!(
                emails.iter().all(|it| it.attempts == Some(1)),
                "{behaviour:?}: {emails:?}"
            );
            // A whole life of a server later nothing has changed.
            provider.does(Behaviour::Accept);
            server.stop(PATIENCE).await;
            let (server, _) = world
                .mailing_replica(provider.options(Mailing::Immediate))
                .await;
            world.queue_has_been_due_for(1).await;
            server.stop(PATIENCE).await;
            assert_eq!(world.emails().await, emails);
            assert_eq!(provider.received().len(), 2, "{behaviour:?}");
        });
    }
}

#[test]
fn an_answer_that_is_cut_short_still_says_that_it_was_taken() {
    World::run(async |world| {
        let provider = Provider::start_as(Behaviour::AcceptCutShort).await;
        let (server, there) = world
            .mailing_replica(provider.options(Mailing::Immediate))
            .await;
        one_robs_another(world, &there).await;
        world.all_emails_are("SENT").await;
        server.stop(PATIENCE).await;
        assert_eq!(provider.received().len(), 2);
    });
}

#[test]
fn two_processes_share_the_queue_and_send_everything_once() {
    World::run(async |world| {
        let provider = Provider::start_as(Behaviour::AcceptAfter(Duration::from_millis(20))).await;
        let one = mailing(world, &provider.url).serving().await;
        let other = mailing(world, &provider.url).serving().await;
        let ada = world
            .player("Ada")
            .tokens(40)
            .await
            .at(world, "ada@example.com")
            .await;
        let ben = world
            .player("Ben")
            .points(100_000)
            .await
            .at(world, "ben@example.com")
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
        // Connections are opened, and nobody says a word: nothing can have left.
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
        // They have left, and it knows nothing of it.
        assert_eq!(provider.has_received(2).await.len(), 2);
        server.stopped_by("KILL").await;
        drop(there);

        claims_end_as_unknown(world, 0).await;
        assert_eq!(provider.received().len(), 2);
    });
}

/// Another server, whose provider works, leaves alone what the dead one had claimed, and then parks
/// it: so much is sent by it.
async fn claims_end_as_unknown(world: &World, sent: usize) {
    let works = Provider::start().await;
    let (server, _) = world
        .mailing_replica(works.options(Mailing::Immediate))
        .await;
    world.all_emails_are("SENDING").await;
    world.claims_have_ended().await;
    let emails = world.all_emails_are("UNKNOWN").await;
    assert!(
        emails.iter().all(|it| says(it, "did not say")),
        "{emails:?}"
    );
    server.stop(PATIENCE).await;
    assert_eq!(works.received().len(), sent);
}

#[test]
fn a_server_that_stops_gives_back_what_it_has_not_begun() {
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
        let (server, _) = world
            .mailing_replica(works.options(Mailing::Immediate))
            .await;
        world.all_emails_are("SENT").await;
        server.stop(PATIENCE).await;
        assert_eq!(works.received().len(), 2);
    });
}

#[test]
fn a_certificate_that_nobody_vouches_for_gets_no_mail() {
    World::run(async |world| {
        // Speaks HTTP where TLS is expected.
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
        until("it is sent", async || {
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
