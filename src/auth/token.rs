//! Verifies bearer tokens, and signs tokens for development.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jsonwebtoken::{Algorithm, EncodingKey, Header, decode, decode_header, encode, errors};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::time::Instant;

use super::{
    caller::Caller,
    claims::ClaimNames,
    crypto,
    error::{MAX_TOKEN_BYTES, TokenError},
    keys::secrets,
    live_keys::Keys,
};

/// An upper bound for the remaining validity of a token, so that its end fits an `Instant`.
const MAX_VALIDITY: Duration = Duration::from_hours(24 * 366);

/// Verifies bearer tokens with the newest keys.
pub(super) struct TokenVerifier {
    keys: Keys,
    claims: ClaimNames,
}

/// The claims of a token. The library checks the standard ones.
#[derive(Deserialize)]
struct Claims {
    /// The library accepts an array, too, of which one member has to match.
    #[serde(rename = "iss")]
    _issuer: String,
    /// In seconds since 1970, possibly with a fraction (RFC 7519, section 2).
    exp: f64,
    #[serde(flatten)]
    others: Map<String, Value>,
}

impl TokenVerifier {
    pub(super) fn new(keys: Keys, claims: ClaimNames) -> Self {
        Self { keys, claims }
    }

    /// Whether the token names a key that is not known, and the identity provider may have it.
    pub(super) fn lacks_key(&self, token: &str) -> bool {
        let Keys::Provider(provider) = &self.keys else {
            return false;
        };
        if token.len() > MAX_TOKEN_BYTES {
            return false;
        }
        let header = decode_header(token);
        header.is_ok_and(|header| provider.newest().candidates(&header).next().is_none())
    }

    /// Fetches the identity provider's keys again.
    pub(super) async fn refetch_keys(&self) {
        if let Keys::Provider(provider) = &self.keys {
            provider.refetch().await;
        }
    }

    pub(super) fn verify(&self, token: &str) -> Result<Caller, TokenError> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(TokenError::TooLong);
        }
        let header = decode_header(token)?;
        if header.crit.is_some() {
            return Err(TokenError::UnknownExtension);
        }
        let keys = self.keys.newest();
        let mut refusal = TokenError::UnknownKey;
        for key in keys.candidates(&header) {
            match decode::<Claims>(token, &key.decoding, &key.validation) {
                Ok(token) => {
                    return Ok(Caller {
                        who: self.claims.who(&token.claims.others)?,
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

/// The moment at which the token expires.
fn expiry(exp: f64, leeway_s: u64) -> Instant {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let until = Duration::try_from_secs_f64(exp.round()).unwrap_or(Duration::MAX);
    let left = (until.saturating_add(Duration::from_secs(leeway_s + 1))).saturating_sub(now);
    Instant::now() + left.min(MAX_VALIDITY)
}

/// The claims of a token that this service signs, as far as they identify the caller.
fn claims_of(subject: &str, scope: Option<&str>) -> Map<String, Value> {
    let subject = ("sub".to_owned(), Value::from(subject));
    let scope = scope.map(|scope| ("scope".to_owned(), Value::from(scope)));
    [Some(subject), scope].into_iter().flatten().collect()
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
        let scope = grant.scope.as_deref();
        ClaimNames::default().who(&claims_of(&grant.subject, scope))?;
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
    use crate::{
        auth::{Scope, Scopes, Who, claims::MAX_SUBJECT_BYTES},
        domain::ids::UserId,
    };

    fn read(sub: &str, scope: Option<&str>) -> Result<Who, TokenError> {
        ClaimNames::default().who(&claims_of(sub, scope))
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
