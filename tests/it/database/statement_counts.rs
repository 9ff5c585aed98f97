//! How many statements an answer takes, counted on their way to PostgreSQL.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use heist::{
    engine::Limits,
    pb::{
        BatchGetBalancesRequest, GetHeistRequest, GetHeistStatsRequest, GetLeaderboardRequest,
        ListHeistsRequest, ListNotificationsRequest, ListTokenEventsRequest,
    },
    server::{Options, Server},
};
use sqlx::postgres::PgConnectOptions;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, UnixStream, tcp::OwnedReadHalf, unix::OwnedWriteHalf},
};

use crate::harness::{PATIENCE, World, connect, options};

/// The message that gives a statement its values, and those that make PostgreSQL run one.
const BIND: u8 = b'B';
const EXECUTE: u8 = b'E';
const SIMPLE_QUERY: u8 = b'Q';

/// The channel on which replicas say every now and then that they are alive, which is no part
/// of an answer.
const SIGNALS: &[u8] = b"heist_events";

/// The table that only the connection of the health checks reads while the server runs.
const MIGRATIONS: &[u8] = b"_heist_migrations";

/// How many statements have passed.
#[derive(Clone, Default)]
struct Count(Arc<AtomicUsize>);

impl Count {
    /// How many statements an answer takes: the smallest of three counts, because a task in the
    /// background may read at the same time.
    async fn of<T, F>(&self, call: impl Fn() -> F) -> usize
    where
        F: Future<Output = Result<T, tonic::Status>>,
    {
        let mut fewest = usize::MAX;
        for _ in 0..3 {
            let before = self.0.load(Ordering::SeqCst);
            call().await.unwrap();
            fewest = fewest.min(self.0.load(Ordering::SeqCst) - before);
        }
        fewest
    }
}

/// Runs `body` against a second server and counts that server's statements.
fn counted(body: impl AsyncFnOnce(&World, &Count)) {
    World::run(async |world| {
        let count = Count::default();
        let database: PgConnectOptions = world.database_url.parse().unwrap();
        let socket =
            (database.get_socket().unwrap()).join(format!(".s.PGSQL.{}", database.get_port()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!(
            "postgres://{}@{}/{}?sslmode=disable",
            database.get_username(),
            listener.local_addr().unwrap(),
            database.get_database().unwrap()
        );
        tokio::spawn(accept(listener, socket, count.clone()));
        let options = Options {
            // Each connection asks once in its life what our own types are.
            max_connections: 1,
            ..options(&url, world.settings.clone(), Limits::default())
        };
        let server = Server::start(options).await.unwrap();
        let channel = connect(server.address()).await;
        body(&world.through(channel), &count).await;
        server.stop(PATIENCE).await;
    });
}

async fn accept(listener: TcpListener, socket: PathBuf, count: Count) {
    while let Ok((server, _)) = listener.accept().await {
        let postgres = UnixStream::connect(&socket).await.unwrap();
        tokio::spawn(pass_on(server, postgres, count.clone()));
    }
}

async fn pass_on(server: TcpStream, postgres: UnixStream, count: Count) {
    let (from_server, mut to_server) = server.into_split();
    let (mut from_postgres, to_postgres) = postgres.into_split();
    let answers = tokio::io::copy(&mut from_postgres, &mut to_server);
    // Either end may hang up.
    let _ = tokio::join!(count_and_pass_on(from_server, to_postgres, count), answers);
}

/// The first message has no type: only its length, which counts itself.
async fn count_and_pass_on(
    mut server: OwnedReadHalf,
    mut postgres: OwnedWriteHalf,
    Count(count): Count,
) -> std::io::Result<()> {
    let mut kind = None;
    let mut is_signal = false;
    let mut is_health_check = false;
    loop {
        let length = server.read_u32().await?;
        let mut content = vec![0; usize::try_from(length - 4).unwrap()];
        server.read_exact(&mut content).await?;
        if let Some(kind) = kind {
            is_health_check |= (content.windows(MIGRATIONS.len())).any(|part| part == MIGRATIONS);
            if kind == BIND {
                is_signal = content.windows(SIGNALS.len()).any(|part| part == SIGNALS);
            }
            let is_statement = kind == SIMPLE_QUERY || kind == EXECUTE && !is_signal;
            if is_statement && !is_health_check {
                count.fetch_add(1, Ordering::SeqCst);
            }
            postgres.write_u8(kind).await?;
        }
        postgres.write_u32(length).await?;
        postgres.write_all(&content).await?;
        kind = Some(server.read_u8().await?);
    }
}

#[test]
fn a_leaderboard_takes_three_statements_for_a_viewer_and_one_without() {
    counted(async |world, count| {
        let viewer = world.player("Viewer").points(100).tokens(1).await;
        for size in [1, 40, 400] {
            world.crowd("Player", size).points(50).tokens(1).await;
            for page_size in [1, 50, 200] {
                for (viewer_id, statements) in [(0, 1), (viewer.id, 3)] {
                    let request = GetLeaderboardRequest {
                        viewer_id,
                        page_size,
                        ..Default::default()
                    };
                    let first = world.get_leaderboard(request.clone()).await.unwrap();
                    assert_eq!(
                        count.of(|| world.get_leaderboard(request.clone())).await,
                        statements
                    );
                    let next = GetLeaderboardRequest {
                        page_token: first.next_page_token,
                        ..request
                    };
                    assert_eq!(
                        count.of(|| world.get_leaderboard(next.clone())).await,
                        statements
                    );
                }
            }
        }
    });
}

#[test]
fn eligibility_takes_one_statement_of_one_victim_and_of_two_hundred() {
    counted(async |world, count| {
        let ada = world.player("Ada").tokens(1).await;
        let crowd = world.crowd("Victim", 200).points(1000).await;
        let victims: Vec<i32> = crowd.iter().map(|victim| victim.id).collect();
        let alone = async || Ok(world.eligibility(ada.id, victims[0]).await);
        assert_eq!(count.of(alone).await, 1);
        for asked in [1, 50, 200] {
            let batch = async || Ok(world.eligibilities(ada.id, &victims[..asked]).await);
            assert_eq!(count.of(batch).await, 1);
        }
    });
}

#[test]
fn balances_and_unread_counts_take_one_statement() {
    counted(async |world, count| {
        let crowd = world.crowd("Player", 200).tokens(1).await;
        let user_ids: Vec<i32> = crowd.iter().map(|player| player.id).collect();
        assert_eq!(count.of(|| world.get_balance(user_ids[0])).await, 1);
        assert_eq!(count.of(|| world.get_unread_count(user_ids[0])).await, 1);
        let request = BatchGetBalancesRequest { user_ids };
        let batch = || world.batch_get_balances(request.clone());
        assert_eq!(count.of(batch).await, 1);
    });
}

#[test]
fn no_list_takes_more_statements_for_more_rows() {
    counted(async |world, count| {
        let robbers = world.crowd("Robber", 10).tokens(1).await;
        let rich = world.player("Rich").points(100_000).tokens(1).await;
        let mut heist_id = 0;
        for robber in &robbers {
            heist_id = robber.robs(&rich).await.unwrap().heist.unwrap().id;
        }
        let user_id = rich.id;
        rich.seen_by(world).notifications().await;
        for page_size in [1, 3, 100] {
            let heists = || {
                world.list_heists(ListHeistsRequest {
                    user_id,
                    page_size,
                    ..Default::default()
                })
            };
            assert_eq!(count.of(heists).await, 3);
            let events = || {
                world.list_token_events(ListTokenEventsRequest {
                    user_id,
                    page_size,
                    ..Default::default()
                })
            };
            assert_eq!(count.of(events).await, 2);
            let notifications = || {
                world.list_notifications(ListNotificationsRequest {
                    user_id,
                    page_size,
                    ..Default::default()
                })
            };
            assert_eq!(count.of(notifications).await, 2);
        }
        assert_eq!(
            count
                .of(|| world.get_heist(GetHeistRequest { heist_id }))
                .await,
            1
        );
        let stats = || world.get_heist_stats(GetHeistStatsRequest { user_id });
        assert_eq!(count.of(stats).await, 2);
    });
}
