//! The password of the service's role changes while the service runs: `DATABASE_URL_FILE`.

use std::{fs, path::PathBuf};

use crate::harness::{
    World, connect,
    identity::Folder,
    process::{Ended, Heist},
    until,
};

/// A role that has to give its password, and a file with the URL by which it connects.
struct Role<'a> {
    world: &'a World,
    name: String,
    folder: Folder,
}

impl<'a> Role<'a> {
    async fn create(world: &'a World, password: &str) -> Self {
        let name = format!("rotated_{}", rand::random::<u32>());
        world
            .execute(&format!(
                "CREATE ROLE {name} LOGIN SUPERUSER PASSWORD '{password}'"
            ))
            .await;
        // The server of the tests trusts every other role.
        let hba: PathBuf = sqlx::query_scalar::<_, String>("SHOW hba_file")
            .fetch_one(&world.pool)
            .await
            .unwrap()
            .into();
        let others = fs::read_to_string(&hba).unwrap();
        fs::write(&hba, format!("local all {name} scram-sha-256\n{others}")).unwrap();
        world.execute("SELECT pg_reload_conf()").await;
        let role = Self {
            world,
            name,
            folder: Folder::new(),
        };
        let wrong = role.url("wrong");
        until("the server asks for the password", async || {
            sqlx::PgPool::connect(&wrong).await.is_err().then_some(())
        })
        .await;
        role.has_file(&role.url(password));
        role
    }

    fn url(&self, password: &str) -> String {
        let login = format!("{}:{password}@", self.name);
        self.world.own_url().replace("postgres@", &login)
    }

    /// As Kubernetes replaces the files of a mounted secret.
    fn has_file(&self, url: &str) {
        let new = self.folder.file("new", format!("{url}\n"));
        fs::rename(new, self.file()).unwrap();
    }

    fn file(&self) -> PathBuf {
        self.folder.path("url")
    }

    async fn has_password(&self, password: &str) {
        let name = &self.name;
        self.world
            .execute(&format!("ALTER ROLE {name} PASSWORD '{password}'"))
            .await;
    }

    async fn sessions(&self) -> i64 {
        sqlx::query_scalar("SELECT count(*) FROM pg_stat_activity WHERE usename = $1")
            .bind(&self.name)
            .fetch_one(&self.world.pool)
            .await
            .unwrap()
    }

    async fn sessions_are_terminated(&self) {
        let name = &self.name;
        self.world
            .execute(&format!(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{name}'"
            ))
            .await;
    }

    async fn runs(&self, arguments: &[&str]) -> Ended {
        Heist::new(arguments)
            .env("DATABASE_URL_FILE", self.file())
            .env("HEIST_ARCHIVE_DIR", self.folder.path("archive"))
            .ended()
            .await
    }

    async fn drop(self) {
        self.sessions_are_terminated().await;
        let name = &self.name;
        self.world.execute(&format!("DROP ROLE {name}")).await;
    }
}

#[test]
fn a_server_goes_on_with_the_new_password_of_the_file() {
    let setup = World::setup().rules(|rules| {
        rules.cooldown = std::time::Duration::ZERO;
        rules.protection = None;
    });
    setup.run(async |world| {
        let role = Role::create(world, "one").await;
        let server = Heist::serve()
            .env("DATABASE_URL_FILE", role.file())
            .env("HEIST_AUTH", "none")
            .env("HEIST_COOLDOWN", "0s")
            .env("HEIST_PROTECTION_WINDOW", "0s")
            .serving()
            .await;
        let there = world.through(connect(server.address).await);
        let ada = world.player("Ada").tokens(100).await.seen_by(&there);
        let ben = world.player("Ben").points(100_000).await;
        ada.robs(&ben).await.unwrap();

        for password in ["two", "th@ree:/"] {
            let encoded = password.replace('@', "%40").replace([':', '/'], "%3A");
            let password = password.replace('/', ":");
            role.has_password(&password).await;
            role.has_file(&role.url(&encoded));
            role.sessions_are_terminated().await;
            until("calls go on", async || ada.robs(&ben).await.ok()).await;
            for _ in 0..5 {
                ada.robs(&ben).await.unwrap();
            }
            until("the listener is back", async || {
                let listens: bool = sqlx::query_scalar(
                    "SELECT EXISTS (SELECT FROM pg_stat_activity
                    WHERE usename = $1 AND query LIKE 'LISTEN%')",
                )
                .bind(&role.name)
                .fetch_one(&world.pool)
                .await
                .unwrap();
                listens.then_some(())
            })
            .await;
            until("it is ready", async || {
                crate::rpc::health_and_reflection::is_serving(&there, "")
                    .await
                    .then_some(())
            })
            .await;
        }

        // Of another database only a restart makes a server's own.
        role.has_file(&role.url("four").replace("/test_", "/other_"));
        server.says("needs a restart").await;
        role.sessions_are_terminated().await;
        until("calls go on", async || ada.robs(&ben).await.ok()).await;
        assert!(role.sessions().await > 0);
        let ended = server.stopped_by("TERM").await;
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        assert!(!ended.stderr.contains("th@ree"), "{}", ended.stderr);
        role.drop().await;
    });
}

#[test]
fn every_command_reads_the_url_from_the_file() {
    World::run(async |world| {
        let role = Role::create(world, "one").await;
        let commands: [&[&str]; 7] = [
            &["check"],
            &["check", "--schema"],
            &["archive"],
            &["emails", "status"],
            &["migrate", "up"],
            &["migrate", "up", "--dry-run"],
            &["migrate", "status"],
        ];
        for password in ["one", "two"] {
            role.has_password(password).await;
            for arguments in commands {
                let ended = role.runs(arguments).await;
                if password == "one" {
                    assert_eq!(ended.code, Some(0), "{arguments:?}: {}", ended.stderr);
                } else {
                    assert_ne!(ended.code, Some(0), "{arguments:?}");
                    assert!(!ended.stderr.contains("one@"), "{}", ended.stderr);
                }
            }
        }
        role.has_file(&role.url("two"));
        for arguments in commands {
            let ended = role.runs(arguments).await;
            assert_eq!(ended.code, Some(0), "{arguments:?}: {}", ended.stderr);
        }
        role.drop().await;
    });
}
