//! Answers of mail servers, and the state in which each leaves an e-mail.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use heist::{
    domain::mailing::Mailing,
    mail::{self, Authorities, Proxy, Rate, Secret, SendGrid, Smtp, SmtpServer, TemplateOptions},
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, copy_bidirectional},
    net::{TcpListener, TcpStream},
};

use crate::harness::{
    PATIENCE, World,
    mail::{API_KEY, Behaviour, Provider, presentation},
    pki::Authority,
};

/// The replies of a scripted SMTP server. An empty reply closes the connection.
#[derive(Clone, Debug)]
struct Script {
    greeting: &'static str,
    ehlo: &'static str,
    helo: &'static str,
    auth: &'static [&'static str],
    mail: &'static str,
    rcpt: &'static str,
    data: &'static str,
    body: &'static str,
}

const WORKS: Script = Script {
    greeting: "220 mail.example.com ESMTP",
    ehlo: "250-mail.example.com\r\n250-AUTH PLAIN LOGIN\r\n250 8BITMIME",
    helo: "250 mail.example.com",
    auth: &["235 2.7.0 ok"],
    mail: "250 ok",
    rcpt: "250 ok",
    data: "354 go ahead",
    body: "250 queued",
};

/// Pauses of the provider, in seconds.
const NONE: i64 = 0;
const SHORT: i64 = 15;
const LONG: i64 = 300;

async fn converse(stream: TcpStream, script: Script) -> std::io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read).lines();
    let mut auth = script.auth.iter();
    write
        .write_all(format!("{}\r\n", script.greeting).as_bytes())
        .await?;
    let mut in_auth = false;
    while let Some(line) = lines.next_line().await? {
        let command = line.split(' ').next().unwrap().to_ascii_uppercase();
        let reply = match command.as_str() {
            "EHLO" => script.ehlo,
            "HELO" => script.helo,
            "MAIL" => script.mail,
            "RCPT" => script.rcpt,
            "QUIT" => "221 bye",
            "DATA" if script.data.starts_with("354") => {
                write
                    .write_all(format!("{}\r\n", script.data).as_bytes())
                    .await?;
                while lines.next_line().await?.is_some_and(|line| line != ".") {}
                script.body
            }
            "DATA" => script.data,
            "AUTH" => {
                in_auth = true;
                auth.next().copied().unwrap_or("503 no")
            }
            _ if in_auth => auth.next().copied().unwrap_or("503 no"),
            _ => "500 what",
        };
        if reply.is_empty() {
            return Ok(());
        }
        write.write_all(format!("{reply}\r\n").as_bytes()).await?;
    }
    Ok(())
}

/// Starts the server. The script may be changed for later connections.
async fn scripted() -> (u16, Arc<Mutex<Script>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let script = Arc::new(Mutex::new(WORKS));
    let shared = Arc::clone(&script);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let script = shared.lock().unwrap().clone();
            tokio::spawn(converse(stream, script));
        }
    });
    (port, script)
}

fn smtp(url: &str) -> mail::Options {
    mail::Options {
        mailing: Mailing::immediate(),
        provider: mail::Provider::Smtp(Smtp {
            server: SmtpServer::parse(url).unwrap(),
            hello: "heist.example.com".to_owned(),
            authorities: Authorities::default(),
            timeout: Duration::from_secs(5),
        }),
        rate: Rate::per_minute(100_000),
        presentation: presentation(),
        templates: TemplateOptions::default(),
    }
}

/// A player with an address of her own earns a token.
async fn one_email(world: &World, there: &World) {
    let address = format!("ada-{}@example.com", world.emails().await.len());
    let ada = world.player("Ada").email(&address).await;
    let eve = world.player("Eve").referred_by(&ada).await;
    ada.seen_by(there).earns_a_token_for(&eve).await.unwrap();
}

/// How the server differs from one that works, the state of the e-mail, and the pause.
type SmtpRow = (fn(&mut Script), &'static str, i64);

const SMTP_TABLE: &[SmtpRow] = &[
    (|_| {}, "SENT", NONE),
    (|it| it.body = "250", "SENT", NONE),
    (|it| it.body = "250-2.0.0\r\n250 queued", "SENT", NONE),
    (|it| it.ehlo = "250-mail\r\n250 auth login", "SENT", NONE),
    (
        |it| {
            it.ehlo = "250-mail\r\n250 Auth Login";
            it.auth = &["334 VXNlcm5hbWU6", "334 UGFzc3dvcmQ6", "235 ok"];
        },
        "SENT",
        NONE,
    ),
    (|it| it.ehlo = "250-mail\r\n250 AUTH=PLAIN", "SENT", NONE),
    (|it| it.auth = &["334 ", "235 ok"], "SENT", NONE),
    (|it| it.rcpt = "251 will forward", "SENT", NONE),
    (|it| it.ehlo = "250 mail", "QUEUED", LONG),
    (|it| it.ehlo = "250-mail\r\n250 AUTH GSSAPI", "QUEUED", LONG),
    (|it| it.ehlo = "502 what", "QUEUED", LONG),
    (|it| it.ehlo = "421 busy", "QUEUED", SHORT),
    (|it| it.ehlo = "550 no", "QUEUED", LONG),
    (|it| it.greeting = "421 busy", "QUEUED", SHORT),
    (|it| it.greeting = "554 no service", "QUEUED", LONG),
    (|it| it.greeting = "HTTP/1.1 200 OK", "QUEUED", SHORT),
    (|it| it.greeting = "220-a\r\n220-b\r\n220 c", "SENT", NONE),
    (|it| it.auth = &["535 5.7.8 wrong"], "QUEUED", LONG),
    (|it| it.auth = &["534 weak"], "QUEUED", LONG),
    (|it| it.auth = &["454 later"], "QUEUED", SHORT),
    (|it| it.auth = &["421 busy"], "QUEUED", SHORT),
    (|it| it.auth = &["334 ", "334 ", "334 "], "QUEUED", SHORT),
    (|it| it.auth = &[""], "QUEUED", SHORT),
    (|it| it.mail = "421 busy", "QUEUED", SHORT),
    (|it| it.mail = "451 later", "QUEUED", NONE),
    (|it| it.mail = "530 authenticate", "QUEUED", LONG),
    (|it| it.mail = "550 no such sender", "QUEUED", LONG),
    (|it| it.mail = "", "QUEUED", SHORT),
    (|it| it.rcpt = "450 greylisted", "QUEUED", NONE),
    (|it| it.rcpt = "451 greylisted", "QUEUED", NONE),
    (|it| it.rcpt = "452 full", "QUEUED", NONE),
    (|it| it.rcpt = "421 busy", "QUEUED", SHORT),
    (|it| it.rcpt = "550-no such\r\n550 mailbox", "FAILED", NONE),
    (|it| it.rcpt = "551 moved", "FAILED", NONE),
    (|it| it.rcpt = "553 no", "FAILED", NONE),
    (|it| it.rcpt = "354 what", "QUEUED", SHORT),
    (|it| it.rcpt = "", "QUEUED", SHORT),
    (|it| it.data = "421 busy", "QUEUED", SHORT),
    (|it| it.data = "451 later", "QUEUED", NONE),
    (|it| it.data = "554 no", "FAILED", NONE),
    (|it| it.data = "250 ok", "QUEUED", SHORT),
    (|it| it.body = "421 busy", "QUEUED", SHORT),
    (|it| it.body = "451 later", "QUEUED", NONE),
    (|it| it.body = "552 too large", "FAILED", NONE),
    (|it| it.body = "554 spam", "FAILED", NONE),
    (|it| it.body = "251 what", "UNKNOWN", SHORT),
    (|it| it.body = "354 what", "UNKNOWN", SHORT),
    (|it| it.body = "OK", "UNKNOWN", SHORT),
    (|it| it.body = "", "UNKNOWN", SHORT),
];

#[test]
fn each_smtp_reply_leaves_the_email_in_one_state() {
    World::run(async |world| {
        let (port, script) = scripted().await;
        let options = smtp(&format!("smtp://ada:hunter2@127.0.0.1:{port}?tls=none"));
        let (server, there) = world.mailing_replica(options).await;
        for (change, state, pause) in SMTP_TABLE {
            let mut row = WORKS;
            change(&mut row);
            *script.lock().unwrap() = row.clone();
            world.provider_works().await;
            one_email(world, &there).await;
            let email = world.newest_attempt().await;
            assert_eq!(email.state.as_deref(), Some(*state), "{row:?}: {email:?}");
            let paused = world.pause_s("smtp").await;
            assert!(
                (pause - 12..=*pause).contains(&paused),
                "{row:?}: {paused} s"
            );
            let error = email.error.unwrap_or_default();
            assert!(
                !error.contains("hunter2") && !error.contains('@'),
                "{error}"
            );
        }
        server.stop(PATIENCE).await;
    });
}

#[test]
fn each_status_of_sendgrid_leaves_the_email_in_one_state() {
    const SENDER: &str = r#"{"errors":[{"message":"no","field":"from.email"}]}"#;
    const RECIPIENT: &str =
        r#"{"errors":[{"message":"no","field":"personalizations.0.to.0.email"}]}"#;
    let says = Behaviour::Answer;
    let table = [
        (says("202 Accepted", ""), "SENT", NONE),
        (says("200 OK", ""), "UNKNOWN", LONG),
        (says("204 No Content", ""), "UNKNOWN", LONG),
        (says("301 Moved\r\nlocation: /", ""), "QUEUED", LONG),
        (says("303 See Other\r\nlocation: /", ""), "UNKNOWN", LONG),
        (says("307 Temporary\r\nlocation: /", ""), "QUEUED", LONG),
        (says("400 Bad Request", RECIPIENT), "FAILED", NONE),
        (says("400 Bad Request", SENDER), "QUEUED", LONG),
        (says("401 Unauthorized", ""), "QUEUED", LONG),
        (says("403 Forbidden", ""), "QUEUED", LONG),
        (says("404 Not Found", ""), "QUEUED", LONG),
        (says("405 Not Allowed", ""), "QUEUED", LONG),
        (says("408 Timeout", ""), "QUEUED", NONE),
        (says("413 Too Large", ""), "FAILED", NONE),
        (says("425 Too Early", ""), "QUEUED", NONE),
        (says("429 Many\r\nretry-after: 20", ""), "QUEUED", 20),
        (says("500 Error", ""), "UNKNOWN", SHORT),
        (says("502 Bad Gateway", ""), "UNKNOWN", SHORT),
        (says("503 Unavailable", "<html>"), "UNKNOWN", SHORT),
        (Behaviour::UNAVAILABLE, "QUEUED", SHORT),
        (says("504 Timeout", ""), "UNKNOWN", SHORT),
        (Behaviour::HangUp, "UNKNOWN", SHORT),
        (Behaviour::Babble, "UNKNOWN", SHORT),
        (Behaviour::AcceptCutShort, "SENT", NONE),
    ];
    World::run(async |world| {
        let authority = Authority::new();
        let provider = Provider::start_with(&authority.issue(&["localhost"])).await;
        let authorities = Authorities::parse(authority.root.as_bytes()).unwrap();
        let mut options = provider.options(Mailing::immediate());
        let sendgrid = SendGrid::new(
            provider.url.parse().unwrap(),
            &authorities,
            None,
            Secret::new(API_KEY),
            Duration::from_secs(5),
        );
        options.provider = mail::Provider::SendGrid(sendgrid.unwrap());
        let (server, there) = world.mailing_replica(options).await;
        for (behaviour, state, pause) in table {
            provider.does(behaviour.clone());
            world.provider_works().await;
            one_email(world, &there).await;
            let email = world.newest_attempt().await;
            assert_eq!(
                email.state.as_deref(),
                Some(state),
                "{behaviour:?}: {email:?}"
            );
            let paused = world.pause_s("sendgrid").await;
            assert!(
                (pause - 5..=pause).contains(&paused),
                "{behaviour:?}: {paused} s"
            );
        }
        server.stop(PATIENCE).await;
    });
}

#[test]
fn plaintext_behind_the_reply_to_starttls_ends_the_session() {
    World::run(async |world| {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (read, mut write) = stream.split();
                    let mut lines = BufReader::new(read).lines();
                    write.write_all(b"220 mail\r\n").await.unwrap();
                    lines.next_line().await.unwrap();
                    write
                        .write_all(b"250-mail\r\n250 STARTTLS\r\n")
                        .await
                        .unwrap();
                    lines.next_line().await.unwrap();
                    // One packet: the reply, and a dialogue that nothing encrypts.
                    let injected =
                        b"220 go\r\n250 mail\r\n250 ok\r\n250 ok\r\n354 go\r\n250 queued\r\n";
                    write.write_all(injected).await.unwrap();
                    while lines.next_line().await.is_ok_and(|line| line.is_some()) {}
                });
            }
        });
        let (server, there) = world
            .mailing_replica(smtp(&format!("smtp://127.0.0.1:{port}")))
            .await;
        one_email(world, &there).await;
        let email = world.newest_attempt().await;
        assert_eq!(email.state.as_deref(), Some("QUEUED"));
        let error = email.error.unwrap();
        assert!(error.contains("plaintext before TLS"), "{error}");
        server.stop(PATIENCE).await;
    });
}

#[test]
fn a_reply_without_an_end_is_cut() {
    World::run(async |world| {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let sent = Arc::new(Mutex::new(0));
        let counter = Arc::clone(&sent);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let counter = Arc::clone(&counter);
                tokio::spawn(async move {
                    let block = [b'2'; 4096];
                    while stream.write_all(&block).await.is_ok() {
                        *counter.lock().unwrap() += block.len();
                    }
                });
            }
        });
        let options = smtp(&format!("smtp://127.0.0.1:{port}?tls=none"));
        let (server, there) = world.mailing_replica(options).await;
        one_email(world, &there).await;
        let email = world.newest_attempt().await;
        assert!(email.error.unwrap().contains("too long"));
        server.stop(PATIENCE).await;
        // The rest fills socket buffers only.
        assert!(*sent.lock().unwrap() < 32 << 20);
    });
}

/// A proxy that opens tunnels while `answer` is 200, and refuses them otherwise.
async fn proxy(answer: Arc<Mutex<&'static str>>) -> (u16, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let heads = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&heads);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (answer, heads) = (*answer.lock().unwrap(), Arc::clone(&kept));
            tokio::spawn(async move {
                let mut stream = BufReader::new(stream);
                let mut head = String::new();
                while !head.ends_with("\r\n\r\n") {
                    stream.read_line(&mut head).await.unwrap();
                }
                let target = head.split(' ').nth(1).unwrap().to_owned();
                heads.lock().unwrap().push(head);
                let reply = format!("HTTP/1.1 {answer}\r\n\r\n");
                stream.write_all(reply.as_bytes()).await.unwrap();
                if answer.starts_with("200") {
                    let mut onward = TcpStream::connect(target).await.unwrap();
                    let _ = copy_bidirectional(&mut stream, &mut onward).await;
                }
            });
        }
    });
    (port, heads)
}

#[test]
fn a_proxy_tunnels_requests_and_its_refusals_prove_that_nothing_left() {
    World::run(async |world| {
        let authority = Authority::new();
        let provider = Provider::start_with(&authority.issue(&["localhost"])).await;
        let answer = Arc::new(Mutex::new("200 Connection established"));
        let (port, heads) = proxy(Arc::clone(&answer)).await;
        let mut options = provider.options(Mailing::immediate());
        let sendgrid = SendGrid::new(
            provider.url.parse().unwrap(),
            &Authorities::parse(authority.root.as_bytes()).unwrap(),
            Some(Proxy::parse(&format!("http://ada:hunter2@127.0.0.1:{port}")).unwrap()),
            Secret::new(API_KEY),
            Duration::from_secs(5),
        );
        options.provider = mail::Provider::SendGrid(sendgrid.unwrap());
        let (server, there) = world.mailing_replica(options).await;
        for (says, state, pause) in [
            ("200 Connection established", "SENT", NONE),
            ("407 Proxy Authentication Required", "QUEUED", LONG),
            ("503 Service Unavailable", "QUEUED", SHORT),
        ] {
            *answer.lock().unwrap() = says;
            world.provider_works().await;
            one_email(world, &there).await;
            let email = world.newest_attempt().await;
            assert_eq!(email.state.as_deref(), Some(state), "{says}: {email:?}");
            let paused = world.pause_s("sendgrid").await;
            assert!((pause - 12..=pause).contains(&paused), "{says}: {paused} s");
        }
        assert_eq!(provider.received().len(), 1);
        let head = heads.lock().unwrap()[0].clone();
        let host = provider.url.replace("https://", "");
        assert!(
            head.starts_with(&format!("CONNECT {host} HTTP/1.1\r\n")),
            "{head}"
        );
        // printf ada:hunter2 | base64
        assert!(
            head.contains("Proxy-Authorization: Basic YWRhOmh1bnRlcjI=\r\n"),
            "{head}"
        );
        server.stop(PATIENCE).await;
    });
}
