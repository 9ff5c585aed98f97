//! Who calls: bearer tokens, and the names in client certificates. What a caller may do is in
//! `rpc/methods.rs`.

mod caller;
mod certificate;
mod crypto;
mod keys;
mod token;

use std::path::PathBuf;

pub use self::{
    caller::{Caller, Scope, Scopes, Who},
    certificate::{ClientCertificate, ClientScopes},
    keys::KeyFile,
    token::{Grant, MAX_TOKEN_BYTES, SigningKey, TokenError},
};
use self::{keys::KeySet, token::TokenVerifier};
use crate::watched::{Watched, WatchedError};

/// How callers are told apart.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Where bearer tokens are asked for; `None`: whoever can connect may do everything.
    pub jwt: Option<JwtOptions>,
    /// Whether connections need a client certificate, which TLS has checked.
    pub certificate_needed: bool,
}

/// Which bearer tokens count.
#[derive(Clone, Debug)]
pub struct JwtOptions {
    pub keys: KeyFile,
    /// What the claim `iss` has to be.
    pub issuer: String,
    /// What the claim `aud` has to name.
    pub audience: String,
    /// The services that need no token, by a name in their client certificate.
    pub client_scopes: ClientScopes,
}

/// Tells who calls.
pub struct Authenticator {
    tokens: Option<(TokenVerifier, ClientScopes)>,
    certificate_needed: bool,
}

/// Why nobody knows who calls. The text is for the caller.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    #[error("A client certificate is needed.")]
    NoCertificate,
    #[error("A bearer token is needed.")]
    NoToken,
    #[error("The authorization has to be one bearer token.")]
    NoBearerToken,
    #[error("{}", .0.for_the_caller())]
    Token(#[from] TokenError),
}

impl Authenticator {
    /// Reads the keys, and follows their file.
    ///
    /// # Errors
    ///
    /// Keys that cannot be read or used.
    pub async fn open(options: Options) -> Result<Self, WatchedError> {
        let tokens = match options.jwt {
            None => None,
            Some(JwtOptions {
                keys,
                issuer,
                audience,
                client_scopes,
            }) => {
                let file: PathBuf = keys.path().to_owned();
                let parse = move |contents: &[Vec<u8>]| {
                    KeySet::parse(&keys, &contents[0], &issuer, &audience)
                        .map_err(|error| format!("{}: {error}", keys.path().display()))
                };
                let keys = Watched::open("the keys of bearer tokens", vec![file], parse).await?;
                Some((TokenVerifier::new(keys), client_scopes))
            }
        };
        Ok(Self {
            tokens,
            certificate_needed: options.certificate_needed,
        })
    }

    /// Who makes a call that has these values of the header `authorization`, on a connection with
    /// this certificate. A token goes before the certificate's name: a service that has both acts
    /// by its token, for example by that of a player whose call it passes on.
    ///
    /// # Errors
    ///
    /// Any [`AuthError`].
    pub fn authenticate<'a>(
        &self,
        mut authorization: impl Iterator<Item = &'a [u8]>,
        certificate: Option<&ClientCertificate>,
    ) -> Result<Caller, AuthError> {
        if self.certificate_needed && certificate.is_none() {
            return Err(AuthError::NoCertificate);
        }
        let Some((tokens, client_scopes)) = &self.tokens else {
            return Ok(Caller::ANYBODY);
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

/// The token in a header, whose scheme may be written in any case (RFC 9110).
fn bearer(value: &[u8]) -> Option<&str> {
    let (scheme, token) = std::str::from_utf8(value).ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}
