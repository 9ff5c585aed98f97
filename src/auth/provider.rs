//! The keys of an identity provider, from the URL of its key set or found by `OpenID` discovery.
//!
//! One task fetches the key set: when its cache lifetime ends, and after a token with an unknown key.
//! The last valid set stays in use while the provider does not answer.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rand::RngExt as _;
use serde::Deserialize;
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep, timeout},
};
use url::Url;

use super::{
    http_get::{self, Document},
    keys::KeySet,
};
use crate::{
    telemetry::metrics,
    watched::{Watched, WatchedError, WatchedFile},
};

/// How long one fetch may take, including discovery.
const FETCH_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the start waits for the first fetch.
const START_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a call with an unknown key waits for a fetch.
const REFETCH_TIMEOUT: Duration = Duration::from_secs(2);
/// Fetches after unknown keys: this many at once, and then one per interval. It bounds the requests
/// that callers without a valid token can cause.
const MAX_REFETCHES: u32 = 4;
const REFETCH_INTERVAL: Duration = Duration::from_secs(10);

/// The interval between two fetches: the set's cache lifetime within bounds, or the default.
const DEFAULT_LIFETIME: Duration = Duration::from_mins(5);
const MIN_LIFETIME: Duration = Duration::from_mins(1);
const MAX_LIFETIME: Duration = Duration::from_hours(1);
/// The intervals after failed fetches grow from the first to the second.
const MIN_RETRY_INTERVAL: Duration = Duration::from_secs(1);
const MAX_RETRY_INTERVAL: Duration = Duration::from_mins(1);

/// The identity provider whose keys verify bearer tokens.
#[derive(Clone, Debug)]
pub struct Provider {
    pub location: Location,
    /// Root certificates besides the public ones, in PEM.
    pub roots: Option<WatchedFile>,
}

/// Where the key set is.
#[derive(Clone, Debug)]
pub enum Location {
    KeySet(Url),
    /// In the discovery document of this issuer.
    Issuer(Url),
}

/// The newest valid key set of a provider.
pub(super) struct ProviderKeys {
    keys: watch::Receiver<Arc<KeySet>>,
    fetches: watch::Receiver<Fetches>,
    wanted: Arc<Notify>,
    budget: Mutex<Budget>,
}

/// How many fetches unknown keys may still cause.
struct Budget {
    left: u32,
    /// When `left` was last increased.
    since: Instant,
    /// The number of fetches that had begun when the last one was requested.
    requested_after: Option<u64>,
}

/// The fetches so far.
#[derive(Clone, Copy)]
struct Fetches {
    begun: u64,
    ended: u64,
}

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
}

impl Location {
    /// Parses the URL of a key set.
    ///
    /// # Errors
    ///
    /// The URL is not secure. The message says what is expected.
    pub fn key_set(value: &str) -> Result<Self, String> {
        let url: Url = value.parse().map_err(|_| http_get::expected())?;
        http_get::check(&url)?;
        Ok(Self::KeySet(url))
    }

    /// The discovery document of an issuer, if the issuer is a URL.
    #[must_use]
    pub fn issuer(value: &str) -> Option<Self> {
        let url: Url = value.parse().ok()?;
        http_get::check(&url).ok()?;
        Some(Self::Issuer(url))
    }
}

impl ProviderKeys {
    /// Starts the task that fetches the keys, and waits at most 3 s for the first fetch.
    ///
    /// # Errors
    ///
    /// The root certificates cannot be used.
    pub(super) async fn start(
        provider: Provider,
        issuer: String,
        audience: String,
    ) -> Result<Self, WatchedError> {
        let client = match provider.roots {
            None => Watched::fixed(http_get::Client::new(&[]).map_err(WatchedError::Unusable)?),
            Some(roots) => {
                let name = roots.to_string();
                let parse = move |contents: &[Vec<u8>]| {
                    http_get::Client::new(&contents[0]).map_err(|error| format!("{name}: {error}"))
                };
                Watched::open("the identity provider's roots", vec![roots], parse).await?
            }
        };
        let (publish, mut keys) = watch::channel(Arc::new(KeySet::empty()));
        let none = Fetches { begun: 0, ended: 0 };
        let (publish_fetches, fetches) = watch::channel(none);
        let wanted = Arc::new(Notify::new());
        let fetcher = Fetcher {
            location: provider.location,
            issuer,
            audience,
            client,
            last_content: Vec::new(),
            last_error: None,
            failures: 0,
            publish,
            fetches: publish_fetches,
            wanted: Arc::clone(&wanted),
            fetched_at: Arc::new(Mutex::new(Instant::now())),
        };
        let fetched_at = Arc::clone(&fetcher.fetched_at);
        metrics::watch_keys(move || {
            (fetched_at.lock().unwrap_or_else(PoisonError::into_inner)).elapsed()
        });
        let source = fetcher.source();
        tokio::spawn(fetcher.run());
        if timeout(START_TIMEOUT, keys.changed()).await.is_err() {
            tracing::warn!(
                %source,
                "the identity provider's keys have not arrived; tokens are refused until they do"
            );
        }
        Ok(Self {
            keys,
            fetches,
            wanted,
            budget: Mutex::new(Budget::full(Instant::now())),
        })
    }

    pub(super) fn newest(&self) -> Arc<KeySet> {
        Arc::clone(&self.keys.borrow())
    }

    /// Fetches the keys again and waits for the answer, at most 2 s. Returns at once if too many
    /// fetches have just been made.
    pub(super) async fn refetch(&self) {
        let mut fetches = self.fetches.clone();
        let known = *fetches.borrow();
        let is_running = known.begun > known.ended;
        if !is_running {
            let mut budget = self.budget.lock().unwrap_or_else(PoisonError::into_inner);
            // Calls that come before the fetch begins wait for the same one.
            if budget.requested_after != Some(known.begun) {
                if !budget.take(Instant::now()) {
                    return;
                }
                budget.requested_after = Some(known.begun);
                self.wanted.notify_one();
            }
        }
        let ended = fetches.wait_for(|fetches| fetches.ended > known.ended);
        let _ = timeout(REFETCH_TIMEOUT, ended).await;
    }
}

impl Budget {
    fn full(now: Instant) -> Self {
        let (left, since) = (MAX_REFETCHES, now);
        Self {
            left,
            since,
            requested_after: None,
        }
    }

    /// Takes one fetch, if one is left.
    fn take(&mut self, now: Instant) -> bool {
        while self.left < MAX_REFETCHES && now.duration_since(self.since) >= REFETCH_INTERVAL {
            self.left += 1;
            self.since += REFETCH_INTERVAL;
        }
        if self.left == MAX_REFETCHES {
            self.since = now;
        }
        let taken = self.left > 0;
        self.left = self.left.saturating_sub(1);
        taken
    }
}

struct Fetcher {
    location: Location,
    issuer: String,
    audience: String,
    client: Watched<http_get::Client>,
    last_content: Vec<u8>,
    last_error: Option<String>,
    failures: u32,
    publish: watch::Sender<Arc<KeySet>>,
    fetches: watch::Sender<Fetches>,
    wanted: Arc<Notify>,
    /// When the last fetch succeeded.
    fetched_at: Arc<Mutex<Instant>>,
}

impl Fetcher {
    async fn run(mut self) {
        loop {
            self.fetches.send_modify(|fetches| fetches.begun += 1);
            let fetched = match timeout(FETCH_TIMEOUT, self.fetch()).await {
                Ok(fetched) => fetched,
                Err(_elapsed) => Err(format!("no answer within {} s", FETCH_TIMEOUT.as_secs())),
            };
            let pause = match fetched.and_then(|document| self.take(document)) {
                Ok(lifetime) => {
                    self.failures = 0;
                    self.last_error = None;
                    *self
                        .fetched_at
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner) = Instant::now();
                    lifetime
                }
                Err(error) => self.failed(error),
            };
            self.fetches.send_modify(|fetches| fetches.ended += 1);
            tokio::select! {
                () = sleep(pause) => {}
                () = self.wanted.notified() => {}
                () = self.publish.closed() => return,
            }
        }
    }

    async fn fetch(&self) -> Result<Document, String> {
        let client = self.client.newest();
        let key_set = match &self.location {
            Location::KeySet(url) => url.clone(),
            Location::Issuer(issuer) => {
                let discovery = client.get(&discovery_url(issuer)).await?;
                let discovery: Discovery = serde_json::from_slice(&discovery.body)
                    .map_err(|error| format!("not a discovery document: {error}"))?;
                if discovery.issuer != self.issuer {
                    return Err("the discovery document names another issuer".to_owned());
                }
                let url: Url = discovery
                    .jwks_uri
                    .parse()
                    .map_err(|_| http_get::expected())?;
                http_get::check(&url)?;
                url
            }
        };
        client.get(&key_set).await
    }

    /// Publishes the keys, and returns the time until the next fetch.
    fn take(&mut self, document: Document) -> Result<Duration, String> {
        if document.body != self.last_content {
            let keys = KeySet::parse_jwks(&document.body, &self.issuer, &self.audience)?;
            self.publish.send_replace(Arc::new(keys));
            self.last_content = document.body;
            tracing::info!(source = %self.source(), "fetched new keys");
        }
        let lifetime = document.lifetime.unwrap_or(DEFAULT_LIFETIME);
        Ok(lifetime.clamp(MIN_LIFETIME, MAX_LIFETIME))
    }

    /// Logs a new error, and returns the time until the next attempt.
    fn failed(&mut self, error: String) -> Duration {
        let longest = MIN_RETRY_INTERVAL * 2_u32.saturating_pow(self.failures.min(16));
        self.failures += 1;
        if self.last_error.as_ref() != Some(&error) {
            tracing::error!(
                source = %self.source(),
                error,
                "cannot fetch the identity provider's keys; the last keys stay in use"
            );
            self.last_error = Some(error);
        }
        longest
            .min(MAX_RETRY_INTERVAL)
            .mul_f64(rand::rng().random_range(0.5..1.0))
    }

    fn source(&self) -> String {
        let url = match &self.location {
            Location::KeySet(url) => url.clone(),
            Location::Issuer(issuer) => discovery_url(issuer),
        };
        http_get::without_password(&url)
    }
}

/// The issuer, followed by the path of its discovery document (`OpenID` Connect Discovery 1.0, 4).
fn discovery_url(issuer: &Url) -> Url {
    let mut url = issuer.clone();
    let path = url.path().trim_end_matches('/').to_owned();
    url.set_path(&format!("{path}/.well-known/openid-configuration"));
    url
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_discovery_document_is_below_the_issuer() {
        for (issuer, expected) in [
            (
                "https://login.example.com",
                "https://login.example.com/.well-known/openid-configuration",
            ),
            (
                "https://login.example.com/realms/game/",
                "https://login.example.com/realms/game/.well-known/openid-configuration",
            ),
        ] {
            assert_eq!(discovery_url(&issuer.parse().unwrap()).as_str(), expected);
        }
    }

    #[test]
    fn unknown_keys_cause_few_fetches() {
        let begun = Instant::now();
        let mut budget = Budget::full(begun);
        let mut fetches = |second| {
            let now = begun + Duration::from_secs(second);
            (0..100).filter(|_| budget.take(now)).count()
        };
        assert_eq!(
            [0, 9, 10, 15, 30, 1000].map(&mut fetches),
            [4, 0, 1, 0, 2, 4]
        );
    }

    #[test]
    fn only_secure_urls_are_fetched() {
        for url in [
            "https://login.example.com/keys",
            "http://127.0.0.1:8080/keys",
            "http://localhost/keys",
            "http://[::1]/keys",
        ] {
            Location::key_set(url).expect(url);
        }
        for url in [
            "",
            "keys",
            "ftp://example.com/",
            "http://login.example.com/keys",
        ] {
            Location::key_set(url).expect_err(url);
        }
        assert!(Location::issuer("heist-dev").is_none());
    }
}
