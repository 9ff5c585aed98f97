//! Preferences of players, as the worker honours them.

use heist::{
    domain::mailing::Mailing,
    pb::EmailPreference::{Digest, Immediate, Never},
};

use crate::harness::{
    PATIENCE, Player, World,
    mail::{Behaviour, Provider, closed_window, open_window},
    until,
};

/// Ada robs Ben. Both have addresses.
async fn one_heist(world: &World, there: &World) -> (Player, Player) {
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

/// Waits until the due time of the player's only e-mail is in the future, because it was deferred.
async fn is_deferred(world: &World, player: &Player) {
    until("the e-mail is deferred", async || {
        let deferred: bool = sqlx::query_scalar(
            r#"SELECT bool_and("emailState" = 'QUEUED' AND "emailAt" > now())
            FROM "HeistNotification" WHERE "userId" = $1"#,
        )
        .bind(player.id)
        .fetch_one(&world.pool)
        .await
        .unwrap();
        deferred.then_some(())
    })
    .await;
}

async fn states(world: &World) -> Vec<String> {
    let emails = world.emails().await.into_iter();
    emails
        .map(|email| email.state.unwrap_or_default())
        .collect()
}

#[test]
fn both_modes_are_in_use_in_a_digest_service_and_changes_apply_to_what_is_queued() {
    World::run(async |world| {
        let provider = Provider::start().await;
        let mailing = closed_window(world).await;
        let (server, there) = world.mailing_replica(provider.options(mailing)).await;
        let (ada, ben) = one_heist(world, &there).await;
        is_deferred(world, &ada).await;
        is_deferred(world, &ben).await;

        world.update_preferences(ben.id, Immediate).await.unwrap();
        let received = provider.has_received(1).await;
        assert_eq!(received[0].to(), "ben@example.com");
        is_deferred(world, &ada).await;

        world.update_preferences(ada.id, Never).await.unwrap();
        until("the e-mail is skipped", async || {
            let expected = ["SENT", "SKIPPED"];
            let mut states = states(world).await;
            states.sort_unstable();
            (states == expected).then_some(())
        })
        .await;
        server.stop(PATIENCE).await;
        assert_eq!(provider.received().len(), 1);
    });
}

#[test]
fn a_player_of_an_immediate_service_receives_a_digest() {
    World::run(async |world| {
        let provider = Provider::start_as(Behaviour::UNAVAILABLE).await;
        let mailing = Mailing {
            window: closed_window(world).await.window,
            ..Mailing::immediate()
        };
        let (server, there) = world.mailing_replica(provider.options(mailing)).await;
        let (ada, ben) = one_heist(world, &there).await;
        world.all_emails_wait_after(1).await;
        // A retry follows the preference, too.
        world.update_preferences(ben.id, Digest).await.unwrap();
        provider.does(Behaviour::Accept);
        world.queue_has_been_due_for(1).await;
        until("the other e-mail is sent", async || {
            states(world)
                .await
                .contains(&"SENT".to_owned())
                .then_some(())
        })
        .await;
        is_deferred(world, &ben).await;
        server.stop(PATIENCE).await;

        let mailing = Mailing {
            window: open_window(world).await.window,
            ..Mailing::immediate()
        };
        world.queue_has_been_due_for(1).await;
        let (server, _) = world.mailing_replica(provider.options(mailing)).await;
        world.all_emails_are("SENT").await;
        server.stop(PATIENCE).await;
        drop(ada);
    });
}
