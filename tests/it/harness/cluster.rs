//! A primary with a streaming replica.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use heist::{demo::APPLICATION_SCHEMA, store::schema};
use private_postgres::{Options, PrivatePostgres};
use sqlx::{PgPool, postgres::PgPoolOptions};

use super::{
    postgres::{Directory, NOTES},
    until,
};

pub struct Cluster {
    pub primary: PrivatePostgres,
    pub replica: Option<PrivatePostgres>,
    primary_options: Options,
    replica_options: Options,
    _directories: [Directory; 2],
}

impl Cluster {
    /// With the migrated schema. The primary has these settings besides those of all tests.
    pub async fn start(settings: &[(&'static str, &str)]) -> Self {
        let (first, second) = (Directory::create(), Directory::create());
        let primary = PrivatePostgres::start(&options(&first.path, &[]))
            .await
            .unwrap();
        prepare(&primary).await;
        let url = primary.url("postgres");
        // A copy of a server that is stopped is a replica to be.
        primary.stop().await.unwrap();
        copy(&first.path, &second.path);
        let primary_options = options(&first.path, settings);
        let primary = PrivatePostgres::start(&primary_options).await.unwrap();
        let replica_options = options(&second.path, &[("primary_conninfo", &url)]);
        let replica = PrivatePostgres::start(&replica_options).await.unwrap();
        let pool = connect(&primary).await;
        until("the replica streams", async || {
            let streams: bool = sqlx::query_scalar(
                "SELECT EXISTS (SELECT FROM pg_stat_replication WHERE state = 'streaming')",
            )
            .fetch_one(&pool)
            .await
            .unwrap();
            streams.then_some(())
        })
        .await;
        pool.close().await;
        Self {
            primary,
            replica: Some(replica),
            primary_options,
            replica_options,
            _directories: [first, second],
        }
    }

    /// Connections to the replica.
    pub async fn look(&self) -> PgPool {
        connect(self.replica.as_ref().expect("the replica runs")).await
    }

    pub async fn on_replica(&self, statement: &'static str) {
        let pool = self.look().await;
        sqlx::query(statement).execute(&pool).await.unwrap();
        pool.close().await;
    }

    pub async fn stop_replica(&mut self) {
        let replica = self.replica.take().expect("the replica runs");
        replica.stop().await.unwrap();
    }

    pub async fn start_replica(&mut self) {
        let replica = PrivatePostgres::start(&self.replica_options).await;
        self.replica = Some(replica.unwrap());
    }

    /// Kills the primary, starts the replica without it, and promotes the replica.
    pub async fn start_replica_alone(&mut self) {
        send("KILL", &self.primary_options.data_dir);
        self.start_replica().await;
        self.on_replica("SELECT pg_promote()").await;
    }

    /// To the replica's server and all its children.
    pub fn signal_replica(&self, signal: &str) {
        send(signal, &self.replica_options.data_dir);
    }

    /// Kills the primary, and promotes the replica. Returns connections to it.
    pub async fn fails_over(&self) -> PgPool {
        send("KILL", &self.primary_options.data_dir);
        self.on_replica("SELECT pg_promote()").await;
        self.look().await
    }

    pub async fn stop(self) {
        if let Some(replica) = self.replica {
            replica.stop().await.unwrap();
        }
        // It may have been killed.
        let _ = self.primary.stop().await;
    }
}

fn options(directory: &Path, settings: &[(&'static str, &str)]) -> Options {
    let common = [
        ("fsync", "off"),
        ("max_connections", "100"),
        ("shared_buffers", "32MB"),
    ];
    Options {
        data_dir: directory.to_owned(),
        bin_dir: std::env::var_os("PG_BIN_DIR").map(PathBuf::from),
        settings: (common.iter().chain(settings))
            .map(|(name, value)| (*name, (*value).to_owned()))
            .collect(),
    }
}

async fn connect(server: &PrivatePostgres) -> PgPool {
    PgPoolOptions::new()
        .max_connections(1)
        .connect(&server.url("postgres"))
        .await
        .unwrap()
}

async fn prepare(primary: &PrivatePostgres) {
    let url = primary.url("postgres");
    let pool = PgPoolOptions::new().connect(&url).await.unwrap();
    sqlx::raw_sql(APPLICATION_SCHEMA)
        .execute(&pool)
        .await
        .unwrap();
    schema::migrate(&url.parse().unwrap()).await.unwrap();
    sqlx::raw_sql(NOTES).execute(&pool).await.unwrap();
    pool.close().await;
}

fn copy(from: &Path, to: &Path) {
    let script = r#"
        mkdir -p "$2" && chmod --reference="$1" "$2" && cp -a "$1"/pg?? "$2" || exit
        cluster=$(ls -d "$2"/pg??)
        touch "$cluster/standby.signal" && chown --reference="$cluster" "$cluster/standby.signal""#;
    let copied = Command::new("sh")
        .args(["-c", script, "sh"])
        .args([from, to])
        .status()
        .unwrap();
    assert!(copied.success());
}

/// To a server and all its children.
fn send(signal: &str, directory: &Path) {
    let script = r#"
        postmaster=$(head -n 1 "$2"/pg??/postmaster.pid)
        kill -s "$1" "$postmaster" $(ps -o pid= --ppid "$postmaster")"#;
    let sent = Command::new("sh")
        .args(["-c", script, "sh", signal])
        .arg(directory)
        .status()
        .unwrap();
    assert!(sent.success());
}
