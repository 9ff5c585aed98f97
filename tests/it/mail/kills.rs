//! Preferences hold while two replicas under load are killed between claim and outcome.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use heist::pb::EmailPreference::{self, Digest, Immediate, Never};
use time::OffsetDateTime;

use crate::harness::{
    Player, World, connect,
    mail::{Behaviour, Provider, Received, mailing},
    process::{Heist, Serving},
    until,
};

const KILLS: usize = 4;

/// A replica whose digests are not due for 12 hours.
async fn replica(world: &World, provider: &Provider) -> Serving {
    let opens = world.database_time().await + Duration::from_hours(12);
    let closes = opens + Duration::from_hours(1);
    let of = |time: OffsetDateTime| format!("{:02}:{:02}", time.hour(), time.minute());
    let server: Heist = mailing(world, &provider.url).env(
        "HEIST_EMAIL_DIGEST_WINDOW",
        format!("{}-{}", of(opens), of(closes)),
    );
    server.serving().await
}

/// Players with addresses, all of whom chose this.
async fn choosing(world: &World, kind: &str, preference: EmailPreference) -> Vec<Player> {
    let players = world.crowd(kind, 3).points(1_000_000).await;
    for player in &players {
        let id = player.id;
        world
            .execute(&format!(
                r#"UPDATE "User" SET "email" = '{id}@example.com' WHERE "id" = {id}"#
            ))
            .await;
        world.update_preferences(id, preference).await.unwrap();
    }
    players
}

/// The states of the e-mails to these players. `DEFERRED`: queued for a later digest.
async fn states(world: &World, players: &[Player]) -> Vec<String> {
    let ids: Vec<i32> = players.iter().map(|player| player.id).collect();
    sqlx::query_scalar(
        r#"SELECT CASE WHEN "emailState" = 'QUEUED' AND "emailAt" > now() + interval '1 hour'
            THEN 'DEFERRED' ELSE "emailState"::text END
        FROM "HeistNotification" WHERE "userId" = ANY($1)"#,
    )
    .bind(&ids)
    .fetch_all(&world.pool)
    .await
    .unwrap()
}

/// Waits until all e-mails to these players are in one of the states.
async fn all_are(world: &World, players: &[Player], expected: &[&str]) -> Vec<String> {
    until(&format!("e-mails are {expected:?}"), async || {
        let states = states(world, players).await;
        (states.iter())
            .all(|state| expected.contains(&state.as_str()))
            .then_some(states)
    })
    .await
}

/// Robs the victims in turn until told to stop, whatever becomes of the calls.
async fn load(
    world: World,
    addresses: Addresses,
    robber: Player,
    victims: Vec<Player>,
    stop: Stop,
) {
    for turn in 0.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let address = addresses.lock().unwrap()[turn % 2];
        let Some(there) = reachable(&world, address).await else {
            continue;
        };
        let _ = robber
            .seen_by(&there)
            .robs(&victims[turn % victims.len()])
            .await;
    }
}

/// No e-mail was received twice or by a `silent` player. Each that is recorded as sent was received.
async fn sent_once_and_to_no_one_else(world: &World, received: &[Received], silent: &[Player]) {
    let references: HashSet<&str> = received.iter().map(Received::reference).collect();
    assert_eq!(references.len(), received.len(), "an e-mail was sent twice");
    for player in silent {
        let address = format!("{}@example.com", player.id);
        let wrong = received.iter().find(|email| email.to() == address);
        assert!(wrong.is_none(), "{wrong:?}");
    }
    let sent: Vec<(i32, i64)> = sqlx::query_as(
        r#"SELECT "userId", "id" FROM "HeistNotification" WHERE "emailState" = 'SENT'"#,
    )
    .fetch_all(&world.pool)
    .await
    .unwrap();
    for (user_id, id) in sent {
        let reference = format!("{user_id}/{id}");
        assert!(references.contains(reference.as_str()), "{reference}");
    }
}

type Stop = Arc<AtomicBool>;
type Addresses = Arc<std::sync::Mutex<[std::net::SocketAddr; 2]>>;

/// `None`: the replica at this address was just killed.
async fn reachable(world: &World, address: std::net::SocketAddr) -> Option<World> {
    tokio::net::TcpStream::connect(address).await.ok()?;
    Some(world.through(connect(address).await))
}

#[test]
fn preferences_hold_while_two_replicas_are_killed_under_load() {
    let setup = World::setup().rules(|rules| {
        rules.cooldown = Duration::ZERO;
        rules.protection = None;
    });
    setup.run(async |world| {
        let provider = Provider::start_as(Behaviour::AcceptAfter(Duration::from_millis(200))).await;
        let immediate = choosing(world, "Immediate", Immediate).await;
        let never = choosing(world, "Never", Never).await;
        let digest = choosing(world, "Digest", Digest).await;
        let fickle = choosing(world, "Fickle", Immediate).await;
        let victims = [&immediate[..], &never, &digest, &fickle].concat();
        let mut replicas = [
            replica(world, &provider).await,
            replica(world, &provider).await,
        ];
        let addresses = Addresses::new([replicas[0].address, replicas[1].address].into());
        let stop = Stop::default();
        let robbers = world.crowd("Robber", 2).tokens(1_000_000).await;
        let callers: Vec<_> = (robbers.into_iter())
            .map(|robber| {
                let (world, addresses) = (world.clone(), Arc::clone(&addresses));
                tokio::spawn(load(
                    world,
                    addresses,
                    robber,
                    victims.clone(),
                    Arc::clone(&stop),
                ))
            })
            .collect();

        for kill in 0..KILLS {
            for player in &fickle {
                for preference in [Never, Digest, [Never, Immediate][kill % 2]] {
                    world
                        .update_preferences(player.id, preference)
                        .await
                        .unwrap();
                }
            }
            until("e-mails are being sent", async || {
                let sending = states(world, &victims).await;
                (sending.iter().filter(|it| *it == "SENDING").count() > 3).then_some(())
            })
            .await;
            let place = kill % 2;
            let killed = std::mem::replace(&mut replicas[place], replica(world, &provider).await);
            let successor = replicas[place].address;
            killed.stopped_by("KILL").await;
            addresses.lock().unwrap()[place] = successor;
        }
        stop.store(true, Ordering::Relaxed);
        for caller in callers {
            caller.await.unwrap();
        }

        provider.does(Behaviour::Accept);
        until("every e-mail was claimed", async || {
            let states = states(world, &immediate).await;
            (!states.contains(&"QUEUED".to_owned())).then_some(())
        })
        .await;
        // These record the outcomes of their claims. Those of the killed replicas are left.
        for replica in replicas {
            assert_eq!(replica.stopped_by("TERM").await.code, Some(0));
        }
        world.claims_have_ended().await;
        let last = replica(world, &provider).await;
        let of_immediate = all_are(world, &immediate, &["SENT", "UNKNOWN"]).await;
        all_are(world, &never, &["SKIPPED"]).await;
        all_are(world, &digest, &["DEFERRED"]).await;
        let of_fickle = all_are(world, &fickle, &["SENT", "UNKNOWN", "SKIPPED"]).await;
        assert!(
            of_immediate.contains(&"SENT".to_owned()),
            "{of_immediate:?}"
        );
        assert!(!of_fickle.is_empty());

        sent_once_and_to_no_one_else(world, &provider.received(), &[never, digest].concat()).await;
        assert_eq!(last.stopped_by("TERM").await.code, Some(0));
    });
}
