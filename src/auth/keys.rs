//! The keys that verify bearer tokens, and the three kinds of files that contain them.
//!
//! A file may contain several keys, so that an old and a new key overlap during a rotation.

use jsonwebtoken::{
    Algorithm, DecodingKey, DecodingKeyKind, Header, Validation,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, KeyOperations, PublicKeyUse},
};

use super::crypto;
use crate::watched::WatchedFile;

/// The maximum number of keys in one file. It bounds the cost of a token without a key id.
const MAX_KEYS: usize = 16;
/// The minimum length of a secret in bytes: the output length of HS256 (RFC 7518, section 3.2).
pub(super) const MIN_SECRET_BYTES: usize = 32;
/// The minimum length of an RSA key, in ring and in RFC 7518, section 3.3.
const MIN_RSA_BITS: usize = 2048;
/// The length of the uncompressed point of a P-256 key.
const P256_POINT_BYTES: usize = 65;
/// The tolerated difference between the clocks of issuer and server, in seconds.
const CLOCK_SKEW_S: u64 = 30;

/// The file of the keys, by kind.
#[derive(Clone, Debug)]
pub enum KeyFile {
    /// Secrets for HS256, one per line.
    Secret(WatchedFile),
    /// Public keys for RS256, ES256 and EdDSA, in PEM.
    Public(WatchedFile),
    /// Public keys for the same algorithms, as a JSON Web Key Set (RFC 7517).
    Jwks(WatchedFile),
}

/// Keys that tokens select by algorithm and key id.
pub(super) struct KeySet(Vec<Key>);

/// A key for one algorithm. It is never used with another algorithm.
pub(super) struct Key {
    /// The key id, if the file contains one.
    id: Option<String>,
    pub(super) decoding: DecodingKey,
    /// The algorithm, and the required claims.
    pub(super) validation: Validation,
}

impl KeyFile {
    #[must_use]
    pub fn file(&self) -> &WatchedFile {
        let (Self::Secret(file) | Self::Public(file) | Self::Jwks(file)) = self;
        file
    }
}

impl KeySet {
    /// Parses the keys of a file, for tokens of this issuer and audience.
    pub(super) fn parse(
        file: &KeyFile,
        content: &[u8],
        issuer: &str,
        audience: &str,
    ) -> Result<Self, String> {
        crypto::install();
        let keys = match file {
            KeyFile::Secret(_) => (secrets(content)?.into_iter())
                .map(|secret| (None, Algorithm::HS256, DecodingKey::from_secret(secret)))
                .collect(),
            KeyFile::Public(_) => public_keys(content)?,
            KeyFile::Jwks(_) => jwks(content)?,
        };
        Self::new(keys, issuer, audience)
    }

    /// Parses the JSON Web Key Set of an identity provider.
    pub(super) fn parse_jwks(content: &[u8], issuer: &str, audience: &str) -> Result<Self, String> {
        crypto::install();
        Self::new(jwks(content)?, issuer, audience)
    }

    /// A set without keys, until the identity provider has been reached.
    pub(super) fn empty() -> Self {
        Self(Vec::new())
    }

    fn new(keys: Vec<NamedKey>, issuer: &str, audience: &str) -> Result<Self, String> {
        if keys.is_empty() || keys.len() > MAX_KEYS {
            return Err(format!("expected 1 to {MAX_KEYS} keys, not {}", keys.len()));
        }
        let keys = keys.into_iter().map(|(id, algorithm, decoding)| Key {
            id,
            decoding,
            validation: validation(algorithm, issuer, audience),
        });
        Ok(Self(keys.collect()))
    }

    /// The keys that may have signed a token with this header: those of its algorithm. If both the
    /// header and a key have a key id, the two must be equal.
    pub(super) fn candidates(&self, header: &Header) -> impl Iterator<Item = &Key> {
        self.0.iter().filter(|key| {
            let named = match (&header.kid, &key.id) {
                (Some(wanted), Some(id)) => wanted == id,
                _ => true,
            };
            named && key.validation.algorithms.contains(&header.alg)
        })
    }
}

/// The checks of a token besides its signature.
fn validation(algorithm: Algorithm, issuer: &str, audience: &str) -> Validation {
    let mut validation = Validation::new(algorithm);
    validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
    validation.set_issuer(&[issuer]);
    validation.set_audience(&[audience]);
    validation.validate_nbf = true;
    validation.leeway = CLOCK_SKEW_S;
    validation
}

/// The secrets in a file: one per line, without surrounding blanks.
pub(super) fn secrets(content: &[u8]) -> Result<Vec<&[u8]>, String> {
    let lines = content.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    let secrets: Vec<&[u8]> = lines.filter(|line| !line.is_empty()).collect();
    match secrets.iter().map(|secret| secret.len()).min() {
        Some(shortest) if shortest < MIN_SECRET_BYTES => Err(format!(
            "expected secrets of at least {MIN_SECRET_BYTES} bytes, one per line, such as \
             the output of `openssl rand -base64 32`"
        )),
        _ => Ok(secrets),
    }
}

type NamedKey = (Option<String>, Algorithm, DecodingKey);

fn public_keys(content: &[u8]) -> Result<Vec<NamedKey>, String> {
    let blocks = pem::parse_many(content).map_err(|error| format!("not PEM: {error}"))?;
    blocks.iter().map(public_key).collect()
}

fn public_key(block: &pem::Pem) -> Result<NamedKey, String> {
    if !["PUBLIC KEY", "RSA PUBLIC KEY"].contains(&block.tag()) {
        return Err(format!("expected public keys, not a {}", block.tag()));
    }
    let text = pem::encode(block);
    let text = text.as_bytes();
    let (algorithm, key) = if let Ok(key) = DecodingKey::from_ed_pem(text) {
        (Algorithm::EdDSA, key)
    } else if let Ok(key) = DecodingKey::from_ec_pem(text) {
        (Algorithm::ES256, key)
    } else if let Ok(key) = DecodingKey::from_rsa_pem(text) {
        (Algorithm::RS256, key)
    } else {
        return Err("expected RSA, P-256 or Ed25519 keys".to_owned());
    };
    check_strength(&key, algorithm)?;
    Ok((None, algorithm, key))
}

/// The usable keys of a set. Unusable ones are logged and ignored: a provider may add a key of a new
/// kind at any time.
fn jwks(content: &[u8]) -> Result<Vec<NamedKey>, String> {
    #[derive(serde::Deserialize)]
    struct Set {
        keys: Vec<serde_json::Value>,
    }
    let set: Set =
        serde_json::from_slice(content).map_err(|error| format!("not a JWK set: {error}"))?;
    let mut keys = Vec::new();
    let mut unusable = Vec::new();
    for (index, jwk) in set.keys.into_iter().enumerate() {
        match usable_key(jwk) {
            Ok(Some(key)) => keys.push(key),
            Ok(None) => {}
            Err(reason) => unusable.push(format!("key {}: {reason}", index + 1)),
        }
    }
    let unusable = unusable.join("; ");
    if keys.is_empty() && !unusable.is_empty() {
        return Err(unusable);
    }
    if !unusable.is_empty() {
        tracing::warn!(unusable, "ignoring unusable keys of the key set");
    }
    Ok(keys)
}

fn usable_key(jwk: serde_json::Value) -> Result<Option<NamedKey>, String> {
    let jwk: Jwk = serde_json::from_value(jwk).map_err(|error| format!("not a JWK: {error}"))?;
    let Some(algorithm) = algorithm_of(&jwk)? else {
        return Ok(None);
    };
    let key = DecodingKey::from_jwk(&jwk).map_err(|error| format!("cannot be read: {error}"))?;
    check_strength(&key, algorithm)?;
    Ok(Some((jwk.common.key_id, algorithm, key)))
}

/// The algorithm of a key; `None` if the key is for another algorithm or use (RFC 7517, section 5).
fn algorithm_of(jwk: &Jwk) -> Result<Option<Algorithm>, String> {
    let (algorithm, named) = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => (Algorithm::RS256, KeyAlgorithm::RS256),
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => {
            (Algorithm::ES256, KeyAlgorithm::ES256)
        }
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => {
            (Algorithm::EdDSA, KeyAlgorithm::EdDSA)
        }
        AlgorithmParameters::OctetKey(_) => {
            return Err("expected public keys, not a secret, which belongs in \
                        HEIST_JWT_SECRET_FILE"
                .to_owned());
        }
        _ => return Ok(None),
    };
    let is_for_signatures =
        !matches!(&jwk.common.public_key_use, Some(other) if *other != PublicKeyUse::Signature);
    let verifies = (jwk.common.key_operations.as_ref())
        .is_none_or(|operations| operations.contains(&KeyOperations::Verify));
    let is_supported = jwk.common.key_algorithm.is_none_or(|other| other == named);
    Ok((is_for_signatures && verifies && is_supported).then_some(algorithm))
}

/// Refuses a weak key now, because the verification would refuse every token later.
fn check_strength(key: &DecodingKey, algorithm: Algorithm) -> Result<(), String> {
    let bytes = match key.kind() {
        DecodingKeyKind::SecretOrDer(bytes) => bytes,
        DecodingKeyKind::RsaModulusExponent { n, .. } => n,
    };
    match algorithm {
        Algorithm::ES256 if bytes.len() != P256_POINT_BYTES => {
            Err("expected elliptic curve keys to be P-256".to_owned())
        }
        // The bytes are the modulus, or the modulus and the exponent.
        Algorithm::RS256 if bytes.len() * 8 < MIN_RSA_BITS => {
            Err(format!("expected RSA keys of at least {MIN_RSA_BITS} bits"))
        }
        _ => Ok(()),
    }
}
