//! `HeistService.ExecuteHeist`: what a heist answers, and what it writes.

use std::time::Duration;

use heist::pb::{self, NotificationType, notification::Details};
use sqlx::Row as _;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::harness::{World, all_at_once, new_request_id, to_time};

/// Robs a fresh victim with so many points and says how many were stolen.
async fn steal_from(world: &World, points: i32) -> i32 {
    let attacker = world.player("Ada").tokens(1).await;
    let victim = world.player("Ben").points(points).await;
    let heist = attacker.robs(&victim).await.unwrap().heist.unwrap();
    assert_eq!(victim.points().await, points - heist.points_stolen);
    assert_eq!(attacker.points().await, heist.points_stolen);
    heist.points_stolen
}

#[test]
fn a_heist_steals_five_percent_rounded_down_and_a_hundred_at_the_most() {
    World::run(async |world| {
        for (points, stolen) in [
            (500, 25),
            (1000, 50),
            (2000, 100),
            (5000, 100),
            (20, 1),
            (39, 1),
            (40, 2),
            (1999, 99),
            (i32::MAX, 100),
        ] {
            assert_eq!(steal_from(world, points).await, stolen, "of {points}");
        }
    });
}

#[test]
fn without_a_cap_a_heist_steals_the_whole_percentage() {
    let setup = World::setup().rules(|rules| {
        rules.max_steal_points = None;
        rules.steal_percentage = 100;
    });
    setup.run(async |world| {
        assert_eq!(steal_from(world, 5000).await, 5000);
        assert_eq!(steal_from(world, i32::MAX).await, i32::MAX);
    });
}

#[test]
fn the_answer_tells_the_whole_heist() {
    World::run(async |world| {
        let ada = world.player("Ada").points(300).tokens(2).await;
        let ben = world.player("Ben").points(1000).await;

        let answer = ada.robs(&ben).await.unwrap();

        let heist = answer.heist.unwrap();
        let created_at = to_time(heist.create_time);
        let age = OffsetDateTime::now_utc() - created_at;
        assert!(age.abs() < time::Duration::MINUTE, "{age}");
        assert!(heist.id > 0);
        assert_eq!(
            heist,
            pb::Heist {
                id: heist.id,
                attacker_id: ada.id,
                attacker_name: "Ada".to_owned(),
                victim_id: ben.id,
                victim_name: "Ben".to_owned(),
                points_stolen: 50,
                attacker_points_before: 300,
                attacker_points_after: 350,
                victim_points_before: 1000,
                victim_points_after: 950,
                create_time: heist.create_time,
            }
        );
        assert_eq!(answer.tokens_remaining, 1);
        let waits = to_time(answer.cooldown_end_time) - created_at;
        assert_eq!(waits, time::Duration::DAY);
        assert!(!answer.replayed);
    });
}

#[test]
fn a_heist_moves_points_and_spends_one_token() {
    World::run(async |world| {
        let ada = world.player("Ada").points(300).tokens(2).await;
        let ben = world.player("Ben").points(1000).tokens(5).await;
        let carl = world.player("Carl").points(70).tokens(3).await;

        ada.robs(&ben).await.unwrap();

        assert_eq!((ada.points().await, ben.points().await), (350, 950));
        let tokens = ada.tokens().await;
        assert_eq!((tokens.balance, tokens.earned, tokens.spent), (1, 2, 1));
        let tokens = ben.tokens().await;
        assert_eq!((tokens.balance, tokens.earned, tokens.spent), (5, 5, 0));
        assert_eq!((carl.points().await, carl.tokens().await.balance), (70, 3));
    });
}

#[test]
fn the_heist_row_says_who_what_when_and_from_where() {
    World::run(async |world| {
        let ada = world.player("Ada").points(300).tokens(2).await;
        let ben = world.player("Ben").points(1000).await;
        let request_id = new_request_id();

        let answer = ada.robs_with_id(&request_id, &ben).await.unwrap();

        let rows = sqlx::query(r#"SELECT *, host("ipAddress") AS address FROM "Heist""#)
            .fetch_all(&world.pool)
            .await
            .unwrap();
        let [row] = &rows[..] else {
            panic!("{} heists", rows.len());
        };
        let told = answer.heist.unwrap();
        assert_eq!(row.get::<i64, _>("id"), told.id);
        for (column, value) in [
            ("attackerId", ada.id),
            ("victimId", ben.id),
            ("pointsStolen", 50),
            ("attackerPointsBefore", 300),
            ("attackerPointsAfter", 350),
            ("victimPointsBefore", 1000),
            ("victimPointsAfter", 950),
            ("attackerTokensAfter", 1),
        ] {
            assert_eq!(row.get::<i32, _>(column), value, "{column}");
        }
        assert_eq!(row.get::<Uuid, _>("requestId").to_string(), request_id);
        assert_eq!(row.get::<&str, _>("address"), "127.0.0.1");
        let created_at: OffsetDateTime = row.get("createdAt");
        assert_eq!(created_at, to_time(told.create_time));
        let account: OffsetDateTime = ada.last_spent_at().await;
        assert_eq!(account, created_at);
    });
}

#[test]
fn both_players_get_a_point_event_of_the_right_type() {
    World::run(async |world| {
        let ada = world.player("Ada").tokens(1).await;
        let ben = world.player("Ben").points(1000).await;

        ada.robs(&ben).await.unwrap();

        let events: Vec<(i32, i32, String, String, bool)> = sqlx::query_as(
            r#"
            SELECT event."userId", event."points", type."name", event."description",
                event."createdAt" BETWEEN
                    (now() AT TIME ZONE 'UTC') - interval '1 minute' AND (now() AT TIME ZONE 'UTC')
            FROM "UserPointEvent" AS event
            INNER JOIN "PointEventTypeMaster" AS type ON type."id" = event."pointEventTypeId"
            ORDER BY event."points" DESC
            "#,
        )
        .fetch_all(&world.pool)
        .await
        .unwrap();
        let event = |user_id, points, kind: &str, description: &str| {
            (
                user_id,
                points,
                kind.to_owned(),
                description.to_owned(),
                true,
            )
        };
        assert_eq!(
            events,
            [
                event(ada.id, 50, "HEIST_GAIN", "Stole 50 points from Ben"),
                event(ben.id, -50, "HEIST_LOSS", "Lost 50 points to Ada"),
            ]
        );
    });
}

#[test]
fn point_events_have_the_time_of_their_heist_although_it_waited_for_a_lock() {
    World::run(async |world| {
        let ada = world.player("Ada").tokens(1).await;
        let ben = world.player("Ben").points(1000).await;
        let mut application = world.application().await;
        application
            .execute(&format!(
                r#"SELECT FROM "User" WHERE "id" = {} FOR UPDATE"#,
                ben.id
            ))
            .await;
        let robbing = tokio::spawn(ada.robs(&ben));
        world.a_session_waits_for_a_lock().await;
        application.commit().await;
        robbing.await.unwrap().unwrap();

        // The application's column holds milliseconds.
        let distances: Vec<f64> = sqlx::query_scalar(
            r#"SELECT abs(extract(epoch FROM
                event."createdAt" - (heist."createdAt" AT TIME ZONE 'UTC')))::double precision
            FROM "UserPointEvent" AS event, "Heist" AS heist"#,
        )
        .fetch_all(&world.pool)
        .await
        .unwrap();
        assert_eq!(distances.len(), 2);
        assert!(distances.iter().all(|it| *it <= 0.001), "{distances:?}");
    });
}

#[test]
fn both_players_get_a_notification() {
    World::run(async |world| {
        let ada = world.player("Ada").points(300).tokens(1).await;
        let ben = world.player("Ben").points(1000).await;

        let heist = ada.robs(&ben).await.unwrap().heist.unwrap();

        let [told] = &ada.notifications().await[..] else {
            panic!("Ada is told once");
        };
        assert_eq!(told.title, "Heist successful!");
        assert_eq!(told.message, "You stole 50 points from Ben.");
        assert_eq!(told.r#type(), NotificationType::HeistSuccess);
        assert_eq!((told.user_id, told.read), (ada.id, false));
        assert_eq!(told.create_time, heist.create_time);
        let details = pb::notification::HeistSuccess {
            heist_id: heist.id,
            victim_id: ben.id,
            victim_name: "Ben".to_owned(),
            points_stolen: 50,
            points_after: 350,
        };
        assert_eq!(told.details, Some(Details::HeistSuccess(details)));

        let [told] = &ben.notifications().await[..] else {
            panic!("Ben is told once");
        };
        assert_eq!(told.title, "You were robbed!");
        assert_eq!(told.message, "Ada stole 50 of your monthly points.");
        assert_eq!(told.r#type(), NotificationType::HeistVictim);
        assert_eq!((told.user_id, told.read), (ben.id, false));
        assert_eq!(told.create_time, heist.create_time);
        let details = pb::notification::HeistVictim {
            heist_id: heist.id,
            attacker_id: ada.id,
            attacker_name: "Ada".to_owned(),
            points_lost: 50,
            points_after: 950,
            protection_end_time: None,
        };
        assert_eq!(told.details, Some(Details::HeistVictim(details)));
    });
}

#[test]
fn the_second_robber_steals_from_the_points_that_remain() {
    World::run(async |world| {
        let ada = world.player("Ada").tokens(1).await;
        let ben = world.player("Ben").tokens(1).await;
        let rich = world.player("Carl").points(1000).await;

        ada.robs(&rich).await.unwrap();
        assert_eq!(rich.points().await, 950);
        ben.robs(&rich).await.unwrap();
        assert_eq!(rich.points().await, 903);
    });
}

#[test]
fn ten_parallel_robbers_all_succeed_in_sequence() {
    World::run(async |world| {
        let robbers = world.crowd("Robber", 10).tokens(1).await;
        let rich = world.player("Carl").points(1000).await;

        let answers = all_at_once(robbers.iter().map(|robber| robber.robs(&rich))).await;

        let mut found: Vec<(i32, i32)> = answers
            .into_iter()
            .map(|answer| {
                let heist = answer.unwrap().heist.unwrap();
                (heist.victim_points_before, heist.points_stolen)
            })
            .collect();
        found.sort_unstable_by(|left, right| right.cmp(left));
        let mut points = 1000;
        for (before, stolen) in found {
            assert_eq!((before, stolen), (points, points * 5 / 100));
            points -= stolen;
        }
        assert_eq!(rich.points().await, points);
    });
}

#[test]
fn a_name_in_any_script_reaches_both_players_unharmed() {
    World::run(async |world| {
        let name = r#"Зоя "Ω" O'Neil; DROP TABLE 'x' 🦊 {0} %s \n"#;
        let ada = world.player(name).tokens(1).await;
        let ben = world.player("").points(1000).await;

        let heist = ada.robs(&ben).await.unwrap().heist.unwrap();

        assert_eq!(
            (heist.attacker_name.as_str(), heist.victim_name.as_str()),
            (name, "")
        );
        let told = ben.notifications().await.remove(0);
        assert_eq!(
            told.message,
            format!("{name} stole 50 of your monthly points.")
        );
        let told = ada.notifications().await.remove(0);
        assert_eq!(told.message, "You stole 50 points from .");
    });
}

#[test]
fn a_robber_without_a_cooldown_gets_no_end() {
    let setup = World::setup().rules(|rules| rules.cooldown = Duration::ZERO);
    setup.run(async |world| {
        let ada = world.player("Ada").tokens(2).await;
        let ben = world.player("Ben").points(1000).await;
        for _ in 0..2 {
            let answer = ada.robs(&ben).await.unwrap();
            assert_eq!(answer.cooldown_end_time, None);
        }
    });
}
