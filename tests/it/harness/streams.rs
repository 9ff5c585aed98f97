//! The two streams of the contract, and a second server to hear them through.

use heist::{
    pb::{
        Notification, StreamNotificationsRequest, StreamNotificationsResponse, WatchPointsRequest,
        WatchPointsResponse,
    },
    server::Server,
};
use sqlx::AssertSqlSafe;
use tokio::time::timeout;
use tonic::{Status, Streaming};

use super::{PATIENCE, Player, World, connect, players::Answer};

/// An open `StreamNotifications`.
pub struct Inbox(Streaming<StreamNotificationsResponse>);

/// An open `WatchPoints`.
pub struct Watcher(Streaming<WatchPointsResponse>);

impl World {
    pub async fn stream_notifications(&self, user_id: i32, after_id: i64) -> Answer<Inbox> {
        let request = StreamNotificationsRequest { user_id, after_id };
        let mut client = self.notifications.clone();
        Ok(Inbox(
            client.stream_notifications(request).await?.into_inner(),
        ))
    }

    pub async fn watch_points(&self) -> Watcher {
        let mut client = self.heists.clone();
        let stream = client.watch_points(WatchPointsRequest {}).await.unwrap();
        Watcher(stream.into_inner())
    }

    /// Another server on the same database, and the same world through it.
    pub async fn replica(&self) -> (Server, Self) {
        let server = Server::start(self.options())
            .await
            .expect("the server starts");
        let there = self.through(connect(server.address()).await);
        (server, there)
    }

    /// Ends the servers' sessions with this last statement. Returns their number.
    pub async fn end_sessions(&self, last_statement: &str) -> i64 {
        sqlx::query_scalar(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
            WHERE datname = current_database() AND application_name = 'heist' AND query LIKE $1",
        )
        .bind(last_statement)
        .fetch_one(&self.pool)
        .await
        .unwrap()
    }

    /// The processes of PostgreSQL that listen for signals.
    pub async fn listening_sessions(&self) -> Vec<i32> {
        sqlx::query_scalar(
            "SELECT pid FROM pg_stat_activity
            WHERE datname = current_database() AND application_name = 'heist'
                AND query LIKE 'LISTEN%' AND state = 'idle'",
        )
        .fetch_all(&self.pool)
        .await
        .unwrap()
    }

    /// Ids of all of a player's notifications after one, in their order.
    pub async fn notification_ids(&self, user_id: i32, after_id: i64) -> Vec<i64> {
        sqlx::query_scalar(AssertSqlSafe(format!(
            r#"SELECT "id" FROM "HeistNotification"
            WHERE "userId" = {user_id} AND "id" > {after_id} ORDER BY "id""#
        )))
        .fetch_all(&self.pool)
        .await
        .unwrap()
    }
}

impl Player {
    /// What this player is told from now on.
    pub async fn listens(&self, world: &World) -> Inbox {
        world.stream_notifications(self.id, 0).await.unwrap()
    }
}

impl Inbox {
    pub async fn next(&mut self) -> Answer<Notification> {
        let item = timeout(PATIENCE, self.0.message())
            .await
            .expect("the stream goes on")?
            .expect("a stream never ends without a status");
        Ok(item.notification.expect("an item has a notification"))
    }

    pub async fn next_id(&mut self) -> i64 {
        self.next().await.unwrap().id
    }

    pub async fn ids(&mut self, count: usize) -> Vec<i64> {
        let mut ids = Vec::with_capacity(count);
        while ids.len() < count {
            ids.push(self.next_id().await);
        }
        ids
    }

    /// How it ends.
    pub async fn end(mut self) -> Status {
        loop {
            if let Err(status) = self.next().await {
                return status;
            }
        }
    }
}

impl Watcher {
    pub async fn next(&mut self) -> Answer<WatchPointsResponse> {
        timeout(PATIENCE, self.0.message())
            .await
            .expect("the stream goes on")
            .map(|message| message.expect("a stream never ends without a status"))
    }

    /// Passes over everything before it.
    pub async fn resync(&mut self) {
        while !self.next().await.unwrap().resync {}
    }

    /// The next that is no resync: where servers have just started, there may be some.
    pub async fn change(&mut self) -> WatchPointsResponse {
        loop {
            let message = self.next().await.unwrap();
            if !message.resync {
                return message;
            }
        }
    }

    /// How it ends.
    pub async fn end(mut self) -> Status {
        loop {
            if let Err(status) = self.next().await {
                return status;
            }
        }
    }
}
