//! The rights that `migrations/README.md` grants are enough for everything that the server does.

use heist::{
    server::Server,
    store::{pool::DatabaseUrl, schema},
};
use sqlx::postgres::PgConnectOptions;

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

/// Each right of a role, as GRANT and REVOKE write it: `SELECT ("id") ON "User"`. `heist check`
/// alone reads the archive's files, and the migrations are read before the rights are checked.
const RIGHTS: &str = r#"
    SELECT format(
        '%s ON %s"%s"', privilege_type, CASE relkind WHEN 'S' THEN 'SEQUENCE ' ELSE '' END, relname
    )
    FROM pg_class, aclexplode(relacl)
    WHERE grantee = $1::regrole AND relname NOT IN ('HeistArchiveFile', '_heist_migrations')
    UNION ALL
    SELECT format('%s ("%s") ON %s', privilege_type, attname, attrelid::regclass)
    FROM pg_attribute, aclexplode(attacl)
    WHERE grantee = $1::regrole"#;

#[test]
fn a_server_without_a_documented_right_is_refused_with_the_grant() {
    World::run(async |world| {
        let (role, url) = role(world, "heist").await;
        let rights: Vec<String> = (sqlx::query_scalar(RIGHTS).bind(&role))
            .fetch_all(&world.pool)
            .await
            .unwrap();
        assert!(rights.len() > 25, "{rights:?}");
        let connect_options: PgConnectOptions = url.parse().unwrap();
        for right in rights {
            world.execute(&format!("REVOKE {right} FROM {role}")).await;
            let findings = schema::findings(&connect_options).await.unwrap();
            let lines: Vec<String> = findings.iter().map(ToString::to_string).collect();
            let cure = format!("GRANT {right} TO {role}");
            assert!(
                lines.len() == 1 && lines[0].ends_with(&cure),
                "{cure}: {lines:?}"
            );
            world.execute(&format!("GRANT {right} TO {role}")).await;
        }
        drop_role(world, &role).await;
    });
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
