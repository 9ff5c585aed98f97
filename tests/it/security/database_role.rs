//! The rights that `migrations/README.md` grants are enough for everything that the server does.

use heist::{
    server::Server,
    store::{pool::DatabaseUrl, schema},
};

use crate::harness::{PATIENCE, World, connect, process::Heist};

const README: &str = include_str!("../../../migrations/README.md");

/// The grants of the document to `documented`, made to `role`.
fn grants(documented: &str, role: &str) -> String {
    let (_, rights) = README.split_once("\n## Rights\n").expect("a section");
    let (rights, _) = rights.split_once("\n## ").expect("another section");
    let grants: Vec<String> = (rights.split(';'))
        .filter_map(|statement| {
            let grant = statement.find("GRANT ").map(|start| &statement[start..])?;
            let what = grant.strip_suffix(documented)?.strip_suffix("TO ")?;
            Some(format!("{what}TO {role}"))
        })
        .collect();
    assert!(!grants.is_empty(), "there are grants to {documented}");
    grants.join("; ")
}

/// A role with these grants alone, and the URL by which it connects.
async fn role(world: &World, documented: &str) -> (String, String) {
    let role = format!("{documented}_{}", rand::random::<u32>());
    let grants = grants(documented, &role);
    world
        .execute(&format!("CREATE ROLE {role} LOGIN; {grants}"))
        .await;
    let url = world.own_url().replace("postgres@", &format!("{role}@"));
    (role, url)
}

async fn drop_role(world: &World, role: &str) {
    world
        .execute(&format!("DROP OWNED BY {role}; DROP ROLE {role}"))
        .await;
}

#[test]
fn the_documented_rights_are_enough_to_serve() {
    World::run(async |world| {
        let (role, url) = role(world, "heist").await;
        let mut options = world.options();
        options.database = DatabaseUrl::parse(&url).unwrap();
        let server = Server::start(options).await.unwrap();
        let there = world.through(connect(server.address()).await);
        let (ada, ben) = (world.player("Ada"), world.player("Ben"));
        let ada = ada.tokens(1).await.seen_by(&there);
        let ben = ben.points(1000).await.seen_by(&there);
        let friend = world.player("Friend").await;

        ada.robs(&ben).await.unwrap();
        ada.earns_a_token_for(&friend).await.unwrap();
        there.get_balance(ada.id).await.unwrap();
        let inbox = ben.listens(&there).await;
        ada.robs(&ben).await.unwrap_err();
        drop(inbox);
        assert!(crate::rpc::health_and_reflection::is_serving(&there, "").await);
        server.stop(PATIENCE).await;

        let checked = Heist::new(&["check"])
            .env("DATABASE_URL", &url)
            .ended()
            .await;
        assert_eq!(checked.code, Some(0), "{}", checked.stderr);
        drop_role(world, &role).await;
    });
}

#[test]
fn the_start_names_each_documented_right_that_is_missing() {
    World::run(async |world| {
        let (role, url) = role(world, "heist").await;
        let database = DatabaseUrl::parse(&url).unwrap();
        schema::check(database.connect_options()).await.unwrap();
        for grant in single_grants(&grants("heist", &role)) {
            let revoke = grant
                .replacen("GRANT", "REVOKE", 1)
                .replace(" TO ", " FROM ");
            world.execute(&revoke).await;
            let refusal = schema::check(database.connect_options())
                .await
                .expect_err(&revoke)
                .to_string();
            assert!(
                refusal.contains(&format!("cure: {grant}")),
                "{grant}: {refusal}"
            );
            world.execute(&grant).await;
        }
        schema::check(database.connect_options()).await.unwrap();
        drop_role(world, &role).await;
    });
}

/// The same grants, each of one right to one column, table or sequence.
fn single_grants(grants: &str) -> Vec<String> {
    let mut single = Vec::new();
    for grant in grants.split("; ") {
        let (_, grant) = grant.split_once("GRANT ").unwrap();
        let (rights, rest) = grant.split_once(" ON ").unwrap();
        let (objects, role) = rest.rsplit_once(" TO ").unwrap();
        let (kind, objects) = match objects.strip_prefix("SEQUENCE ") {
            Some(sequences) => ("SEQUENCE ", sequences),
            None => ("", objects),
        };
        let mut right = "";
        for part in rights.split(", ") {
            // `SELECT ("id"`, `"name"` and so on.
            let (first, column) = match part.split_once(" (") {
                Some((first, column)) => (first, Some(column)),
                None if part.starts_with('"') => (right, Some(part)),
                None => (part, None),
            };
            right = first;
            let column = column.map(|column| column.trim_end_matches(')'));
            let column = column.map_or(String::new(), |column| format!(" ({column})"));
            for object in objects.split(", ") {
                single.push(format!("GRANT {right}{column} ON {kind}{object} TO {role}"));
            }
        }
    }
    assert!(single.len() > 25, "{single:?}");
    single
}

#[test]
fn the_documented_role_reads_and_writes_no_other_column_of_players() {
    World::run(async |world| {
        let (role, url) = role(world, "heist").await;
        let application = r#"ALTER TABLE "User" ADD COLUMN "password" text"#;
        world.execute(application).await;
        let pool = sqlx::PgPool::connect(&url).await.unwrap();
        for statement in [
            r#"UPDATE "User" SET "email" = 'x@example.com'"#,
            r#"UPDATE "User" SET "name" = 'x'"#,
            r#"SELECT "password" FROM "User""#,
            r#"DELETE FROM "User""#,
            r#"INSERT INTO "User" ("name") VALUES ('x')"#,
        ] {
            let refused = sqlx::query(statement).execute(&pool).await.unwrap_err();
            let code = refused
                .as_database_error()
                .and_then(sqlx::error::DatabaseError::code);
            assert_eq!(code.as_deref(), Some("42501"), "{statement}");
        }
        pool.close().await;
        world
            .execute(r#"ALTER TABLE "User" DROP COLUMN "password""#)
            .await;
        drop_role(world, &role).await;
    });
}

#[test]
fn the_documented_rights_are_enough_to_archive() {
    World::run(async |world| {
        let ada = world.player("Ada").tokens(1).await;
        let ben = world.player("Ben").points(1000).await;
        ada.robs(&ben).await.unwrap();
        let days = r#"
            UPDATE "Heist" SET "createdAt" = "createdAt" - interval '100 days';
            UPDATE "HeistNotification" SET "read" = true, "createdAt" = "createdAt" - interval '100 days'"#;
        world.execute(days).await;
        let (role, url) = role(world, "heist_archive").await;
        let folder = crate::harness::identity::Folder::new();
        let archived = Heist::new(&["archive"])
            .env("DATABASE_URL", &url)
            .env("HEIST_ARCHIVE_DIR", folder.path("archive"))
            .ended()
            .await;
        assert_eq!(archived.code, Some(0), "{}", archived.stderr);
        assert!(archived.stdout.contains("heist"), "{}", archived.stdout);
        drop_role(world, &role).await;
    });
}

#[test]
fn row_level_security_without_a_policy_stops_the_start() {
    World::run(async |world| {
        let (role, url) = role(world, "heist").await;
        world
            .execute(&format!(
                r#"ALTER TABLE "User" ENABLE ROW LEVEL SECURITY;
                CREATE POLICY someone ON "User" TO postgres USING (true);
                ALTER TABLE "Heist" ENABLE ROW LEVEL SECURITY;
                CREATE POLICY reads ON "Heist" FOR SELECT TO {role} USING (true)"#
            ))
            .await;
        let serve = || (Heist::serve().env("DATABASE_URL", &url)).env("HEIST_AUTH", "none");
        let ended = serve().ended().await;
        assert_eq!(ended.code, Some(3), "{ended:?}");
        for problem in [
            format!(
                r#"row-level security of "User" has no policy for SELECT, UPDATE by the role {role}; cure: CREATE POLICY heist ON "User" TO {role} USING (true) WITH CHECK (true)"#
            ),
            format!(r#"row-level security of "Heist" has no policy for INSERT by the role {role}"#),
        ] {
            assert!(ended.stderr.contains(&problem), "{ended:?}");
        }
        let check = Heist::new(&["check", "--schema"]).env("DATABASE_URL", &url);
        assert_eq!(check.ended().await.code, Some(1));

        // The cure of the first line, and of the second.
        world
            .execute(&format!(
                r#"CREATE POLICY heist ON "User" TO {role} USING (true) WITH CHECK (true);
                CREATE POLICY heist ON "Heist" TO {role} USING (true) WITH CHECK (true)"#
            ))
            .await;
        let server = serve().serving().await;
        let there = world.through(connect(server.address).await);
        let ada = world.player("Ada").tokens(1).await.seen_by(&there);
        let ben = world.player("Ben").points(1000).await;
        ada.robs(&ben).await.unwrap();
        assert_eq!(server.stopped_by("TERM").await.code, Some(0));
        world
            .execute(
                r#"DROP POLICY someone ON "User"; ALTER TABLE "User" DISABLE ROW LEVEL SECURITY;
                ALTER TABLE "Heist" DISABLE ROW LEVEL SECURITY"#,
            )
            .await;
        drop_role(world, &role).await;
    });
}
