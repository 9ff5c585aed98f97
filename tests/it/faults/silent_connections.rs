//! Connections to PostgreSQL go silent: nothing comes through them any more, and nothing says so.
//! New connections work.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use heist::server::Server;
use sqlx::postgres::PgConnectOptions;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, UnixStream},
    sync::watch,
    task::{JoinHandle, JoinSet},
};

use crate::harness::{PATIENCE, World, connect, new_request_id, options};

/// What travels to PostgreSQL when a batch begins, saves, and commits.
const PHASES: [&[u8]; 3] = [b"BEGIN ISOLATION", b"Stole 100 points", b"COMMIT\0"];

/// Stands between a server and PostgreSQL.
struct Proxy {
    address: SocketAddr,
    /// Connections with a lower number are silent.
    first_that_works: watch::Sender<u64>,
    /// The connection that sends this next goes silent before it arrives.
    trap: Arc<Mutex<Option<&'static [u8]>>>,
    accepted: Arc<Mutex<u64>>,
    accepting: JoinHandle<()>,
}

/// Closes all connections.
impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
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
        let first_that_works = watch::Sender::new(0);
        let trap: Arc<Mutex<Option<&'static [u8]>>> = Arc::default();
        let accepted: Arc<Mutex<u64>> = Arc::default();
        let shared = (
            first_that_works.subscribe(),
            Arc::clone(&trap),
            Arc::clone(&accepted),
        );
        let accepting = tokio::spawn(async move {
            let (works, trap, accepted) = shared;
            let mut connections = JoinSet::new();
            while let Ok((server, _)) = listener.accept().await {
                let number = {
                    let mut accepted = accepted.lock().unwrap();
                    *accepted += 1;
                    *accepted
                };
                let (works, trap) = (works.clone(), Arc::clone(&trap));
                connections.spawn(pass_on(server, socket.clone(), number, works, trap));
            }
        });
        Self {
            address,
            first_that_works,
            trap,
            accepted,
            accepting,
        }
    }

    /// All connections that are open go silent.
    fn silence_all(&self) {
        let next = *self.accepted.lock().unwrap() + 1;
        self.first_that_works.send_replace(next);
    }

    /// The connection on which this is sent next goes silent.
    fn silence_at(&self, phase: &'static [u8]) {
        *self.trap.lock().unwrap() = Some(phase);
    }

    fn has_silenced(&self) -> bool {
        self.trap.lock().unwrap().is_none()
    }
}

async fn silenced(works: &mut watch::Receiver<u64>, number: u64) {
    let _ = works.wait_for(|first| *first > number).await;
}

async fn pass_on(
    mut server: TcpStream,
    socket: PathBuf,
    number: u64,
    mut works: watch::Receiver<u64>,
    trap: Arc<Mutex<Option<&'static [u8]>>>,
) {
    let mut postgres = UnixStream::connect(socket).await.unwrap();
    loop {
        let (mut from_server, mut from_postgres) = (Vec::new(), Vec::new());
        tokio::select! {
            () = silenced(&mut works, number) => break,
            read = server.read_buf(&mut from_server) => {
                if read.unwrap_or(0) == 0 {
                    return;
                }
                let is_trapped = {
                    let mut trap = trap.lock().unwrap();
                    let sent = |phase: &[u8]| from_server.windows(phase.len()).any(|it| it == phase);
                    let is_trapped = trap.is_some_and(sent);
                    if is_trapped {
                        *trap = None;
                    }
                    is_trapped
                };
                if is_trapped {
                    break;
                }
                postgres.write_all(&from_server).await.unwrap();
            }
            read = postgres.read_buf(&mut from_postgres) => {
                if read.unwrap_or(0) == 0 || server.write_all(&from_postgres).await.is_err() {
                    return;
                }
            }
        }
    }
    // Both ends stay open, and hear nothing.
    std::future::pending::<()>().await;
}

/// Plays `body` against a second server, which reaches PostgreSQL through a proxy.
fn through_a_proxy(body: impl AsyncFnOnce(&World, &Proxy)) {
    let setup = World::setup().rules(|rules| {
        rules.cooldown = Duration::ZERO;
        rules.protection = None;
    });
    setup.run(async |world| {
        let proxy = Proxy::start(&world.database_url).await;
        let database: PgConnectOptions = world.database_url.parse().unwrap();
        let url = format!(
            "postgres://{}@{}/{}?sslmode=disable",
            database.get_username(),
            proxy.address,
            database.get_database().unwrap()
        );
        let settings = world.settings.clone();
        let options = options(&url, settings, heist::engine::Limits::default());
        let server = Server::start(options).await.unwrap();
        let channel = connect(server.address()).await;
        body(&world.through(channel), &proxy).await;
        server.stop(PATIENCE).await;
    });
}

#[test]
fn a_connection_that_goes_silent_in_any_phase_delays_only_the_orders_of_its_batch() {
    through_a_proxy(async |world, proxy| {
        for phase in PHASES {
            let caught = world.crowd("Caught", 2).points(10_000).tokens(1).await;
            let others = world.crowd("Other", 2).points(10_000).tokens(50).await;
            let control = Instant::now();
            for _ in 0..20 {
                others[0].robs(&others[1]).await.unwrap();
            }
            let control = control.elapsed();
            proxy.silence_at(phase);
            let id = new_request_id();
            let in_silence = tokio::spawn(caught[0].robs_with_id(&id, &caught[1]));
            while !proxy.has_silenced() {
                tokio::task::yield_now().await;
            }
            let begun = Instant::now();
            for _ in 0..20 {
                others[0].robs(&others[1]).await.unwrap();
            }
            let took = begun.elapsed();
            assert!(took < 3 * control + Duration::from_secs(3), "{took:?}");

            // The caller learns the truth in time, or by repeating the call.
            if in_silence.await.unwrap().is_err() {
                while caught[0].robs_with_id(&id, &caught[1]).await.is_err() {}
            }
            assert!(begun.elapsed() < Duration::from_secs(20));
            assert_eq!(caught[0].tokens().await.balance, 0);
            assert_eq!(caught[1].points().await, 9_900);
        }
    });
}

#[test]
fn a_server_whose_connections_all_went_silent_gets_new_ones() {
    through_a_proxy(async |world, proxy| {
        let ada = world.player("Ada").tokens(50).await;
        let ben = world.player("Ben").points(10_000).await;
        ada.robs(&ben).await.unwrap();
        proxy.silence_all();
        let begun = Instant::now();
        while ada.robs(&ben).await.is_err() {}
        while world.get_balance(ada.id).await.is_err() {}
        assert!(
            begun.elapsed() < Duration::from_secs(10),
            "{:?}",
            begun.elapsed()
        );
    });
}
