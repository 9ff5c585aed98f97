//! Templates of the operator, and the language of players.

use std::{fs, path::Path};

use heist::{domain::mailing::Mailing, mail::TemplateOptions, store::emails::LanguageColumn};

use crate::harness::{PATIENCE, World, identity::Folder, mail::Provider, process::Heist, until};

/// German words, and an English subject for awards.
const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/email-templates");

async fn with_language_column(world: &World) {
    sqlx::query(r#"ALTER TABLE "User" ADD COLUMN "locale" text"#)
        .execute(&world.pool)
        .await
        .unwrap();
}

async fn speaks(world: &World, player: i32, language: &str) {
    sqlx::query(r#"UPDATE "User" SET "locale" = $2 WHERE "id" = $1"#)
        .bind(player)
        .bind(language)
        .execute(&world.pool)
        .await
        .unwrap();
}

#[test]
fn each_player_reads_their_own_language() {
    World::run(async |world| {
        with_language_column(world).await;
        let provider = Provider::start().await;
        let mut options = provider.options(Mailing::immediate());
        options.templates = TemplateOptions {
            folder: Some(EXAMPLE.into()),
            language_column: Some(LanguageColumn::parse("locale").unwrap()),
            ..TemplateOptions::default()
        };
        let (server, there) = world.mailing_replica(options).await;
        let ada = world
            .player("Ada")
            .tokens(1)
            .points(2000)
            .email("ada@example.com")
            .await;
        let ben = world
            .player("Ben <b>")
            .points(1000)
            .email("ben@example.com")
            .await;
        speaks(world, ada.id, "de-AT").await;
        ada.seen_by(&there).robs(&ben).await.unwrap();
        let received = provider.has_received(2).await;
        let to = |address: &str| received.iter().find(|it| it.to() == address).unwrap();
        let german = to("ada@example.com");
        assert_eq!(german.subject(), "Beutezug gelungen!");
        let text = german.text();
        assert!(
            text.contains("Hallo Ada,\n\nBeutezug gelungen!\nDu hast Ben <b> 50 Punkte geraubt.\nDu hast jetzt 2.050 Punkte.\n"),
            "{text}"
        );
        assert!(
            german.html().contains("Ben &lt;b&gt; 50 Punkte"),
            "{}",
            german.html()
        );
        assert!(german.html().contains(r#"<html lang="de">"#));
        let english = to("ben@example.com");
        assert_eq!(english.subject(), "You were robbed!");
        assert!(english.text().contains("You have 950 points left."));
        server.stop(PATIENCE).await;
    });
}

#[test]
fn a_changed_template_is_read_again() {
    World::run(async |world| {
        let folder = Folder::new();
        fs::create_dir(folder.path("en")).unwrap();
        folder.file("en/token_earned.subject", "One: {{ items[0].other }}\n");
        let provider = Provider::start().await;
        let mut options = provider.options(Mailing::immediate());
        options.templates.folder = Some(folder.path(""));
        let (server, there) = world.mailing_replica(options).await;
        let earn = async |index: usize| {
            let address = format!("ada-{index}@example.com");
            let ada = world.player("Ada").email(&address).await;
            let eve = world.player("Eve").referred_by(&ada).await;
            ada.seen_by(&there).earns_a_token_for(&eve).await.unwrap();
            let received = provider.has_received(index + 1).await;
            received[index].subject().to_owned()
        };
        assert_eq!(earn(0).await, "One: Eve");
        folder.file("en/token_earned.subject", "Two: {{ items[0].other }}\n");
        let mut index = 0;
        until("the new template is in use", async || {
            index += 1;
            (earn(index).await == "Two: Eve").then_some(())
        })
        .await;
        // A broken version is not taken.
        folder.file("en/token_earned.subject", "Three: {{ items[0].other\n");
        index += 1;
        assert_eq!(earn(index).await, "Two: Eve");
        server.stop(PATIENCE).await;
    });
}

#[test]
fn a_bad_template_stops_the_start_with_one_line() {
    crate::harness::runtime().block_on(async {
        for (name, content, complaint) in [
            (
                "words.txt",
                "{% macro title(item) %}",
                "words.txt:1: syntax error",
            ),
            (
                "layout.txt",
                "{{ nothing }}",
                "layout.txt:1: undefined value",
            ),
            (
                "digest.html",
                "{{ count|loudly }}",
                "digest.html:1: unknown filter",
            ),
            ("digest.subject", " ", "the subject is empty"),
            ("heist_victims.txt", "x", "no e-mail has this name"),
        ] {
            let folder = Folder::new();
            folder.file(name, content);
            let ended = Heist::serve()
                .env("DATABASE_URL", "postgres://app@127.0.0.1:1/app")
                .env("HEIST_AUTH", "none")
                .env("HEIST_EMAIL_ENABLED", "true")
                .env("HEIST_EMAIL_FROM", "heists@example.com")
                .env("SENDGRID_API_KEY", "SG.key")
                .env("HEIST_EMAIL_TEMPLATES", folder.path(""))
                .ended()
                .await;
            assert_eq!(ended.code, Some(3), "{ended:?}");
            assert!(ended.stderr.contains(complaint), "{name}: {ended:?}");
        }
    });
}

#[test]
fn preview_writes_each_kind_in_each_language() {
    crate::harness::runtime().block_on(async {
        let folder = Folder::new();
        let out = folder.path("out");
        let arguments = [
            "emails",
            "preview",
            "--email-templates",
            EXAMPLE,
            "--out",
            out.to_str().unwrap(),
        ];
        let ended = Heist::new(&arguments).ended().await;
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let read = |name: &str| fs::read_to_string(Path::new(&out).join(name)).unwrap();
        for language in ["de", "en"] {
            for kind in ["heist_success", "heist_victim", "token_earned", "digest"] {
                for extension in ["subject", "txt", "html"] {
                    assert!(!read(&format!("{language}/{kind}.{extension}")).is_empty());
                }
            }
        }
        assert_eq!(
            read("en/token_earned.subject"),
            "Zoë joined, and you earned a token"
        );
        assert!(
            read("de/heist_victim.txt").contains("Bis 25.11.2026, 18:05 UTC bist du geschützt.")
        );
    });
}
