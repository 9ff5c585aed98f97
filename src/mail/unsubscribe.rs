//! Links to unsubscribe.

use std::fmt::Write as _;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use url::Url;

use super::Secret;
use crate::domain::ids::UserId;

const USER_ID: &str = "{user_id}";
const SIGNATURE: &str = "{signature}";
/// Keeps the header `List-Unsubscribe` below the 998 characters of RFC 5322.
const MAX_URL_BYTES: usize = 900;

/// The template of unsubscribe links: a page of the application, or a `mailto:` address.
#[derive(Clone, Debug)]
pub struct Unsubscribe {
    template: String,
    key: Option<Secret>,
}

/// The unsubscribe link of one player.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct UnsubscribeLink {
    pub(super) url: String,
    /// Whether mail programs may offer one-click unsubscribing (RFC 8058).
    pub(super) one_click: bool,
}

impl Unsubscribe {
    /// `template` is a URL. `{user_id}` is replaced by the player's id, and `{signature}` by the
    /// HMAC-SHA256 of the id with `key`, in hexadecimal. The signature proves that the link comes
    /// from an e-mail of this service.
    ///
    /// # Errors
    ///
    /// Returns what is expected.
    pub fn new(template: &str, key: Option<Secret>) -> Result<Self, String> {
        let signed = template.contains(SIGNATURE);
        match &key {
            None if signed => Err(format!("{SIGNATURE} needs HEIST_EMAIL_UNSUBSCRIBE_KEY")),
            Some(_) if !signed => Err(format!(
                "HEIST_EMAIL_UNSUBSCRIBE_KEY has no effect without {SIGNATURE} in HEIST_EMAIL_UNSUBSCRIBE_URL"
            )),
            _ => Ok(Self {
                template: template.to_owned(),
                key,
            }),
        }
    }

    /// Checks the form of a template.
    ///
    /// # Errors
    ///
    /// Returns the expected form.
    pub fn check(template: &str) -> Result<String, String> {
        let longest_id = i32::MAX.to_string();
        let filled = (template.replace(USER_ID, &longest_id)).replace(SIGNATURE, &"0".repeat(64));
        let is_printable = filled.bytes().all(|it| it.is_ascii_graphic());
        if is_printable && filled.len() > MAX_URL_BYTES {
            return Err(format!(
                "expected a URL of at most {MAX_URL_BYTES} characters"
            ));
        }
        Url::parse(&filled)
            .ok()
            .filter(|url| match url.scheme() {
                "https" | "http" => template.contains(USER_ID),
                scheme => scheme == "mailto",
            })
            .filter(|_| is_printable && !filled.contains(['{', '}', '<', '>']))
            .map(|_| template.to_owned())
            .ok_or_else(|| {
                "expected a URL in ASCII such as \
                 https://app.example.com/unsubscribe?player={user_id} \
                 or mailto:unsubscribe@example.com"
                    .to_owned()
            })
    }

    pub(super) fn of(&self, user_id: UserId) -> UnsubscribeLink {
        let mut url = self.template.replace(USER_ID, &user_id.to_string());
        if let Some(key) = &self.key {
            url = url.replace(SIGNATURE, &signature(key, user_id));
        }
        // Without a signature, anyone who guesses an id could unsubscribe another player.
        let one_click = self.key.is_some() && url.starts_with("https://");
        UnsubscribeLink { url, one_click }
    }
}

fn signature(key: &Secret, user_id: UserId) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(key.reveal().as_bytes())
        .expect("HMAC accepts keys of any length");
    mac.update(user_id.to_string().as_bytes());
    let bytes = mac.finalize().into_bytes();
    bytes.iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").expect("writing to a string cannot fail");
        hex
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signed_links_allow_one_click() {
        let template = "https://app.example.com/u?player={user_id}&s={signature}";
        let unsubscribe = Unsubscribe::new(template, Some(Secret::new("key"))).unwrap();
        let unsubscribe_link = unsubscribe.of(UserId::new(7).unwrap());
        assert!(unsubscribe_link.one_click);
        // printf 7 | openssl dgst -sha256 -hmac key
        assert_eq!(
            unsubscribe_link.url,
            "https://app.example.com/u?player=7&s=01235b0d2aa4a5daba7243a9228194c8eff913ac5e56e967301210270380bc42"
        );
    }

    #[test]
    fn unsigned_links_do_not_allow_one_click() {
        for template in [
            "mailto:out@example.com",
            "https://app.example.com/u/{user_id}",
        ] {
            let unsubscribe = Unsubscribe::new(template, None).unwrap();
            assert!(!unsubscribe.of(UserId::new(7).unwrap()).one_click);
        }
    }

    #[test]
    fn a_key_and_its_placeholder_need_each_other() {
        assert!(Unsubscribe::new("https://a.example/{signature}", None).is_err());
        let key = Some(Secret::new("key"));
        assert!(Unsubscribe::new("https://a.example/{user_id}", key).is_err());
    }

    #[test]
    fn a_template_must_be_a_url() {
        for good in [
            "https://a.example/{user_id}?s={signature}",
            "mailto:a@b.example",
        ] {
            assert_eq!(Unsubscribe::check(good).unwrap(), good);
        }
        for bad in [
            "",
            "a.example",
            "ftp://a.example",
            "https://a.example/{name}",
            "javascript:x",
            "https://a.example/unsubscribe",
            "https://a.example/{user_id}\r\nBcc: all@example.com",
            "https://a.example/{user_id}?ü",
            "https://a.example/{user_id} ",
        ] {
            assert!(Unsubscribe::check(bad).is_err(), "{bad}");
        }
        let long = format!("https://a.example/{{user_id}}/{}", "x".repeat(900));
        assert!(
            Unsubscribe::check(&long)
                .unwrap_err()
                .contains("at most 900")
        );
    }
}
