//! The lifecycle of a real server. These tests need an installed PostgreSQL, in the usual places or
//! on `PATH`, and run as any user, including root.

use std::{
    fs,
    os::unix::{fs::PermissionsExt, net::UnixStream},
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, SystemTime},
};

use tokio::time::timeout;

use super::{Error, Options, PrivatePostgres, percent_encoded};

/// A data directory that is removed after the test.
struct DataDir(PathBuf);

impl DataDir {
    fn named(name: &str) -> Self {
        let unique = format!("private-postgres-{}-{name}", std::process::id());
        Self(Path::new("/tmp").join(unique))
    }

    fn options(&self) -> Options {
        Options {
            data_dir: self.0.clone(),
            bin_dir: None,
            settings: vec![("fsync", "off".to_owned())],
        }
    }

    /// Found by the name of its log, because the tests do not know which version is installed.
    fn cluster(&self) -> PathBuf {
        fs::read_dir(&self.0)
            .unwrap()
            .map(|child| child.unwrap().path())
            .find(|child| child.extension().is_some_and(|ending| ending == "log"))
            .unwrap()
            .with_extension("")
    }
}

impl Drop for DataDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn accepts_connections(server: &PrivatePostgres) -> bool {
    UnixStream::connect(server.socket.path.join(".s.PGSQL.5432")).is_ok()
}

fn modified(data_dir: &DataDir) -> SystemTime {
    let version = data_dir.cluster().join("PG_VERSION");
    fs::metadata(version).unwrap().modified().unwrap()
}

#[tokio::test]
async fn a_stopped_server_is_gone_and_starts_again_on_the_same_cluster() {
    let data_dir = DataDir::named("again");
    let server = PrivatePostgres::start(&data_dir.options()).await.unwrap();
    assert!(accepts_connections(&server));
    let socket = server.socket.path.join(".s.PGSQL.5432");
    server.stop().await.unwrap();
    assert!(!socket.exists());
    let made_at = modified(&data_dir);

    let server = PrivatePostgres::start(&data_dir.options()).await.unwrap();
    assert!(accepts_connections(&server));
    assert_eq!(modified(&data_dir), made_at);
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_second_server_on_a_data_directory_is_refused_with_the_process_id_of_the_first() {
    let data_dir = DataDir::named("second");
    let first = PrivatePostgres::start(&data_dir.options()).await.unwrap();
    let refusal = PrivatePostgres::start(&data_dir.options())
        .await
        .unwrap_err();
    assert!(
        matches!(&refusal, Error::InUse { pid, .. } if pid.parse::<u32>().is_ok()),
        "{refusal}"
    );
    assert!(accepts_connections(&first));
    first.stop().await.unwrap();
}

#[tokio::test]
async fn a_start_right_after_a_server_lost_its_owner_waits_for_its_end() {
    let data_dir = DataDir::named("orphan");
    drop(PrivatePostgres::start(&data_dir.options()).await.unwrap());
    let server = PrivatePostgres::start(&data_dir.options()).await.unwrap();
    assert!(accepts_connections(&server));
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_cancelled_start_leaves_no_server_behind() {
    let data_dir = DataDir::named("cancelled");
    let options = data_dir.options();
    PrivatePostgres::start(&options)
        .await
        .unwrap()
        .stop()
        .await
        .unwrap();
    for delay_ms in [15, 25, 35, 45] {
        let delay = Duration::from_millis(delay_ms);
        drop(timeout(delay, PrivatePostgres::start(&options)).await);
        let server = PrivatePostgres::start(&options).await.unwrap();
        server.stop().await.unwrap();
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_start_after_a_crash_of_the_machine_works_although_the_process_id_was_reused() {
    let data_dir = DataDir::named("crashed");
    let server = PrivatePostgres::start(&data_dir.options()).await.unwrap();
    let pid_file = data_dir.cluster().join("postmaster.pid");
    let socket_lock = server.socket.path.join(".s.PGSQL.5432.lock");
    let (pid_text, lock_text) = (
        fs::read_to_string(&pid_file).unwrap(),
        fs::read_to_string(&socket_lock).unwrap(),
    );
    server.stop().await.unwrap();

    // Another process of the server's user now has the process id.
    let account = super::Account::for_server().await.unwrap();
    let mut bystander = account
        .command("sleep")
        .arg("60")
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let reused = bystander.id().unwrap().to_string();
    for (file, text) in [(&pid_file, &pid_text), (&socket_lock, &lock_text)] {
        let (_, rest) = text.split_once('\n').unwrap();
        fs::write(file, format!("{reused}\n{rest}")).unwrap();
        fs::set_permissions(file, PermissionsExt::from_mode(0o600)).unwrap();
        account.own(file).unwrap();
    }

    let server = PrivatePostgres::start(&data_dir.options()).await.unwrap();
    assert!(accepts_connections(&server));
    server.stop().await.unwrap();
    bystander.kill().await.unwrap();
}

#[tokio::test]
async fn a_start_after_an_interrupted_first_start_works() {
    let data_dir = DataDir::named("interrupted");
    PrivatePostgres::start(&data_dir.options())
        .await
        .unwrap()
        .stop()
        .await
        .unwrap();
    let cluster = data_dir.cluster();
    fs::rename(&cluster, cluster.with_extension("new")).unwrap();
    fs::remove_file(cluster.with_extension("new").join("PG_VERSION")).unwrap();

    let server = PrivatePostgres::start(&data_dir.options()).await.unwrap();
    assert!(accepts_connections(&server));
    assert!(!cluster.with_extension("new").exists());
    server.stop().await.unwrap();
}

#[tokio::test]
async fn the_socket_of_a_long_data_directory_is_in_a_private_directory_that_stop_removes() {
    let parent = DataDir::named("long");
    let data_dir = DataDir(parent.0.join("x".repeat(100)));
    let server = PrivatePostgres::start(&data_dir.options()).await.unwrap();
    let socket_dir = server.socket.path.clone();
    assert!(socket_dir.starts_with("/tmp"));
    assert_eq!(
        fs::metadata(&socket_dir).unwrap().permissions().mode() & 0o777,
        0o700
    );
    assert!(accepts_connections(&server));
    server.stop().await.unwrap();
    assert!(!socket_dir.exists());
}

#[tokio::test]
async fn a_directory_in_tmp_that_other_users_can_enter_is_not_used() {
    let parent = DataDir::named("squatted");
    let data_dir = DataDir(parent.0.join("x".repeat(100)));
    let server = PrivatePostgres::start(&data_dir.options()).await.unwrap();
    let squatted = server.socket.path.clone();
    server.stop().await.unwrap();

    fs::create_dir(&squatted).unwrap();
    fs::set_permissions(&squatted, PermissionsExt::from_mode(0o777)).unwrap();
    let server = PrivatePostgres::start(&data_dir.options()).await.unwrap();
    assert_ne!(server.socket.path, squatted);
    server.stop().await.unwrap();
    fs::remove_dir(&squatted).unwrap();
}

#[tokio::test]
async fn the_error_of_a_failed_start_contains_the_log() {
    let data_dir = DataDir::named("misconfigured");
    let mut options = data_dir.options();
    options
        .settings
        .push(("max_connections", "none".to_owned()));
    let error = PrivatePostgres::start(&options).await.unwrap_err();
    assert!(error.to_string().contains("max_connections"), "{error}");
}

#[tokio::test]
async fn a_directory_without_postgresql_is_refused() {
    let data_dir = DataDir::named("absent");
    let mut options = data_dir.options();
    options.bin_dir = Some("/nowhere".into());
    let error = PrivatePostgres::start(&options).await.unwrap_err();
    assert!(matches!(error, Error::NotInBinDir { .. }), "{error}");
    assert!(!data_dir.0.exists());
}

#[test]
fn a_database_name_is_encoded_for_urls() {
    assert_eq!(percent_encoded("heist_1-a"), "heist_1-a");
    assert_eq!(percent_encoded("a b/?é"), "a%20b%2F%3F%C3%A9");
}
