//! Callers with bearer tokens or client certificates, and servers that require them.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use heist::{
    auth::{self, ClaimNames, ClientScopes, JwtOptions, KeyFile, KeySource},
    server::{Options, Server},
};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use sha2::Sha256;
use tonic::{Request, Status, transport::Channel};
use uuid::Uuid;

use super::{
    World, connect,
    wire::{self, Method},
};

pub const ISSUER: &str = "https://login.example.com";
pub const AUDIENCE: &str = "heist";

/// A folder that is gone afterwards.
pub struct Folder(PathBuf);

/// Makes tokens, with a secret that servers know.
pub struct Issuer {
    folder: Folder,
    secret: String,
}

impl Folder {
    pub fn new() -> Self {
        let path = std::env::temp_dir().join(format!("heist-it-{}", Uuid::now_v7()));
        fs::create_dir(&path).expect("a folder for files can be made");
        Self(path)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Writes a file and says where it is.
    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, content).expect("a file can be written");
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Issuer {
    pub fn new() -> Self {
        let issuer = Self {
            folder: Folder::new(),
            secret: new_secret(),
        };
        issuer.folder.file("secret", &issuer.secret);
        issuer
    }

    pub fn secret_file(&self) -> PathBuf {
        self.folder.path("secret")
    }

    /// What a server needs to know these tokens.
    pub fn options(&self) -> auth::Options {
        jwt(KeyFile::Secret(self.secret_file().into()))
    }

    /// A service that may do what the scopes say.
    pub fn service(&self, scope: &str) -> String {
        self.token(&with(&json!({"sub": "support", "scope": scope})))
    }

    pub fn player(&self, id: i32) -> String {
        self.token(&with(&json!({"sub": id.to_string()})))
    }

    /// A token with nothing but these claims.
    pub fn token(&self, claims: &Value) -> String {
        hs256(
            &json!({"alg": "HS256", "typ": "JWT"}),
            claims,
            self.secret.as_bytes(),
        )
    }
}

/// Options of a server with keys in a file.
pub fn jwt(keys: impl Into<KeySource>) -> auth::Options {
    auth::Options {
        jwt: Some(JwtOptions {
            keys: keys.into(),
            issuer: ISSUER.to_owned(),
            audience: AUDIENCE.to_owned(),
            claims: ClaimNames::default(),
            client_scopes: ClientScopes::default(),
        }),
        certificate_needed: false,
    }
}

pub fn new_secret() -> String {
    format!("{}{}", Uuid::now_v7(), Uuid::now_v7())
}

/// The claims of a good token, changed and completed by these; null takes one away.
pub fn with(changes: &Value) -> Value {
    let mut claims = json!({
        "sub": "support",
        "iss": ISSUER,
        "aud": AUDIENCE,
        "exp": now() + 600,
    });
    let object = claims.as_object_mut().expect("an object");
    for (name, value) in changes.as_object().expect("an object") {
        if value.is_null() {
            object.remove(name);
        } else {
            object.insert(name.clone(), value.clone());
        }
    }
    claims
}

/// Seconds since 1970.
pub fn now() -> u64 {
    (SystemTime::now().duration_since(UNIX_EPOCH))
        .expect("it is later than 1970")
        .as_secs()
}

/// Signs any header and claims, valid or not.
pub fn hs256(header: &Value, claims: &Value, secret: &[u8]) -> String {
    let message = unsigned(header, claims);
    let mut mac: Hmac<Sha256> = Hmac::new_from_slice(secret).expect("keys of every length");
    mac.update(message.as_bytes());
    let signature = URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes());
    format!("{message}.{signature}")
}

pub fn unsigned(header: &Value, claims: &Value) -> String {
    let encode = |part: &Value| URL_SAFE_NO_PAD.encode(part.to_string());
    format!("{}.{}", encode(header), encode(claims))
}

/// A request that brings a token along.
pub fn bearer<T>(message: T, token: &str) -> Request<T> {
    let mut request = Request::new(message);
    let value = format!("Bearer {token}").parse().expect("a header");
    request.metadata_mut().insert("authorization", value);
    request
}

/// Calls with a token, or without.
pub async fn call_as(
    channel: &Channel,
    token: Option<&str>,
    method: &Method,
    message: Vec<u8>,
) -> Result<Vec<u8>, Status> {
    let request = match token {
        Some(token) => bearer(message, token),
        None => Request::new(message),
    };
    wire::call_with(channel, method, request).await
}

impl World {
    /// Another server on the same database, with authentication.
    pub async fn guarded(&self, auth: auth::Options) -> (Server, Channel) {
        let options = Options {
            auth,
            ..self.options()
        };
        let server = Server::start(options).await.expect("the server starts");
        let channel = connect(server.address()).await;
        (server, channel)
    }
}

/// Replaces a file as Kubernetes does: by a symlink that is renamed over the old one.
pub fn swap_symlink(link: &Path, target: &Path) {
    let next = link.with_extension("next");
    std::os::unix::fs::symlink(target, &next).expect("a symlink can be made");
    fs::rename(&next, link).expect("a symlink can be renamed");
}
