//! E-mails that cannot be sent, and rows that another transaction holds, do not delay others.

use heist::{domain::mailing::Mailing, mail::Rate, pb};

use crate::harness::{
    PATIENCE, World, all_at_once,
    mail::{Behaviour, Provider, open_window},
    until,
};

/// Queues an e-mail, due since `age_s` seconds, for each of a crowd with this address. `{id}` in it
/// is replaced by the player's id.
async fn queued_for_a_crowd(world: &World, size: usize, address: Option<&str>, age_s: i32) {
    let crowd = world.crowd("player", size).await;
    let ids: Vec<i32> = crowd.iter().map(|player| player.id).collect();
    sqlx::query(
        r#"UPDATE "User" SET "email" = replace($2, '{id}', "id"::text) WHERE "id" = ANY($1)"#,
    )
    .bind(&ids)
    .bind(address)
    .execute(&world.pool)
    .await
    .unwrap();
    sqlx::query(
        r#"INSERT INTO "HeistNotification"
            ("userId", "type", "ledgerId", "otherUserId", "after", "emailState", "emailAt")
        SELECT unnest($1::integer[]), 'TOKEN_EARNED', 1, 1, 1, 'QUEUED',
            now() - make_interval(secs => $2)"#,
    )
    .bind(&ids)
    .bind(f64::from(age_s))
    .execute(&world.pool)
    .await
    .unwrap();
}

/// The books know nothing of the notifications that these tests write.
async fn empty_the_queue(world: &World) {
    sqlx::query(r#"DELETE FROM "HeistNotification""#)
        .execute(&world.pool)
        .await
        .unwrap();
}

#[test]
fn a_thousand_bad_rows_do_not_delay_an_email_after_trouble_of_the_provider() {
    World::run(async |world| {
        queued_for_a_crowd(world, 600, None, 600).await;
        queued_for_a_crowd(world, 400, Some("no address {id}"), 500).await;
        queued_for_a_crowd(world, 1, Some("ada@example.com"), 400).await;
        queued_for_a_crowd(world, 1, Some("ben@example.com"), 300).await;
        sqlx::query(r#"UPDATE "HeistEmailProvider" SET "trouble" = 'away'"#)
            .execute(&world.pool)
            .await
            .unwrap();
        let provider = Provider::start().await;
        let mut options = provider.options(Mailing::immediate());
        // A rate of two at once: the bad rows are not charged.
        options.rate = Rate::per_minute(120);
        let (server, _) = world.mailing_replica(options).await;
        let received = provider.has_received(2).await;
        assert_eq!(received[0].to(), "ada@example.com");
        assert_eq!(received[1].to(), "ben@example.com");
        until("both are recorded", async || {
            let emails = world.emails().await;
            let count = |state: &str| {
                (emails.iter())
                    .filter(|it| it.state.as_deref() == Some(state))
                    .count()
            };
            ([count("SKIPPED"), count("FAILED"), count("SENT")] == [600, 400, 2]).then_some(())
        })
        .await;
        assert_eq!(world.trouble("sendgrid").await, None);
        server.stop(PATIENCE).await;
        empty_the_queue(world).await;
    });
}

#[test]
fn a_refusal_shows_that_the_provider_works() {
    World::run(async |world| {
        queued_for_a_crowd(world, 3, Some("ada-{id}@example.com"), 60).await;
        sqlx::query(r#"UPDATE "HeistEmailProvider" SET "trouble" = 'away'"#)
            .execute(&world.pool)
            .await
            .unwrap();
        let provider = Provider::start_as(Behaviour::Answer("400 Bad Request", "")).await;
        let (server, _) = world
            .mailing_replica(provider.options(Mailing::immediate()))
            .await;
        // Without a pause between them.
        world.all_emails_are("FAILED").await;
        assert_eq!(world.trouble("sendgrid").await, None);
        server.stop(PATIENCE).await;
        empty_the_queue(world).await;
    });
}

#[test]
fn a_digest_waits_for_a_row_that_is_held_and_others_do_not() {
    World::run(async |world| {
        let provider = Provider::start().await;
        let mailing = open_window(world).await;
        let ada = world.player("Ada").email("ada@example.com").await;
        let ben = world.player("Ben").email("ben@example.com").await;
        for player in [&ada, &ada, &ben] {
            sqlx::query(
                r#"INSERT INTO "HeistNotification"
                    ("userId", "type", "ledgerId", "otherUserId", "after", "emailState", "emailAt")
                VALUES ($1, 'TOKEN_EARNED', 1, 1, 1, 'QUEUED', now() - interval '20 minutes')"#,
            )
            .bind(player.id)
            .execute(&world.pool)
            .await
            .unwrap();
        }
        // As MarkNotificationsRead does.
        let mut marking = world.pool.begin().await.unwrap();
        sqlx::query(
            r#"UPDATE "HeistNotification" SET "read" = true
            WHERE "id" = (SELECT max("id") FROM "HeistNotification" WHERE "userId" = $1)"#,
        )
        .bind(ada.id)
        .execute(&mut *marking)
        .await
        .unwrap();
        let (server, _) = world.mailing_replica(provider.options(mailing)).await;
        let received = provider.has_received(1).await;
        assert_eq!(received[0].to(), "ben@example.com");
        marking.commit().await.unwrap();
        let received = provider.has_received(2).await;
        assert_eq!(received[1].to(), "ada@example.com");
        assert_eq!(received[1].subject(), "2 things happened in your heists");
        world.all_emails_are("SENT").await;
        server.stop(PATIENCE).await;
        empty_the_queue(world).await;
        assert_eq!(provider.received().len(), 2);
    });
}

#[test]
fn an_email_is_sent_once_although_a_trigger_changes_its_claim_or_its_outcome() {
    World::run(async |world| {
        let provider = Provider::start().await;
        let (server, _) = world.mailing_through(&provider).await;
        let mut sent = 0;
        for (condition, body, is_claimed) in [
            ("SENDING", "RETURN NULL", false),
            (
                "SENDING",
                r#"NEW."emailState" := 'QUEUED'; RETURN NEW"#,
                false,
            ),
            ("SENT", r#"NEW."emailState" := 'QUEUED'; RETURN NEW"#, true),
            ("SENT", "RETURN NULL", true),
        ] {
            let trigger = format!(
                r#"CREATE FUNCTION interfere() RETURNS trigger LANGUAGE plpgsql AS $$
                BEGIN
                    IF NEW."emailState" = '{condition}' THEN
                        PERFORM nextval('test.interfered'); {body};
                    END IF;
                    RETURN NEW;
                END $$;
                CREATE SEQUENCE test.interfered;
                CREATE TRIGGER interfere BEFORE UPDATE ON "HeistNotification"
                FOR EACH ROW EXECUTE FUNCTION interfere()"#
            );
            world.execute(&trigger).await;
            queued_for_a_crowd(world, 1, Some("ada-{id}@example.com"), 60).await;
            until("the trigger has interfered twice", async || {
                let times: i64 = sqlx::query_scalar("SELECT last_value FROM test.interfered")
                    .fetch_one(&world.pool)
                    .await
                    .unwrap();
                (times >= 2).then_some(())
            })
            .await;
            sent += usize::from(is_claimed);
            assert_eq!(provider.received().len(), sent, "{condition}: {body}");
            world
                .execute("DROP FUNCTION interfere() CASCADE; DROP SEQUENCE test.interfered")
                .await;
            sent += usize::from(!is_claimed);
            world.all_emails_are("SENT").await;
            assert_eq!(provider.received().len(), sent, "{condition}: {body}");
        }
        server.stop(PATIENCE).await;
        empty_the_queue(world).await;
    });
}

#[test]
fn digests_are_claimed_beside_marks_without_a_deadlock() {
    World::run(async |world| {
        let provider = Provider::start().await;
        let mailing = open_window(world).await;
        let crowd = world.crowd("Player", 20).await;
        let (server, there) = world.mailing_replica(provider.options(mailing)).await;
        for _ in 0..5 {
            let ids: Vec<i32> = crowd.iter().map(|player| player.id).collect();
            sqlx::query(
                r#"WITH addressed AS (UPDATE "User" SET "email" = "id" || '@example.com')
                INSERT INTO "HeistNotification"
                    ("userId", "type", "ledgerId", "otherUserId", "after", "emailState", "emailAt")
                SELECT player, 'TOKEN_EARNED', 1, 1, 1, 'QUEUED', now() - interval '20 minutes'
                FROM unnest($1::integer[]) AS player CROSS JOIN generate_series(1, 30)"#,
            )
            .bind(&ids)
            .execute(&world.pool)
            .await
            .unwrap();
            let marks = crowd.iter().map(|player| {
                there.mark_notifications_read(pb::MarkNotificationsReadRequest {
                    user_id: player.id,
                    up_to_id: i64::MAX,
                    ..Default::default()
                })
            });
            for answer in all_at_once(marks).await {
                assert_eq!(answer.unwrap().unread_count, 0);
            }
            world.all_emails_are("SENT").await;
        }
        let deadlocks: i64 = sqlx::query_scalar(
            "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()",
        )
        .fetch_one(&world.pool)
        .await
        .unwrap();
        assert_eq!(deadlocks, 0);
        server.stop(PATIENCE).await;
        empty_the_queue(world).await;
    });
}

#[test]
fn names_and_addresses_of_any_length_and_none_are_read() {
    World::run(async |world| {
        let provider = Provider::start().await;
        queued_for_a_crowd(world, 1, Some("{id}@example.com"), 60).await;
        queued_for_a_crowd(world, 1, Some("nameless-{id}@example.com"), 50).await;
        queued_for_a_crowd(world, 1, Some("long-{id}@example.com"), 40).await;
        world
            .execute(
                r#"ALTER TABLE "User" ALTER COLUMN "name" DROP NOT NULL;
                UPDATE "User" SET "name" = repeat('x', 5000000);
                UPDATE "User" SET "name" = NULL WHERE "email" LIKE 'nameless%';
                UPDATE "User" SET "email" = repeat('x', 100000) || '@example.com'
                WHERE "email" LIKE 'long%'"#,
            )
            .await;
        let (server, _) = world.mailing_through(&provider).await;
        let received = provider.has_received(2).await;
        assert!(received.iter().all(|email| email.text().len() < 10_000));
        until("the long address is refused", async || {
            let emails = world.emails().await;
            (emails[2].state.as_deref() == Some("FAILED")).then_some(())
        })
        .await;
        server.stop(PATIENCE).await;
        empty_the_queue(world).await;
    });
}
