//! Page tokens: where the next page begins, signed together with the request it belongs to.
//!
//! A token holds the position and a signature over the position, the RPC and the request's
//! other fields. So it cannot be made up, and not be used with another request than its own.
//! Every replica has the same key, from the database.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use tonic::Status;

use super::status;

/// The first bytes of an HMAC-SHA-256: enough that nobody hits one by chance.
const SIGNATURE_BYTES: usize = 16;
const POSITION_BYTES: usize = 8;

/// Signs and checks page tokens.
#[derive(Clone)]
pub struct PageTokenKey(Hmac<Sha256>);

impl PageTokenKey {
    /// A key from a secret of any length.
    ///
    /// # Panics
    ///
    /// Never: HMAC takes keys of every length.
    #[must_use]
    pub fn new(secret: &str) -> Self {
        Self(Hmac::new_from_slice(secret.as_bytes()).expect("HMAC takes keys of every length"))
    }

    /// A token for the page that begins after `position`. `request` is everything that the
    /// next request must have in common with this one.
    pub(super) fn sign(&self, request: &[&[u8]], position: i64) -> String {
        let position = position.to_be_bytes();
        let signature = self.mac(request, position).finalize().into_bytes();
        let token = [&position[..], &signature[..SIGNATURE_BYTES]].concat();
        URL_SAFE_NO_PAD.encode(token)
    }

    /// The position in a token of this request; `None` where there is no token.
    pub(super) fn open(&self, request: &[&[u8]], token: &str) -> Result<Option<i64>, Status> {
        if token.is_empty() {
            return Ok(None);
        }
        self.verify(request, token)
            .map(Some)
            .ok_or_else(status::invalid_page_token)
    }

    fn verify(&self, request: &[&[u8]], token: &str) -> Option<i64> {
        let token = URL_SAFE_NO_PAD.decode(token).ok()?;
        let (position, signature) = token.split_first_chunk::<POSITION_BYTES>()?;
        if signature.len() != SIGNATURE_BYTES {
            return None;
        }
        // In constant time.
        (self.mac(request, *position))
            .verify_truncated_left(signature)
            .ok()?;
        Some(i64::from_be_bytes(*position))
    }

    fn mac(&self, request: &[&[u8]], position: [u8; POSITION_BYTES]) -> Hmac<Sha256> {
        let mut mac = self.0.clone();
        for part in request {
            // The length first, so that parts cannot flow into each other.
            mac.update(&u64::try_from(part.len()).expect("usize fits").to_be_bytes());
            mac.update(part);
        }
        mac.update(&position);
        mac
    }
}
