//! An identity provider: a discovery document and a key set over HTTP, and tokens of its keys.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use heist::auth::{self, KeySource, Location, Provider};
use rcgen::{KeyPair, PKCS_ED25519};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use super::identity::{jwt, unsigned, with};

/// A key that signs tokens.
pub struct SigningKey {
    pair: KeyPair,
    kid: &'static str,
}

pub struct IdentityProvider {
    pub url: String,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    keys: Mutex<Vec<Value>>,
    /// Whether it answers.
    is_away: AtomicBool,
    /// Requests for the key set.
    fetches: AtomicUsize,
}

impl SigningKey {
    pub fn new(kid: &'static str) -> Self {
        let pair = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        Self { pair, kid }
    }

    /// The public key.
    pub fn jwk(&self) -> Value {
        let x = URL_SAFE_NO_PAD.encode(self.pair.public_key_raw());
        json!({"kty": "OKP", "crv": "Ed25519", "kid": self.kid, "use": "sig", "alg": "EdDSA", "x": x})
    }

    /// A service's token of this issuer.
    pub fn token(&self, issuer: &str) -> String {
        let header = json!({"alg": "EdDSA", "kid": self.kid});
        let claims = with(&json!({"iss": issuer, "scope": "heist.read"}));
        let message = unsigned(&header, &claims);
        let pkcs8 = self.pair.serialize_der();
        let pair = ring::signature::Ed25519KeyPair::from_pkcs8_maybe_unchecked(&pkcs8).unwrap();
        let signature = URL_SAFE_NO_PAD.encode(pair.sign(message.as_bytes()));
        format!("{message}.{signature}")
    }
}

impl IdentityProvider {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(State::default());
        tokio::spawn(serve(listener, url.clone(), Arc::clone(&state)));
        Self { url, state }
    }

    pub fn publishes(&self, keys: Vec<Value>) {
        *self.state.keys.lock().unwrap() = keys;
    }

    /// It accepts connections and does not answer.
    pub fn is_away(&self, is_away: bool) {
        self.state.is_away.store(is_away, Ordering::Relaxed);
    }

    pub fn fetches(&self) -> usize {
        self.state.fetches.load(Ordering::Relaxed)
    }

    /// Options of a server that finds the keys by discovery.
    pub fn options(&self) -> auth::Options {
        let location = Location::issuer(&self.url).expect("a loopback URL");
        let roots = None;
        let mut options = jwt(KeySource::Provider(Provider { location, roots }));
        options.jwt.as_mut().unwrap().issuer.clone_from(&self.url);
        options
    }
}

async fn serve(listener: TcpListener, url: String, state: Arc<State>) {
    loop {
        let (connection, _) = listener.accept().await.unwrap();
        let (url, state) = (url.clone(), Arc::clone(&state));
        tokio::spawn(async move { answer(connection, &url, &state).await });
    }
}

async fn answer(mut connection: TcpStream, url: &str, state: &State) -> std::io::Result<()> {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        request.push(connection.read_u8().await?);
    }
    if state.is_away.load(Ordering::Relaxed) {
        std::future::pending::<()>().await;
    }
    let request = String::from_utf8_lossy(&request).into_owned();
    let body = if request.starts_with("GET /.well-known/openid-configuration ") {
        json!({"issuer": url, "jwks_uri": format!("{url}/keys")})
    } else {
        state.fetches.fetch_add(1, Ordering::Relaxed);
        json!({"keys": *state.keys.lock().unwrap()})
    };
    let body = body.to_string();
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
    connection.write_all(head.as_bytes()).await?;
    connection.write_all(body.as_bytes()).await
}
