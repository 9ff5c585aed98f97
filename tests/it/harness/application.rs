//! The application, which owns the players' rows: its transactions, and what it does to players.

use std::ops::{Deref, DerefMut};

use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use super::{Player, World};

/// A transaction of the application, in a session of its own. Dropping it rolls it back.
pub struct Application(PgConnection);

impl World {
    pub async fn application(&self) -> Application {
        let mut application = Application(self.session().await);
        application.execute("BEGIN").await;
        application
    }

    /// A transaction that holds the rows of these players.
    pub async fn application_with_locks(&self, players: &[&Player]) -> Application {
        let mut application = self.application().await;
        for player in players {
            let id = player.id;
            let lock = format!(r#"SELECT FROM "User" WHERE "id" = {id} FOR UPDATE"#);
            application.execute(&lock).await;
        }
        application
    }

    /// Runs statements in the test's own session.
    pub async fn execute(&self, script: &str) {
        let done = sqlx::raw_sql(AssertSqlSafe(script)).execute(&self.pool);
        done.await.unwrap();
    }
}

impl Deref for Application {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.0
    }
}

impl DerefMut for Application {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.0
    }
}

impl Application {
    pub async fn execute(&mut self, script: &str) {
        let done = sqlx::raw_sql(AssertSqlSafe(script)).execute(&mut self.0);
        done.await.unwrap();
    }

    pub async fn deletes(&mut self, player: &Player) {
        self.execute(&deletion(player)).await;
    }

    pub async fn renames(&mut self, player: &Player, name: &str) {
        self.execute(&renaming(player, name)).await;
    }

    pub async fn sets_points(&mut self, player: &Player, points: i32) {
        self.execute(&points_of(player, points)).await;
    }

    pub async fn commit(mut self) {
        self.execute("COMMIT").await;
        self.0.close().await.unwrap();
    }

    pub async fn rollback(mut self) {
        self.execute("ROLLBACK").await;
        self.0.close().await.unwrap();
    }
}

impl Player {
    /// The application holds this player's row until its transaction ends.
    pub async fn locked(&self) -> Application {
        self.world.application_with_locks(&[self]).await
    }

    /// The application deletes the account.
    pub async fn leaves(&self) {
        self.world.execute(&deletion(self)).await;
    }

    pub async fn is_renamed(&self, name: &str) {
        self.world.execute(&renaming(self, name)).await;
    }

    /// The player's name becomes NULL, in a schema that allows it.
    pub async fn is_unnamed(&self) {
        let id = self.id;
        self.world
            .execute(&format!(
                r#"UPDATE "User" SET "name" = NULL WHERE "id" = {id}"#
            ))
            .await;
    }

    /// The application deletes the account, and gives its id to another player with 1000 points.
    pub async fn is_replaced_by(&self, name: &str) {
        self.leaves().await;
        let id = self.id;
        self.world
            .execute(&format!(
                r#"INSERT INTO "User" ("id", "name", "monthlyPoints")
                VALUES ({id}, '{name}', 1000);
                UPDATE test.start SET "userId" = -{id} WHERE "userId" = {id};
                INSERT INTO test.start VALUES ({id}, 1000)"#
            ))
            .await;
    }

    /// The application sets this player's points.
    pub async fn has_points(&self, points: i32) {
        self.world.execute(&points_of(self, points)).await;
    }

    /// The application sets points below zero, which it could before the service's constraint.
    pub async fn has_negative_points(&self, points: i32) {
        let script = format!(
            r#"
            ALTER TABLE "User" DROP CONSTRAINT "User_monthlyPoints_check";
            {};
            ALTER TABLE "User" ADD CONSTRAINT "User_monthlyPoints_check"
                CHECK ("monthlyPoints" >= 0) NOT VALID;
            "#,
            points_of(self, points)
        );
        self.world.execute(&script).await;
    }
}

fn deletion(player: &Player) -> String {
    format!(r#"DELETE FROM "User" WHERE "id" = {}"#, player.id)
}

fn renaming(player: &Player, name: &str) -> String {
    format!(
        r#"UPDATE "User" SET "name" = '{name}' WHERE "id" = {}"#,
        player.id
    )
}

/// The check of the books starts from `test.start`.
fn points_of(player: &Player, points: i32) -> String {
    format!(
        r#"
        UPDATE "User" SET "monthlyPoints" = {points} WHERE "id" = {id};
        UPDATE test.start SET "points" = {points} WHERE "userId" = {id}"#,
        id = player.id
    )
}
