//! Sends e-mails over SMTP. Each command is a separate step: if a step before the end of the text
//! fails, the e-mail was certainly not sent.

mod connection;
mod message;
mod reply;
mod server;

use std::time::Duration;

use lettre::message::Mailbox;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

pub use self::server::SmtpServer;
use self::{
    connection::{Authentication, Broken, Connection},
    reply::Reply,
    server::Encryption,
};
use super::{
    Authorities,
    address::EmailAddress,
    outcome::{Outcome, ProviderFailure},
    render::RenderedEmail,
};

/// Reply codes about our credentials, not about the e-mail: authentication is required or failed.
const CREDENTIALS_NEEDED: [u16; 4] = [530, 534, 535, 538];
/// "Service not available": the server closes the connection.
const CLOSING: u16 = 421;
/// Time limit of QUIT, which has no effect on the outcome.
const QUIT_TIMEOUT: Duration = Duration::from_secs(1);

/// The SMTP provider. Each e-mail has its own connection.
#[derive(Clone, Debug)]
pub struct Smtp {
    pub server: SmtpServer,
    /// The name of this client in EHLO.
    pub hello: String,
    /// Authorities whose certificates are accepted.
    pub authorities: Authorities,
    /// The time limit of one attempt.
    pub timeout: Duration,
}

impl Smtp {
    pub(super) async fn send(
        &self,
        from: &Mailbox,
        email: &RenderedEmail,
        stopping: &CancellationToken,
    ) -> Outcome {
        let message = match message::build(from, email) {
            Ok(message) => message,
            Err(reason) => return Outcome::Refused { reason },
        };
        let until = Instant::now() + self.timeout;
        let sender = from.email.as_ref();
        let prepared = tokio::select! {
            prepared = timeout_at(until, self.prepare(sender, &email.to, &message)) => prepared,
            () = stopping.cancelled() => return Outcome::Released,
        };
        let mut connection = match prepared {
            Ok(Ok(connection)) => connection,
            Ok(Err(not_sent)) => return not_sent,
            Err(_elapsed) => {
                return Outcome::unreachable("it was not ready for the e-mail in time");
            }
        };
        let outcome = match timeout_at(until, finish(&mut connection)).await {
            Ok(outcome) => outcome,
            Err(_elapsed) => Outcome::no_answer(format!(
                "none within {}",
                humantime::format_duration(self.timeout)
            )),
        };
        if outcome == Outcome::Sent {
            let _ = timeout(QUIT_TIMEOUT, connection.command("QUIT")).await;
        }
        outcome
    }

    /// Runs all steps before the line that ends the text of the e-mail. A server discards a text
    /// without that line, so any failure here proves that the e-mail did not leave.
    async fn prepare(
        &self,
        from: &str,
        to: &EmailAddress,
        message: &[u8],
    ) -> Result<Connection, Outcome> {
        let mut connection = self.connect().await?;
        let mut parameters = "";
        if to.needs_utf8() || !from.is_ascii() || !message.is_ascii() {
            if !connection.offers("SMTPUTF8") {
                return Err(Outcome::Refused {
                    reason: "the server does not accept addresses with non-ASCII characters"
                        .to_owned(),
                });
            }
            parameters = " BODY=8BITMIME SMTPUTF8";
        }
        let command = format!("MAIL FROM:<{from}>{parameters}");
        match connection.command(&command).await.map_err(unreachable)? {
            Reply { code: 250, .. } => {}
            // All e-mails have the same sender, so its refusal means that a setting is wrong.
            reply if reply.is_permanent() => {
                let reason = format!("SMTP {} for the sender", reply.code);
                return Err(Outcome::misconfigured(reason));
            }
            reply => return Err(refusal(&reply)),
        }
        let command = format!("RCPT TO:<{}>", to.to_text());
        match connection.command(&command).await.map_err(unreachable)? {
            Reply {
                code: 250..=252, ..
            } => {}
            reply => return Err(refusal(&reply)),
        }
        match connection.command("DATA").await.map_err(unreachable)? {
            Reply { code: 354, .. } => {}
            reply => return Err(refusal(&reply)),
        }
        connection.write(message).await.map_err(unreachable)?;
        Ok(connection)
    }

    /// Connects, encrypts and authenticates.
    async fn connect(&self) -> Result<Connection, Outcome> {
        let SmtpServer {
            host,
            port,
            encryption,
            credentials,
        } = &self.server;
        let connector = self.authorities.connector();
        let mut connection = Connection::open(host, *port).await.map_err(unreachable)?;
        if *encryption == Encryption::Tls {
            connection = connection
                .encrypt(&connector, host)
                .await
                .map_err(unreachable)?;
        }
        match connection.read().await.map_err(unreachable)? {
            Reply { code: 220, .. } => {}
            reply => return Err(unavailable(&reply)),
        }
        self.hello(&mut connection).await?;
        if *encryption == Encryption::StartTls {
            if !connection.offers("STARTTLS") {
                return Err(Outcome::misconfigured("the server offers no encryption"));
            }
            match connection.command("STARTTLS").await.map_err(unreachable)? {
                Reply { code: 220, .. } => {}
                reply => return Err(unavailable(&reply)),
            }
            connection = connection
                .encrypt(&connector, host)
                .await
                .map_err(unreachable)?;
            self.hello(&mut connection).await?;
        }
        if let Some(credentials) = credentials {
            match connection
                .authenticate(credentials)
                .await
                .map_err(unreachable)?
            {
                Authentication::Accepted => {}
                Authentication::Refused(reply) => return Err(unavailable(&reply)),
                Authentication::NotOffered => {
                    return Err(Outcome::misconfigured(
                        "a password is set, and the server offers neither AUTH PLAIN nor AUTH LOGIN",
                    ));
                }
            }
        }
        Ok(connection)
    }

    async fn hello(&self, connection: &mut Connection) -> Result<(), Outcome> {
        match connection.hello(&self.hello).await.map_err(unreachable)? {
            None => Ok(()),
            Some(reply) => Err(unavailable(&reply)),
        }
    }
}

/// Ends the text of the e-mail. From here on, only an answer can prove what happened.
async fn finish(connection: &mut Connection) -> Outcome {
    let Ok(reply) = connection.command(".").await else {
        return Outcome::no_answer("the connection was lost");
    };
    match reply.code {
        250 => Outcome::Sent,
        400.. => refusal(&reply),
        // SMTP does not allow this reply here. The server may have accepted the e-mail.
        code => Outcome::no_answer(format!("SMTP {code}")),
    }
}

fn unreachable(Broken(why): Broken) -> Outcome {
    Outcome::unreachable(why)
}

/// The outcome for a reply that concerns the session, not the e-mail: 5xx needs an operator.
fn unavailable(reply: &Reply) -> Outcome {
    let reason = format!("SMTP {}", reply.code);
    if reply.is_permanent() {
        Outcome::misconfigured(reason)
    } else {
        Outcome::unreachable(reason)
    }
}

/// The outcome for a negative reply. Reasons contain the code only, because the reply's text may
/// repeat an address.
fn refusal(reply: &Reply) -> Outcome {
    let reason = format!("SMTP {}", reply.code);
    match reply.code {
        code if CREDENTIALS_NEEDED.contains(&code) => Outcome::misconfigured(reason),
        500.. => Outcome::Refused { reason },
        // For example greylisting.
        400..500 if reply.code != CLOSING => Outcome::NotSent {
            reason,
            provider_failure: None,
        },
        // 421, or a positive reply in the wrong place.
        _ => Outcome::NotSent {
            reason,
            provider_failure: Some(ProviderFailure::UNREACHABLE),
        },
    }
}
