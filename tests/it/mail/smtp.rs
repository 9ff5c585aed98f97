//! E-mails through SMTP servers: a server built on the library mailin, and scripted ones.

use std::{
    io::{self, BufRead as _, BufReader, Read, Write},
    net::{IpAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use heist::{
    domain::mailing::Mailing,
    mail::{self, Authorities, Rate, Secret, Smtp, SmtpServer, TemplateOptions, Unsubscribe},
};
use mail_parser::MessageParser;
use mailin::{
    Action, AuthMechanism, Handler, Response, Session, SessionBuilder,
    response::{INVALID_CREDENTIALS, NO_MAILBOX, OK, OUT_OF_SPACE},
};

use rustls::{ServerConfig, ServerConnection, StreamOwned};
use time::OffsetDateTime;

use crate::harness::{PATIENCE, World, mail::presentation, pki::Authority, until};

/// An e-mail as the server accepted it.
#[derive(Clone, Debug, Default)]
struct Taken {
    from: String,
    to: Vec<String>,
    data: String,
}

/// An SMTP server that keeps what it accepts. It refuses recipients `nobody@` permanently and
/// `full@` temporarily.
#[derive(Clone, Default)]
struct PostOffice {
    taken: Arc<Mutex<Vec<Taken>>>,
    current: Taken,
    /// Receives the text of an e-mail and never answers.
    mute: bool,
    /// Requires authentication.
    locked: bool,
    encryption: Encryption,
}

#[derive(Clone, Default)]
enum Encryption {
    #[default]
    None,
    Tls(Arc<ServerConfig>),
    StartTls(Arc<ServerConfig>),
}

impl PostOffice {
    /// Starts listening. Returns the port.
    fn open(self) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        // The thread ends with the process.
        thread::spawn(move || {
            for stream in listener.incoming() {
                let office = self.clone();
                thread::spawn(move || office.serve(stream.unwrap()));
            }
        });
        port
    }

    /// Serves until the client closes the connection.
    fn serve(self, stream: TcpStream) -> io::Result<()> {
        let mut builder = SessionBuilder::new("mail.example.com");
        if self.locked {
            builder.enable_auth(AuthMechanism::Plain);
            builder.insecure_enable_plaintext_auth();
        }
        let encrypt = |stream: TcpStream, config: Arc<ServerConfig>| {
            let connection = ServerConnection::new(config).map_err(io::Error::other)?;
            io::Result::Ok(StreamOwned::new(connection, stream))
        };
        let peer = stream.peer_addr()?.ip();
        match self.encryption.clone() {
            Encryption::None => {
                let mut session = builder.build(peer, self);
                converse(&mut session, stream, true)?;
            }
            Encryption::Tls(config) => {
                let mut session = builder.build(peer, self);
                session.tls_active();
                converse(&mut session, encrypt(stream, config)?, true)?;
            }
            Encryption::StartTls(config) => {
                let mut session = builder.enable_start_tls().build(peer, self);
                if let Some(stream) = converse(&mut session, stream, true)? {
                    session.tls_active();
                    converse(&mut session, encrypt(stream, config)?, false)?;
                }
            }
        }
        Ok(())
    }
}

/// Answers commands until the client closes the connection, or sends STARTTLS: then the stream is
/// returned.
fn converse<S: Read + Write>(
    session: &mut Session<PostOffice>,
    mut stream: S,
    is_new: bool,
) -> io::Result<Option<S>> {
    if is_new {
        session.greeting().write_to(&mut stream)?;
        stream.flush()?;
    }
    let mut lines = BufReader::new(stream);
    let mut line = Vec::new();
    while lines.read_until(b'\n', &mut line)? > 0 {
        let response = session.process(&line);
        line.clear();
        if !matches!(response.action, Action::NoReply) {
            response.write_to(lines.get_mut())?;
            lines.get_mut().flush()?;
        }
        if matches!(response.action, Action::UpgradeTls) {
            return Ok(Some(lines.into_inner()));
        }
    }
    Ok(None)
}

impl Handler for PostOffice {
    fn auth_plain(&mut self, _: &str, user: &str, password: &str) -> Response {
        if (user, password) == ("ada", "hunter2") {
            OK
        } else {
            INVALID_CREDENTIALS
        }
    }

    fn rcpt(&mut self, to: &str) -> Response {
        match to.split('@').next().unwrap() {
            "nobody" => NO_MAILBOX,
            "full" => OUT_OF_SPACE,
            _ => OK,
        }
    }

    fn data_start(&mut self, _: &str, from: &str, _is_8bit: bool, to: &[String]) -> Response {
        self.current = Taken {
            from: from.to_owned(),
            to: to.to_vec(),
            data: String::new(),
        };
        OK
    }

    fn data(&mut self, buffer: &[u8]) -> io::Result<()> {
        self.current.data += std::str::from_utf8(buffer).expect("the message is ASCII");
        Ok(())
    }

    fn data_end(&mut self) -> Response {
        self.taken.lock().unwrap().push(self.current.clone());
        if self.mute {
            thread::sleep(Duration::from_mins(5));
        }
        OK
    }

    fn helo(&mut self, _: IpAddr, _: &str) -> Response {
        OK
    }
}

fn options(url: &str) -> mail::Options {
    mail::Options {
        mailing: Mailing::immediate(),
        provider: mail::Provider::Smtp(Smtp {
            server: SmtpServer::parse(url).unwrap(),
            hello: "heist.example.com".to_owned(),
            authorities: Authorities::default(),
            timeout: Duration::from_secs(2),
        }),
        rate: Rate::per_minute(100_000),
        presentation: presentation(),
        templates: TemplateOptions::default(),
    }
}

/// Ada, who has this address, earns a token for referring Zoë.
async fn ada_earns_a_token(world: &World, there: &World, address: &str) {
    let ada = world.player("Ada").email(address).await;
    let zoe = world.player("Zoë").referred_by(&ada).await;
    ada.seen_by(there).earns_a_token_for(&zoe).await.unwrap();
}

#[test]
fn an_email_has_a_plain_text_and_an_html_part() {
    World::run(async |world| {
        let office = PostOffice::default();
        let taken = Arc::clone(&office.taken);
        let url = format!("smtp://127.0.0.1:{}?tls=none", office.open());
        let mut options = options(&url);
        let template = "https://app.example.com/unsubscribe?player={user_id}&proof={signature}";
        let key = Some(Secret::new("key"));
        options.presentation.unsubscribe = Some(Unsubscribe::new(template, key).unwrap());
        let (server, there) = world.mailing_replica(options).await;
        ada_earns_a_token(world, &there, "ada@example.com").await;
        let emails = world.all_emails_are("SENT").await;
        server.stop(PATIENCE).await;

        let taken = taken.lock().unwrap().clone();
        assert_eq!(taken.len(), 1);
        assert_eq!(taken[0].from, "heists@example.com");
        assert_eq!(taken[0].to, ["ada@example.com"]);
        let data = &taken[0].data;
        for line in [
            "From: Heists <heists@example.com>",
            "To: ada@example.com",
            "Subject: Token earned!",
            "MIME-Version: 1.0",
            "Auto-Submitted: auto-generated",
            "List-Unsubscribe-Post: List-Unsubscribe=One-Click",
        ] {
            assert!(data.lines().any(|it| it == line), "no {line} in {data}");
        }
        let id = format!(
            "Message-ID: <heist.{}.{}@example.com>",
            emails[0].user_id, emails[0].id
        );
        assert!(data.contains(&id), "{data}");
        assert!(
            data.contains("Content-Type: multipart/alternative;"),
            "{data}"
        );
        assert!(
            data.contains("Content-Type: text/plain; charset=utf-8"),
            "{data}"
        );
        assert!(
            data.contains("Content-Type: text/html; charset=utf-8"),
            "{data}"
        );
        assert!(data.is_ascii() && data.lines().all(|line| line.len() <= 998));
        // As a library of another author reads it.
        let parsed = MessageParser::default().parse(data.as_bytes()).unwrap();
        assert_eq!(parsed.subject(), Some("Token earned!"));
        assert_eq!(
            parsed.from().unwrap().first().unwrap().address(),
            Some("heists@example.com")
        );
        let age_s =
            OffsetDateTime::now_utc().unix_timestamp() - parsed.date().unwrap().to_timestamp();
        assert!((0..60).contains(&age_s), "{age_s}");
        let text = parsed.body_text(0).unwrap();
        assert!(text.contains("Zoë joined with your code."), "{text}");
        let html = parsed.body_html(0).unwrap();
        assert!(html.contains("Zoë joined with your code."), "{html}");
        let unsubscribe = data
            .split("List-Unsubscribe: <")
            .nth(1)
            .expect("a List-Unsubscribe header");
        let unsubscribe: String = unsubscribe
            .split('>')
            .next()
            .unwrap()
            .split_whitespace()
            .collect();
        assert!(
            unsubscribe.starts_with("https://app.example.com/unsubscribe?player="),
            "{data}"
        );
    });
}

#[test]
fn a_permanent_refusal_parks_and_a_temporary_one_retries() {
    World::run(async |world| {
        let office = PostOffice::default();
        let taken = Arc::clone(&office.taken);
        let url = format!("smtp://127.0.0.1:{}?tls=none", office.open());
        let (server, there) = world.mailing_replica(options(&url)).await;
        ada_earns_a_token(world, &there, "nobody@example.com").await;
        let refused = world.all_emails_are("FAILED").await;
        assert_eq!(refused[0].error.as_deref(), Some("SMTP 550"));
        ada_earns_a_token(world, &there, "full@example.com").await;
        until("the e-mail is queued again", async || {
            let full = world.emails().await.remove(1);
            let waits = full.state.as_deref() == Some("QUEUED") && full.attempts == Some(1);
            (waits && full.error.as_deref() == Some("SMTP 452")).then_some(())
        })
        .await;
        assert_eq!(world.trouble("smtp").await, None);
        server.stop(PATIENCE).await;
        assert!(taken.lock().unwrap().is_empty());
    });
}

#[test]
fn an_email_without_an_answer_is_sent_once() {
    World::run(async |world| {
        let office = PostOffice {
            mute: true,
            ..PostOffice::default()
        };
        let taken = Arc::clone(&office.taken);
        let url = format!("smtp://127.0.0.1:{}?tls=none", office.open());
        let (server, there) = world.mailing_replica(options(&url)).await;
        ada_earns_a_token(world, &there, "ada@example.com").await;
        world.all_emails_are("UNKNOWN").await;
        server.stop(PATIENCE).await;
        assert_eq!(taken.lock().unwrap().len(), 1);
    });
}

#[test]
fn nothing_is_sent_without_tls_or_the_right_password() {
    World::run(async |world| {
        let office = PostOffice {
            locked: true,
            ..PostOffice::default()
        };
        let taken = Arc::clone(&office.taken);
        let port = office.open();
        for (url, why) in [
            (format!("smtp://127.0.0.1:{port}"), "no encryption"),
            (format!("smtps://127.0.0.1:{port}"), "cannot be reached"),
            (
                format!("smtp://ada:wrong@127.0.0.1:{port}?tls=none"),
                "SMTP 535",
            ),
            (
                "smtp://127.0.0.1:1?tls=none".to_owned(),
                "cannot be reached",
            ),
        ] {
            let (server, there) = world.mailing_replica(options(&url)).await;
            let address = format!("ada-{}@example.com", world.emails().await.len());
            ada_earns_a_token(world, &there, &address).await;
            let email = until("the attempt fails", async || {
                let email = world.emails().await.pop().unwrap();
                email.error.is_some().then_some(email)
            })
            .await;
            assert_eq!(email.state.as_deref(), Some("QUEUED"));
            let error = email.error.unwrap();
            assert!(error.contains(why) && !error.contains("wrong"), "{error}");
            server.stop(PATIENCE).await;
            world.queue_has_been_due_for(-3600).await;
        }
        assert!(taken.lock().unwrap().is_empty());

        let url = format!("smtp://ada:hunter2@127.0.0.1:{port}?tls=none");
        let (server, _) = world.mailing_replica(options(&url)).await;
        world.all_emails_are_sent_at_last().await;
        server.stop(PATIENCE).await;
        assert_eq!(taken.lock().unwrap().len(), 4);
    });
}

#[test]
fn a_private_relay_needs_its_authority_in_the_settings() {
    World::run(async |world| {
        let authority = Authority::new();
        let config = Arc::new(authority.issue(&["localhost"]).server_config());
        for (scheme, encryption) in [
            ("smtps", Encryption::Tls(Arc::clone(&config))),
            ("smtp", Encryption::StartTls(Arc::clone(&config))),
        ] {
            let office = PostOffice {
                encryption,
                locked: true,
                ..PostOffice::default()
            };
            let taken = Arc::clone(&office.taken);
            let url = format!("{scheme}://ada:hunter2@localhost:{}", office.open());
            let address = format!("ada-{scheme}@example.com");

            let (server, there) = world.mailing_replica(options(&url)).await;
            ada_earns_a_token(world, &there, &address).await;
            until("the attempt fails", async || {
                let error = world.emails().await.pop().unwrap().error;
                error
                    .is_some_and(|error| error.contains("UnknownIssuer"))
                    .then_some(())
            })
            .await;
            server.stop(PATIENCE).await;
            assert!(taken.lock().unwrap().is_empty());

            let mut trusting = options(&url);
            if let mail::Provider::Smtp(smtp) = &mut trusting.provider {
                smtp.authorities = Authorities::parse(authority.root.as_bytes()).unwrap();
            }
            let (server, _) = world.mailing_replica(trusting).await;
            world.all_emails_are_sent_at_last().await;
            server.stop(PATIENCE).await;
            let taken = taken.lock().unwrap().clone();
            assert_eq!(taken.len(), 1);
            assert_eq!(taken[0].to, [address]);
        }
    });
}
