//! E-mail: a fake SendGrid with configurable behaviour, servers that send through it, and the state
//! of the queue.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use heist::{
    domain::mailing::{Mailing, Window},
    mail::{self, Authorities, Presentation, Rate, Secret, SendGrid, TemplateOptions},
    server::{Options, Server},
    settings::{LiveSettings, Settings},
};
use serde_json::Value;
use sqlx::{AssertSqlSafe, FromRow};
use tokio::{
    io::{
        AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _,
        BufReader,
    },
    net::TcpListener,
    time::sleep,
};

use time::{OffsetDateTime, Time};
use tokio_rustls::TlsAcceptor;

use super::{World, connect, pki::Identity, process::Heist, until};

pub const API_KEY: &str = "SG.hunter2";

/// A fake of SendGrid's API on this machine.
pub struct Provider {
    pub url: String,
    state: Arc<Mutex<State>>,
}

struct State {
    received: Vec<Received>,
    behaviour: Behaviour,
}

/// A complete request.
#[derive(Clone, Debug)]
pub struct Received {
    pub head: String,
    pub headers: HashMap<String, String>,
    pub mail: Value,
}

/// How the fake handles the next requests.
#[derive(Clone, Debug)]
pub enum Behaviour {
    /// Answers 202.
    Accept,
    /// Answers with this status line and headers (after `HTTP/1.1 `), and this body.
    Answer(&'static str, &'static str),
    /// Answers 202 after a delay.
    AcceptAfter(Duration),
    /// Answers 202 and closes the connection in the middle of the body.
    AcceptCutShort,
    /// Reads the request and never answers.
    NeverAnswer,
    /// Reads the request and closes the connection.
    HangUp,
    /// Reads the request and answers with text that is not HTTP.
    Babble,
}

impl Behaviour {
    /// Answers that SendGrid is unavailable, with SendGrid's own error document.
    pub const UNAVAILABLE: Self = Self::Answer(
        "503 Service Unavailable",
        r#"{"errors":[{"message":"unavailable","field":null}]}"#,
    );
}

/// A row of the queue.
#[derive(Clone, Debug, PartialEq, Eq, FromRow)]
pub struct Email {
    pub user_id: i32,
    pub id: i64,
    /// `None`: never queued.
    pub state: Option<String>,
    pub attempts: Option<i32>,
    pub error: Option<String>,
}

impl Provider {
    pub async fn start() -> Self {
        Self::start_as(Behaviour::Accept).await
    }

    pub async fn start_as(behaviour: Behaviour) -> Self {
        Self::listen(behaviour, None).await
    }

    /// Serves TLS with this certificate of `localhost`.
    pub async fn start_with(identity: &Identity) -> Self {
        let acceptor = TlsAcceptor::from(Arc::new(identity.server_config()));
        Self::listen(Behaviour::Accept, Some(acceptor)).await
    }

    async fn listen(behaviour: Behaviour, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let url = match tls {
            None => format!("http://{address}"),
            Some(_) => format!("https://localhost:{}", address.port()),
        };
        let state = Arc::new(Mutex::new(State {
            received: Vec::new(),
            behaviour,
        }));
        let shared = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (tls, shared) = (tls.clone(), Arc::clone(&shared));
                tokio::spawn(async move {
                    match tls {
                        None => serve(stream, shared).await,
                        Some(acceptor) => {
                            if let Ok(stream) = acceptor.accept(stream).await {
                                serve(stream, shared).await;
                            }
                        }
                    }
                });
            }
        });
        Self { url, state }
    }

    pub fn does(&self, behaviour: Behaviour) {
        self.state.lock().unwrap().behaviour = behaviour;
    }

    /// All complete requests, also those that were answered with an error.
    pub fn received(&self) -> Vec<Received> {
        self.state.lock().unwrap().received.clone()
    }

    pub async fn has_received(&self, count: usize) -> Vec<Received> {
        until("the provider receives e-mails", async || {
            let received = self.received();
            (received.len() >= count).then_some(received)
        })
        .await
    }

    /// Options of a server that sends through this provider.
    pub fn options(&self, mailing: Mailing) -> mail::Options {
        self.options_with(mailing, Duration::from_secs(10))
    }

    pub fn options_with(&self, mailing: Mailing, timeout: Duration) -> mail::Options {
        let url = self.url.parse().unwrap();
        let sendgrid = SendGrid::new(
            url,
            &Authorities::default(),
            None,
            Secret::new(API_KEY),
            timeout,
        )
        .unwrap();
        mail::Options {
            mailing,
            provider: mail::Provider::SendGrid(sendgrid),
            rate: Rate::per_minute(100_000),
            presentation: presentation(),
            templates: TemplateOptions::default(),
        }
    }
}

pub fn presentation() -> Presentation {
    Presentation {
        from: "Heists <heists@example.com>".parse().unwrap(),
        link_base: Some("https://app.example.com/play".parse().unwrap()),
        unsubscribe: None,
    }
}

/// A window that opened ten minutes ago.
pub async fn open_window(world: &World) -> Mailing {
    let now: OffsetDateTime = world.database_time().await;
    let opens = now.time() - Duration::from_mins(10);
    let closes = now.time() + Duration::from_mins(30);
    Mailing::digest(Window::new(opens, closes).unwrap())
}

/// A window that opens in 12 hours.
pub async fn closed_window(world: &World) -> Mailing {
    let now: OffsetDateTime = world.database_time().await;
    let opens: Time = now.time() + Duration::from_hours(12);
    Mailing::digest(Window::new(opens, opens + Duration::from_hours(1)).unwrap())
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin, state: Arc<Mutex<State>>) {
    let behaviour = state.lock().unwrap().behaviour.clone();
    let mut stream = BufReader::new(stream);
    let Some(received) = read(&mut stream).await else {
        return;
    };
    state.lock().unwrap().received.push(received);
    let answer = match behaviour {
        Behaviour::Accept => answer("202 Accepted\r\nx-message-id: 1", ""),
        Behaviour::Answer(head, body) => answer(head, body),
        Behaviour::AcceptAfter(delay) => {
            sleep(delay).await;
            answer("202 Accepted", "")
        }
        Behaviour::AcceptCutShort => {
            "HTTP/1.1 202 Accepted\r\ncontent-length: 99\r\n\r\nI".to_owned()
        }
        Behaviour::NeverAnswer => {
            sleep(Duration::from_mins(5)).await;
            return;
        }
        Behaviour::Babble => "220 mail.example.com ESMTP\r\n\r\n".to_owned(),
        Behaviour::HangUp => return,
    };
    let _ = stream.write_all(answer.as_bytes()).await;
}

fn answer(head: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {head}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// `None`: the client closed the connection.
async fn read(stream: &mut BufReader<impl AsyncRead + Unpin>) -> Option<Received> {
    let mut head = String::new();
    stream.read_line(&mut head).await.ok()?;
    let mut headers = HashMap::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.ok()?;
        let Some((name, value)) = line.split_once(':') else {
            break;
        };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let mut body = vec![0; headers.get("content-length")?.parse().ok()?];
    stream.read_exact(&mut body).await.ok()?;
    Some(Received {
        head: head.trim().to_owned(),
        headers,
        mail: serde_json::from_slice(&body).expect("JSON"),
    })
}

impl Received {
    pub fn to(&self) -> &str {
        self.mail["personalizations"][0]["to"][0]["email"]
            .as_str()
            .unwrap()
    }

    pub fn subject(&self) -> &str {
        self.mail["subject"].as_str().unwrap()
    }

    pub fn text(&self) -> &str {
        assert_eq!(self.mail["content"][0]["type"], "text/plain");
        self.mail["content"][0]["value"].as_str().unwrap()
    }

    pub fn html(&self) -> &str {
        assert_eq!(self.mail["content"][1]["type"], "text/html");
        self.mail["content"][1]["value"].as_str().unwrap()
    }

    /// `player/notification`
    pub fn reference(&self) -> &str {
        self.mail["custom_args"]["heist_mail"].as_str().unwrap()
    }
}

/// A server process that sends e-mails immediately through this provider.
pub fn mailing(world: &World, url: &str) -> Heist {
    mailing_from(&world.database_url, url)
}

/// A server process on this database that sends e-mails immediately through this provider.
pub fn mailing_from(database_url: &str, url: &str) -> Heist {
    Heist::serve()
        .env("DATABASE_URL", database_url)
        .env("HEIST_AUTH", "none")
        .env("HEIST_EMAIL_ENABLED", "true")
        .env("HEIST_EMAIL_FROM", "heists@example.com")
        .env("SENDGRID_API_KEY", "SG.hunter2")
        .env("SENDGRID_BASE_URL", url)
        .env("HEIST_EMAIL_RATE_PER_MINUTE", "100000")
        .env("HEIST_COOLDOWN", "0s")
        .env("HEIST_PROTECTION_WINDOW", "0s")
}

impl World {
    /// Starts another server on the same database that sends e-mails. Also returns the world as
    /// seen through that server.
    pub async fn mailing_replica(&self, mail: mail::Options) -> (Server, Self) {
        let settings = Settings {
            email_enabled: true,
            ..self.settings.clone()
        };
        let options = Options {
            mail: Some(mail),
            settings: LiveSettings::fixed(settings),
            ..self.options()
        };
        let server = Server::start(options).await.expect("the server starts");
        let there = self.through(connect(server.address()).await);
        (server, there)
    }

    /// A replica that sends mail immediately through this provider.
    pub async fn mailing_through(&self, provider: &Provider) -> (Server, Self) {
        let options = provider.options(Mailing::immediate());
        self.mailing_replica(options).await
    }

    /// All notifications with the states of their e-mails.
    pub async fn emails(&self) -> Vec<Email> {
        sqlx::query_as(
            r#"SELECT
                "userId" AS user_id, "id", "emailState"::text AS state, "emailAttempts" AS attempts,
                "emailError" AS error
            FROM "HeistNotification" ORDER BY "id""#,
        )
        .fetch_all(&self.pool)
        .await
        .unwrap()
    }

    /// Waits until the e-mails of all notifications are in this state.
    pub async fn all_emails_are(&self, state: &str) -> Vec<Email> {
        until(&format!("all e-mails are {state}"), async || {
            let emails = self.emails().await;
            let all = emails.iter().all(|it| it.state.as_deref() == Some(state));
            all.then_some(emails)
        })
        .await
    }

    /// Waits until all e-mails are queued again after this number of attempts.
    pub async fn all_emails_wait_after(&self, attempts: i32) -> Vec<Email> {
        until("e-mails are queued again", async || {
            let emails = self.emails().await;
            let all = emails
                .iter()
                .all(|it| it.state.as_deref() == Some("QUEUED") && it.attempts == Some(attempts));
            all.then_some(emails)
        })
        .await
    }

    /// Changes the due time of all queued e-mails to this long ago, and ends pauses of providers.
    pub async fn queue_has_been_due_for(&self, seconds: i64) {
        self.execute(&format!(
            r#"
            UPDATE "HeistNotification" SET "emailAt" = now() - interval '{seconds} s'
            WHERE "emailState" = 'QUEUED';
            UPDATE "HeistEmailProvider" SET "pausedUntil" = NULL"#
        ))
        .await;
    }

    /// Waits until all e-mails are sent. Skips delays and pauses.
    pub async fn all_emails_are_sent_at_last(&self) {
        until("all e-mails are sent", async || {
            self.queue_has_been_due_for(1).await;
            let emails = self.emails().await;
            (emails.iter())
                .all(|it| it.state.as_deref() == Some("SENT"))
                .then_some(())
        })
        .await;
    }

    /// Ends the time limit of retries for all e-mails that were attempted.
    pub async fn patience_is_over(&self) {
        self.execute(
            r#"UPDATE "HeistNotification" SET "emailUntil" = now()
            WHERE "emailUntil" IS NOT NULL"#,
        )
        .await;
    }

    /// How long the provider stays paused.
    pub async fn provider_pause(&self, provider: &str) -> Duration {
        self.provider_wait("pausedUntil", provider).await
    }

    /// How long no mail may be claimed for this provider, because of its rate.
    pub async fn provider_rate_wait(&self, provider: &str) -> Duration {
        self.provider_wait("paidUntil", provider).await
    }

    async fn provider_wait(&self, column: &str, provider: &str) -> Duration {
        let wait = format!(
            r#"SELECT EXTRACT(EPOCH FROM "{column}" - now())::float8
            FROM "HeistEmailProvider" WHERE "name" = $1"#
        );
        let seconds: f64 = sqlx::query_scalar(AssertSqlSafe(wait))
            .bind(provider)
            .fetch_one(&self.pool)
            .await
            .unwrap();
        Duration::from_secs_f64(seconds)
    }

    /// Moves all mail back into the queue, in which it has been due for this time.
    pub async fn all_emails_are_queued_since(&self, ago: Duration) {
        self.execute(&format!(
            r#"UPDATE "HeistNotification"
            SET "emailState" = 'QUEUED', "emailAt" = now() - interval '{} s'"#,
            ago.as_secs()
        ))
        .await;
    }

    /// Whether all queued mail is due in more than this time.
    pub async fn queued_emails_wait_longer_than(&self, time: Duration) -> bool {
        let query = r#"SELECT bool_and("emailAt" > now() + make_interval(secs => $1))
            FROM "HeistNotification" WHERE "emailState" = 'QUEUED'"#;
        sqlx::query_scalar(query)
            .bind(time.as_secs_f64())
            .fetch_one(&self.pool)
            .await
            .unwrap()
    }

    /// Changes the end of all claims to one second ago.
    pub async fn claims_have_ended(&self) {
        self.execute(
            r#"UPDATE "HeistNotification" SET "emailAt" = now() - interval '1 s'
            WHERE "emailState" = 'SENDING'"#,
        )
        .await;
    }

    /// Ends the provider's failure and its pause.
    pub async fn provider_works(&self) {
        self.execute(r#"UPDATE "HeistEmailProvider" SET "pausedUntil" = NULL, "trouble" = NULL"#)
            .await;
    }

    /// Waits until the newest e-mail was attempted once, and forgets it. Returns its state and error.
    pub async fn newest_attempt(&self) -> Email {
        let email = until("the newest e-mail is attempted", async || {
            let email = self.emails().await.pop()?;
            let ended = email.state.as_deref().is_some_and(|it| it != "SENDING");
            (ended && email.attempts == Some(1)).then_some(email)
        })
        .await;
        self.execute(r#"UPDATE "HeistNotification" SET "emailState" = 'DROPPED'"#)
            .await;
        email
    }

    /// How long the provider pauses, in seconds.
    pub async fn pause_s(&self, provider: &str) -> i64 {
        sqlx::query_scalar(
            r#"SELECT GREATEST(EXTRACT(EPOCH FROM "pausedUntil" - now())::bigint, 0)
            FROM "HeistEmailProvider" WHERE "name" = $1"#,
        )
        .bind(provider)
        .fetch_one(&self.pool)
        .await
        .unwrap()
    }

    /// Why the provider fails. `None`: it works.
    pub async fn trouble(&self, provider: &str) -> Option<String> {
        sqlx::query_scalar(r#"SELECT "trouble" FROM "HeistEmailProvider" WHERE "name" = $1"#)
            .bind(provider)
            .fetch_one(&self.pool)
            .await
            .unwrap()
    }
}
