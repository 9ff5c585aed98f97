//! Authentication: bearer tokens, and the names in client certificates. `rpc/methods.rs` says what a
//! caller may do.

use std::time::Duration;

mod caller;
mod certificate;
mod claims;
mod crypto;
mod error;
mod http_get;
mod keys;
mod live_keys;
mod provider;
mod token;
mod validity;

pub use self::{
    caller::{Caller, Scope, Scopes, Who},
    certificate::{ClientCertificate, ClientScopes},
    claims::{ClaimName, ClaimNames, ServiceRule},
    error::{AuthError, MAX_TOKEN_BYTES, TokenError},
    keys::KeyFile,
    provider::{Location, Provider},
    token::{Grant, SigningKey},
    validity::end as certificate_end,
};
use self::{keys::KeySet, live_keys::Keys, provider::ProviderKeys, token::TokenVerifier};
use crate::{
    telemetry::metrics,
    watched::{Watched, WatchedError},
};

/// How callers are authenticated.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The bearer tokens that are required; `None`: no authentication, any client may call any RPC.
    pub jwt: Option<JwtOptions>,
    /// Whether a call needs a client certificate that TLS has verified.
    pub certificate_needed: bool,
}

/// Which bearer tokens are valid.
#[derive(Clone, Debug)]
pub struct JwtOptions {
    pub keys: KeySource,
    /// The required claim `iss`.
    pub issuer: String,
    /// The required member of the claim `aud`.
    pub audience: String,
    /// The claims that identify a caller.
    pub claims: ClaimNames,
    /// The services that a client certificate authenticates without a token.
    pub client_scopes: ClientScopes,
}

/// Where the keys that verify bearer tokens are.
#[derive(Clone, Debug)]
pub enum KeySource {
    File(KeyFile),
    Provider(Provider),
}

impl From<KeyFile> for KeySource {
    fn from(file: KeyFile) -> Self {
        Self::File(file)
    }
}

/// Authenticates callers.
pub struct Authenticator {
    tokens: Option<(TokenVerifier, ClientScopes)>,
    certificate_needed: bool,
}

impl Authenticator {
    /// Reads the keys and watches their file.
    ///
    /// # Errors
    ///
    /// The keys cannot be read or used.
    pub async fn open(options: Options) -> Result<Self, WatchedError> {
        let tokens = match options.jwt {
            None => {
                metrics::watch_keys(|| Duration::ZERO);
                None
            }
            Some(JwtOptions {
                keys,
                issuer,
                audience,
                claims,
                client_scopes,
            }) => {
                let keys = match keys {
                    KeySource::File(keys) => {
                        let file = keys.file().clone();
                        let parse = move |contents: &[Vec<u8>]| {
                            KeySet::parse(&keys, &contents[0], &issuer, &audience)
                                .map_err(|error| format!("{}: {error}", keys.file()))
                        };
                        metrics::watch_keys(|| Duration::ZERO);
                        let what = "the keys of bearer tokens";
                        Keys::File(Watched::open(what, vec![file], parse).await?)
                    }
                    KeySource::Provider(provider) => {
                        Keys::Provider(ProviderKeys::start(provider, issuer, audience).await?)
                    }
                };
                Some((TokenVerifier::new(keys, claims), client_scopes))
            }
        };
        Ok(Self {
            tokens,
            certificate_needed: options.certificate_needed,
        })
    }

    /// Whether the token in this header names a key that is not known, and the identity provider may
    /// have it.
    #[must_use]
    pub fn lacks_key(&self, authorization: &[u8]) -> bool {
        (self.tokens.as_ref()).is_some_and(|(tokens, _)| {
            bearer(authorization).is_some_and(|token| tokens.lacks_key(token))
        })
    }

    /// Fetches the identity provider's keys again, at a bounded rate, and waits at most 2 s.
    pub async fn refetch_keys(&self) {
        if let Some((tokens, _)) = &self.tokens {
            tokens.refetch_keys().await;
        }
    }

    /// The caller, from the values of the header `authorization` and the connection's certificate. A
    /// token takes precedence over a certificate, so that a service can call with a player's token.
    ///
    /// # Errors
    ///
    /// The caller is not authenticated.
    pub fn authenticate<'a>(
        &self,
        mut authorization: impl Iterator<Item = &'a [u8]>,
        certificate: Option<&ClientCertificate>,
    ) -> Result<Caller, AuthError> {
        if self.certificate_needed && certificate.is_none() {
            return Err(AuthError::NoCertificate);
        }
        let Some((tokens, client_scopes)) = &self.tokens else {
            return Ok(Caller::UNAUTHENTICATED);
        };
        match (authorization.next(), authorization.next()) {
            (None, _) => certificate
                .and_then(|certificate| client_scopes.service(certificate))
                .ok_or(AuthError::NoToken),
            (Some(value), None) => {
                let token = bearer(value).ok_or(AuthError::NoBearerToken)?;
                Ok(tokens.verify(token)?)
            }
            (Some(_), Some(_)) => Err(AuthError::NoBearerToken),
        }
    }
}

/// The token in a header. The scheme is case-insensitive (RFC 9110).
fn bearer(value: &[u8]) -> Option<&str> {
    let (scheme, token) = std::str::from_utf8(value).ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}
