//! `heist archive`: old rows move to files, and the books still add up.

use std::{
    collections::BTreeMap,
    fs,
    io::Read as _,
    path::{Path, PathBuf},
    time::Duration,
};

use flate2::read::GzDecoder;
use heist::{
    pb::{self, token_event::Source},
    store::check,
};
use serde_json::Value;
use sqlx::AssertSqlSafe;
use tokio::time::sleep;
use tonic::Code::NotFound;

use crate::{
    harness::{
        Application, Player, Setup, World, all_at_once, new_request_id,
        postgres::Directory,
        process::{Heist, Running},
        snapshot, until,
    },
    rpc::tokens::list_token_events::{explains_the_balance, statement},
};

fn lawless() -> Setup {
    World::setup().rules(|rules| {
        rules.cooldown = Duration::ZERO;
        rules.protection = None;
    })
}

/// Everything so far happened so long ago, in the order in which it did.
async fn everything_was(world: &World, days: u64) {
    let script = format!(
        r#"
        UPDATE "Heist" SET "createdAt" = "createdAt" - interval '{days} days';
        UPDATE "HeistNotification" SET "createdAt" = "createdAt" - interval '{days} days';
        UPDATE "HeistTokenAward" SET "createdAt" = "createdAt" - interval '{days} days';
        UPDATE "HeistTokenAdjustment" SET "createdAt" = "createdAt" - interval '{days} days';
        "#
    );
    world.execute(&script).await;
}

async fn everything_was_read(world: &World) {
    world
        .execute(r#"UPDATE "HeistNotification" SET "read" = true"#)
        .await;
}

fn archive(world: &World, folder: &Path, arguments: &[&str]) -> Heist {
    let mut all = vec!["archive"];
    all.extend(arguments);
    Heist::new(&all)
        .env("DATABASE_URL", &world.database_url)
        .env("HEIST_ARCHIVE_DIR", folder)
}

/// What it says when it goes well.
async fn archives(world: &World, folder: &Path, arguments: &[&str]) -> String {
    let ended = archive(world, folder, arguments).ended().await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    ended.stdout.trim().to_owned()
}

async fn books_are_in_order(world: &World) {
    let findings = check::books(&world.pool).await.unwrap().first;
    assert!(findings.is_empty(), "{findings:#?}");
}

/// The files that the database says are verified.
async fn verified_files(world: &World, folder: &Path) -> Vec<PathBuf> {
    let names: Vec<String> = sqlx::query_scalar(
        r#"SELECT "kind" || '-' || lpad("id"::text, 6, '0') || '.jsonl.gz'
        FROM "HeistArchiveFile" WHERE "sha256" IS NOT NULL ORDER BY "id""#,
    )
    .fetch_all(&world.pool)
    .await
    .unwrap();
    names.into_iter().map(|name| folder.join(name)).collect()
}

/// The rows of a file, without its first and last line.
fn rows_of(path: &Path) -> Vec<Value> {
    let mut text = String::new();
    GzDecoder::new(fs::File::open(path).unwrap())
        .read_to_string(&mut text)
        .unwrap();
    let lines: Vec<Value> = (text.lines())
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    lines[1..lines.len() - 1].to_vec()
}

/// All rows of a table as a file has them, by their ids.
async fn rows_in(world: &World, table: &str) -> BTreeMap<i64, Value> {
    let query = format!(r#"SELECT (to_jsonb(it) - 'ipAddress')::text FROM "{table}" AS it"#);
    let rows: Vec<String> = sqlx::query_scalar(AssertSqlSafe(query))
        .fetch_all(&world.pool)
        .await
        .unwrap();
    by_id(rows.iter().map(|row| serde_json::from_str(row).unwrap()))
}

/// Creates a trigger of the application with this function body.
async fn trigger(world: &World, when: &str, table: &str, body: &str) {
    let script = format!(
        r#"CREATE FUNCTION interfere() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body}; END $$;
        CREATE TRIGGER interfere {when} ON "{table}" FOR EACH ROW EXECUTE FUNCTION interfere()"#
    );
    world.execute(&script).await;
}

/// No id may come twice.
fn by_id(rows: impl IntoIterator<Item = Value>) -> BTreeMap<i64, Value> {
    let mut ids = BTreeMap::new();
    for row in rows {
        let id = row["id"].as_i64().unwrap();
        assert!(ids.insert(id, row).is_none(), "{id} twice");
    }
    ids
}

async fn archived_rows(world: &World, folder: &Path, kind: &str) -> BTreeMap<i64, Value> {
    let files = verified_files(world, folder).await;
    let of_kind = files.iter().filter(|path| {
        let name = path.file_name().unwrap().to_str().unwrap();
        name.starts_with(kind)
    });
    by_id(of_kind.flat_map(|path| rows_of(path)))
}

/// Ada has robbed Rich so often, and earned a token before each time.
async fn robberies(world: &World, times: usize) -> (Player, Player) {
    let ada = world.player("Ada").tokens(2).await;
    let rich = world.player("Rich").points(50_000).await;
    for friend in world.crowd("Friend", times).await {
        ada.earns_a_token_for(&friend).await.unwrap();
        ada.robs(&rich).await.unwrap();
    }
    (ada, rich)
}

async fn stats(world: &World, player: &Player) -> pb::GetHeistStatsResponse {
    let request = pb::GetHeistStatsRequest { user_id: player.id };
    let answer = world.heists.clone().get_heist_stats(request).await;
    answer.unwrap().into_inner()
}

#[test]
fn only_old_heists_and_read_notifications_are_archived() {
    lawless().run(async |world| {
        let folder = Directory::create();
        let (ada, rich) = robberies(world, 5).await;
        everything_was_read(world).await;
        everything_was(world, 91).await;
        let unread = ada.robs(&rich).await.unwrap().heist.unwrap().id;
        world.execute(r#"UPDATE "Heist" SET "createdAt" = "createdAt" - interval '91 days' WHERE "createdAt" > now() - interval '1 hour';
            UPDATE "HeistNotification" SET "createdAt" = "createdAt" - interval '91 days' WHERE NOT "read""#,
        )
        .await;
        let young = ada.robs(&rich).await.unwrap().heist.unwrap().id;
        let heists = rows_in(world, "Heist").await;
        let notifications = rows_in(world, "HeistNotification").await;

        let said = archives(world, &folder.path, &[]).await;

        assert_eq!(said, "Archived 6 heists and 15 notifications in 2 files.");
        let mut found = archived_rows(world, &folder.path, "heists").await;
        assert!(!found.contains_key(&young) && found.contains_key(&unread));
        found.extend(rows_in(world, "Heist").await);
        assert_eq!(found, heists);
        let archived = archived_rows(world, &folder.path, "notifications").await;
        assert!(archived.values().all(|row| row["read"] == true));
        let left = rows_in(world, "HeistNotification").await;
        // Two of the young heist, and two unread ones.
        assert_eq!(left.len(), 4);
        assert_eq!(by_id(archived.into_values().chain(left.into_values())), notifications);
        books_are_in_order(world).await;

        let again = archives(world, &folder.path, &[]).await;
        assert_eq!(again, "Archived 0 heists and 0 notifications in 0 files.");
    });
}

#[test]
fn reads_after_archiving_still_add_up() {
    lawless().run(async |world| {
        let folder = Directory::create();
        let (ada, rich) = robberies(world, 6).await;
        let oldest = archived_id(world, 0).await;
        let before = (stats(world, &ada).await, stats(world, &rich).await);
        let whole = statement(world, &ada).await;
        everything_was_read(world).await;
        everything_was(world, 100).await;
        // Four of the heists are old, and what came between them.
        world
            .execute(
                r#"UPDATE "HeistNotification" SET "createdAt" = now()
            WHERE "ledgerId" > (SELECT "id" FROM "Heist" ORDER BY "id" OFFSET 3 LIMIT 1);
            UPDATE "HeistTokenAward" SET "createdAt" = now()
            WHERE "id" > (SELECT "id" FROM "Heist" ORDER BY "id" OFFSET 3 LIMIT 1);
            UPDATE "Heist" SET "createdAt" = now()
            WHERE "id" > (SELECT "id" FROM "Heist" ORDER BY "id" OFFSET 3 LIMIT 1)"#,
            )
            .await;

        archives(world, &folder.path, &[]).await;

        assert_eq!(
            (stats(world, &ada).await, stats(world, &rich).await),
            before
        );
        explains_the_balance(world, &ada).await;
        explains_the_balance(world, &rich).await;
        let left = statement(world, &ada).await;
        let (first, rest) = left.split_last().unwrap();
        assert!(
            matches!(first.source, Some(Source::CarriedForward(_))),
            "{first:?}"
        );
        assert_eq!(rest.len(), 4, "two awards and two heists since");
        for (now, then) in rest.iter().zip(&whole) {
            assert_eq!(
                (now.delta, now.balance_after),
                (then.delta, then.balance_after)
            );
        }
        let request = pb::GetHeistRequest { heist_id: oldest };
        let mut heists = world.heists.clone();
        let refusal = world
            .refuses(async move { heists.get_heist(request).await })
            .await;
        refusal.is(NotFound, "HEIST_NOT_FOUND");
        assert_eq!(world.get_unread_count(ada.id).await.unwrap(), 0);
        books_are_in_order(world).await;

        // Life goes on, and the archive with it.
        ada.robs(&rich).await.unwrap();
        explains_the_balance(world, &ada).await;
        everything_was(world, 100).await;
        everything_was_read(world).await;
        let grown = stats(world, &ada).await;
        archives(world, &folder.path, &[]).await;
        assert_eq!(world.count_heists().await, 0);
        assert_eq!(stats(world, &ada).await, grown);
        explains_the_balance(world, &ada).await;
        assert_eq!(statement(world, &ada).await.len(), 1);
    });
}

async fn archived_id(world: &World, place: i64) -> i64 {
    sqlx::query_scalar(r#"SELECT "id" FROM "Heist" ORDER BY "id" OFFSET $1 LIMIT 1"#)
        .bind(place)
        .fetch_one(&world.pool)
        .await
        .unwrap()
}

#[test]
fn a_request_id_is_remembered_until_its_heist_is_archived() {
    lawless().run(async |world| {
        let folder = Directory::create();
        let ada = world.player("Ada").tokens(2).await;
        let rich = world.player("Rich").points(1000).await;
        let id = new_request_id();
        let first = ada.robs_with_id(&id, &rich).await.unwrap();
        everything_was(world, 89).await;
        archives(world, &folder.path, &[]).await;
        assert!(ada.robs_with_id(&id, &rich).await.unwrap().replayed);
        everything_was(world, 2).await;
        archives(world, &folder.path, &[]).await;
        let second = ada.robs_with_id(&id, &rich).await.unwrap();
        assert!(!second.replayed);
        assert_ne!(first.heist.unwrap().id, second.heist.unwrap().id);
    });
}

#[test]
fn wrong_books_are_found_after_archiving() {
    lawless().run(async |world| {
        let folder = Directory::create();
        let (ada, rich) = robberies(world, 4).await;
        everything_was_read(world).await;
        everything_was(world, 100).await;
        world.execute(r#"UPDATE "HeistNotification" SET "read" = false WHERE "id" = (SELECT min("id") FROM "HeistNotification")"#,
        )
        .await;
        archives(world, &folder.path, &[]).await;
        ada.robs(&rich).await.unwrap();
        books_are_in_order(world).await;
        for damage in [
            r#"UPDATE "HeistArchiveTotal" SET "heistsAsAttacker" = "heistsAsAttacker" + 1 WHERE "lastSpendId" IS NOT NULL"#,
            r#"UPDATE "HeistArchiveTotal" SET "heistsAsVictim" = "heistsAsVictim" - 1 WHERE "lastSpendId" IS NULL"#,
            r#"UPDATE "HeistArchiveTotal" SET "pointsLost" = "pointsLost" + 1 WHERE "lastSpendId" IS NULL"#,
            r#"UPDATE "HeistArchiveTotal" SET "lastSpendTokensAfter" = "lastSpendTokensAfter" + 1 WHERE "lastSpendId" IS NOT NULL"#,
            r#"DELETE FROM "HeistArchiveTotal" WHERE "lastSpendId" IS NOT NULL"#,
            // The only old one that is left, because it is unread.
            r#"DELETE FROM "HeistNotification" WHERE "createdAt" < now() - interval '90 days'"#,
            r#"DELETE FROM "HeistNotification" WHERE "createdAt" > now() - interval '90 days'"#,
            r#"DELETE FROM "Heist""#,
            r#"UPDATE "HeistToken" SET "totalSpent" = "totalSpent" + 1, "totalEarned" = "totalEarned" + 1"#,
        ] {
            let mut transaction = world.application().await;
            let done = sqlx::query(damage).execute(&mut *transaction).await.unwrap();
            assert_ne!(done.rows_affected(), 0, "{damage}");
            let findings = check::books(&mut *transaction).await.unwrap().first;
            assert!(!findings.is_empty(), "not found: {damage}");
            transaction.rollback().await;
        }
        books_are_in_order(world).await;
    });
}

#[test]
fn files_hold_every_column_except_the_callers_address() {
    lawless().run(async |world| {
        let folder = Directory::create();
        robberies(world, 1).await;
        everything_was_read(world).await;
        everything_was(world, 100).await;
        let heists = rows_in(world, "Heist").await;
        let notifications = rows_in(world, "HeistNotification").await;
        archives(world, &folder.path, &[]).await;
        assert_eq!(archived_rows(world, &folder.path, "heists").await, heists);
        let archived = archived_rows(world, &folder.path, "notifications").await;
        assert_eq!(archived, notifications);

        // The documented way back.
        let line = heists.values().next().unwrap().to_string();
        let restored: i64 = sqlx::query_scalar(
            r#"SELECT "id" FROM jsonb_populate_record(NULL::"Heist", $1::text::jsonb)"#,
        )
        .bind(&line)
        .fetch_one(&world.pool)
        .await
        .unwrap();
        assert_eq!(Some(&restored), heists.keys().next());
    });
}

#[test]
fn a_killed_run_loses_and_duplicates_nothing() {
    lawless().run(async |world| {
        let folder = Directory::create();
        robberies(world, 60).await;
        everything_was_read(world).await;
        everything_was(world, 100).await;
        let heists = rows_in(world, "Heist").await;
        let notifications = rows_in(world, "HeistNotification").await;

        // Later and later, until one came to its end.
        let mut kills = 0;
        loop {
            let process = archive(world, &folder.path, &["--rows-per-file", "7"]).spawn();
            sleep(Duration::from_millis(20 + 3 * kills)).await;
            let ended_by_itself = process.stopped_by("KILL").await.code == Some(0);
            nothing_is_lost_or_doubled(world, &folder.path, &heists, &notifications).await;
            if ended_by_itself {
                break;
            }
            kills += 1;
        }
        assert!(kills > 5, "killed {kills} times only");
        assert_eq!(world.count_heists().await, 0);
        let partial = fs::read_dir(&folder.path).unwrap().filter(|entry| {
            let name = entry.as_ref().unwrap().file_name();
            name.to_str().unwrap().ends_with(".partial")
        });
        assert_eq!(partial.count(), 0);
    });
}

async fn nothing_is_lost_or_doubled(
    world: &World,
    folder: &Path,
    heists: &BTreeMap<i64, Value>,
    notifications: &BTreeMap<i64, Value>,
) {
    world.no_session_of_the_service_is_busy().await;
    books_are_in_order(world).await;
    for (table, kind, all) in [
        ("Heist", "heists", heists),
        ("HeistNotification", "notifications", notifications),
    ] {
        // The last one may be verified and not have its name yet.
        let mut found = BTreeMap::new();
        for file in verified_files(world, folder).await {
            if !file
                .file_name()
                .unwrap()
                .to_str()
                .unwrap()
                .starts_with(kind)
            {
                continue;
            }
            let partial = PathBuf::from(format!("{}.partial", file.display()));
            let rows = rows_of(if file.exists() { &file } else { &partial });
            for (id, row) in by_id(rows) {
                assert!(found.insert(id, row).is_none(), "{id} is in two files");
            }
        }
        found.extend(rows_in(world, table).await);
        assert_eq!(&found, all, "{table}");
    }
}

/// A run that has verified its file and waits for the lock on a player.
async fn a_run_in_the_midst(
    world: &World,
    folder: &Path,
    player: &Player,
) -> (Running, Application) {
    let deletion = player.locked().await;
    let process = archive(world, folder, &[]).spawn();
    world.a_session_waits_for_a_lock().await;
    (process, deletion)
}

#[test]
fn a_second_run_is_refused() {
    lawless().run(async |world| {
        let folder = Directory::create();
        let (ada, _) = robberies(world, 3).await;
        everything_was(world, 100).await;
        let (first, deletion) = a_run_in_the_midst(world, &folder.path, &ada).await;

        let second = archive(world, &folder.path, &[]).ended().await;

        assert_eq!(second.code, Some(3));
        assert_eq!(
            second.complaint(),
            "cannot archive: another run works on this database"
        );
        deletion.rollback().await;
        let ended = first.ended().await;
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert_eq!(world.count_heists().await, 0);
    });
}

#[test]
fn a_verified_file_that_is_missing_or_exchanged_stops_the_next_run() {
    lawless().run(async |world| {
        let folder = Directory::create();
        let (ada, _) = robberies(world, 3).await;
        everything_was(world, 100).await;
        let (first, deletion) = a_run_in_the_midst(world, &folder.path, &ada).await;
        first.stopped_by("KILL").await;
        deletion.rollback().await;
        let file = verified_files(world, &folder.path).await.remove(0);
        let aside = file.with_extension("aside");
        fs::rename(&file, &aside).unwrap();
        until("the lock of the killed run is free", async || {
            let ended = archive(world, &folder.path, &[]).ended().await;
            assert_eq!(ended.code, Some(3));
            ended.complaint().contains("is missing").then_some(())
        })
        .await;
        fs::write(&file, b"nonsense").unwrap();
        let ended = archive(world, &folder.path, &[]).ended().await;
        assert_eq!(ended.code, Some(3));
        assert_eq!(world.count_heists().await, 3);
        fs::rename(&aside, &file).unwrap();
        let said = archives(world, &folder.path, &["--json"]).await;
        let said: serde_json::Value = serde_json::from_str(&said).unwrap();
        let expected = serde_json::json!({"heists": 3, "notifications": 0, "files": 1});
        assert_eq!(said, expected);
    });
}

#[test]
fn a_row_that_differs_from_its_file_is_not_removed() {
    lawless().run(async |world| {
        let folder = Directory::create();
        let (ada, _) = robberies(world, 3).await;
        everything_was(world, 100).await;
        let (first, mut deletion) = a_run_in_the_midst(world, &folder.path, &ada).await;
        let change = r#"UPDATE "Heist" SET "createdAt" = now() WHERE "id" = (SELECT min("id") FROM "Heist")"#;
        deletion.execute(change).await;
        deletion.commit().await;
        let ended = first.ended().await;
        assert_eq!(ended.code, Some(3), "{ended:?}");
        assert!(ended.complaint().contains("differ in the heists"), "{ended:?}");
        assert_eq!(world.count_heists().await, 3);
        books_are_in_order(world).await;
    });
}

#[test]
fn players_are_deleted_and_robbed_while_the_archive_works() {
    lawless().run(async |world| {
        let folder = Directory::create();
        let rich = world.player("Rich").points(1_000_000).await;
        let robbers = world.crowd("Robber", 30).points(100).tokens(20).await;
        for _ in 0..4 {
            for answer in all_at_once(robbers.iter().map(|robber| robber.robs(&rich))).await {
                answer.unwrap();
            }
        }
        everything_was_read(world).await;
        everything_was(world, 100).await;

        let run = archive(world, &folder.path, &["--rows-per-file", "20"]).spawn();
        let heists = (robbers[10..].iter()).map(|robber| tokio::spawn(robber.robs(&rich)));
        let heists: Vec<_> = heists.collect();
        for leaver in &robbers[..10] {
            leaver.leaves().await;
        }
        for heist in heists {
            heist.await.unwrap().unwrap();
        }

        let ended = run.ended().await;
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert_eq!(world.count_heists().await, 20);
        assert_eq!(stats(world, &rich).await.heists_as_victim, 140);
        assert_eq!(stats(world, &robbers[12]).await.heists_as_attacker, 5);
        books_are_in_order(world).await;
    });
}

#[test]
fn notifications_with_queued_or_parked_mail_are_not_archived() {
    lawless().run(async |world| {
        let folder = Directory::create();
        robberies(world, 2).await;
        everything_was_read(world).await;
        everything_was(world, 100).await;
        // Six of them, one for each state.
        world.execute(r#"UPDATE "HeistNotification" AS note SET "emailState" = given.state::"HeistEmailState", "emailAt" = now()
            FROM (SELECT "id", row_number() OVER (ORDER BY "id") AS place FROM "HeistNotification") AS numbered
            INNER JOIN unnest('{QUEUED,SENDING,FAILED,UNKNOWN,SENT,DROPPED}'::text[]) WITH ORDINALITY AS given (state, place)
                ON given.place = numbered.place
            WHERE note."id" = numbered."id""#,
        )
        .await;

        let said = archives(world, &folder.path, &[]).await;

        assert_eq!(said, "Archived 2 heists and 2 notifications in 2 files.");
        let left: Vec<String> = sqlx::query_scalar(
            r#"SELECT "emailState"::text FROM "HeistNotification" ORDER BY "emailState""#,
        )
        .fetch_all(&world.pool)
        .await
        .unwrap();
        assert_eq!(left, ["FAILED", "QUEUED", "SENDING", "UNKNOWN"]);
        books_are_in_order(world).await;
    });
}

#[test]
fn a_dry_run_changes_nothing() {
    lawless().run(async |world| {
        let folder = Directory::create();
        robberies(world, 3).await;
        everything_was_read(world).await;
        everything_was(world, 100).await;
        let before = snapshot(&world.pool).await;
        let said = archives(world, &folder.path, &["--dry-run", "--rows-per-file", "2"]).await;
        assert_eq!(
            said,
            "Would archive 3 heists and 9 notifications in 7 files."
        );
        assert_eq!(snapshot(&world.pool).await, before);
        assert!(!folder.path.exists());
    });
}

#[test]
fn rows_that_the_rules_still_need_are_not_archived() {
    World::run(async |world| {
        let folder = Directory::create();
        for (arguments, variable, reason) in [
            (
                ["--older-than", "6d"],
                ("HEIST_COOLDOWN", "24h"),
                "callers may repeat a request within this time",
            ),
            (
                ["--older-than", "10d"],
                ("HEIST_COOLDOWN", "11d"),
                "it is HEIST_COOLDOWN",
            ),
            (
                ["--older-than", "10d"],
                ("HEIST_PROTECTION_WINDOW", "11d"),
                "it is HEIST_PROTECTION_WINDOW",
            ),
        ] {
            let command = archive(world, &folder.path, &arguments).env(variable.0, variable.1);
            let ended = command.ended().await;
            assert_eq!(ended.code, Some(3));
            assert!(ended.complaint().ends_with(reason), "{ended:?}");
        }
    });
}

#[test]
fn verify_accepts_only_intact_files() {
    lawless().run(async |world| {
        let folder = Directory::create();
        robberies(world, 20).await;
        everything_was(world, 100).await;
        archives(world, &folder.path, &[]).await;
        let file = verified_files(world, &folder.path).await.remove(0);
        let whole = fs::read(&file).unwrap();
        let path = file.to_str().unwrap();
        let ended = Heist::new(&["archive", "verify", path]).ended().await;
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert!(ended.stdout.contains("20 rows"), "{ended:?}");

        let mut damaged: Vec<Vec<u8>> = Vec::new();
        for length in [0, 5, whole.len() / 2, whole.len() - 1] {
            damaged.push(whole[..length].to_vec());
        }
        for place in [whole.len() / 3, whole.len() - 6] {
            let mut bytes = whole.clone();
            bytes[place] ^= 0x10;
            damaged.push(bytes);
        }
        damaged.push([whole.as_slice(), b"more"].concat());
        damaged.push([whole.as_slice(), whole.as_slice()].concat());
        damaged.push(b"plain text".to_vec());
        for bytes in damaged {
            fs::write(&file, &bytes).unwrap();
            let ended = Heist::new(&["archive", "verify", path]).ended().await;
            assert_eq!(ended.code, Some(1), "{ended:?}");
            assert!(ended.complaint().contains(path));
        }
        fs::write(&file, &whole).unwrap();
        // A file that cannot be read is no finding.
        let missing = format!("{path}.missing");
        let ended = Heist::new(&["archive", "verify", &missing]).ended().await;
        assert_eq!(ended.code, Some(3), "{ended:?}");
    });
}

#[test]
fn rows_that_a_trigger_keeps_stop_the_archive_with_the_name_of_their_table() {
    lawless().run(async |world| {
        let ada = world.player("Ada").tokens(3).await;
        let ben = world.player("Ben").points(1000).await;
        for _ in 0..3 {
            ada.robs(&ben).await.unwrap();
        }
        everything_was_read(world).await;
        everything_was(world, 100).await;
        let folder = Directory::create();
        for (when, table, body) in [
            ("BEFORE DELETE", "Heist", "RETURN NULL"),
            (
                "BEFORE INSERT OR UPDATE",
                "HeistArchiveTotal",
                "RETURN NULL",
            ),
            (
                "BEFORE INSERT OR UPDATE",
                "HeistArchiveTotal",
                r#"NEW."heistsAsAttacker" := 0; RETURN NEW"#,
            ),
            // The last one, because heists are archived before notifications.
            ("BEFORE DELETE", "HeistNotification", "RETURN NULL"),
        ] {
            trigger(world, when, table, body).await;
            let before = snapshot(&world.pool).await;
            let ended = archive(world, &folder.path, &[]).ended().await;
            assert_ne!(ended.code, Some(0), "{table}: {ended:?}");
            let complaint = ended.complaint();
            assert!(
                complaint.contains(&format!("\"{table}\"")) && complaint.contains("trigger"),
                "{table}: {complaint}"
            );
            let after = snapshot(&world.pool).await;
            assert_eq!(after["HeistNotification"], before["HeistNotification"]);
            if table != "HeistNotification" {
                assert_eq!(after["Heist"], before["Heist"], "{table}: {body}");
            }
            world.execute("DROP FUNCTION interfere() CASCADE").await;
            books_are_in_order(world).await;
        }
        archives(world, &folder.path, &[]).await;
        books_are_in_order(world).await;
    });
}
