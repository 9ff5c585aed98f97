//! E-mail addresses, as the application stores them.

use std::{
    fmt,
    net::{Ipv4Addr, Ipv6Addr},
};

/// Maximum lengths of RFC 5321, in bytes.
const MAX_LOCAL_BYTES: usize = 64;
const MAX_BYTES: usize = 254;

/// A valid address, with the domain in ASCII (IDNA). `Debug` does not print it.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct EmailAddress {
    /// A dot-atom or a quoted string. May contain non-ASCII characters (RFC 6531).
    local: String,
    domain: String,
}

impl EmailAddress {
    /// `None`: the text is not an address.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (local, domain) = text.trim().rsplit_once('@')?;
        let domain = if domain.starts_with('[') {
            is_literal(domain).then(|| domain.to_owned())?
        } else {
            idna::domain_to_ascii(domain)
                .ok()
                .filter(|it| is_domain(it))?
        };
        let is_valid = (is_dot_atom(local) || is_quoted(local))
            && local.len() <= MAX_LOCAL_BYTES
            && local.len() + 1 + domain.len() <= MAX_BYTES;
        is_valid.then(|| Self {
            local: local.to_owned(),
            domain,
        })
    }

    /// Whether only servers with SMTPUTF8 accept the address.
    pub(super) fn needs_utf8(&self) -> bool {
        !self.local.is_ascii()
    }

    pub(super) fn local(&self) -> &str {
        &self.local
    }

    pub(super) fn domain(&self) -> &str {
        &self.domain
    }

    pub(super) fn to_text(&self) -> String {
        format!("{}@{}", self.local, self.domain)
    }
}

/// Prints nothing of the address, because debug output may be logged.
impl fmt::Debug for EmailAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EmailAddress")
    }
}

fn is_dot_atom(local: &str) -> bool {
    let is_part = |it: char| {
        it.is_ascii_alphanumeric()
            || "!#$%&'*+-/=?^_`{|}~".contains(it)
            || !it.is_ascii() && it.is_alphanumeric()
    };
    (local.split('.')).all(|atom| !atom.is_empty() && atom.chars().all(is_part))
}

fn is_quoted(local: &str) -> bool {
    let Some(inner) = (local.strip_prefix('"')).and_then(|it| it.strip_suffix('"')) else {
        return false;
    };
    let mut escaped = false;
    for character in inner.chars() {
        let is_printable = character == ' '
            || character.is_ascii_graphic()
            || !character.is_ascii() && character.is_alphanumeric();
        if !is_printable || (character == '"' && !escaped) {
            return false;
        }
        escaped = character == '\\' && !escaped;
    }
    !inner.is_empty() && !escaped
}

fn is_domain(domain: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|it| it.is_ascii_alphanumeric() || it == b'-')
    };
    domain.len() <= 253 && domain.split('.').all(is_label)
}

/// An address literal: `[192.0.2.1]` or `[IPv6:2001:db8::1]`.
fn is_literal(domain: &str) -> bool {
    let inner = (domain.strip_prefix('[')).and_then(|it| it.strip_suffix(']'));
    inner.is_some_and(|inner| match inner.strip_prefix("IPv6:") {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => inner.parse::<Ipv4Addr>().is_ok(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rare_addresses_are_valid() {
        for (text, expected) in [
            ("ada@example.com", "ada@example.com"),
            (" ada@example.com\n", "ada@example.com"),
            ("ada+heist/x=y@localhost", "ada+heist/x=y@localhost"),
            (
                "\"ada lovelace\"@example.com",
                "\"ada lovelace\"@example.com",
            ),
            ("\"a@b\"@example.com", "\"a@b\"@example.com"),
            (r#""a\"b"@example.com"#, r#""a\"b"@example.com"#),
            ("ada@Bücher.example", "ada@xn--bcher-kva.example"),
            ("зоя@пример.рф", "зоя@xn--e1afmkfd.xn--p1ai"),
            ("ada@[192.0.2.1]", "ada@[192.0.2.1]"),
            ("ada@[IPv6:2001:db8::1]", "ada@[IPv6:2001:db8::1]"),
        ] {
            let address = EmailAddress::parse(text).unwrap_or_else(|| panic!("{text}"));
            assert_eq!(address.to_text(), expected);
        }
        assert!(EmailAddress::parse("зоя@пример.рф").unwrap().needs_utf8());
        assert!(
            !EmailAddress::parse("ada@Bücher.example")
                .unwrap()
                .needs_utf8()
        );
    }

    #[test]
    fn other_texts_are_refused() {
        let long = format!("{}@example.com", "a".repeat(65));
        for text in [
            "",
            "ada",
            "@example.com",
            "ada@",
            "ada@.com",
            "ada@example..com",
            "ada@-example.com",
            ".ada@example.com",
            "ada.@example.com",
            "a..b@example.com",
            "ada lovelace@example.com",
            "ada@exa mple.com",
            "ada@example.com, ben@example.com",
            "Ada <ada@example.com>",
            "ada\r\nBcc: all@example.com",
            "\"ada\r\n\"@example.com",
            "\"a\"b\"@example.com",
            "\"ada\\\"@example.com",
            "\"\"@example.com",
            "ada@[192.0.2]",
            "ada\u{202e}@example.com",
            "ada@example.com>",
            long.as_str(),
        ] {
            assert_eq!(EmailAddress::parse(text), None, "{text}");
        }
    }
}
