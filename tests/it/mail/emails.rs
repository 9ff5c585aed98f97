//! The e-mails that players receive through a provider that works.

use std::time::Duration;

use heist::{
    domain::mailing::Mailing,
    mail::{Rate, Secret, Unsubscribe},
};

use crate::harness::{
    PATIENCE, World,
    identity::Folder,
    mail::{API_KEY, Behaviour, Provider, closed_window, mailing, open_window},
    pki::Authority,
    until,
};

#[test]
fn both_players_of_a_heist_receive_an_email() {
    World::run(async |world| {
        let provider = Provider::start().await;
        let (server, there) = world.mailing_through(&provider).await;
        let ada = world
            .player("Ada")
            .tokens(1)
            .points(10)
            .email("ada@example.com")
            .await
            .seen_by(&there);
        let ben = world
            .player("Ben <b>")
            .points(1000)
            .email("ben@example.com")
            .await;

        ada.robs(&ben).await.unwrap();

        let received = provider.has_received(2).await;
        let emails = world.all_emails_are("SENT").await;
        assert!(emails.iter().all(|it| it.attempts == Some(1)));
        assert_eq!(received.len(), 2);
        let to = |address: &str| received.iter().find(|it| it.to() == address).unwrap();

        let to_ada = to("ada@example.com");
        assert_eq!(to_ada.head, "POST /v3/mail/send HTTP/1.1");
        assert_eq!(to_ada.headers["authorization"], format!("Bearer {API_KEY}"));
        assert_eq!(to_ada.headers["content-type"], "application/json");
        assert_eq!(format!("http://{}", to_ada.headers["host"]), provider.url);
        assert_eq!(to_ada.mail["from"]["email"], "heists@example.com");
        assert_eq!(to_ada.mail["from"]["name"], "Heists");
        assert_eq!(to_ada.subject(), "Heist successful!");
        assert_eq!(
            to_ada.reference(),
            format!("{}/{}", emails[0].user_id, emails[0].id)
        );
        let text = to_ada.text();
        assert!(text.starts_with("Hi Ada,\n\nHeist successful!\n"), "{text}");
        assert!(
            text.contains("\nYou stole 50 points from Ben <b>.\nYou have 60 points now.\n"),
            "{text}"
        );
        let link = format!(
            "https://app.example.com/play/notifications/{}",
            emails[0].id
        );
        assert!(text.contains(&link), "{text}");
        let html = to_ada.html();
        assert!(
            html.contains("You stole 50 points from Ben &lt;b&gt;."),
            "{html}"
        );
        let href = format!(r#"href="{}""#, link.replace('/', "&#x2f;"));
        assert!(html.contains(&href), "{html}");

        let to_ben = to("ben@example.com");
        assert_eq!(to_ben.subject(), "You were robbed!");
        assert!(
            to_ben
                .text()
                .contains("Ada stole 50 of your monthly points.\nYou have 950 points left.\n")
        );
        // Without HEIST_EMAIL_UNSUBSCRIBE_URL there is no List-Unsubscribe header.
        assert_eq!(
            to_ben.mail["headers"],
            serde_json::json!({ "Auto-Submitted": "auto-generated" })
        );
        server.stop(PATIENCE).await;
    });
}

#[test]
fn an_award_sends_an_email_to_the_referrer() {
    World::run(async |world| {
        let provider = Provider::start().await;
        let (server, there) = world.mailing_through(&provider).await;
        let ada = world.player("Ada").email("ada@example.com").await;
        let eve = world
            .player("Eve\r\nBcc: all@example.com")
            .referred_by(&ada)
            .await;

        ada.seen_by(&there).earns_a_token_for(&eve).await.unwrap();

        let received = provider.has_received(1).await;
        assert_eq!(received[0].subject(), "Token earned!");
        let text = received[0].text();
        assert!(
            text.contains("\nEve  Bcc: all@example.com joined with your code. You earned a heist token.\nYou have 1 heist token to spend.\n"),
            "{text}"
        );
        world.all_emails_are("SENT").await;
        server.stop(PATIENCE).await;
    });
}

#[test]
fn a_player_without_an_address_is_skipped() {
    World::run(async |world| {
        let provider = Provider::start().await;
        let (server, there) = world.mailing_through(&provider).await;
        let ada = world.player("Ada").tokens(1).await.seen_by(&there);
        let ben = world.player("Ben").points(1000).email(" ").await;
        ada.robs(&ben).await.unwrap();
        world.all_emails_are("SKIPPED").await;
        assert!(provider.received().is_empty());
        server.stop(PATIENCE).await;
    });
}

#[test]
fn notifications_written_while_email_was_off_are_never_sent() {
    World::run(async |world| {
        let provider = Provider::start().await;
        let ada = world.player("Ada").tokens(1).email("ada@example.com").await;
        let ben = world
            .player("Ben")
            .points(1000)
            .tokens(1)
            .email("ben@example.com")
            .await;
        // The world's own server has e-mail switched off.
        ada.robs(&ben).await.unwrap();
        assert!(world.emails().await.iter().all(|it| it.state.is_none()));

        let (server, there) = world.mailing_through(&provider).await;
        let eve = world
            .player("Eve")
            .points(1000)
            .email("eve@example.com")
            .await;
        ben.seen_by(&there).robs(&eve).await.unwrap();
        let received = provider.has_received(2).await;
        server.stop(PATIENCE).await;
        assert_eq!(received.len(), 2);
        let states: Vec<_> = (world.emails().await.into_iter())
            .map(|it| it.state)
            .collect();
        let sent = Some("SENT".to_owned());
        assert_eq!(states, [None, None, sent.clone(), sent]);
    });
}

#[test]
fn a_digest_lists_a_day_in_one_email() {
    let setup = World::setup().rules(|rules| rules.cooldown = Duration::ZERO);
    setup.run(async |world| {
        let provider = Provider::start().await;
        let mailing = open_window(world).await;
        let (server, there) = world.mailing_replica(provider.options(mailing)).await;
        let ada = world.player("Ada").tokens(4).email("ada@example.com").await;
        let ada = ada.seen_by(&there);
        let ben = world
            .player("Ben")
            .points(1000)
            .email("ben@example.com")
            .await;
        for _ in 0..3 {
            ada.robs(&ben).await.unwrap();
        }
        // Makes them due, as if they were from before the opening.
        world.queue_has_been_due_for(900).await;

        let received = provider.has_received(2).await;
        world.all_emails_are("SENT").await;
        assert_eq!(received.len(), 2);
        for mail in &received {
            assert_eq!(mail.subject(), "3 things happened in your heists");
            assert!(
                mail.text()
                    .contains("https://app.example.com/play/notifications\n")
            );
        }
        let to_ben = received
            .iter()
            .find(|it| it.to() == "ben@example.com")
            .unwrap();
        let places: Vec<_> = ["stole 45 ", "stole 47 ", "stole 50 "]
            .map(|what| to_ben.text().find(what).expect(what))
            .into();
        assert!(places.is_sorted(), "newest first: {}", to_ben.text());

        // A notification from within the window is due tomorrow.
        ada.robs(&ben).await.unwrap();
        until("the e-mails are deferred", async || {
            let day = Duration::from_hours(23);
            world
                .queued_emails_wait_longer_than(day)
                .await
                .then_some(())
        })
        .await;
        server.stop(PATIENCE).await;
        assert_eq!(provider.received().len(), 2);
    });
}

#[test]
fn a_digest_waits_for_its_window() {
    World::run(async |world| {
        let provider = Provider::start().await;
        let mailing = closed_window(world).await;
        let (server, there) = world.mailing_replica(provider.options(mailing)).await;
        let ada = world.player("Ada").tokens(1).email("ada@example.com").await;
        let ben = world
            .player("Ben")
            .points(1000)
            .email("ben@example.com")
            .await;
        ada.seen_by(&there).robs(&ben).await.unwrap();
        world.queue_has_been_due_for(60).await;
        server.stop(PATIENCE).await;
        // The worker polled at its start and after the heist, and claimed nothing.
        assert!(provider.received().is_empty());
        let emails = world.emails().await;
        assert!(
            emails
                .iter()
                .all(|it| it.state.as_deref() == Some("QUEUED") && it.attempts.is_none())
        );

        world.queue_has_been_due_for(900).await;
        let mailing = open_window(world).await;
        let (server, _) = world.mailing_replica(provider.options(mailing)).await;
        world.all_emails_are("SENT").await;
        server.stop(PATIENCE).await;
    });
}

#[test]
fn a_failed_digest_is_merged_into_the_next_one() {
    let setup = World::setup().rules(|rules| rules.cooldown = Duration::ZERO);
    setup.run(async |world| {
        let provider = Provider::start_as(Behaviour::Answer("408 Request Timeout", "")).await;
        let mailing = open_window(world).await;
        let (server, there) = world.mailing_replica(provider.options(mailing)).await;
        let ada = world.player("Ada").tokens(2).await.seen_by(&there);
        let ben = world
            .player("Ben")
            .points(1000)
            .email("ben@example.com")
            .await;
        ada.robs(&ben).await.unwrap();
        world.queue_has_been_due_for(900).await;
        provider.has_received(1).await;
        crate::harness::until("the e-mail is queued again", async || {
            let emails = world.emails().await;
            (emails[1].state.as_deref() == Some("QUEUED") && emails[1].attempts == Some(1))
                .then_some(())
        })
        .await;

        ada.robs(&ben).await.unwrap();
        provider.does(Behaviour::Accept);
        world.queue_has_been_due_for(900).await;
        let received = provider.has_received(2).await;
        assert_eq!(received[1].subject(), "2 things happened in your heists");
        server.stop(PATIENCE).await;
        assert_eq!(provider.received().len(), 2);
    });
}

#[test]
fn emails_contain_an_unsubscribe_link() {
    World::run(async |world| {
        let provider = Provider::start().await;
        let mut options = provider.options(Mailing::immediate());
        let template = "https://app.example.com/unsubscribe?player={user_id}&proof={signature}";
        let key = Some(Secret::new("key"));
        options.presentation.unsubscribe = Some(Unsubscribe::new(template, key).unwrap());
        let (server, there) = world.mailing_replica(options).await;
        let ada = world.player("Ada").email("ada@example.com").await;
        let eve = world.player("Eve").referred_by(&ada).await;
        ada.seen_by(&there).earns_a_token_for(&eve).await.unwrap();

        let received = provider.has_received(1).await;
        let header = received[0].mail["headers"]["List-Unsubscribe"]
            .as_str()
            .unwrap();
        let url = header
            .strip_prefix('<')
            .and_then(|it| it.strip_suffix('>'))
            .unwrap();
        let (_, proof) = url.split_once("&proof=").unwrap();
        assert_eq!(proof.len(), 64, "{url}");
        assert_eq!(
            received[0].mail["headers"]["List-Unsubscribe-Post"],
            "List-Unsubscribe=One-Click"
        );
        assert!(
            received[0].text().ends_with(&format!("Unsubscribe: {url}")),
            "{}",
            received[0].text()
        );
        assert!(
            received[0]
                .html()
                .contains(&url.replace('&', "&amp;").replace('/', "&#x2f;"))
        );
        server.stop(PATIENCE).await;
    });
}

#[test]
fn the_rate_limit_holds_for_all_replicas_together() {
    let setup = World::setup().rules(|rules| rules.cooldown = Duration::ZERO);
    setup.run(async |world| {
        let provider = Provider::start().await;
        let mut options = provider.options(Mailing::immediate());
        options.rate = Rate::per_minute(1);
        let (one, there) = world.mailing_replica(options.clone()).await;
        let (other, _) = world.mailing_replica(options).await;
        let ada = world.player("Ada").tokens(2).email("ada@example.com").await;
        let ben = world
            .player("Ben")
            .points(1000)
            .email("ben@example.com")
            .await;
        ada.seen_by(&there).robs(&ben).await.unwrap();
        provider.has_received(1).await;
        // Each polls once more before it ends. The rate allows the next e-mail after a minute.
        one.stop(PATIENCE).await;
        other.stop(PATIENCE).await;
        assert_eq!(provider.received().len(), 1);
        let wait = world.provider_rate_wait("sendgrid").await;
        assert!((30..=60).contains(&wait.as_secs()), "{wait:?}");
    });
}

#[test]
fn a_deleted_player_receives_no_email() {
    World::run(async |world| {
        let provider = Provider::start().await;
        let mailing = closed_window(world).await;
        let (server, there) = world.mailing_replica(provider.options(mailing)).await;
        let ada = world.player("Ada").tokens(1).email("ada@example.com").await;
        let ben = world
            .player("Ben")
            .points(1000)
            .email("ben@example.com")
            .await;
        ada.seen_by(&there).robs(&ben).await.unwrap();
        server.stop(PATIENCE).await;
        ben.leaves().await;
        world.queue_has_been_due_for(60).await;

        let (server, _) = world.mailing_through(&provider).await;
        world.all_emails_are("SENT").await;
        server.stop(PATIENCE).await;
        let received = provider.received();
        assert_eq!(received.len(), 1);
        assert!(
            received[0]
                .text()
                .contains("You stole 50 points from [deleted player].")
        );
    });
}

#[test]
fn https_requires_a_trusted_certificate() {
    World::run(async |world| {
        let authority = Authority::new();
        let provider = Provider::start_with(&authority.issue(&["localhost"])).await;
        let (server, there) = world.mailing_through(&provider).await;
        let ada = world.player("Ada").tokens(1).await.seen_by(&there);
        let ben = world
            .player("Ben")
            .points(1000)
            .email("ben@example.com")
            .await;
        ada.robs(&ben).await.unwrap();
        until("the attempt fails", async || {
            let emails = world.emails().await;
            let mut errors = emails.into_iter().filter_map(|email| email.error);
            errors
                .any(|error| error.contains("UnknownIssuer"))
                .then_some(())
        })
        .await;
        server.stop(PATIENCE).await;
        assert!(provider.received().is_empty());

        let folder = Folder::new();
        let server = mailing(world, &provider.url)
            .env(
                "HEIST_EMAIL_CA_FILE",
                folder.file("ca.pem", &authority.root),
            )
            .serving()
            .await;
        world.queue_has_been_due_for(1).await;
        provider.has_received(1).await;
        assert_eq!(server.stopped_by("TERM").await.code, Some(0));
    });
}
