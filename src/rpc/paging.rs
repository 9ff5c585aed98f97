//! Pages of a list, and the tokens that lead from one page to the next.
//!
//! A page begins after the position of the last row of the page before. Rows that are inserted or
//! deleted in between cause no gap and no repetition.
//!
//! A token holds the position and a signature over the position, the RPC and the request's other
//! fields, so that callers cannot forge it or use it with another request. All replicas read the
//! same key from the database.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use tonic::Status;

use super::status;

/// The length of the signature: the first 128 bits of an HMAC-SHA-256.
const SIGNATURE_BYTES: usize = 16;
const POSITION_BYTES: usize = 16;

/// The position at which a page ends. A list that needs one number leaves the other 0.
pub(super) type Position = [i64; 2];

/// Signs and checks page tokens.
#[derive(Clone)]
pub struct PageTokenKey(Hmac<Sha256>);

impl PageTokenKey {
    /// A key from a secret of any length.
    ///
    /// # Panics
    ///
    /// Never: HMAC accepts keys of every length.
    #[must_use]
    pub fn new(secret: &str) -> Self {
        Self(Hmac::new_from_slice(secret.as_bytes()).expect("HMAC accepts keys of every length"))
    }

    /// The page that a request asks for. `request` has the parts that the requests for all pages of
    /// one list have in common, beginning with the name of the RPC.
    ///
    /// # Errors
    ///
    /// `INVALID_PAGE_TOKEN`.
    pub(super) fn page(
        &self,
        request: &[&[u8]],
        size: u16,
        token: &str,
    ) -> Result<Page<'_>, Status> {
        // Length-prefixed, so that different lists of parts have different encodings.
        let request: Vec<u8> = (request.iter())
            .flat_map(|part| [&part.len().to_be_bytes()[..], part].concat())
            .collect();
        let after = match token {
            "" => None,
            token => Some(
                self.verify(&request, token)
                    .ok_or_else(status::invalid_page_token)?,
            ),
        };
        Ok(Page {
            key: self,
            request,
            size: usize::from(size),
            after,
        })
    }

    fn sign(&self, request: &[u8], [first, second]: Position) -> String {
        let position = [first.to_be_bytes(), second.to_be_bytes()].concat();
        let signature = self.mac(request, &position).finalize().into_bytes();
        let token = [&position, &signature[..SIGNATURE_BYTES]].concat();
        URL_SAFE_NO_PAD.encode(token)
    }

    fn verify(&self, request: &[u8], token: &str) -> Option<Position> {
        let token = URL_SAFE_NO_PAD.decode(token).ok()?;
        let (position, signature) = token.split_first_chunk::<POSITION_BYTES>()?;
        if signature.len() != SIGNATURE_BYTES {
            return None;
        }
        // Compares in constant time.
        (self.mac(request, position))
            .verify_truncated_left(signature)
            .ok()?;
        let (first, second) = position.split_first_chunk()?;
        Some([
            i64::from_be_bytes(*first),
            i64::from_be_bytes(second.try_into().ok()?),
        ])
    }

    fn mac(&self, request: &[u8], position: &[u8]) -> Hmac<Sha256> {
        (self.0.clone())
            .chain_update(request)
            .chain_update(position)
    }
}

/// A requested page.
pub(super) struct Page<'a> {
    key: &'a PageTokenKey,
    request: Vec<u8>,
    size: usize,
    after: Option<Position>,
}

impl Page<'_> {
    /// The position after which the page begins; `None` for the first page.
    pub(super) fn after(&self) -> Option<Position> {
        self.after
    }

    /// The number of rows to read: one more than the page has, to know whether a page follows.
    pub(super) fn rows_to_read(&self) -> i64 {
        i64::try_from(self.size + 1).expect("a page is small")
    }

    /// Cuts the rows to the size of the page, and returns the token of the next page; empty on the
    /// last page.
    pub(super) fn cut<T>(&self, rows: &mut Vec<T>, position: impl Fn(&T) -> Position) -> String {
        if rows.len() <= self.size {
            return String::new();
        }
        rows.truncate(self.size);
        rows.last()
            .map(|last| self.key.sign(&self.request, position(last)))
            .unwrap_or_default()
    }
}
