//! `heist check`: whether the books are in order, and if not, what is wrong with them.

use std::{fmt::Display, time::Duration};

use heist::store::check;

use crate::{
    harness::{Player, World, all_at_once, process::Heist, snapshot},
    rpc::tokens::adjust_balance::adjustment,
};

/// Two players and everything that the books can hold of them.
struct Story {
    ada: Player,
    ben: Player,
    heist: i64,
    award: i64,
    adjustment: i64,
}

async fn story(world: &World) -> Story {
    let ada = world.player("Ada").points(500).await;
    let ben = world.player("Ben").points(1000).tokens(1).await;
    let friend = world.player("Friend").await;
    ada.earns_a_token_for(&friend).await.unwrap();
    world.adjust_balance(adjustment(&ada, 3)).await.unwrap();
    let heist = ada.robs(&ben).await.unwrap().heist.unwrap().id;
    ben.robs(&ada).await.unwrap();
    let id = |query| sqlx::query_scalar::<_, i64>(query).bind(ada.id);
    let award = id(r#"SELECT "id" FROM "HeistTokenAward" WHERE "referrerId" = $1"#);
    let adjustment = id(r#"SELECT "id" FROM "HeistTokenAdjustment" WHERE "userId" = $1"#);
    Story {
        heist,
        award: award.fetch_one(&world.pool).await.unwrap(),
        adjustment: adjustment.fetch_one(&world.pool).await.unwrap(),
        ada,
        ben,
    }
}

/// Runs the command: its exit code and what it printed.
async fn check_command(world: &World) -> (Option<i32>, Vec<String>) {
    let ended = Heist::new(&["check"])
        .env("DATABASE_URL", &world.database_url)
        .ended()
        .await;
    if ended.code != Some(0) {
        let complaint = ended.complaint();
        assert!(complaint.ends_with("wrong with the books"), "{complaint}");
    }
    (
        ended.code,
        ended.stdout.lines().map(str::to_owned).collect(),
    )
}

/// Does damage that our constraints would not let through, and repairs it when it was found.
/// The books have to be right again for the audit after the test.
async fn is_found(world: &World, damage: &str, repair: &str, words: &[String]) {
    world.execute(damage).await;
    let (code, lines) = check_command(world).await;
    assert_eq!(code, Some(1), "not found: {damage}");
    assert!(
        lines
            .iter()
            .any(|line| words.iter().all(|word| has_word(line, word))),
        "no line with {words:?} in {lines:#?} after {damage}"
    );
    assert_eq!(check::books(&world.pool).await.unwrap().first, lines);
    world.execute(repair).await;
    assert_eq!(
        check_command(world).await.0,
        Some(0),
        "not repaired: {damage}"
    );
}

fn has_word(line: &str, word: &str) -> bool {
    line.split(|character: char| {
        !character.is_alphanumeric() && character != '-' && character != '_'
    })
    .any(|other| other == word)
        || word.contains(' ') && line.contains(word)
}

fn words(words: &[&dyn Display]) -> Vec<String> {
    words.iter().map(ToString::to_string).collect()
}

/// The constraints that stand in the way of damage.
const NO_CONSTRAINTS: &str = r#"
    ALTER TABLE "HeistToken" DROP CONSTRAINT "HeistToken_balance_check";
    ALTER TABLE "Heist" DROP CONSTRAINT "Heist_points_check";
    ALTER TABLE "User" DROP CONSTRAINT "User_monthlyPoints_check";"#;

#[test]
fn books_without_an_entry_are_in_order() {
    World::run(async |world| {
        let (code, lines) = check_command(world).await;
        assert_eq!(
            (code, lines),
            (Some(0), vec!["The books are in order.".to_owned()])
        );
    });
}

#[test]
fn correct_books_pass_the_check_unchanged() {
    World::run(async |world| {
        let story = story(world).await;
        story.ben.leaves().await;
        let before = snapshot(&world.pool).await;
        let (code, lines) = check_command(world).await;
        assert_eq!(
            (code, lines),
            (Some(0), vec!["The books are in order.".to_owned()])
        );
        assert_eq!(snapshot(&world.pool).await, before);
    });
}

#[test]
fn a_wrong_balance_is_found() {
    World::run(async |world| {
        let Story { ada, .. } = story(world).await;
        world.execute(NO_CONSTRAINTS).await;
        let found = words(&[&"player", &ada.id, &"tokens"]);
        for (column, other) in [
            (r#""balance""#, ""),
            (r#""totalEarned""#, ""),
            (r#""totalSpent""#, ""),
            // These three agree with each other, and not with the statement.
            (r#""balance""#, r#", "totalEarned" = "totalEarned" + 1"#),
            (r#""totalEarned""#, r#", "totalSpent" = "totalSpent" + 1"#),
        ] {
            let set = |sign: &str| {
                let other = other.replace('+', sign);
                let id = ada.id;
                format!(
                    r#"UPDATE "HeistToken" SET {column} = {column} {sign} 1 {other} WHERE "userId" = {id}"#
                )
            };
            is_found(world, &set("+"), &set("-"), &found).await;
        }
    });
}

#[test]
fn a_balance_below_zero_is_found() {
    World::run(async |world| {
        let Story { ada, .. } = story(world).await;
        world.execute(NO_CONSTRAINTS).await;
        let set = |sign: &str| {
            let id = ada.id;
            format!(
                r#"UPDATE "HeistToken" SET "balance" = "balance" {sign} 10, "totalSpent" = "totalSpent" {sign} -10 WHERE "userId" = {id}"#
            )
        };
        let found = words(&[&"player", &ada.id, &"has -7 tokens"]);
        is_found(world, &set("-"), &set("+"), &found).await;
    });
}

#[test]
fn a_missing_account_is_found() {
    World::run(async |world| {
        let Story { ada, .. } = story(world).await;
        world
            .execute(r#"CREATE TABLE test.kept AS SELECT * FROM "HeistToken""#)
            .await;
        let id = ada.id;
        is_found(
            world,
            &format!(r#"DELETE FROM "HeistToken" WHERE "userId" = {id}"#),
            &format!(r#"INSERT INTO "HeistToken" SELECT * FROM test.kept WHERE "userId" = {id}"#),
            &words(&[&"player", &ada.id, &"has 0 tokens"]),
        )
        .await;
    });
}

#[test]
fn a_changed_line_of_a_statement_is_found() {
    World::run(async |world| {
        let story = story(world).await;
        for (table, column, id) in [
            ("HeistTokenAward", "balanceAfter", story.award),
            ("HeistTokenAdjustment", "balanceAfter", story.adjustment),
            ("HeistTokenAdjustment", "delta", story.adjustment),
            ("Heist", "attackerTokensAfter", story.heist),
        ] {
            let set = |sign: char| {
                format!(
                    r#"UPDATE "{table}" SET "{column}" = "{column}" {sign} 1 WHERE "id" = {id}"#
                )
            };
            let found = words(&[&"statement line", &id, &story.ada.id]);
            is_found(world, &set('+'), &set('-'), &found).await;
        }
    });
}

#[test]
fn a_missing_line_of_a_statement_is_found() {
    World::run(async |world| {
        let story = story(world).await;
        for (table, id) in [
            ("HeistTokenAward", story.award),
            ("HeistTokenAdjustment", story.adjustment),
            ("Heist", story.heist),
        ] {
            world.execute(&format!(r#"CREATE TABLE test."kept {table}" AS SELECT * FROM "{table}" WHERE "id" = {id}"#)).await;
            is_found(
                world,
                &format!(r#"DELETE FROM "{table}" WHERE "id" = {id}"#),
                &format!(r#"INSERT INTO "{table}" SELECT * FROM test."kept {table}""#),
                &words(&[&"player", &story.ada.id, &"tokens"]),
            )
            .await;
        }
    });
}

#[test]
fn changed_points_of_a_heist_are_found() {
    World::run(async |world| {
        let Story { heist, .. } = story(world).await;
        world.execute(NO_CONSTRAINTS).await;
        for column in [
            "pointsStolen",
            "attackerPointsBefore",
            "attackerPointsAfter",
            "victimPointsBefore",
            "victimPointsAfter",
        ] {
            let set = |sign: char| {
                format!(
                    r#"UPDATE "Heist" SET "{column}" = "{column}" {sign} 1 WHERE "id" = {heist}"#
                )
            };
            is_found(
                world,
                &set('+'),
                &set('-'),
                &words(&[&"heist", &heist, &"points"]),
            )
            .await;
        }
        // Right in itself, and not what was told and booked.
        let set = |sign: char| {
            format!(
                r#"UPDATE "Heist" SET
                "pointsStolen" = "pointsStolen" {sign} 1,
                "attackerPointsAfter" = "attackerPointsAfter" {sign} 1,
                "victimPointsBefore" = "victimPointsBefore" {sign} 1
            WHERE "id" = {heist}"#
            )
        };
        is_found(
            world,
            &set('+'),
            &set('-'),
            &words(&[&"HEIST_GAIN", &"point events"]),
        )
        .await;
    });
}

#[test]
fn a_missing_notification_is_found() {
    World::run(async |world| {
        let Story {
            ada,
            ben,
            heist,
            award,
            ..
        } = story(world).await;
        world
            .execute(r#"CREATE TABLE test.kept AS SELECT * FROM "HeistNotification""#)
            .await;
        for (player, kind, ledger_id) in [
            (&ada, "HEIST_SUCCESS", heist),
            (&ben, "HEIST_VICTIM", heist),
            (&ada, "TOKEN_EARNED", award),
        ] {
            let which = format!(
                r#""userId" = {} AND "type" = '{kind}' AND "ledgerId" = {ledger_id}"#,
                player.id
            );
            is_found(
                world,
                &format!(r#"DELETE FROM "HeistNotification" WHERE {which}"#),
                &format!(
                    r#"INSERT INTO "HeistNotification" SELECT * FROM test.kept WHERE {which}"#
                ),
                &words(&[
                    &"player",
                    &player.id,
                    &kind,
                    &ledger_id,
                    &"has 0 notifications",
                ]),
            )
            .await;
        }
    });
}

#[test]
fn a_duplicate_notification_is_found() {
    World::run(async |world| {
        let Story {
            ada, heist, award, ..
        } = story(world).await;
        for (kind, ledger_id) in [("HEIST_SUCCESS", heist), ("TOKEN_EARNED", award)] {
            is_found(
                world,
                &format!(
                    r#"INSERT INTO "HeistNotification" ("userId", "id", "type", "ledgerId", "otherUserId", "points", "after")
                    SELECT "userId", 1000000, "type", "ledgerId", "otherUserId", "points", "after"
                    FROM "HeistNotification" WHERE "type" = '{kind}' AND "ledgerId" = {ledger_id}"#
                ),
                r#"DELETE FROM "HeistNotification" WHERE "id" = 1000000"#,
                &words(&[&"player", &ada.id, &kind, &ledger_id, &"has 2 notifications"]),
            )
            .await;
        }
    });
}

#[test]
fn a_notification_of_something_that_never_happened_is_found() {
    World::run(async |world| {
        let Story {
            ada,
            ben,
            heist,
            award,
            ..
        } = story(world).await;
        for (player, kind, ledger_id) in [
            (&ada, "HEIST_SUCCESS", 999_999),
            (&ada, "TOKEN_EARNED", 999_999),
            // Of another player's event, or of another kind.
            (&ben, "HEIST_SUCCESS", heist),
            (&ada, "HEIST_VICTIM", heist),
            (&ada, "TOKEN_EARNED", heist),
            (&ben, "TOKEN_EARNED", award),
        ] {
            is_found(
                world,
                &format!(
                    r#"INSERT INTO "HeistNotification" ("userId", "id", "type", "ledgerId", "otherUserId", "points", "after")
                    VALUES ({}, 1000000, '{kind}', {ledger_id}, {}, 50, 550)"#,
                    player.id, ben.id
                ),
                r#"DELETE FROM "HeistNotification" WHERE "id" = 1000000"#,
                &words(&[&"player", &player.id, &"1000000", &kind, &ledger_id]),
            )
            .await;
        }
    });
}

#[test]
fn wrong_numbers_in_a_notification_are_found() {
    World::run(async |world| {
        let Story {
            ada,
            ben,
            heist,
            award,
            ..
        } = story(world).await;
        for (player, kind, ledger_id) in [
            (&ada, "HEIST_SUCCESS", heist),
            (&ben, "HEIST_VICTIM", heist),
            (&ada, "TOKEN_EARNED", award),
        ] {
            for column in ["points", "after"] {
                let set = |sign: char| {
                    format!(
                        r#"UPDATE "HeistNotification" SET "{column}" = "{column}" {sign} 1
                    WHERE "userId" = {} AND "type" = '{kind}' AND "ledgerId" = {ledger_id}"#,
                        player.id
                    )
                };
                let found = words(&[&"player", &player.id, &kind, &ledger_id]);
                is_found(world, &set('+'), &set('-'), &found).await;
            }
        }
    });
}

#[test]
fn missing_added_and_changed_point_events_are_found() {
    World::run(async |world| {
        let Story { ada, ben, .. } = story(world).await;
        world
            .execute(r#"CREATE TABLE test.kept AS SELECT * FROM "UserPointEvent""#)
            .await;
        let restore =
            r#"DELETE FROM "UserPointEvent"; INSERT INTO "UserPointEvent" SELECT * FROM test.kept"#;
        for (player, kind) in [
            (&ada, "HEIST_GAIN"),
            (&ada, "HEIST_LOSS"),
            (&ben, "HEIST_LOSS"),
        ] {
            let which = format!(
                r#""userId" = {} AND "pointEventTypeId" = (SELECT "id" FROM "PointEventTypeMaster" WHERE "name" = '{kind}')"#,
                player.id
            );
            let found = words(&[&"player", &player.id, &kind]);
            for damage in [
                format!(r#"DELETE FROM "UserPointEvent" WHERE {which}"#),
                format!(r#"UPDATE "UserPointEvent" SET "points" = "points" + 1 WHERE {which}"#),
                format!(
                    r#"INSERT INTO "UserPointEvent" ("userId", "points", "pointEventTypeId")
                    SELECT "userId", 0, "pointEventTypeId" FROM "UserPointEvent" WHERE {which}"#
                ),
            ] {
                is_found(world, &damage, restore, &found).await;
            }
        }
    });
}

#[test]
fn point_events_of_other_heists_are_found_although_the_sums_agree() {
    World::setup()
        .rules(|rules| rules.cooldown = Duration::ZERO)
        .run(async |world| {
            let ada = world.player("Ada").tokens(2).await;
            let ben = world.player("Ben").points(1000).await;
            for _ in 0..2 {
                ada.robs(&ben).await.unwrap();
            }
            // 50 and 47 points become 51 and 46.
            let moved = |by: i32| {
                format!(
                    r#"UPDATE "UserPointEvent" SET "points" = "points" + {by} * sign(abs("points") - 48.5)
                    WHERE "userId" = {}"#,
                    ada.id
                )
            };
            let found = words(&[&"player", &ada.id, &"HEIST_GAIN", &"51 points"]);
            is_found(world, &moved(1), &moved(-1), &found).await;
        });
}

#[test]
fn more_findings_than_are_printed_are_counted() {
    World::run(async |world| {
        world
            .execute(
                r#"ALTER TABLE "User" DROP CONSTRAINT "User_monthlyPoints_check";
                INSERT INTO "User" ("name", "monthlyPoints")
                SELECT 'Debtor', -1 FROM generate_series(1, 10500)"#,
            )
            .await;
        let ended = Heist::new(&["check"])
            .env("DATABASE_URL", &world.database_url)
            .ended()
            .await;
        assert_eq!(ended.stdout.lines().count(), 10_000);
        assert_eq!(ended.complaint(), "10500 things are wrong with the books");
        world
            .execute(r#"DELETE FROM "User" WHERE "name" = 'Debtor'"#)
            .await;
    });
}

#[test]
fn a_sequence_of_point_events_behind_its_rows_is_found() {
    World::run(async |world| {
        story(world).await;
        world
            .execute(r#"UPDATE "UserPointEvent" SET "id" = "id" + 1000"#)
            .await;
        let (code, lines) = check_command(world).await;
        assert_eq!(code, Some(1));
        assert_eq!(lines.len(), 1);
        assert!(
            lines[0].contains("UserPointEvent_id_seq") && lines[0].contains("cure: SELECT setval"),
            "{lines:?}"
        );
    });
}

#[test]
fn point_events_of_the_application_are_none_of_its_business() {
    World::run(async |world| {
        let Story { ada, .. } = story(world).await;
        world.execute(&format!(
                r#"
                INSERT INTO "PointEventTypeMaster" ("name", "description") VALUES ('DAILY_LOGIN', 'Came back');
                INSERT INTO "UserPointEvent" ("userId", "points", "pointEventTypeId")
                SELECT {0}, 7, "id" FROM "PointEventTypeMaster" WHERE "name" = 'DAILY_LOGIN';"#,
                ada.id
            ),
        )
        .await;
        assert_eq!(check_command(world).await.0, Some(0));
        world
            .execute(r#"DELETE FROM "UserPointEvent" WHERE "points" = 7"#)
            .await;
    });
}

#[test]
fn points_below_zero_are_found() {
    World::run(async |world| {
        let debtor = world.player("Debtor").await;
        debtor.has_negative_points(-30).await;
        let (code, lines) = check_command(world).await;
        assert_eq!(code, Some(1));
        assert_eq!(lines, [format!("player {} has -30 points", debtor.id)]);
    });
}

#[test]
fn every_finding_is_printed_and_counted() {
    World::run(async |world| {
        let debtors = world.crowd("Debtor", 3).await;
        for debtor in &debtors {
            debtor.has_negative_points(-1).await;
        }
        let ended = Heist::new(&["check"])
            .env("DATABASE_URL", &world.database_url)
            .ended()
            .await;
        assert_eq!(ended.code, Some(1));
        assert_eq!(ended.stdout.lines().count(), 3);
        assert_eq!(ended.complaint(), "3 things are wrong with the books");
        let ended = Heist::new(&["check", "--json"])
            .env("DATABASE_URL", &world.database_url)
            .ended()
            .await;
        assert_eq!(ended.code, Some(1));
        let report: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
        assert_eq!(report["ok"], false);
        assert_eq!(report["findings"].as_array().unwrap().len(), 3);
        assert_eq!(report["total"], 3);
        for debtor in &debtors[1..] {
            debtor.leaves().await;
        }
        let ended = Heist::new(&["check"])
            .env("DATABASE_URL", &world.database_url)
            .ended()
            .await;
        assert_eq!(ended.complaint(), "1 thing is wrong with the books");
    });
}

#[test]
fn a_check_waits_for_no_lock_and_blocks_no_session() {
    World::run(async |world| {
        story(world).await;
        let mut transaction = world.application().await;
        for table in [
            "User",
            "Heist",
            "HeistToken",
            "HeistNotification",
            "UserPointEvent",
        ] {
            let lock = format!(r#"SELECT FROM "{table}" FOR UPDATE"#);
            transaction.execute(&lock).await;
        }
        let more = r#"UPDATE "User" SET "monthlyPoints" = "monthlyPoints" + 1"#;
        transaction.execute(more).await;
        assert_eq!(check_command(world).await.0, Some(0));
        transaction.rollback().await;
    });
}

#[test]
fn books_are_in_order_at_every_moment_while_players_rob_and_earn() {
    let setup = World::setup().rules(|rules| {
        rules.cooldown = Duration::ZERO;
        rules.protection = None;
    });
    setup.run(async |world| {
        let players = world.crowd("Player", 6).points(20_000).tokens(60).await;
        let friends = world.crowd("Friend", 60).await;
        let heists = (0..300).map(|round| {
            let robbery = players[round % 6].robs(&players[(round + 1 + round / 6 % 5) % 6]);
            tokio::spawn(async move { robbery.await.map(|_| ()) })
        });
        let awards = friends.iter().map(|friend| {
            let award = players[0].earns_a_token_for(friend);
            tokio::spawn(async move { award.await.map(|_| ()) })
        });
        let adjustments = (0..60).map(|round| {
            let adjustment = world.adjust_balance(adjustment(&players[round % 6], 1));
            tokio::spawn(async move { adjustment.await.map(|_| ()) })
        });
        let calls: Vec<_> = heists.chain(awards).chain(adjustments).collect();
        let calls = tokio::spawn(all_at_once(calls));
        let mut looks = 0;
        while !calls.is_finished() || looks == 0 {
            assert_eq!(
                check::books(&world.pool).await.unwrap().first,
                Vec::<String>::new()
            );
            looks += 1;
        }
        for call in calls.await.unwrap() {
            call.unwrap().unwrap();
        }
        assert_eq!(check_command(world).await.0, Some(0));
    });
}

#[test]
fn a_database_that_cannot_be_checked_is_one_line() {
    crate::harness::runtime().block_on(async {
        let ended = Heist::new(&["check"])
            .env("DATABASE_URL", "postgres://app:hunter2@127.0.0.1:1/app")
            .ended()
            .await;
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(3), ""));
        assert!(
            ended.complaint().starts_with("cannot check the books"),
            "{ended:?}"
        );
        assert!(!ended.stderr.contains("hunter2"), "{ended:?}");

        let database = crate::harness::postgres::Database::of_the_application().await;
        let ended = Heist::new(&["check"])
            .env("DATABASE_URL", &database.url)
            .ended()
            .await;
        assert_eq!(ended.code, Some(3));
        assert!(ended.complaint().contains("heist migrate up"), "{ended:?}");
        database.discard().await;
    });
}
