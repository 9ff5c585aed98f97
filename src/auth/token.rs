//! Verifies bearer tokens, and signs tokens for development.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use jsonwebtoken::{Algorithm, EncodingKey, Header, decode, decode_header, encode, errors};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::{
    caller::{Caller, Scopes, Who},
    crypto,
    keys::{KeySet, secrets},
};
use crate::{domain::ids::UserId, watched::Watched};

/// The maximum length of a token in bytes.
pub const MAX_TOKEN_BYTES: usize = 8 * 1024;
/// The maximum length of a service's name in bytes: that of a subject in OpenID Connect.
const MAX_SUBJECT_BYTES: usize = 255;
/// An upper bound for the remaining validity of a token, so that its end fits an `Instant`.
const MAX_VALIDITY: Duration = Duration::from_hours(24 * 366);

/// Verifies bearer tokens with the newest keys.
pub(super) struct TokenVerifier(Watched<KeySet>);

/// Why a token is not valid.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    #[error("longer than {MAX_TOKEN_BYTES} bytes")]
    TooLong,
    #[error("no key has its algorithm and key id")]
    UnknownKey,
    #[error("it requires unknown extensions (crit)")]
    UnknownExtension,
    #[error(transparent)]
    Invalid(#[from] errors::Error),
    #[error("the subject is neither a player's id nor the name of a service")]
    Subject,
    #[error("a player's token has scopes, which are for services")]
    PlayerWithScopes,
}

/// The claims that this module reads. The library checks the others.
#[derive(Deserialize)]
struct Claims {
    sub: String,
    #[serde(default)]
    scope: Option<String>,
    /// In seconds since 1970, possibly with a fraction (RFC 7519, section 2).
    exp: f64,
}

impl TokenVerifier {
    pub(super) fn new(keys: Watched<KeySet>) -> Self {
        Self(keys)
    }

    pub(super) fn verify(&self, token: &str) -> Result<Caller, TokenError> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(TokenError::TooLong);
        }
        let header = decode_header(token)?;
        if header.crit.is_some() {
            return Err(TokenError::UnknownExtension);
        }
        let keys = self.0.newest();
        let mut refusal = TokenError::UnknownKey;
        for key in keys.candidates(&header) {
            match decode::<Claims>(token, &key.decoding, &key.validation) {
                Ok(token) => {
                    return Ok(Caller {
                        who: who(&token.claims)?,
                        valid_until: Some(expiry(token.claims.exp, key.validation.leeway)),
                    });
                }
                Err(error) => {
                    let next = *error.kind() == errors::ErrorKind::InvalidSignature;
                    refusal = error.into();
                    // Another key may have signed it. A key whose signature matches decides.
                    if !next {
                        break;
                    }
                }
            }
        }
        Err(refusal)
    }
}

impl TokenError {
    /// The message for the caller. It explains what the caller can correct, and nothing that helps to
    /// forge a token.
    pub(super) fn for_the_caller(&self) -> &'static str {
        match self {
            Self::Invalid(error) => match error.kind() {
                errors::ErrorKind::ExpiredSignature => "The token has expired.",
                errors::ErrorKind::ImmatureSignature => "The token is not valid yet.",
                errors::ErrorKind::InvalidAudience => "The token is for another audience.",
                errors::ErrorKind::InvalidIssuer => "The token is of another issuer.",
                _ => "The token is not valid.",
            },
            Self::PlayerWithScopes => "A token is either a player's or has scopes.",
            _ => "The token is not valid.",
        }
    }
}

/// A subject of digits only is a player's id. Any other subject with a letter is the name of a
/// service. A player must not have scopes of this service.
fn who(claims: &Claims) -> Result<Who, TokenError> {
    let scopes = Scopes::of_claim(claims.scope.as_deref().unwrap_or_default());
    let subject = claims.sub.as_str();
    if subject.bytes().all(|byte| byte.is_ascii_digit()) {
        let player = player(subject).ok_or(TokenError::Subject)?;
        if !scopes.is_empty() {
            return Err(TokenError::PlayerWithScopes);
        }
        return Ok(Who::Player(player));
    }
    let is_name = subject.len() <= MAX_SUBJECT_BYTES
        && subject.bytes().all(|byte| byte.is_ascii_graphic())
        && subject.bytes().any(|byte| byte.is_ascii_alphabetic());
    if !is_name {
        return Err(TokenError::Subject);
    }
    Ok(Who::Service {
        name: Arc::from(subject),
        scopes,
    })
}

/// A player's id in its canonical form: `042` is not a player.
fn player(subject: &str) -> Option<UserId> {
    let id: i32 = subject.parse().ok()?;
    UserId::new(id).ok().filter(|id| id.to_string() == subject)
}

/// The moment at which the token expires.
fn expiry(exp: f64, leeway_s: u64) -> Instant {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let until = Duration::try_from_secs_f64(exp.round()).unwrap_or(Duration::MAX);
    let left = (until.saturating_add(Duration::from_secs(leeway_s + 1))).saturating_sub(now);
    Instant::now() + left.min(MAX_VALIDITY)
}

/// The content of a token that `heist token` signs.
#[derive(Clone, Debug)]
pub struct Grant {
    /// A player's id, or the name of a service.
    pub subject: String,
    /// The scopes of a service.
    pub scope: Option<String>,
    pub issuer: String,
    pub audience: String,
    pub expires_in: Duration,
}

/// A key that signs tokens.
pub struct SigningKey {
    algorithm: Algorithm,
    key: EncodingKey,
}

#[derive(Serialize)]
struct SignedClaims<'a> {
    sub: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<&'a str>,
    iss: &'a str,
    aud: &'a str,
    iat: u64,
    exp: u64,
}

impl SigningKey {
    /// The first secret of a file with secrets.
    ///
    /// # Errors
    ///
    /// The content is not a key. The message says what is expected.
    pub fn secret(content: &[u8]) -> Result<Self, String> {
        let secrets = secrets(content)?;
        let first = secrets.first().ok_or("expected a secret")?;
        Ok(Self {
            algorithm: Algorithm::HS256,
            key: EncodingKey::from_secret(first),
        })
    }

    /// A private key in PEM (PKCS#8). The kind of key decides the algorithm.
    ///
    /// # Errors
    ///
    /// The content is not a key. The message says what is expected.
    pub fn private(content: &[u8]) -> Result<Self, String> {
        let (algorithm, key) = if let Ok(key) = EncodingKey::from_ed_pem(content) {
            (Algorithm::EdDSA, key)
        } else if let Ok(key) = EncodingKey::from_ec_pem(content) {
            (Algorithm::ES256, key)
        } else if let Ok(key) = EncodingKey::from_rsa_pem(content) {
            (Algorithm::RS256, key)
        } else {
            return Err("expected an RSA, P-256 or Ed25519 private key in PEM (PKCS#8)".to_owned());
        };
        Ok(Self { algorithm, key })
    }

    /// Signs a token that is valid immediately.
    ///
    /// # Errors
    ///
    /// The key is damaged, or the server would not accept the grant.
    pub fn sign(&self, grant: &Grant) -> Result<String, TokenError> {
        crypto::install();
        who(&Claims {
            sub: grant.subject.clone(),
            scope: grant.scope.clone(),
            exp: 0.0,
        })?;
        let now = jsonwebtoken::get_current_timestamp();
        let claims = SignedClaims {
            sub: &grant.subject,
            scope: grant.scope.as_deref(),
            iss: &grant.issuer,
            aud: &grant.audience,
            iat: now,
            exp: now.saturating_add(grant.expires_in.as_secs()),
        };
        Ok(encode(&Header::new(self.algorithm), &claims, &self.key)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Scope;

    fn read(sub: &str, scope: Option<&str>) -> Result<Who, TokenError> {
        who(&Claims {
            sub: sub.to_owned(),
            scope: scope.map(str::to_owned),
            exp: 0.0,
        })
    }

    #[test]
    fn a_subject_of_digits_is_a_player() {
        for (sub, id) in [("1", 1), ("42", 42), ("2147483647", i32::MAX)] {
            for scope in [None, Some(""), Some("openid profile")] {
                assert_eq!(
                    read(sub, scope).unwrap(),
                    Who::Player(UserId::new(id).unwrap())
                );
            }
        }
    }

    #[test]
    fn any_other_subject_with_a_letter_is_a_service() {
        for name in [
            "auth",
            "auth@example.com",
            "3f2504e0-4f89-11d3",
            "1e3",
            "auth0|42",
            "-1a",
        ] {
            let Who::Service { name: read, scopes } =
                read(name, Some("heist.read email heist.reading token.award")).unwrap()
            else {
                panic!("{name} is no service");
            };
            assert_eq!(&*read, name);
            let expected: Scopes = [Scope::HeistRead, Scope::TokenAward].into_iter().collect();
            assert_eq!(scopes, expected);
        }
    }

    #[test]
    fn an_ambiguous_subject_is_refused() {
        let long = "a".repeat(MAX_SUBJECT_BYTES + 1);
        for sub in [
            "",
            "0",
            "042",
            "00",
            "-1",
            "+42",
            " 42",
            "42 ",
            "4 2",
            "42\n",
            "2147483648",
            "99999999999999999999",
            "４２",
            "auth service",
            "auth\n42",
            "é",
            "---",
            &long,
        ] {
            for scope in [None, Some("heist.execute")] {
                assert!(
                    matches!(read(sub, scope), Err(TokenError::Subject)),
                    "{sub:?}"
                );
            }
        }
        for scope in ["heist.execute", "openid notification.read"] {
            let refused = read("42", Some(scope));
            assert!(matches!(refused, Err(TokenError::PlayerWithScopes)));
        }
    }
}
