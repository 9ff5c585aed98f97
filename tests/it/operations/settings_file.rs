//! `HEIST_SETTINGS_FILE`: the rules and the switch change while the server runs.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use tonic::Code::FailedPrecondition;

use crate::harness::{
    Player, Refusal, World, connect,
    mail::{Provider, mailing},
    process::{Ended, Heist},
    until,
};

/// Time limit for a change to take effect.
const SOON: Duration = Duration::from_secs(2);

/// A folder of one test, as Kubernetes mounts a configuration: the file is a symlink into a folder
/// whose symlink is swapped.
struct ConfigMap {
    folder: PathBuf,
    version: AtomicU32,
}

impl ConfigMap {
    fn mount(test: &str, content: &str) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(test);
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        symlink("..data/heist.env", folder.join("heist.env")).unwrap();
        let map = Self {
            folder,
            version: AtomicU32::new(0),
        };
        map.update(content);
        map
    }

    fn file(&self) -> PathBuf {
        self.folder.join("heist.env")
    }

    fn update(&self, content: impl AsRef<[u8]>) {
        let version = self.version.fetch_add(1, Ordering::Relaxed);
        let new = self.folder.join(format!("..{version}"));
        fs::create_dir(&new).unwrap();
        fs::write(new.join("heist.env"), content).unwrap();
        symlink(&new, self.folder.join("..data_tmp")).unwrap();
        fs::rename(self.folder.join("..data_tmp"), self.folder.join("..data")).unwrap();
        if let Some(old) = version.checked_sub(1) {
            fs::remove_dir_all(self.folder.join(format!("..{old}"))).unwrap();
        }
    }

    fn server(&self, world: &World) -> Heist {
        Heist::serve()
            .env("DATABASE_URL", &world.database_url)
            .env("HEIST_AUTH", "none")
            .env("HEIST_COOLDOWN", "0s")
            .env("HEIST_PROTECTION_WINDOW", "0s")
            .env("HEIST_SETTINGS_FILE", self.file())
    }
}

/// What a heist steals.
async fn stolen(attacker: &Player, victim: &Player) -> i32 {
    let answer = attacker.robs(victim).await.unwrap();
    answer.heist.unwrap().points_stolen
}

#[test]
fn a_change_takes_effect_is_logged_and_what_is_taken_out_goes_back() {
    World::run(async |world| {
        let map = ConfigMap::mount("a_change_takes_effect", "HEIST_MAX_STEAL_POINTS=10\n");
        let server = map.server(world).serving().await;
        let there = world.through(connect(server.address).await);
        let ada = world.player("Ada").tokens(5).await.seen_by(&there);
        let ben = world.player("Ben").points(10_000).await;
        server
            .says(r#""setting":"HEIST_MAX_STEAL_POINTS","old":"100","new":"10""#)
            .await;
        assert_eq!(stolen(&ada, &ben).await, 10);

        map.update("HEIST_MAX_STEAL_POINTS=20\nHEIST_COOLDOWN=1s\n");
        server
            .says(r#""setting":"HEIST_MAX_STEAL_POINTS","old":"10","new":"20""#)
            .await;
        server
            .says(r#""setting":"HEIST_COOLDOWN","old":"0s","new":"1s""#)
            .await;
        ada.last_heist_was(Duration::from_mins(1)).await;
        assert_eq!(stolen(&ada, &ben).await, 20);

        // A write in place works as well as a swapped symlink.
        fs::write(map.file(), "HEIST_COOLDOWN=0s # as in the environment\n").unwrap();
        server
            .says(r#""setting":"HEIST_MAX_STEAL_POINTS","old":"20","new":"100""#)
            .await;
        assert_eq!(stolen(&ada, &ben).await, 100);
        assert_eq!(server.stopped_by("TERM").await.code, Some(0));
    });
}

#[test]
fn email_is_switched_on_and_off() {
    World::run(async |world| {
        let provider = Provider::start().await;
        let map = ConfigMap::mount("e_mail_is_switched", "# Nothing yet.\n");
        let server = mailing(world, &provider.url)
            .env("HEIST_EMAIL_ENABLED", "false")
            .env("HEIST_SETTINGS_FILE", map.file())
            .serving()
            .await;
        let there = world.through(connect(server.address).await);
        let ada = world
            .player("Ada")
            .tokens(3)
            .email("ada@example.com")
            .await
            .seen_by(&there);
        let ben = world
            .player("Ben")
            .points(10_000)
            .email("ben@example.com")
            .await;
        ada.robs(&ben).await.unwrap();

        map.update("HEIST_EMAIL_ENABLED=true\n");
        server
            .says(r#""setting":"HEIST_EMAIL_ENABLED","old":"false","new":"true""#)
            .await;
        ada.robs(&ben).await.unwrap();
        provider.has_received(2).await;

        map.update("HEIST_EMAIL_ENABLED=false\n");
        server.says(r#""old":"true","new":"false""#).await;
        ada.robs(&ben).await.unwrap();
        assert_eq!(server.stopped_by("TERM").await.code, Some(0));

        let states = world.emails().await.into_iter().map(|email| email.state);
        let sent = || Some("SENT".to_owned());
        let expected = [None, None, sent(), sent(), None, None];
        assert_eq!(states.collect::<Vec<_>>(), expected);
        assert_eq!(provider.received().len(), 2);
    });
}

#[test]
fn email_cannot_be_switched_on_without_a_provider() {
    World::run(async |world| {
        let map = ConfigMap::mount("e_mail_that_is_not_set_up", "HEIST_EMAIL_ENABLED=true\n");
        let complaint = "players cannot be mailed: HEIST_EMAIL_FROM is not set";
        let ended = map.server(world).ended().await;
        assert_eq!(ended.code, Some(3));
        assert!(ended.stderr.contains(complaint), "{}", ended.stderr);

        map.update("");
        let server = map.server(world).serving().await;
        map.update("HEIST_EMAIL_ENABLED=true\n");
        server.says(complaint).await;
        assert_eq!(server.stopped_by("TERM").await.code, Some(0));
    });
}

#[test]
fn a_bad_or_missing_file_changes_nothing_and_is_logged() {
    World::run(async |world| {
        let good = "HEIST_MAX_STEAL_POINTS=10\n";
        let map = ConfigMap::mount("a_file_that_is_wrong", good);
        let server = map.server(world).serving().await;
        let there = world.through(connect(server.address).await);
        let ada = world.player("Ada").tokens(10).await.seen_by(&there);
        let ben = world.player("Ben").points(10_000).await;
        for (content, complaint) in [
            (
                &b"HEIST_MAX_STEAL_POINTS=20\nHEIST_ENABLED=perhaps"[..],
                "line 2: HEIST_ENABLED=perhaps: expected true or false",
            ),
            (
                b"HEIST_MAX_STEAL_POINTS=20\nHEIST_LISTEN=0.0.0.0:1",
                "line 2: HEIST_LISTEN is none of HEIST_ENABLED, ",
            ),
            (b"\x7fELF\xff\xfe", "it is not UTF-8"),
            (
                &"#".repeat(70_000).into_bytes(),
                "it is larger than 65536 bytes",
            ),
        ] {
            map.update(content);
            server.says(complaint).await;
            assert_eq!(stolen(&ada, &ben).await, 10);
        }
        fs::remove_file(map.file()).unwrap();
        server
            .says("cannot read it: No such file or directory")
            .await;
        assert_eq!(stolen(&ada, &ben).await, 10);
        fs::create_dir(map.file()).unwrap();
        server
            .says("cannot read it: it is not a regular file")
            .await;
        assert_eq!(stolen(&ada, &ben).await, 10);

        // It comes back.
        fs::remove_dir(map.file()).unwrap();
        fs::write(map.file(), "HEIST_MAX_STEAL_POINTS=30\n").unwrap();
        server.says(r#""old":"10","new":"30""#).await;
        assert_eq!(stolen(&ada, &ben).await, 30);
        assert_eq!(server.stopped_by("TERM").await.code, Some(0));
    });
}

#[test]
fn a_server_does_not_start_with_a_file_that_is_wrong_or_missing() {
    World::run(async |world| {
        let map = ConfigMap::mount("a_server_does_not_start", "\nHEIST_COOLDOWN=soon\n");
        let complaint = |ended: &Ended| {
            assert_eq!(ended.code, Some(3), "{ended:?}");
            let name = format!("HEIST_SETTINGS_FILE={}: ", map.file().display());
            let complaint = ended.complaint();
            complaint.strip_prefix(&name).expect(complaint).to_owned()
        };
        let ended = map.server(world).ended().await;
        assert_eq!(
            complaint(&ended),
            "line 2: HEIST_COOLDOWN=soon: expected a duration such as 90s, 24h or 7d, at most a year"
        );
        fs::remove_file(map.file()).unwrap();
        let ended = map.server(world).ended().await;
        assert!(complaint(&ended).starts_with("cannot read it: "));
    });
}

/// Robs without a pause, until heists are on, and then off, and then on again.
async fn rob_through_it_all(attacker: Player, victim: Player) {
    for on in [true, false, true] {
        loop {
            match attacker.robs(&victim).await {
                Ok(_) if on => break,
                Ok(_) => {}
                Err(status) => {
                    Refusal::from(status).is(FailedPrecondition, "FEATURE_DISABLED");
                    if !on {
                        break;
                    }
                }
            }
        }
    }
}

/// When calls are answered, or not any more. By a read: a heist may have to wait for another.
async fn heists_are(on: bool, world: &World, player: &Player) -> Instant {
    until("the switch is flipped", async || {
        let answered = world.get_balance(player.id).await.is_ok();
        (answered == on).then(Instant::now)
    })
    .await
}

/// FM-5: "Feature Disabled Mid-Heist".
#[test]
fn fm_5_heists_in_progress_complete_and_new_ones_are_refused_until_it_is_back() {
    World::run(async |world| {
        let map = ConfigMap::mount("fm_5", "HEIST_ENABLED=true\n");
        let server = map.server(world).serving().await;
        let there = world.through(connect(server.address).await);
        let watching = there.watch_points().await;
        let players = world
            .crowd("Player", 8)
            .points(100_000)
            .tokens(50_000)
            .await;
        let load: Vec<_> = (0..8)
            .map(|index| {
                let attacker = players[index].seen_by(&there);
                let victim = players[(index + 1) % 8].clone();
                tokio::spawn(rob_through_it_all(attacker, victim))
            })
            .collect();
        let ada = world.player("Ada").tokens(50_000).await.seen_by(&there);
        let ben = world.player("Ben").points(1000).await;
        let eve = world.player("Eve").points(1_000_000).tokens(1).await;
        until("the load has begun", async || {
            (world.count_heists().await > 0).then_some(())
        })
        .await;

        // A heist is in its transaction, and stays there.
        let transaction = ben.locked().await;
        let in_progress = tokio::spawn(eve.seen_by(&there).robs(&ben));
        world.a_session_waits_for_a_lock().await;

        let flipped = Instant::now();
        map.update("HEIST_ENABLED=false\nHEIST_STEAL_PERCENTAGE=50\n");
        let off = heists_are(false, &there, &ada).await;
        assert!(off - flipped < SOON, "{:?}", off - flipped);
        assert!(!in_progress.is_finished());
        transaction.rollback().await;
        let answer = in_progress.await.unwrap().expect("it completes");
        let heist = answer.heist.unwrap();
        assert_eq!(heist.points_stolen, 50, "under the rules it began with");

        // Streams that were open end as those that are opened now do.
        let end = Refusal::from(watching.end().await);
        end.is(FailedPrecondition, "FEATURE_DISABLED");
        let refusal = world.refuses(there.get_balance(ada.id)).await;
        refusal.is(FailedPrecondition, "FEATURE_DISABLED");

        let flipped_back = Instant::now();
        map.update("HEIST_STEAL_PERCENTAGE=50\n");
        let on = heists_are(true, &there, &ada).await;
        assert!(on - flipped_back < SOON, "{:?}", on - flipped_back);
        for caller in load {
            caller.await.unwrap();
        }
        assert_eq!(stolen(&ada, &ben).await, 100, "50%, and the cap");
        assert_eq!(server.stopped_by("TERM").await.code, Some(0));
    });
}
