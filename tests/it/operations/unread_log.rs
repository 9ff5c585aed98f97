//! Standard error is a pipe that is not read.

use std::{process::Stdio, time::Duration};

use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::Command,
    time::timeout,
};

use crate::harness::{PATIENCE, World, connect, http, until};

/// Longer than a call that does not wait for the log.
const SOON: Duration = Duration::from_secs(5);

#[test]
fn calls_probes_and_sigterm_work_although_the_log_is_not_read() {
    World::run(async |world| {
        let mut server = Command::new(env!("CARGO_BIN_EXE_heist"))
            .arg("serve")
            .env_clear()
            .env("DATABASE_URL", &world.database_url)
            .env("HEIST_AUTH", "none")
            .env("HEIST_LISTEN", "127.0.0.1:0")
            .env("HEIST_METRICS_LISTEN", "127.0.0.1:0")
            .env("HEIST_READ_RATE_LIMIT_PER_MINUTE", "0")
            .env("RUST_LOG", "trace")
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the server starts");
        let mut log = BufReader::new(server.stderr.take().expect("a pipe")).lines();
        let started = loop {
            let line = log.next_line().await.unwrap().expect("it does not end");
            if line.contains(r#""message":"serving""#) {
                break line;
            }
        };
        let started: serde_json::Value = serde_json::from_str(&started).unwrap();
        let address = |name: &str| started[name].as_str().unwrap().parse().unwrap();
        let there = world.through(connect(address("address")).await);
        let ada = world.player("Ada").await;

        // From here on the test does not read the log.
        let dropped = until("lines are dropped", async || {
            for _ in 0..200 {
                let call = timeout(SOON, there.get_balance(ada.id)).await;
                call.expect("a call does not wait for the log").unwrap();
            }
            let (_, metrics) = http::get(address("metrics_address"), "/metrics").await;
            let series = r#"heist_log_dropped_total{kind="other"} "#;
            let line = metrics.lines().find_map(|line| line.strip_prefix(series))?;
            (line != "0").then(|| line.to_owned())
        })
        .await;
        assert!(dropped.parse::<u64>().unwrap() > 0);
        for path in ["/livez", "/readyz"] {
            let (status, _) = http::get(address("metrics_address"), path).await;
            assert!(status.ends_with("200 OK"), "{path}: {status}");
        }

        let pid = server.id().expect("it runs").to_string();
        let sent = Command::new("kill").arg(pid).status().await.unwrap();
        assert!(sent.success());
        let status = timeout(PATIENCE, server.wait()).await.expect("it ends");
        assert_eq!(status.unwrap().code(), Some(0));
        drop(log);
    });
}
