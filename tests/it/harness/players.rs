//! Players in one line, what they do, and what can be seen of them.

use std::{
    collections::HashMap,
    future::{Future, IntoFuture},
    pin::Pin,
    time::Duration,
};

use heist::pb::{self, EmailPreference};
use sqlx::{FromRow, PgPool};
use time::OffsetDateTime;
use tonic::{Response, Status};
use uuid::Uuid;

use super::{World, until};

pub type Answer<T> = Result<T, Status>;

/// A row of `"User"`.
#[derive(Clone)]
pub struct Player {
    pub id: i32,
    pub(super) world: World,
}

/// Players to be: await it.
#[derive(Clone)]
pub struct NewPlayers {
    world: World,
    names: Vec<String>,
    points: i32,
    tokens: i32,
    email: Option<String>,
    referred_by: Option<i32>,
}

/// One player to be: await it.
pub struct NewPlayer(NewPlayers);

/// A row of `"HeistToken"`; zeros where there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromRow)]
pub struct Tokens {
    pub balance: i32,
    pub earned: i32,
    pub spent: i32,
}

impl World {
    pub fn player(&self, name: &str) -> NewPlayer {
        NewPlayer(self.players(vec![name.to_owned()]))
    }

    /// Several of one kind, called `kind 1`, `kind 2`, and so on.
    pub fn crowd(&self, kind: &str, count: usize) -> NewPlayers {
        self.players(
            (1..=count)
                .map(|number| format!("{kind} {number}"))
                .collect(),
        )
    }

    fn players(&self, names: Vec<String>) -> NewPlayers {
        NewPlayers {
            world: self.clone(),
            names,
            points: 0,
            tokens: 0,
            email: None,
            referred_by: None,
        }
    }

    pub fn execute_heist(
        &self,
        request: pb::ExecuteHeistRequest,
    ) -> impl Future<Output = Answer<pb::ExecuteHeistResponse>> + Send + use<> {
        let mut client = self.heists.clone();
        async move {
            client
                .execute_heist(request)
                .await
                .map(Response::into_inner)
        }
    }

    pub fn award_token(
        &self,
        request: pb::AwardTokenRequest,
    ) -> impl Future<Output = Answer<pb::AwardTokenResponse>> + Send + use<> {
        let mut client = self.tokens.clone();
        async move { client.award_token(request).await.map(Response::into_inner) }
    }

    pub fn get_balance(
        &self,
        user_id: i32,
    ) -> impl Future<Output = Answer<pb::TokenBalance>> + Send + use<> {
        let mut client = self.tokens.clone();
        async move {
            let request = pb::GetBalanceRequest { user_id };
            let answer = client.get_balance(request).await?.into_inner();
            Ok(answer.balance.expect("an answer has a balance"))
        }
    }

    pub fn list_notifications(
        &self,
        request: pb::ListNotificationsRequest,
    ) -> impl Future<Output = Answer<pb::ListNotificationsResponse>> + Send + use<> {
        let mut client = self.notifications.clone();
        async move { (client.list_notifications(request).await).map(Response::into_inner) }
    }

    pub fn get_unread_count(
        &self,
        user_id: i32,
    ) -> impl Future<Output = Answer<i32>> + Send + use<> {
        let mut client = self.notifications.clone();
        async move {
            let request = pb::GetUnreadCountRequest { user_id };
            Ok(client
                .get_unread_count(request)
                .await?
                .into_inner()
                .unread_count)
        }
    }

    pub fn mark_notifications_read(
        &self,
        request: pb::MarkNotificationsReadRequest,
    ) -> impl Future<Output = Answer<pb::MarkNotificationsReadResponse>> + Send + use<> {
        let mut client = self.notifications.clone();
        async move { (client.mark_notifications_read(request).await).map(Response::into_inner) }
    }

    pub fn get_preferences(
        &self,
        user_id: i32,
    ) -> impl Future<Output = Answer<EmailPreference>> + Send + use<> {
        let mut client = self.notifications.clone();
        async move {
            let request = pb::GetPreferencesRequest { user_id };
            Ok(client.get_preferences(request).await?.into_inner().email())
        }
    }

    pub fn update_preferences(
        &self,
        user_id: i32,
        email: EmailPreference,
    ) -> impl Future<Output = Answer<EmailPreference>> + Send + use<> {
        let mut client = self.notifications.clone();
        async move {
            let email = email.into();
            let request = pb::UpdatePreferencesRequest { user_id, email };
            Ok(client
                .update_preferences(request)
                .await?
                .into_inner()
                .email())
        }
    }

    /// Moves every heist so far to so long ago, as the protection of victims counts it.
    pub async fn all_heists_were(&self, ago: Duration) {
        sqlx::query(
            r#"UPDATE "Heist" SET "createdAt" = clock_timestamp() - make_interval(secs => $1)"#,
        )
        .bind(ago.as_secs_f64())
        .execute(&self.pool)
        .await
        .unwrap();
    }

    /// Waits until a session of this database waits for a lock.
    pub async fn a_session_waits_for_a_lock(&self) {
        self.sessions_wait_for_a_lock(1).await;
    }

    pub async fn sessions_wait_for_a_lock(&self, sessions: i64) {
        until("sessions wait for a lock", async || {
            let waiting = r"
                SELECT count(*) FROM pg_stat_activity
                WHERE datname = current_database() AND wait_event_type = 'Lock'";
            (count(&self.pool, waiting).await >= sessions).then_some(())
        })
        .await;
    }

    /// When the first heist took place.
    pub async fn first_heist_at(&self) -> OffsetDateTime {
        sqlx::query_scalar(r#"SELECT min("createdAt") FROM "Heist""#)
            .fetch_one(&self.pool)
            .await
            .unwrap()
    }

    /// The address from which the only heist was called.
    pub async fn address_of_the_heist(&self) -> Option<String> {
        sqlx::query_scalar(r#"SELECT host("ipAddress") FROM "Heist""#)
            .fetch_one(&self.pool)
            .await
            .unwrap()
    }

    pub async fn database_time(&self) -> OffsetDateTime {
        sqlx::query_scalar("SELECT now()")
            .fetch_one(&self.pool)
            .await
            .unwrap()
    }

    /// Every player's points, by id.
    pub async fn all_points(&self) -> HashMap<i32, i32> {
        let rows: Vec<(i32, i32)> = sqlx::query_as(r#"SELECT "id", "monthlyPoints" FROM "User""#)
            .fetch_all(&self.pool)
            .await
            .unwrap();
        rows.into_iter().collect()
    }

    /// Ends the service's sessions in PostgreSQL.
    pub async fn sessions_are_terminated(&self) {
        self.terminate("application_name = 'heist'").await;
    }

    /// Ends the sessions that wait for a lock.
    pub async fn lock_waiters_are_terminated(&self) {
        self.terminate("wait_event_type = 'Lock'").await;
    }

    async fn terminate(&self, which: &str) {
        self.execute(&format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
            WHERE datname = current_database() AND {which}"
        ))
        .await;
    }

    /// Waits until PostgreSQL has finished what a killed process sent it.
    pub async fn no_session_of_the_service_is_busy(&self) {
        until("the service's sessions are idle", async || {
            let busy = r"
                SELECT count(*) FROM pg_stat_activity
                WHERE datname = current_database() AND application_name = 'heist'
                    AND state <> 'idle'";
            (count(&self.pool, busy).await == 0).then_some(())
        })
        .await;
    }

    pub async fn count_heists(&self) -> i64 {
        count(&self.pool, r#"SELECT count(*) FROM "Heist""#).await
    }

    pub async fn count_awards(&self) -> i64 {
        count(&self.pool, r#"SELECT count(*) FROM "HeistTokenAward""#).await
    }
}

async fn count(pool: &PgPool, query: &'static str) -> i64 {
    sqlx::query_scalar(query).fetch_one(pool).await.unwrap()
}

impl NewPlayers {
    pub fn points(mut self, points: i32) -> Self {
        self.points = points;
        self
    }

    /// Tokens that support granted, so that they come without referred players and notifications.
    pub fn tokens(mut self, tokens: i32) -> Self {
        self.tokens = tokens;
        self
    }

    pub fn referred_by(mut self, referrer: &Player) -> Self {
        self.referred_by = Some(referrer.id);
        self
    }

    async fn create(self) -> Vec<Player> {
        let ids: Vec<i32> = sqlx::query_scalar(
            r#"
            WITH player AS (
                INSERT INTO "User" ("name", "monthlyPoints", "referredByUserId", "email")
                SELECT given.name, $2, $4, $5
                FROM unnest($1) WITH ORDINALITY AS given (name, place)
                ORDER BY given.place
                RETURNING "id"
            ),
            start AS (
                INSERT INTO test.start ("userId", "points") SELECT "id", $2 FROM player
            ),
            grant_of_tokens AS (
                INSERT INTO "HeistTokenAdjustment"
                    ("userId", "delta", "balanceAfter", "actor", "reason", "requestId")
                SELECT "id", $3, $3, 'test', 'for the story', gen_random_uuid()
                FROM player
                WHERE $3 > 0
            ),
            account AS (
                INSERT INTO "HeistToken" ("userId", "balance", "totalEarned")
                SELECT "id", $3, $3 FROM player WHERE $3 > 0
            )
            SELECT "id" FROM player ORDER BY "id"
            "#,
        )
        .bind(&self.names)
        .bind(self.points)
        .bind(self.tokens)
        .bind(self.referred_by)
        .bind(self.email)
        .fetch_all(&self.world.pool)
        .await
        .unwrap();
        ids.into_iter()
            .map(|id| Player {
                id,
                world: self.world.clone(),
            })
            .collect()
    }
}

impl NewPlayer {
    pub fn points(self, points: i32) -> Self {
        Self(self.0.points(points))
    }

    pub fn tokens(self, tokens: i32) -> Self {
        Self(self.0.tokens(tokens))
    }

    pub fn referred_by(self, referrer: &Player) -> Self {
        Self(self.0.referred_by(referrer))
    }

    /// The address that the application has of this player.
    pub fn email(mut self, address: &str) -> Self {
        self.0.email = Some(address.to_owned());
        self
    }
}

impl IntoFuture for NewPlayers {
    type Output = Vec<Player>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.create())
    }
}

impl IntoFuture for NewPlayer {
    type Output = Player;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async { self.0.create().await.remove(0) })
    }
}

impl Player {
    /// The same player, calling through another world's connection.
    pub fn seen_by(&self, world: &World) -> Self {
        Self {
            world: world.clone(),
            ..self.clone()
        }
    }

    pub fn robs(
        &self,
        victim: &Self,
    ) -> impl Future<Output = Answer<pb::ExecuteHeistResponse>> + Send + use<> {
        self.robs_with_id("", victim)
    }

    pub fn robs_with_id(
        &self,
        request_id: &str,
        victim: &Self,
    ) -> impl Future<Output = Answer<pb::ExecuteHeistResponse>> + Send + use<> {
        self.world.execute_heist(pb::ExecuteHeistRequest {
            attacker_id: self.id,
            victim_id: victim.id,
            request_id: request_id.to_owned(),
        })
    }

    pub fn earns_a_token_for(
        &self,
        referred: &Self,
    ) -> impl Future<Output = Answer<pb::AwardTokenResponse>> + Send + use<> {
        self.world.award_token(pb::AwardTokenRequest {
            referrer_id: self.id,
            referred_id: referred.id,
            referred_name: String::new(),
        })
    }

    /// The newest hundred, newest first.
    pub async fn notifications(&self) -> Vec<pb::Notification> {
        let request = pb::ListNotificationsRequest {
            user_id: self.id,
            page_size: 100,
            ..Default::default()
        };
        let answer = self.world.list_notifications(request).await.unwrap();
        answer.notifications
    }

    pub async fn points(&self) -> i32 {
        sqlx::query_scalar(r#"SELECT "monthlyPoints" FROM "User" WHERE "id" = $1"#)
            .bind(self.id)
            .fetch_one(&self.world.pool)
            .await
            .unwrap()
    }

    pub async fn tokens(&self) -> Tokens {
        sqlx::query_as(
            r#"SELECT "balance", "totalEarned" AS earned, "totalSpent" AS spent
            FROM "HeistToken" WHERE "userId" = $1"#,
        )
        .bind(self.id)
        .fetch_optional(&self.world.pool)
        .await
        .unwrap()
        .unwrap_or(Tokens {
            balance: 0,
            earned: 0,
            spent: 0,
        })
    }

    /// When this player executed their last heist.
    pub async fn last_spent_at(&self) -> OffsetDateTime {
        sqlx::query_scalar(r#"SELECT "lastSpentAt" FROM "HeistToken" WHERE "userId" = $1"#)
            .bind(self.id)
            .fetch_one(&self.world.pool)
            .await
            .unwrap()
    }

    /// Moves this player's last heist to so long ago, as their cooldown counts it.
    pub async fn last_heist_was(&self, ago: Duration) {
        let moved = sqlx::query(
            r#"UPDATE "HeistToken"
            SET "lastSpentAt" = clock_timestamp() - make_interval(secs => $2)
            WHERE "userId" = $1"#,
        )
        .bind(self.id)
        .bind(ago.as_secs_f64())
        .execute(&self.world.pool)
        .await
        .unwrap();
        assert_eq!(moved.rows_affected(), 1, "they never had a token");
    }
}

/// An id that no call has had before.
pub fn new_request_id() -> String {
    Uuid::now_v7().to_string()
}
