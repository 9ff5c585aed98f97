//! The URL of an SMTP server.

use std::fmt;

use percent_encoding::percent_decode_str;
use url::Url;

use crate::mail::Secret;

const EXPECTED_URL: &str = "expected a URL such as smtps://user:password@host:465, \
     smtp://user:password@host:587 or, without encryption, smtp://host:25?tls=none";

/// An SMTP server, and how to connect to it.
#[derive(Clone)]
pub struct SmtpServer {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) encryption: Encryption,
    pub(super) credentials: Option<Credentials>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encryption {
    /// TLS from the first byte, usually on port 465.
    Tls,
    /// TLS after the command STARTTLS, usually on port 587. Without TLS nothing is sent.
    StartTls,
    None,
}

#[derive(Clone)]
pub(super) struct Credentials {
    pub(super) user: String,
    pub(super) password: Secret,
}

impl SmtpServer {
    /// Parses a URL.
    ///
    /// # Errors
    ///
    /// Returns the expected form. The text repeats nothing of the URL, which may contain a
    /// password.
    pub fn parse(url: &str) -> Result<Self, String> {
        Self::parsed(url).ok_or_else(|| EXPECTED_URL.to_owned())
    }

    fn parsed(url: &str) -> Option<Self> {
        let url = Url::parse(url).ok()?;
        let (encryption, usual_port) = match (url.scheme(), url.query()) {
            ("smtps", None) => (Encryption::Tls, 465),
            ("smtp", None) => (Encryption::StartTls, 587),
            ("smtp", Some("tls=none")) => (Encryption::None, 25),
            _ => return None,
        };
        let host = (url.host_str()?).trim_matches(['[', ']']).to_owned();
        if !matches!(url.path(), "" | "/") || url.fragment().is_some() || host.is_empty() {
            return None;
        }
        let credentials = match (url.username(), url.password()) {
            ("", None) => None,
            (user, Some(password)) if !user.is_empty() => Some(Credentials {
                user: decoded(user)?,
                password: Secret::new(&decoded(password)?),
            }),
            _ => return None,
        };
        Some(Self {
            port: url.port().unwrap_or(usual_port),
            host,
            encryption,
            credentials,
        })
    }
}

/// Percent-decodes. Refuses NUL, which separates the parts of AUTH PLAIN.
fn decoded(text: &str) -> Option<String> {
    let text = percent_decode_str(text).decode_utf8().ok()?.into_owned();
    (!text.contains('\0')).then_some(text)
}

/// Without the credentials.
impl fmt::Debug for SmtpServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SmtpServer")
            .field("host", &self.host)
            .field("port", &self.port)
            .field("encryption", &self.encryption)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_defines_host_port_and_encryption() {
        for (url, host, port, encryption) in [
            (
                "smtps://mail.example.com",
                "mail.example.com",
                465,
                Encryption::Tls,
            ),
            (
                "smtp://a:b@mail.example.com",
                "mail.example.com",
                587,
                Encryption::StartTls,
            ),
            ("smtp://[::1]:2525?tls=none", "::1", 2525, Encryption::None),
        ] {
            let server = SmtpServer::parse(url).unwrap();
            assert_eq!((server.host.as_str(), server.port), (host, port), "{url}");
            assert_eq!(server.encryption, encryption, "{url}");
        }
        let server = SmtpServer::parse("smtps://ada%40example.com:p%2Fw@mail.example.com");
        let credentials = server.unwrap().credentials.unwrap();
        assert_eq!(credentials.user, "ada@example.com");
        assert_eq!(credentials.password.reveal(), "p/w");
    }

    #[test]
    fn a_bad_url_is_refused_and_not_repeated_in_the_error() {
        for url in [
            "",
            "hunter2",
            "smtp://",
            "http://mail.example.com",
            "smtp://mail.example.com?tls=maybe",
            "smtps://mail.example.com?tls=none",
            "smtp://ada@mail.example.com",
            "smtp://:hunter2@mail.example.com",
            "smtp://ada:hunter2%00@mail.example.com",
            "smtp://mail.example.com/hunter2",
        ] {
            let refusal = SmtpServer::parse(url).unwrap_err();
            assert!(!refusal.contains("hunter2"), "{url}");
        }
    }

    #[test]
    fn debug_output_contains_no_password() {
        let server = SmtpServer::parse("smtps://ada:hunter2@mail.example.com").unwrap();
        assert!(!format!("{server:?}").contains("hunter2"));
    }
}
