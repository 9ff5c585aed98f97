//! A real Prometheus that scrapes the real server under load: every query of the rules and of the
//! dashboard has to find data. `scripts/check-monitoring` runs it, having installed Prometheus.
//! With `DASHBOARD_MINUTES` the load lasts that long, and `scripts/draw-dashboard` then draws the
//! picture of the dashboard.

use std::{
    fmt::Write as _,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use heist::pb::{AdjustBalanceRequest, CheckEligibilityRequest};
use serde_json::Value;
use tokio::{
    process::{Child, Command},
    time::sleep,
};

use crate::harness::{World, all_at_once, connect, http, mail, new_request_id, until};

/// Long enough for `rate()` to have several scrapes a second apart.
const LOAD: Duration = Duration::from_secs(15);
/// Between two rounds, in every other minute.
const PAUSE: Duration = Duration::from_millis(100);
const MINUTES: &str = "DASHBOARD_MINUTES";
const PICTURE: &str = "docs/images/dashboard.svg";
/// What stands for the interval that Grafana would choose.
const RATE_INTERVAL: &str = "10s";

/// A Prometheus of our own, which ends with the test.
struct Prometheus {
    process: Child,
    address: SocketAddr,
    folder: PathBuf,
}

impl Prometheus {
    /// Scrapes `target` every second, with the rules of the project.
    async fn start(target: SocketAddr) -> Self {
        let monitoring = Path::new(env!("CARGO_MANIFEST_DIR")).join("monitoring");
        let folder = std::env::temp_dir().join(format!("heist-prometheus-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let config = (fs::read_to_string(monitoring.join("prometheus.yml")).unwrap())
            .replace("15s", "1s")
            .replace("127.0.0.1:9464", &target.to_string())
            .replace("rules.yml", monitoring.join("rules.yml").to_str().unwrap());
        let config_file = folder.join("prometheus.yml");
        fs::write(&config_file, config).unwrap();
        // Prometheus does not say which port it got, so one is chosen for it.
        let address = {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            listener.local_addr().unwrap()
        };
        let process = Command::new("prometheus")
            .arg(format!("--config.file={}", config_file.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                folder.join("data").display()
            ))
            .arg(format!("--web.listen-address={address}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("prometheus is installed");
        let prometheus = Self {
            process,
            address,
            folder,
        };
        until("Prometheus answers", async || {
            tokio::net::TcpStream::connect(address).await.ok()
        })
        .await;
        prometheus
    }

    async fn get(&self, path: &str) -> Value {
        let (status, body) = http::get(self.address, path).await;
        let answer: Value = serde_json::from_str(&body).unwrap_or_default();
        assert_eq!(answer["status"], "success", "{path}: {status} {body}");
        answer["data"].clone()
    }

    /// How many series with a number a query finds.
    async fn finds(&self, query: &str) -> usize {
        let data = self
            .get(&format!("/api/v1/query?query={}", encoded(query)))
            .await;
        let series = data["result"].as_array().expect("a vector").iter();
        series.filter(|series| series["value"][1] != "NaN").count()
    }

    async fn draw(&self, minutes: &str) {
        let status = Command::new("scripts/draw-dashboard")
            .args([&format!("http://{}", self.address), minutes, PICTURE])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .status()
            .await
            .expect("python3 is installed");
        assert!(status.success());
    }

    async fn stop(mut self) {
        self.process.kill().await.unwrap();
        fs::remove_dir_all(&self.folder).unwrap();
    }
}

#[test]
#[ignore = "needs Prometheus: scripts/check-monitoring"]
fn every_query_of_the_rules_and_the_dashboard_finds_data() {
    World::run(async |world| {
        let provider = mail::Provider::start().await;
        let server = mail::mailing(world, &provider.url)
            .env("HEIST_METRICS_LISTEN", "127.0.0.1:0")
            .env("RUST_LOG", "error,heist::cli=info")
            .serving()
            .await;
        let prometheus = Prometheus::start(server.metrics_address.unwrap()).await;
        let there = world.through(connect(server.address).await);
        let minutes = std::env::var(MINUTES).ok();
        let length = minutes.as_ref().map_or(LOAD, |minutes| {
            Duration::from_mins(minutes.parse().expect("whole minutes"))
        });
        play(world, &there, length).await;

        let rules = prometheus.get("/api/v1/rules").await;
        let groups = rules["groups"].as_array().unwrap().iter();
        let rules: Vec<&Value> = groups
            .flat_map(|group| group["rules"].as_array().unwrap())
            .collect();
        assert!(rules.len() > 20);
        let mut silent = Vec::new();
        for rule in rules {
            assert_eq!(rule["health"], "ok", "{rule}");
            let query = rule["query"].as_str().unwrap();
            if rule["type"] == "recording" {
                let name = rule["name"].as_str().unwrap();
                if prometheus.finds(name).await == 0 {
                    silent.push(name.to_owned());
                }
            }
            // An alert finds nothing while all is well; what it looks at is there.
            for selector in selectors(query) {
                if prometheus.finds(&selector).await == 0 {
                    silent.push(selector);
                }
            }
        }
        for query in dashboard_queries() {
            if prometheus.finds(&query).await == 0 {
                silent.push(query);
            }
        }
        assert!(
            silent.is_empty(),
            "these find nothing:\n{}",
            silent.join("\n")
        );
        if let Some(minutes) = minutes {
            prometheus.draw(&minutes).await;
        }
        prometheus.stop().await;
    });
}

#[test]
fn the_picture_of_the_dashboard_has_every_panel() {
    let dashboard = dashboard();
    let (rows, panels): (Vec<_>, Vec<_>) =
        (dashboard["panels"].as_array().unwrap().iter()).partition(|panel| panel["type"] == "row");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(PICTURE);
    let picture = fs::read_to_string(path).unwrap();
    // The title is the first text of a panel.
    let drawn: Vec<&str> = (picture.split(r#"<g class="panel""#).skip(1))
        .map(first_text)
        .collect();
    let titles: Vec<&str> = (panels.iter())
        .map(|panel| panel["title"].as_str().unwrap())
        .collect();
    assert_eq!(drawn, titles);
    for row in rows {
        let heading = format!(">{}</text>", row["title"].as_str().unwrap());
        assert!(picture.contains(&heading), "{heading}");
    }
}

/// The content of the first `<text>`.
fn first_text(svg: &str) -> &str {
    let (_, text) = svg.split_once("<text").unwrap();
    let (_, content) = text.split_once('>').unwrap();
    content.split_once('<').unwrap().0
}

/// A little of everything that a dashboard shows.
async fn play(world: &World, there: &World, length: Duration) {
    let robbers = world.crowd("Robber", 20).tokens(10_000).await;
    let victims = world.crowd("Victim", 200).points(1000).await;
    let referrer = world.player("Referrer").email("referrer@example.com").await;
    let mut watcher = there.watch_points().await;
    watcher.resync().await;
    let begun = Instant::now();
    let mut round = 0;
    while begun.elapsed() < length {
        let new = world.crowd(&format!("New {round}"), 2).await;
        let heists = robbers.iter().enumerate().map(|(index, robber)| {
            robber
                .seen_by(there)
                .robs(&victims[(index + round) % victims.len()])
        });
        // Some victims are protected by now, which is an answer, too.
        let _ = all_at_once(heists.collect::<Vec<_>>()).await;
        for new in &new {
            referrer
                .seen_by(there)
                .earns_a_token_for(new)
                .await
                .unwrap();
        }
        let adjustment = AdjustBalanceRequest {
            user_id: robbers[1].id,
            delta: if round % 2 == 0 { 2 } else { -1 },
            reason: "a test".to_owned(),
            request_id: new_request_id(),
        };
        there.adjust_balance(adjustment).await.unwrap();
        there.get_balance(robbers[2].id).await.unwrap();
        let malformed = CheckEligibilityRequest::default();
        there.check_eligibility(malformed).await.unwrap_err();
        round += 1;
        // A minute of full load, then a minute with pauses.
        if begun.elapsed().as_secs() / 60 % 2 == 1 {
            sleep(PAUSE).await;
        }
    }
}

/// What a query of the rules looks at: the names of metrics, with their braces.
fn selectors(query: &str) -> Vec<String> {
    const BEGINNINGS: [&str; 4] = ["heist", "rpc_server_", "db_client_", "up{"];
    let is_name = |character: char| character.is_alphanumeric() || "_:".contains(character);
    // The labels of a grouping are no metrics.
    let mut query = query.to_owned();
    while let Some(start) = query.find("by (") {
        let length = query[start..].find(')').expect("parentheses are closed");
        query.replace_range(start..=start + length, "");
    }
    let mut found = Vec::new();
    let mut rest = query.as_str();
    while let Some(start) = rest.find(char::is_alphabetic) {
        rest = &rest[start..];
        let name = rest
            .find(|character| !is_name(character))
            .unwrap_or(rest.len());
        let braces = (rest[name..].starts_with('{'))
            .then(|| rest[name..].find('}').expect("braces are closed") + 1);
        let (selector, after) = rest.split_at(name + braces.unwrap_or(0));
        if BEGINNINGS
            .iter()
            .any(|beginning| selector.starts_with(beginning))
        {
            found.push(selector.to_owned());
        }
        rest = after;
    }
    // A healthy server has none of these series.
    found.retain(|selector| !selector.contains("DEADLINE_EXCEEDED"));
    found
}

fn dashboard() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("monitoring/dashboard.json");
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

fn dashboard_queries() -> Vec<String> {
    let dashboard = dashboard();
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let targets = panels
        .filter_map(|panel| panel["targets"].as_array())
        .flatten();
    targets
        .map(|target| {
            target["expr"]
                .as_str()
                .unwrap()
                .replace("$__rate_interval", RATE_INTERVAL)
        })
        .collect()
}

fn encoded(query: &str) -> String {
    query.bytes().fold(String::new(), |mut encoded, byte| {
        write!(encoded, "%{byte:02X}").expect("a string has room");
        encoded
    })
}
