//! A connection to the database that is lost during the commit. The caller gets the true result,
//! whether PostgreSQL committed or not.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use heist::{pb::ExecuteHeistRequest, server::Server};
use sqlx::postgres::PgConnectOptions;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, UnixStream},
    sync::watch,
};
use tonic::Code;

use crate::{
    harness::{PATIENCE, World, connect, new_request_id, options, until},
    rpc::tokens::adjust_balance::adjustment,
};

/// The simple query that ends a transaction, as it travels to PostgreSQL.
const COMMIT: &[u8] = b"Q\0\0\0\x0bCOMMIT\0";

/// What happens to the next commit.
#[derive(Clone, Copy)]
#[repr(u8)]
enum Cut {
    Never,
    /// The connection is lost before PostgreSQL hears of it.
    BeforeCommit,
    /// PostgreSQL commits, and the connection is lost before it says so.
    AfterCommit,
    /// PostgreSQL hears of it when the server has given the connection up.
    LateCommit,
}

/// Stands between a server and PostgreSQL.
struct Proxy {
    address: SocketAddr,
    cut: Arc<AtomicU8>,
    /// Whether the server hears at once that its connection is cut. PostgreSQL always does.
    tells: watch::Sender<bool>,
}

impl Proxy {
    async fn start(database_url: &str) -> Self {
        let postgres: PgConnectOptions = database_url.parse().unwrap();
        let socket = postgres
            .get_socket()
            .unwrap()
            .join(format!(".s.PGSQL.{}", postgres.get_port()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let cut = Arc::new(AtomicU8::new(Cut::Never as u8));
        let shared = Arc::clone(&cut);
        let (tells, told) = watch::channel(true);
        tokio::spawn(async move {
            while let Ok((server, _)) = listener.accept().await {
                let (socket, cut, mut told) = (socket.clone(), Arc::clone(&shared), told.clone());
                tokio::spawn(async move {
                    let _server = pass_on(server, socket, cut).await;
                    told.wait_for(|told| *told).await.unwrap();
                });
            }
        });
        Self {
            address,
            cut,
            tells,
        }
    }

    fn cut_next_commit(&self, cut: Cut) {
        self.cut.store(cut as u8, Ordering::SeqCst);
    }

    fn has_cut(&self) -> bool {
        self.cut.load(Ordering::SeqCst) == Cut::Never as u8
    }
}

/// Passes everything on in both directions until it is time to cut the line. Returning closes the
/// connection to PostgreSQL. Returns the connection to the server.
async fn pass_on(mut server: TcpStream, socket: PathBuf, cut: Arc<AtomicU8>) -> TcpStream {
    let mut postgres = UnixStream::connect(socket).await.unwrap();
    loop {
        let (mut from_server, mut from_postgres) = (Vec::new(), Vec::new());
        tokio::select! {
            read = read_some(&mut server, &mut from_server) => {
                if read == 0 {
                    return server;
                }
                let cut = if from_server.ends_with(COMMIT) {
                    cut.swap(Cut::Never as u8, Ordering::SeqCst)
                } else {
                    Cut::Never as u8
                };
                if cut == Cut::BeforeCommit as u8 {
                    return server;
                }
                if cut == Cut::LateCommit as u8 {
                    while read_some(&mut server, &mut Vec::new()).await > 0 {}
                }
                postgres.write_all(&from_server).await.unwrap();
                if cut == Cut::AfterCommit as u8 || cut == Cut::LateCommit as u8 {
                    read_some(&mut postgres, &mut from_postgres).await;
                    return server;
                }
            }
            read = read_some(&mut postgres, &mut from_postgres) => {
                if read == 0 || server.write_all(&from_postgres).await.is_err() {
                    return server;
                }
            }
        }
    }
}

async fn read_some(from: &mut (impl AsyncRead + Unpin), into: &mut Vec<u8>) -> usize {
    from.read_buf(into).await.unwrap_or(0)
}

/// Plays `body` against a second server, which reaches PostgreSQL through a proxy.
fn through_a_proxy(body: impl AsyncFnOnce(&World, &Proxy)) {
    beside_a_proxy(async |_, world, proxy| body(world, proxy).await);
}

/// Plays `body` against two servers: the first one reaches PostgreSQL directly, the second one
/// through a proxy.
fn beside_a_proxy(body: impl AsyncFnOnce(&World, &World, &Proxy)) {
    World::run(async |world| {
        let proxy = Proxy::start(&world.database_url).await;
        let database: PgConnectOptions = world.database_url.parse().unwrap();
        let url = format!(
            "postgres://{}@{}/{}?sslmode=disable",
            database.get_username(),
            proxy.address,
            database.get_database().unwrap()
        );
        let options = options(
            &url,
            world.settings.clone(),
            heist::engine::Limits::default(),
        );
        let server = Server::start(options).await.unwrap();
        let channel = connect(server.address()).await;
        body(world, &world.through(channel), &proxy).await;
        server.stop(PATIENCE).await;
    });
}

#[test]
fn a_heist_whose_commit_was_lost_is_found_or_made_again() {
    through_a_proxy(async |world, proxy| {
        for cut in [Cut::BeforeCommit, Cut::AfterCommit] {
            let attacker = world.player("Attacker").tokens(2).await;
            let victim = world.player("Victim").points(1000).await;
            let heists_before = world.count_heists().await;
            proxy.cut_next_commit(cut);
            let answer = attacker.robs(&victim).await.unwrap();
            assert!(proxy.has_cut());
            assert!(!answer.replayed, "it is the first call");
            assert_eq!(answer.tokens_remaining, 1);
            assert_eq!(answer.heist.unwrap().victim_points_after, 950);
            assert_eq!(victim.points().await, 950);
            assert_eq!(world.count_heists().await, heists_before + 1);
        }
    });
}

#[test]
fn an_award_whose_commit_was_lost_is_found_or_made_again() {
    through_a_proxy(async |world, proxy| {
        for cut in [Cut::BeforeCommit, Cut::AfterCommit] {
            let referrer = world.player("Referrer").await;
            let referred = world.player("Referred").await;
            proxy.cut_next_commit(cut);
            let answer = referrer.earns_a_token_for(&referred).await.unwrap();
            assert!(proxy.has_cut());
            assert!(!answer.already_awarded, "it is the first call");
            assert_eq!(answer.balance.unwrap().balance, 1);
            assert_eq!(referrer.tokens().await.balance, 1);
        }
    });
}

#[test]
fn a_refused_heist_needs_no_commit() {
    through_a_proxy(async |world, proxy| {
        let attacker = world.player("Attacker").await;
        let victim = world.player("Victim").points(1000).await;
        proxy.cut_next_commit(Cut::BeforeCommit);
        attacker.robs(&victim).await.unwrap_err();
        assert!(!proxy.has_cut());
    });
}

/// A call whose commit is lost, and the same call at another server, which is answered before the
/// first server hears of the loss. Returns whether each of them was told that it repeats another.
async fn around_a_lost_commit<F>(proxy: &Proxy, cut: Cut, first: F, second: F) -> (bool, bool)
where
    F: Future<Output = bool> + Send + 'static,
{
    proxy.tells.send_replace(false);
    proxy.cut_next_commit(cut);
    let first = tokio::spawn(first);
    until("the commit is lost", async || proxy.has_cut().then_some(())).await;
    let second = second.await;
    proxy.tells.send_replace(true);
    (first.await.unwrap(), second)
}

#[test]
fn watchers_are_told_to_read_again_after_a_late_commit() {
    through_a_proxy(async |world, proxy| {
        let attacker = world.player("Attacker").tokens(1).await;
        let victim = world.player("Victim").points(1000).await;
        let mut watcher = world.watch_points().await;
        assert!(watcher.next().await.unwrap().resync);
        proxy.cut_next_commit(Cut::LateCommit);
        let mut request = tonic::Request::new(ExecuteHeistRequest {
            attacker_id: attacker.id,
            victim_id: victim.id,
            request_id: String::new(),
        });
        request.set_timeout(Duration::from_secs(1));
        let status = (world.heists.clone().execute_heist(request).await).unwrap_err();
        assert_eq!(status.code(), Code::DeadlineExceeded);
        assert_eq!(world.count_heists().await, 0);
        loop {
            assert!(watcher.next().await.unwrap().resync);
            if world.count_heists().await == 1 {
                break;
            }
        }
    });
}

#[test]
fn of_two_equal_calls_around_a_lost_commit_one_is_told_that_it_did_it() {
    beside_a_proxy(async |direct, proxied, proxy| {
        for (cut, expected) in [
            (Cut::BeforeCommit, (true, false)),
            (Cut::AfterCommit, (false, true)),
        ] {
            let attacker = direct.player("Attacker").tokens(5).await;
            let victim = direct.player("Victim").points(1000).await;
            let request_id = new_request_id();
            let heist = |world| {
                let answer = (attacker.seen_by(world)).robs_with_id(&request_id, &victim);
                async move { answer.await.unwrap().replayed }
            };
            let told = around_a_lost_commit(proxy, cut, heist(proxied), heist(direct)).await;
            assert_eq!(told, expected);
            assert_eq!(attacker.tokens().await.balance, 4);

            let referrer = direct.player("Referrer").await;
            let referred = direct.player("Referred").await;
            let award = |world| {
                let answer = referrer.seen_by(world).earns_a_token_for(&referred);
                async move { answer.await.unwrap().already_awarded }
            };
            let told = around_a_lost_commit(proxy, cut, award(proxied), award(direct)).await;
            assert_eq!(told, expected);
            assert_eq!(referrer.tokens().await.balance, 1);

            let player = direct.player("Player").await;
            let request = adjustment(&player, 3);
            let adjust = |world: &World| {
                let (world, request) = (world.clone(), request.clone());
                async move { world.adjust_balance(request).await.unwrap().replayed }
            };
            let told = around_a_lost_commit(proxy, cut, adjust(proxied), adjust(direct)).await;
            assert_eq!(told, expected);
            assert_eq!(player.tokens().await.balance, 3);
        }
    });
}
