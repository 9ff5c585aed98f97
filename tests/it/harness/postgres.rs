//! One PostgreSQL for the whole test process, one database for each test.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        LazyLock, Once,
        atomic::{AtomicU32, Ordering},
    },
};

use heist::{demo::APPLICATION_SCHEMA, store::schema};
use private_postgres::{Options, PrivatePostgres};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, PgPool, postgres::PgConnectOptions};
use tokio::runtime::Runtime;

use crate::pgbouncer::PgBouncer;

/// A database with the application's tables only.
const APPLICATION: &str = "application";
/// The same with our migrations, and a table in which tests note what their players began with.
const MIGRATED: &str = "migrated";

pub const NOTES: &str = r#"
CREATE SCHEMA test;
CREATE TABLE test.start ("userId" integer PRIMARY KEY, "points" integer NOT NULL)"#;

static SHARED: LazyLock<Shared> = LazyLock::new(|| {
    // From a thread of its own, because the first test may be in a runtime already.
    std::thread::spawn(Shared::start)
        .join()
        .expect("PostgreSQL starts")
});

struct Shared {
    postgres: PrivatePostgres,
    pgbouncer: Option<PgBouncer>,
    _directory: Directory,
    /// Watches over the server's process for as long as the tests run.
    _runtime: Runtime,
}

/// A database of one test.
pub struct Database {
    /// For the service: through PgBouncer where the tests run with one.
    pub url: String,
    /// Past PgBouncer where there is one.
    pub direct_url: Option<String>,
    name: String,
}

impl Database {
    /// With everything that the service needs, and no players.
    pub async fn migrated() -> Self {
        Self::copy_of(MIGRATED).await
    }

    /// As the application made it, before the service came.
    pub async fn of_the_application() -> Self {
        Self::copy_of(APPLICATION).await
    }

    /// Without any table.
    pub async fn empty() -> Self {
        Self::copy_of("template0").await
    }

    async fn copy_of(template: &str) -> Self {
        let name = format!("test_{}", DATABASES.fetch_add(1, Ordering::Relaxed));
        let shared = &*SHARED;
        execute(
            shared,
            format!("CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy"),
        )
        .await;
        let past_pgbouncer = shared.postgres.url(&name);
        let (url, direct_url) = match &shared.pgbouncer {
            Some(pgbouncer) => (pgbouncer.url(&name), Some(past_pgbouncer)),
            None => (past_pgbouncer, None),
        };
        Self {
            url,
            direct_url,
            name,
        }
    }

    /// As the service connects.
    pub fn connect_options(&self) -> PgConnectOptions {
        super::parsed(&self.url).connect_options().clone()
    }

    /// The same database, with a parameter in the service's URL.
    pub fn with_parameter(mut self, parameter: &str) -> Self {
        let separator = if self.url.contains('?') { '&' } else { '?' };
        self.url = format!("{}{separator}{parameter}", self.url);
        self
    }

    /// For the test itself.
    pub fn own_url(&self) -> &str {
        self.direct_url.as_ref().unwrap_or(&self.url)
    }

    pub async fn connect(&self) -> PgPool {
        super::open(self.own_url()).await
    }

    /// After a test that went well. What other tests leave can be looked at until the end.
    pub async fn discard(self) {
        execute(&SHARED, format!("DROP DATABASE {} WITH (FORCE)", self.name)).await;
    }
}

async fn execute(shared: &Shared, statement: String) {
    let mut connection = PgConnection::connect(&shared.postgres.url("postgres"))
        .await
        .expect("PostgreSQL answers");
    sqlx::query(AssertSqlSafe(statement))
        .execute(&mut connection)
        .await
        .expect("the statement works");
    connection.close().await.expect("PostgreSQL says goodbye");
}

impl Shared {
    fn start() -> Self {
        let directory = Directory::create();
        let options = Options {
            data_dir: directory.path.clone(),
            bin_dir: std::env::var_os("PG_BIN_DIR").map(PathBuf::from),
            settings: [
                ("fsync", "off"),
                ("synchronous_commit", "off"),
                ("full_page_writes", "off"),
                ("autovacuum", "off"),
                ("max_connections", "400"),
                ("shared_buffers", "64MB"),
            ]
            .map(|(name, value)| (name, value.to_owned()))
            .to_vec(),
        };
        let runtime = super::runtime();
        let postgres = runtime
            .block_on(PrivatePostgres::start(&options))
            .expect("PostgreSQL starts");
        let pgbouncer = std::env::var_os("HEIST_TEST_PGBOUNCER")
            .map(|program| runtime.block_on(start_pgbouncer(program.into(), &postgres)));
        let shared = Self {
            postgres,
            pgbouncer,
            _directory: directory,
            _runtime: super::runtime(),
        };
        runtime.block_on(shared.make_templates());
        Self {
            _runtime: runtime,
            ..shared
        }
    }

    async fn make_templates(&self) {
        execute(self, format!("CREATE DATABASE {APPLICATION}")).await;
        self.run(APPLICATION, APPLICATION_SCHEMA).await;
        execute(
            self,
            format!("CREATE DATABASE {MIGRATED} TEMPLATE {APPLICATION}"),
        )
        .await;
        let url = self.postgres.url(MIGRATED).parse().expect("our own URL");
        schema::migrate(&url).await.expect("the migrations apply");
        self.run(MIGRATED, NOTES).await;
    }

    async fn run(&self, database: &str, script: &'static str) {
        let mut connection = PgConnection::connect(&self.postgres.url(database))
            .await
            .expect("PostgreSQL answers");
        sqlx::raw_sql(script)
            .execute(&mut connection)
            .await
            .expect("the script works");
        connection.close().await.expect("PostgreSQL says goodbye");
    }
}

async fn start_pgbouncer(program: PathBuf, postgres: &PrivatePostgres) -> PgBouncer {
    let options: PgConnectOptions = postgres.url("postgres").parse().expect("our own URL");
    let (folder, port) = (options.get_socket().expect("a socket"), options.get_port());
    let socket = folder.join(format!(".s.PGSQL.{port}"));
    let address = format!("host={} port={port}", folder.display());
    let folder = postgres.data_dir().join("pgbouncer");
    (PgBouncer::start(&program, folder, &socket, &address).await).expect("PgBouncer starts")
}

/// A folder in memory where there is such a thing. What is static is never dropped, so a shell
/// that waits for the end of this value or of our process removes it; what a shell that was
/// killed too left behind is removed by the next test process.
pub struct Directory {
    pub path: PathBuf,
    /// Locked for as long as the folder is in use.
    _lock: File,
    /// Its standard input is the pipe that tells it of our end.
    _undertaker: Child,
}

static LEFTOVERS: Once = Once::new();
static DIRECTORIES: AtomicU32 = AtomicU32::new(1);
static DATABASES: AtomicU32 = AtomicU32::new(1);

impl Directory {
    pub fn create() -> Self {
        let parent = Some(PathBuf::from("/dev/shm"))
            .filter(|memory| memory.is_dir())
            .unwrap_or_else(std::env::temp_dir);
        LEFTOVERS.call_once(|| remove_leftovers(&parent));

        let number = DIRECTORIES.fetch_add(1, Ordering::Relaxed);
        let path = parent.join(format!("heist-tests-{}-{number}", std::process::id()));
        let lock_path = path.with_extension("lock");
        let lock = loop {
            let lock = File::create(&lock_path).expect("the folder can be written");
            lock.lock().expect("no other process has this process id");
            // Another process may have taken it for a leftover before it was locked.
            if lock_path.exists() {
                break lock;
            }
        };
        let undertaker = start_undertaker(&path, &lock_path);
        Self {
            path,
            _lock: lock,
            _undertaker: undertaker,
        }
    }
}

/// Waits for the pipe that only we hold to close, and then for PostgreSQL to have gone, which
/// removes this file last.
const UNDERTAKER: &str = r#"
trap '' HUP INT TERM
cat
for attempt in 1 2 3 4 5 6 7 8 9 10; do
    ls "$1"/pg*/postmaster.pid || break
    sleep 0.5
done
rm -rf "$1" "$2""#;

fn start_undertaker(path: &Path, lock_path: &Path) -> Child {
    Command::new("sh")
        .args(["-c", UNDERTAKER, "heist-tests"])
        .args([path, lock_path])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("there is a shell")
}

fn remove_leftovers(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else {
        return;
    };
    for path in entries.flatten().map(|entry| entry.path()) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if !name.starts_with("heist-tests-") || !name.ends_with(".lock") {
            continue;
        }
        // A lock that can be had is that of a process that has ended. It is held until all is gone.
        let Ok(lock) = File::open(&path) else {
            continue;
        };
        if lock.try_lock().is_ok() {
            let _ = fs::remove_dir_all(path.with_extension(""));
            let _ = fs::remove_file(&path);
        }
    }
}
