//! SMTP, a step at a time: until the text of a mail is handed over, nothing has left.

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
    letter::Letter,
    outcome::{Outcome, Trouble},
};

/// Codes that complain of us rather than of the mail: authentication is needed or failed.
const NOT_ACCEPTED: [u16; 4] = [530, 534, 535, 538];
/// "Service not available", which ends the connection.
const CLOSING: u16 = 421;

const EXPECTED_URL: &str = "expected a URL such as smtps://user:password@host:465, \
     smtp://user:password@host:587 or, without encryption, smtp://host:25?tls=none";

/// A server that takes mail, and how to reach it.
#[derive(Clone, Debug)]
pub struct SmtpServer {
    host: String,
    port: u16,
    encryption: Encryption,
    /// Does not print.
    credentials: Option<Credentials>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encryption {
    /// From the first byte on: port 465.
    Tls,
    /// After a greeting, and required: port 587.
    StartTls,
    None,
}

/// Mail through an SMTP server, each on a connection of its own.
#[derive(Clone, Debug)]
pub struct Smtp {
    pub server: SmtpServer,
    /// Whose certificates the server may show.
    pub authorities: Authorities,
    /// The longest that a mail takes.
    pub timeout: Duration,
}

impl SmtpServer {
    /// Parses a URL.
    ///
    /// # Errors
    ///
    /// Says what is expected, and repeats nothing of the URL, which may hold a password.
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
        letter: &Letter,
        stopping: &CancellationToken,
    ) -> Outcome {
        let message = match message(from, letter) {
            Ok(message) => message,
            Err(reason) => return Outcome::Refused { reason },
        };
        let until = Instant::now() + self.timeout;
        let prepared = tokio::select! {
            prepared = timeout_at(until, self.prepare(&from.email, &letter.to)) => prepared,
            () = stopping.cancelled() => return Outcome::Released,
        };
        let mut connection = match prepared {
            Ok(Ok(connection)) => connection,
            Ok(Err(not_sent)) => return not_sent,
            Err(_elapsed) => return Outcome::unreachable("it did not listen in time"),
        };
        match timeout_at(until, connection.message(&message)).await {
            Ok(Ok(_taken)) => {
                // It has the mail: how it takes leave does not matter.
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

    /// Everything that comes before the text of the mail. Whatever goes wrong here, nothing
    /// has left.
    async fn prepare(&self, from: &Address, to: &Address) -> Result<AsyncSmtpConnection, Outcome> {
        let mut connection = self.connect().await?;
        let mut parameters = Vec::new();
        if !(from.as_ref() as &str).is_ascii() || !(to.as_ref() as &str).is_ascii() {
            if !(connection.server_info()).supports_feature(Extension::SmtpUtfEight) {
                return Err(Outcome::Refused {
                    reason: "the server takes no addresses beyond ASCII".to_owned(),
                });
            }
            parameters.push(MailParameter::SmtpUtfEight);
        }
        let sender = Mail::new(Some(from.clone()), parameters);
        // A sender that is not accepted is a matter of settings, whatever the mail.
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
        let tls = || self.authorities.for_smtp(host).map_err(Outcome::closed);
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
                return Err(Outcome::closed("the server offers no encryption"));
            }
            (connection.starttls(tls()?, &hello).await).map_err(|error| unreachable(&error))?;
        }
        if let Some(credentials) = credentials {
            (connection.auth(DEFAULT_MECHANISMS, credentials).await).map_err(|error| {
                match error.status() {
                    // Its text may repeat the user's name.
                    Some(code) if error.is_permanent() => Outcome::closed(format!("SMTP {code}")),
                    _ => unreachable(&error),
                }
            })?;
        }
        Ok(connection)
    }
}

/// The whole mail as it travels.
fn message(from: &Mailbox, letter: &Letter) -> Result<Vec<u8>, String> {
    let domain = from.email.domain();
    let mut message = Message::builder()
        .from(from.clone())
        .to(letter.to.clone().into())
        .subject(&letter.subject)
        // To find it in the server's log, when we do not know whether it left.
        .message_id(Some(format!(
            "<heist.{}@{domain}>",
            letter.reference.replace('/', ".")
        )))
        .multipart(MultiPart::alternative_plain_html(
            letter.text.clone(),
            letter.html.clone(),
        ))
        .map_err(|error| error.to_string())?;
    for (name, value) in letter.headers() {
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
            Outcome::closed(format!("SMTP {code} for the sender"))
        }
        _ => refusal(error),
    }
}

/// What an answer means that is not a yes. Its text may repeat an address, so that only the code
/// is told.
fn refusal(error: &lettre::transport::smtp::Error) -> Outcome {
    let Some(code) = error.status() else {
        return Outcome::unreachable("the connection was lost");
    };
    let number = u16::from(code);
    let reason = format!("SMTP {code}");
    if NOT_ACCEPTED.contains(&number) {
        Outcome::closed(reason)
    } else if number == CLOSING {
        Outcome::NotSent {
            reason,
            trouble: Some(Trouble::AWAY),
        }
    } else if error.is_permanent() {
        Outcome::Refused { reason }
    } else {
        Outcome::NotSent {
            reason,
            trouble: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_says_where_the_server_is_and_how_it_is_spoken_to() {
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
    fn a_bad_url_is_refused_and_not_repeated() {
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
    fn a_password_does_not_print() {
        let server = SmtpServer::parse("smtps://ada:hunter2@mail.example.com").unwrap();
        assert!(!format!("{server:?}").contains("hunter2"));
    }
}
