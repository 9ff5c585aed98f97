//! The life of a real server. Needs an installed PostgreSQL (for one in an unusual place: with its
//! folder on PATH) and runs as any user, root included.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, SystemTime};

use tokio::time::timeout;

use super::{Embedded, EmbeddedError, Options, percent_encoded};

/// A data directory that is gone after the test.
struct DataDir(PathBuf);

impl DataDir {
    fn named(name: &str) -> Self {
        let unique = format!("heist-embedded-{}-{name}", std::process::id());
        Self(Path::new("/tmp").join(unique))
    }

    fn options(&self) -> Options {
        Options {
            data_dir: self.0.clone(),
            bin_dir: None,
            settings: vec![("fsync", "off".to_owned())],
        }
    }

    /// Tests do not know which version is installed, so they look what its log is called.
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

fn accepts_connections(server: &Embedded) -> bool {
    UnixStream::connect(server.socket.path.join(".s.PGSQL.5432")).is_ok()
}

fn modified(data_dir: &DataDir) -> SystemTime {
    let version = data_dir.cluster().join("PG_VERSION");
    fs::metadata(version).unwrap().modified().unwrap()
}

#[tokio::test]
async fn a_stopped_server_is_gone_and_starts_again_on_the_same_cluster() {
    let data_dir = DataDir::named("again");
    let server = Embedded::start(&data_dir.options()).await.unwrap();
    assert!(accepts_connections(&server));
    let socket = server.socket.path.join(".s.PGSQL.5432");
    server.stop().await.unwrap();
    assert!(!socket.exists());
    let made_at = modified(&data_dir);

    let server = Embedded::start(&data_dir.options()).await.unwrap();
    assert!(accepts_connections(&server));
    assert_eq!(modified(&data_dir), made_at);
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_second_server_on_a_data_directory_is_refused_with_the_process_id_of_the_first() {
    let data_dir = DataDir::named("second");
    let first = Embedded::start(&data_dir.options()).await.unwrap();
    let refusal = Embedded::start(&data_dir.options()).await.unwrap_err();
    assert!(
        matches!(&refusal, EmbeddedError::InUse { pid, .. } if pid.parse::<u32>().is_ok()),
        "{refusal}"
    );
    assert!(accepts_connections(&first));
    first.stop().await.unwrap();
}

#[tokio::test]
async fn a_start_right_after_a_server_lost_its_owner_waits_for_its_end() {
    let data_dir = DataDir::named("orphan");
    drop(Embedded::start(&data_dir.options()).await.unwrap());
    let server = Embedded::start(&data_dir.options()).await.unwrap();
    assert!(accepts_connections(&server));
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_start_that_is_given_up_halfway_leaves_no_server_behind() {
    let data_dir = DataDir::named("given-up");
    let options = data_dir.options();
    Embedded::start(&options)
        .await
        .unwrap()
        .stop()
        .await
        .unwrap();
    for delay_ms in [15, 25, 35, 45] {
        let delay = Duration::from_millis(delay_ms);
        drop(timeout(delay, Embedded::start(&options)).await);
        let server = Embedded::start(&options).await.unwrap();
        server.stop().await.unwrap();
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn what_a_crashed_machine_left_does_not_keep_the_next_start_from_working() {
    let data_dir = DataDir::named("crashed");
    let server = Embedded::start(&data_dir.options()).await.unwrap();
    let pid_file = data_dir.cluster().join("postmaster.pid");
    let socket_lock = server.socket.path.join(".s.PGSQL.5432.lock");
    let (pid_text, lock_text) = (
        fs::read_to_string(&pid_file).unwrap(),
        fs::read_to_string(&socket_lock).unwrap(),
    );
    server.stop().await.unwrap();

    // Its process id now belongs to another process of the server's user.
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

    let server = Embedded::start(&data_dir.options()).await.unwrap();
    assert!(accepts_connections(&server));
    server.stop().await.unwrap();
    bystander.kill().await.unwrap();
}

#[tokio::test]
async fn a_first_start_that_was_interrupted_leaves_nothing_in_the_way() {
    let data_dir = DataDir::named("interrupted");
    Embedded::start(&data_dir.options())
        .await
        .unwrap()
        .stop()
        .await
        .unwrap();
    let cluster = data_dir.cluster();
    fs::rename(&cluster, cluster.with_extension("new")).unwrap();
    fs::remove_file(cluster.with_extension("new").join("PG_VERSION")).unwrap();

    let server = Embedded::start(&data_dir.options()).await.unwrap();
    assert!(accepts_connections(&server));
    assert!(!cluster.with_extension("new").exists());
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_long_data_directory_moves_the_socket_to_a_private_folder_that_goes_with_the_server() {
    let parent = DataDir::named("long");
    let data_dir = DataDir(parent.0.join("x".repeat(100)));
    let server = Embedded::start(&data_dir.options()).await.unwrap();
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
async fn a_folder_in_tmp_that_others_can_enter_is_not_used() {
    let parent = DataDir::named("squatted");
    let data_dir = DataDir(parent.0.join("x".repeat(100)));
    let server = Embedded::start(&data_dir.options()).await.unwrap();
    let squatted = server.socket.path.clone();
    server.stop().await.unwrap();

    fs::create_dir(&squatted).unwrap();
    fs::set_permissions(&squatted, PermissionsExt::from_mode(0o777)).unwrap();
    let server = Embedded::start(&data_dir.options()).await.unwrap();
    assert_ne!(server.socket.path, squatted);
    server.stop().await.unwrap();
    fs::remove_dir(&squatted).unwrap();
}

#[tokio::test]
async fn a_server_that_cannot_start_says_why() {
    let data_dir = DataDir::named("misconfigured");
    let mut options = data_dir.options();
    options
        .settings
        .push(("max_connections", "none".to_owned()));
    let error = Embedded::start(&options).await.unwrap_err();
    assert!(error.to_string().contains("max_connections"), "{error}");
}

#[tokio::test]
async fn a_folder_without_postgresql_is_named() {
    let data_dir = DataDir::named("absent");
    let mut options = data_dir.options();
    options.bin_dir = Some("/nowhere".into());
    let error = Embedded::start(&options).await.unwrap_err();
    assert!(
        matches!(error, EmbeddedError::NotInBinDir { .. }),
        "{error}"
    );
    assert!(!data_dir.0.exists());
}

#[test]
fn a_database_name_is_encoded_for_urls() {
    assert_eq!(percent_encoded("heist_1-a"), "heist_1-a");
    assert_eq!(percent_encoded("a b/?é"), "a%20b%2F%3F%C3%A9");
}
