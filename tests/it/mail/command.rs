//! The command `heist emails`.

use crate::harness::{
    PATIENCE, World,
    mail::{Behaviour, Provider},
    process::{Ended, Heist},
};

async fn emails(world: &World, arguments: &[&str]) -> Ended {
    let arguments = [&["emails"], arguments].concat();
    let heist = Heist::new(&arguments).env("DATABASE_URL", &world.database_url);
    heist.ended().await
}

async fn succeeds(world: &World, arguments: &[&str]) -> String {
    let ended = emails(world, arguments).await;
    assert_eq!(ended.code, Some(0), "{arguments:?}: {ended:?}");
    ended.stdout
}

/// Runs `body` in a world with two parked e-mails. Passes their names.
fn with_two_parked(behaviour: Behaviour, body: impl AsyncFnOnce(&World, &Provider, [String; 2])) {
    World::run(async |world| {
        let state = match behaviour {
            Behaviour::HangUp => "UNKNOWN",
            _ => "FAILED",
        };
        let provider = Provider::start_as(behaviour).await;
        let (server, there) = world.mailing_through(&provider).await;
        let ada = world.player("Ada").tokens(1).email("ada@example.com").await;
        let ben = world
            .player("Ben")
            .points(1000)
            .email("ben@example.com")
            .await;
        ada.seen_by(&there).robs(&ben).await.unwrap();
        let parked = world.all_emails_are(state).await;
        server.stop(PATIENCE).await;
        let names = [0, 1].map(|it| format!("{}/{}", parked[it].user_id, parked[it].id));
        body(world, &provider, names).await;
    });
}

#[test]
fn list_shows_parked_emails_without_addresses() {
    with_two_parked(
        Behaviour::Answer("400 Bad Request", ""),
        async |world, _, [ada, ben]| {
            let list = succeeds(world, &["list"]).await;
            let lines: Vec<&str> = list.lines().collect();
            assert_eq!(lines.len(), 3, "{list}");
            for (line, mail, tells) in [
                (lines[1], &ada, "heist_success"),
                (lines[2], &ben, "heist_victim"),
            ] {
                let words: Vec<&str> = line.split_whitespace().collect();
                assert_eq!(words[..4], [mail, tells, "failed", "1"], "{list}");
                assert_eq!(words[5..], ["default", "HTTP", "400"], "{list}");
            }
            assert!(!list.contains('@'), "{list}");
            let one = succeeds(world, &["list", "--player", ada.split('/').next().unwrap()]).await;
            assert_eq!(one.lines().count(), 2, "{one}");
            assert_eq!(
                succeeds(world, &["list", "--limit", "1"])
                    .await
                    .lines()
                    .count(),
                2
            );
            assert_eq!(
                succeeds(world, &["list", "--state", "queued"])
                    .await
                    .lines()
                    .count(),
                1
            );
            let status = succeeds(world, &["status"]).await;
            assert!(status.contains("failed          2  parked"), "{status}");
            let json = async |command| -> serde_json::Value {
                serde_json::from_str(&succeeds(world, &[command, "--json"]).await).unwrap()
            };
            assert_eq!(json("status").await["failed"], 2);
            let list = json("list").await;
            assert_eq!(list.as_array().unwrap().len(), 2);
            assert_eq!(list[0]["state"], "FAILED");
        },
    );
}

#[test]
fn resend_queues_a_parked_email_again() {
    with_two_parked(
        Behaviour::Answer("400 Bad Request", ""),
        async |world, provider, [ada, ben]| {
            provider.does(Behaviour::Accept);
            assert_eq!(
                succeeds(world, &["resend", &ada]).await,
                "1 e-mail was queued again.\n"
            );
            // The e-mail is no longer parked.
            assert_eq!(emails(world, &["resend", &ada]).await.code, Some(1));
            assert!(
                succeeds(world, &["status"])
                    .await
                    .contains("due             1  the oldest since")
            );
            assert_eq!(
                succeeds(world, &["drop", "--state", "failed"]).await,
                "1 e-mail was dropped.\n"
            );
            assert_eq!(emails(world, &["resend", &ben]).await.code, Some(1));

            let before = provider.received().len();
            let (server, _) = world.mailing_through(provider).await;
            provider.has_received(before + 1).await;
            server.stop(PATIENCE).await;
            let states: Vec<_> = (world.emails().await.into_iter())
                .map(|it| it.state.unwrap())
                .collect();
            assert_eq!(states, ["SENT", "DROPPED"]);
            assert_eq!(provider.received().len(), before + 1);
        },
    );
}

#[test]
fn resend_and_drop_say_why_an_email_was_not_changed_and_never_wait() {
    with_two_parked(
        Behaviour::Answer("400 Bad Request", ""),
        async |world, _, [ada, ben]| {
            // As MarkNotificationsRead holds it.
            let mut marking = world.application().await;
            let (player, id) = ben.split_once('/').unwrap();
            let hold = format!(
                r#"UPDATE "HeistNotification" SET "read" = true
                WHERE "userId" = {player} AND "id" = {id}"#
            );
            marking.execute(&hold).await;
            let resent = emails(world, &["resend", &ada, &ben, "1/999"]).await;
            assert_eq!(resent.code, Some(1), "{resent:?}");
            assert_eq!(resent.stdout, "1 e-mail was queued again.\n");
            let held = format!("{ben} was not queued again: another transaction holds it");
            assert!(resent.stderr.contains(&held), "{resent:?}");
            let missing = "1/999 was not queued again: there is no such e-mail";
            assert!(resent.stderr.contains(missing), "{resent:?}");

            let dropped = emails(world, &["drop", "--state", "failed"]).await;
            assert_eq!((dropped.code, dropped.stdout.as_str()), (Some(1), ""));
            let held = "1 e-mail was not dropped: another transaction holds it; try again";
            assert!(dropped.stderr.contains(held), "{dropped:?}");
            marking.commit().await;

            assert_eq!(
                succeeds(world, &["drop", &ada, &ben]).await,
                "2 e-mails were dropped.\n"
            );
            let resent = emails(world, &["resend", &ada]).await;
            assert_eq!(resent.code, Some(1), "{resent:?}");
            let reason = format!("{ada} was not queued again: it is dropped");
            assert!(resent.stderr.contains(&reason), "{resent:?}");
        },
    );
}

#[test]
fn an_unknown_email_is_sent_again_only_by_resend() {
    with_two_parked(Behaviour::HangUp, async |world, provider, [_, ben]| {
        provider.does(Behaviour::Accept);
        let player = ben.split('/').next().unwrap();
        assert_eq!(
            succeeds(world, &["resend", "--state", "unknown", "--player", player]).await,
            "1 e-mail was queued again.\n"
        );
        let (server, _) = world.mailing_through(provider).await;
        provider.has_received(3).await;
        server.stop(PATIENCE).await;
        assert_eq!(provider.received()[2].to(), "ben@example.com");
        let states: Vec<_> = (world.emails().await.into_iter())
            .map(|it| it.state.unwrap())
            .collect();
        assert_eq!(states, ["UNKNOWN", "SENT"]);
    });
}

#[test]
fn status_shows_a_failing_provider() {
    World::run(async |world| {
        let provider = Provider::start_as(Behaviour::Answer("401 Unauthorized", "")).await;
        let (server, there) = world.mailing_through(&provider).await;
        let ada = world.player("Ada").email("ada@example.com").await;
        let eve = world.player("Eve").referred_by(&ada).await;
        ada.seen_by(&there).earns_a_token_for(&eve).await.unwrap();
        world.all_emails_wait_after(1).await;
        server.stop(PATIENCE).await;
        let status = succeeds(world, &["status"]).await;
        assert!(
            status.contains("sendgrid fails, next attempt after 2"),
            "{status}"
        );
        assert!(status.contains("HTTP 401"), "{status}");
    });
}

#[test]
fn arguments_must_name_emails() {
    World::run(async |world| {
        for arguments in [
            &["resend"][..],
            &["drop"],
            &["resend", "26"],
            &["resend", "1/2", "--state", "failed"],
            &["list", "--state", "sent"],
            &["list", "--limit", "0"],
        ] {
            assert_eq!(
                emails(world, arguments).await.code,
                Some(2),
                "{arguments:?}"
            );
        }
        for arguments in [
            &["resend", "--state", "sending"][..],
            &["resend", "--state", "queued"],
        ] {
            let ended = emails(world, arguments).await;
            assert_eq!(ended.code, Some(3), "{arguments:?}: {ended:?}");
            ended.complaint();
        }
        let ended = emails(world, &["drop", "1/2"]).await;
        assert_eq!(ended.code, Some(1), "{ended:?}");
        ended.complaint();
        for command in ["status", "list", "resend", "drop"] {
            assert!(!succeeds(world, &[command, "--help"]).await.is_empty());
        }
        assert!(succeeds(world, &["--help"]).await.contains("Examples:"));
    });
}

#[test]
fn contradicting_settings_stop_the_start_with_one_line() {
    let from = ("HEIST_EMAIL_FROM", "heists@example.com");
    let key = ("SENDGRID_API_KEY", "SG.hunter2");
    let smtp = (
        "HEIST_EMAIL_SMTP_URL",
        "smtp://ada:hunter2@mail.example.com",
    );
    let unsubscribe = |url| ("HEIST_EMAIL_UNSUBSCRIBE_URL", url);
    crate::harness::runtime().block_on(async {
        for (settings, complaint) in [
            (
                &[from][..],
                "needs SENDGRID_API_KEY or HEIST_EMAIL_SMTP_URL",
            ),
            (&[key], "HEIST_EMAIL_FROM is not set"),
            (
                &[from, key, smtp],
                "set HEIST_EMAIL_PROVIDER to sendgrid or smtp",
            ),
            (
                &[from, key, ("HEIST_EMAIL_PROVIDER", "smtp")],
                "needs HEIST_EMAIL_SMTP_URL",
            ),
            (
                &[from, smtp, ("HEIST_EMAIL_PROVIDER", "sendgrid")],
                "needs SENDGRID_API_KEY",
            ),
            (
                &[from, key, ("HEIST_EMAIL_UNSUBSCRIBE_KEY", "hunter2")],
                "needs HEIST_EMAIL_UNSUBSCRIBE_URL",
            ),
            (
                &[from, key, ("HEIST_EMAIL_CA_FILE", "/nowhere/ca.pem")],
                "HEIST_EMAIL_CA_FILE=/nowhere/ca.pem: No such file or directory",
            ),
            (
                &[from, key, ("HEIST_EMAIL_CA_FILE", "Cargo.toml")],
                "HEIST_EMAIL_CA_FILE=Cargo.toml: expected certificates in PEM",
            ),
            (
                &[
                    from,
                    key,
                    unsubscribe("https://a.example/{user_id}/{signature}"),
                ],
                "needs HEIST_EMAIL_UNSUBSCRIBE_KEY",
            ),
        ] {
            let mut heist = Heist::serve()
                .env("DATABASE_URL", "postgres://app@127.0.0.1:1/app")
                .env("HEIST_AUTH", "none")
                .env("HEIST_EMAIL_ENABLED", "true");
            for (name, value) in settings {
                heist = heist.env(name, value);
            }
            let ended = heist.ended().await;
            assert_eq!(ended.code, Some(3), "{settings:?}: {ended:?}");
            assert!(ended.complaint().contains(complaint), "{ended:?}");
            assert!(!ended.stderr.contains("hunter2"), "{ended:?}");
        }
        for (variable, value) in [
            ("HEIST_EMAIL_ENABLED", "on"),
            ("HEIST_EMAIL_MODE", "weekly"),
            ("HEIST_EMAIL_DIGEST_WINDOW", "18-20"),
            ("HEIST_EMAIL_DIGEST_WINDOW", "18:00-18:05"),
            ("HEIST_EMAIL_DIGEST_WINDOW", "18:00-24:00"),
            ("HEIST_EMAIL_PROVIDER", "pigeon"),
            ("HEIST_EMAIL_FROM", "nobody"),
            ("HEIST_EMAIL_LINK_BASE", "app.example.com"),
            ("HEIST_EMAIL_UNSUBSCRIBE_URL", "javascript:x"),
            ("HEIST_EMAIL_RATE_PER_MINUTE", "0"),
            ("SENDGRID_TIMEOUT", "1"),
            ("SENDGRID_TIMEOUT", "soon"),
            ("SENDGRID_BASE_URL", "sendgrid"),
            ("HEIST_EMAIL_SMTP_TIMEOUT", "30000"),
        ] {
            let ended = Heist::serve().env(variable, value).ended().await;
            assert_eq!(ended.code, Some(2), "{variable}={value}: {ended:?}");
            let complaint = ended.complaint();
            assert!(
                complaint.starts_with(&format!("{variable}={value}: expected ")),
                "{complaint}"
            );
        }
        for (variable, value) in [
            ("SENDGRID_API_KEY", "hunter2 "),
            ("HEIST_EMAIL_SMTP_URL", "hunter2"),
        ] {
            let ended = Heist::serve().env(variable, value).ended().await;
            assert_eq!(ended.code, Some(2));
            assert!(!ended.stderr.contains("hunter2"), "{ended:?}");
        }
        // A number without a unit is in milliseconds.
        let heist = Heist::serve()
            .env("DATABASE_URL", "postgres://app@127.0.0.1:1/app")
            .env("HEIST_AUTH", "none")
            .env("SENDGRID_TIMEOUT", "30000")
            .spawn();
        heist.says("waiting for the database").await;
        assert_eq!(heist.stopped_by("TERM").await.code, Some(0));
    });
}
