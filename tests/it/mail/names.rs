//! Names in e-mails: missing ones, long ones, and those of players whose ids others took over.

use std::time::Duration;

use crate::harness::{
    PATIENCE, World,
    mail::{Behaviour, Provider, Received, open_window},
};

/// The application's schema with `name String?`.
async fn names_are_optional(world: &World) {
    world
        .execute(r#"ALTER TABLE "User" ALTER COLUMN "name" DROP NOT NULL"#)
        .await;
}

#[test]
fn players_without_names_receive_emails_and_are_named_by_their_ids() {
    World::run(async |world| {
        names_are_optional(world).await;
        let provider = Provider::start().await;
        let (server, there) = world.mailing_through(&provider).await;
        let ada = world.player("Ada").tokens(1).email("ada@example.com").await;
        let ben = world
            .player("Ben")
            .points(1000)
            .email("ben@example.com")
            .await;
        let eve = world.player("Eve").referred_by(&ada).await;
        world.execute(r#"UPDATE "User" SET "name" = NULL"#).await;

        let ada = ada.seen_by(&there);
        ada.robs(&ben).await.unwrap();
        ada.earns_a_token_for(&eve).await.unwrap();

        let mut received = provider.has_received(3).await;
        world.all_emails_are("SENT").await;
        received.sort_by_key(|email| email.subject().to_owned());
        let texts: Vec<&str> = received.iter().map(Received::text).collect();
        let expected = [
            (&ada, format!("You stole 50 points from Player {}.", ben.id)),
            (
                &ada,
                format!("Player {} joined with your code. You earned", eve.id),
            ),
            (
                &ben,
                format!("Player {} stole 50 of your monthly points.", ada.id),
            ),
        ];
        for (text, (to, sentence)) in texts.iter().zip(expected) {
            assert!(
                text.starts_with(&format!("Hi Player {},\n", to.id)),
                "{text}"
            );
            assert!(text.contains(&sentence), "{text}");
        }
        server.stop(PATIENCE).await;
    });
}

#[test]
fn a_digest_of_a_player_without_a_name_is_sent_and_delays_no_other() {
    let setup = World::setup().rules(|rules| rules.cooldown = Duration::ZERO);
    setup.run(async |world| {
        names_are_optional(world).await;
        let provider = Provider::start().await;
        let ada = world.player("Ada").tokens(2).email("ada@example.com").await;
        let ben = world
            .player("Ben")
            .points(1000)
            .email("ben@example.com")
            .await;
        let cat = world.player("Cat").points(1000).await;
        ada.is_unnamed().await;
        // Queued by a server that cannot send them yet.
        let away = Provider::start_as(Behaviour::UNAVAILABLE).await;
        let (server, there) = world.mailing_through(&away).await;
        let robber = ada.seen_by(&there);
        robber.robs(&ben).await.unwrap();
        robber.robs(&cat).await.unwrap();
        server.stop(PATIENCE).await;

        let (server, _) = (world.mailing_replica(provider.options(open_window(world).await))).await;
        world.queue_has_been_due_for(1200).await;
        world.provider_works().await;
        let received = provider.has_received(2).await;
        let digest = received
            .iter()
            .find(|it| it.to() == "ada@example.com")
            .unwrap();
        assert_eq!(digest.subject(), "2 things happened in your heists");
        let text = digest.text();
        assert!(
            text.starts_with(&format!("Hi Player {},\n", ada.id)),
            "{text}"
        );
        server.stop(PATIENCE).await;
    });
}

#[test]
fn names_of_five_megabytes_are_cut() {
    World::run(async |world| {
        let provider = Provider::start().await;
        let (server, there) = world.mailing_through(&provider).await;
        let ada = world.player("Ada").tokens(1).email("ada@example.com").await;
        let ben = world
            .player("Ben")
            .points(1000)
            .email("ben@example.com")
            .await;
        world
            .execute(r#"UPDATE "User" SET "name" = repeat('x', 5000000)"#)
            .await;
        ada.seen_by(&there).robs(&ben).await.unwrap();
        for email in provider.has_received(2).await {
            assert!(email.text().len() < 2000, "{}", email.text().len());
            assert!(
                email.text().contains(&"x".repeat(50)),
                "{}",
                email.text().len()
            );
        }
        world.all_emails_are("SENT").await;
        server.stop(PATIENCE).await;
    });
}

/// The three kinds of e-mails are queued; then all other players leave, and others get their ids.
#[test]
fn an_email_shows_no_name_of_a_player_who_took_over_an_id() {
    World::run(async |world| {
        let away = Provider::start_as(Behaviour::UNAVAILABLE).await;
        let (server, there) = world.mailing_through(&away).await;
        let ada = world
            .player("Ada")
            .points(1000)
            .tokens(1)
            .email("ada@example.com")
            .await;
        let victim = world.player("Ben").points(1000).await;
        let robber = world.player("Cat").tokens(1).await;
        let referred = world.player("Dan").referred_by(&ada).await;
        ada.seen_by(&there).robs(&victim).await.unwrap();
        robber.seen_by(&there).robs(&ada).await.unwrap();
        ada.seen_by(&there)
            .earns_a_token_for(&referred)
            .await
            .unwrap();
        server.stop(PATIENCE).await;
        for player in [&victim, &robber, &referred] {
            player.is_replaced_by("Newcomer").await;
        }

        let provider = Provider::start().await;
        let (server, _) = world.mailing_through(&provider).await;
        world.provider_works().await;
        world.all_emails_are_sent_at_last().await;
        server.stop(PATIENCE).await;
        let texts: Vec<String> = (provider.received().iter())
            .map(|email| email.text().to_owned())
            .collect();
        assert_eq!(texts.len(), 3);
        let all = texts.concat();
        assert!(!all.contains("Newcomer"), "{all}");
        for sentence in [
            "You stole 50 points from [deleted player].",
            "[deleted player] stole 52 of your monthly points.",
            "[deleted player] joined with your code.",
        ] {
            assert!(all.contains(sentence), "{sentence}: {all}");
        }
    });
}
