//! A real load balancer in front of the replicas, with the health check that a container would run.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Stdio,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
    process::{Child, Command},
};

use crate::harness::until;

pub struct Balancer {
    pub address: SocketAddr,
    folder: PathBuf,
    _process: Child,
}

/// An address without a listener.
pub fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

impl Balancer {
    /// In front of servers that are called by their number.
    pub async fn start(name: &str, servers: &[SocketAddr]) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        let check = folder.join("healthcheck");
        let heist = env!("CARGO_BIN_EXE_heist");
        fs::write(
            &check,
            format!("#!/bin/sh\nexec {heist} healthcheck --listen \"$3:$4\"\n"),
        )
        .unwrap();
        fs::set_permissions(&check, fs::Permissions::from_mode(0o755)).unwrap();
        let address = free_address();
        let servers: Vec<String> = (servers.iter().enumerate())
            .map(|(number, server)| format!("  server {number} {server}"))
            .collect();
        let config = format!(
            "global
  external-check
  insecure-fork-wanted
  stats socket {folder}/admin level admin
defaults
  mode http
  timeout connect 1s
  timeout client 1h
  timeout server 1h
frontend callers
  bind {address} proto h2
  default_backend replicas
backend replicas
  balance roundrobin
  option external-check
  external-check path /usr/bin:/bin
  external-check command {check}
  default-server proto h2 check inter 300ms fall 1 rise 1 init-addr none
{servers}
",
            folder = folder.display(),
            check = check.display(),
            servers = servers.join("\n"),
        );
        fs::write(folder.join("haproxy.cfg"), config).unwrap();
        let process = Command::new("haproxy")
            .arg("-db")
            .arg("-f")
            .arg(folder.join("haproxy.cfg"))
            .env("PATH", "/usr/local/sbin:/usr/sbin:/usr/bin:/bin")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("haproxy is installed");
        let balancer = Self {
            address,
            folder,
            _process: process,
        };
        until("haproxy listens", async || {
            UnixStream::connect(balancer.folder.join("admin"))
                .await
                .ok()
        })
        .await;
        balancer
    }

    /// Waits until calls go to these servers.
    pub async fn sees_ready(&self, servers: &[usize]) {
        until("the load balancer sees them", async || {
            let status = self.command("show stat").await;
            let up = |number: &usize| {
                status.lines().any(|line| {
                    line.starts_with(&format!("replicas,{number},")) && line.contains(",UP,")
                })
            };
            servers.iter().all(up).then_some(())
        })
        .await;
    }

    /// New calls go to these servers and to no others.
    pub async fn switch(&self, to: &[usize], from: &[usize]) {
        for number in to {
            self.command(&format!("set server replicas/{number} state ready"))
                .await;
        }
        self.sees_ready(to).await;
        for number in from {
            self.command(&format!("set server replicas/{number} state drain"))
                .await;
        }
    }

    async fn command(&self, command: &str) -> String {
        let mut socket = UnixStream::connect(self.folder.join("admin"))
            .await
            .unwrap();
        socket
            .write_all(format!("{command}\n").as_bytes())
            .await
            .unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.unwrap();
        answer
    }
}
