//! A connection to the database that is lost during the commit. The caller gets the true result,
//! whether PostgreSQL committed or not.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
};

use heist::server::Server;
use sqlx::postgres::PgConnectOptions;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, UnixStream},
};

use crate::harness::{PATIENCE, World, connect, options};

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
}

/// Stands between a server and PostgreSQL.
struct Proxy {
    address: SocketAddr,
    cut: Arc<AtomicU8>,
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
        tokio::spawn(async move {
            while let Ok((server, _)) = listener.accept().await {
                tokio::spawn(pass_on(server, socket.clone(), Arc::clone(&shared)));
            }
        });
        Self { address, cut }
    }

    fn cut_next_commit(&self, cut: Cut) {
        self.cut.store(cut as u8, Ordering::SeqCst);
    }

    fn has_cut(&self) -> bool {
        self.cut.load(Ordering::SeqCst) == Cut::Never as u8
    }
}

/// Passes everything on in both directions until it is time to cut the line: returning closes
/// both ends.
async fn pass_on(mut server: TcpStream, socket: PathBuf, cut: Arc<AtomicU8>) {
    let mut postgres = UnixStream::connect(socket).await.unwrap();
    loop {
        let (mut from_server, mut from_postgres) = (Vec::new(), Vec::new());
        tokio::select! {
            read = read_some(&mut server, &mut from_server) => {
                if read == 0 {
                    return;
                }
                let cut = if from_server.ends_with(COMMIT) {
                    cut.swap(Cut::Never as u8, Ordering::SeqCst)
                } else {
                    Cut::Never as u8
                };
                if cut == Cut::BeforeCommit as u8 {
                    return;
                }
                postgres.write_all(&from_server).await.unwrap();
                if cut == Cut::AfterCommit as u8 {
                    read_some(&mut postgres, &mut from_postgres).await;
                    return;
                }
            }
            read = read_some(&mut postgres, &mut from_postgres) => {
                if read == 0 || server.write_all(&from_postgres).await.is_err() {
                    return;
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
        body(&world.through(channel), &proxy).await;
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
