//! Sends e-mails over SMTP. Each command is a separate step, because an e-mail certainly did not
//! leave when a step before the transfer of its text fails.

use std::time::Duration;

use lettre::{
    Address, Message,
    message::{
        Mailbox, MultiPart,
        header::{HeaderName, HeaderValue},
    },
    transport::smtp::{
        authentication::{Credentials, DEFAULT_MECHANISMS},
        client::AsyncSmtpConnection,
        commands::{Data, Mail, Rcpt},
        extension::{ClientId, Extension, MailParameter},
    },
};
use percent_encoding::percent_decode_str;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use url::Url;

use super::{
    Authorities,
    outcome::{Outcome, ProviderFailure},
    render::RenderedEmail,
};

/// Reply codes about our credentials, not about the e-mail: authentication is required or failed.
const NOT_ACCEPTED: [u16; 4] = [530, 534, 535, 538];
/// "Service not available": the server closes the connection.
const CLOSING: u16 = 421;

const EXPECTED_URL: &str = "expected a URL such as smtps://user:password@host:465, \
     smtp://user:password@host:587 or, without encryption, smtp://host:25?tls=none";

/// An SMTP server, and how to connect to it.
#[derive(Clone, Debug)]
pub struct SmtpServer {
    host: String,
    port: u16,
    encryption: Encryption,
    /// `Debug` does not print them.
    credentials: Option<Credentials>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encryption {
    /// TLS from the first byte, usually on port 465.
    Tls,
    /// TLS after the command STARTTLS, usually on port 587. Without TLS nothing is sent.
    StartTls,
    None,
}

/// The SMTP provider. Each e-mail has its own connection.
#[derive(Clone, Debug)]
pub struct Smtp {
    pub server: SmtpServer,
    /// Authorities whose certificates are accepted.
    pub authorities: Authorities,
    /// The time limit of one attempt.
    pub timeout: Duration,
}

impl SmtpServer {
    /// Parses a URL.
    ///
    /// # Errors
    ///
    /// Returns the expected form. The text repeats nothing of the URL, which may contain a password.
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
        let decoded = |text| Some(percent_decode_str(text).decode_utf8().ok()?.into_owned());
        let credentials = match (url.username(), url.password()) {
            ("", None) => None,
            (user, Some(password)) if !user.is_empty() => {
                Some(Credentials::new(decoded(user)?, decoded(password)?))
            }
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

impl Smtp {
    pub(super) async fn send(
        &self,
        from: &Mailbox,
        email: &RenderedEmail,
        stopping: &CancellationToken,
    ) -> Outcome {
        let message = match message(from, email) {
            Ok(message) => message,
            Err(reason) => return Outcome::Refused { reason },
        };
        let until = Instant::now() + self.timeout;
        let prepared = tokio::select! {
            prepared = timeout_at(until, self.prepare(&from.email, &email.to)) => prepared,
            () = stopping.cancelled() => return Outcome::Released,
        };
        let mut connection = match prepared {
            Ok(Ok(connection)) => connection,
            Ok(Err(not_sent)) => return not_sent,
            Err(_elapsed) => {
                return Outcome::unreachable("it was not ready for the e-mail in time");
            }
        };
        match timeout_at(until, connection.message(&message)).await {
            Ok(Ok(_taken)) => {
                // The server has accepted the e-mail, so the answer to QUIT does not matter.
                let _ = timeout_at(until, connection.quit()).await;
                Outcome::Sent
            }
            Ok(Err(error)) if error.status().is_some() => refusal(&error),
            Ok(Err(_)) => Outcome::no_answer("the connection was lost"),
            Err(_elapsed) => Outcome::no_answer(format!(
                "none within {}",
                humantime::format_duration(self.timeout)
            )),
        }
    }

    /// Runs all steps before the text of the e-mail. Any failure here proves that the e-mail did not
    /// leave.
    async fn prepare(&self, from: &Address, to: &Address) -> Result<AsyncSmtpConnection, Outcome> {
        let mut connection = self.connect().await?;
        let mut parameters = Vec::new();
        if !(from.as_ref() as &str).is_ascii() || !(to.as_ref() as &str).is_ascii() {
            if !(connection.server_info()).supports_feature(Extension::SmtpUtfEight) {
                return Err(Outcome::Refused {
                    reason: "the server does not accept addresses with non-ASCII characters"
                        .to_owned(),
                });
            }
            parameters.push(MailParameter::SmtpUtfEight);
        }
        let sender = Mail::new(Some(from.clone()), parameters);
        // A refused sender is wrong for every e-mail, so a setting is wrong.
        (connection.command(sender).await).map_err(|error| sender_refusal(&error))?;
        let recipient = Rcpt::new(to.clone(), Vec::new());
        (connection.command(recipient).await).map_err(|error| refusal(&error))?;
        (connection.command(Data).await).map_err(|error| refusal(&error))?;
        Ok(connection)
    }

    async fn connect(&self) -> Result<AsyncSmtpConnection, Outcome> {
        let SmtpServer {
            host,
            port,
            encryption,
            credentials,
        } = &self.server;
        let tls = || {
            self.authorities
                .for_smtp(host)
                .map_err(Outcome::misconfigured)
        };
        let implicit_tls = (*encryption == Encryption::Tls).then(tls).transpose()?;
        let hello = ClientId::default();
        let mut connection = AsyncSmtpConnection::connect_tokio1(
            (host.as_str(), *port),
            Some(self.timeout),
            &hello,
            implicit_tls,
            None,
        )
        .await
        .map_err(|error| unreachable(&error))?;
        if *encryption == Encryption::StartTls {
            if !connection.can_starttls() {
                return Err(Outcome::misconfigured("the server offers no encryption"));
            }
            (connection.starttls(tls()?, &hello).await).map_err(|error| unreachable(&error))?;
        }
        if let Some(credentials) = credentials {
            (connection.auth(DEFAULT_MECHANISMS, credentials).await).map_err(|error| {
                match error.status() {
                    // The reply's text may repeat the user name.
                    Some(code) if error.is_permanent() => {
                        Outcome::misconfigured(format!("SMTP {code}"))
                    }
                    _ => unreachable(&error),
                }
            })?;
        }
        Ok(connection)
    }
}

/// The complete message, headers and body.
fn message(from: &Mailbox, email: &RenderedEmail) -> Result<Vec<u8>, String> {
    let domain = from.email.domain();
    let mut message = Message::builder()
        .from(from.clone())
        .to(email.to.clone().into())
        .subject(&email.subject)
        // Operators look up the id in the server's log when an outcome is unknown.
        .message_id(Some(format!(
            "<heist.{}@{domain}>",
            email.reference.replace('/', ".")
        )))
        .multipart(MultiPart::alternative_plain_html(
            email.text.clone(),
            email.html.clone(),
        ))
        .map_err(|error| error.to_string())?;
    for (name, value) in email.headers() {
        let name = HeaderName::new_from_ascii_str(name);
        message
            .headers_mut()
            .insert_raw(HeaderValue::new(name, value));
    }
    Ok(message.formatted())
}

fn unreachable(error: &lettre::transport::smtp::Error) -> Outcome {
    match error.status() {
        Some(code) => Outcome::unreachable(format!("SMTP {code}")),
        None => Outcome::unreachable(error),
    }
}

fn sender_refusal(error: &lettre::transport::smtp::Error) -> Outcome {
    match error.status() {
        Some(code) if error.is_permanent() => {
            Outcome::misconfigured(format!("SMTP {code} for the sender"))
        }
        _ => refusal(error),
    }
}

/// The outcome for a negative reply. Reasons contain the code only, because the reply's text may
/// repeat an address.
fn refusal(error: &lettre::transport::smtp::Error) -> Outcome {
    let Some(code) = error.status() else {
        return Outcome::unreachable("the connection was lost");
    };
    let number = u16::from(code);
    let reason = format!("SMTP {code}");
    if NOT_ACCEPTED.contains(&number) {
        Outcome::misconfigured(reason)
    } else if number == CLOSING {
        Outcome::NotSent {
            reason,
            provider_failure: Some(ProviderFailure::UNREACHABLE),
        }
    } else if error.is_permanent() {
        Outcome::Refused { reason }
    } else {
        Outcome::NotSent {
            reason,
            provider_failure: None,
        }
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
        let credentials = Credentials::new("ada@example.com".to_owned(), "p/w".to_owned());
        assert_eq!(server.unwrap().credentials, Some(credentials));
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
