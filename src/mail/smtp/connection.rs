//! A connection to an SMTP server: commands, replies and TLS.

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, rustls::pki_types::ServerName};

use super::{reply::Reply, server::Credentials};

/// Maximum number of challenges of AUTH LOGIN and AUTH PLAIN before the final reply.
const MAX_CHALLENGES: usize = 3;

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A connection to an SMTP server. Bytes that arrived before TLS are never read as replies after
/// it.
pub(super) struct Connection {
    stream: BufReader<Box<dyn Stream>>,
    extensions: Vec<String>,
}

/// Why the connection cannot be used any more.
pub(super) struct Broken(pub(super) String);

/// The result of authentication.
pub(super) enum Authentication {
    Accepted,
    Refused(Reply),
    /// The server offers none of the mechanisms that we know.
    NotOffered,
}

impl Connection {
    pub(super) async fn open(host: &str, port: u16) -> Result<Self, Broken> {
        let stream = TcpStream::connect((host, port)).await.map_err(broken)?;
        // Commands are small, and each waits for its reply.
        stream.set_nodelay(true).map_err(broken)?;
        Ok(Self::over(Box::new(stream)))
    }

    fn over(stream: Box<dyn Stream>) -> Self {
        Self {
            stream: BufReader::new(stream),
            extensions: Vec::new(),
        }
    }

    /// Continues with TLS. The extensions that the server announced before TLS are forgotten.
    pub(super) async fn encrypt(
        self,
        connector: &TlsConnector,
        host: &str,
    ) -> Result<Self, Broken> {
        if !self.stream.buffer().is_empty() {
            return Err(Broken("the server sent plaintext before TLS".to_owned()));
        }
        let name = ServerName::try_from(host.to_owned()).map_err(broken)?;
        let stream = connector.connect(name, self.stream.into_inner()).await;
        Ok(Self::over(Box::new(stream.map_err(broken)?)))
    }

    pub(super) async fn read(&mut self) -> Result<Reply, Broken> {
        Reply::read(&mut self.stream).await.map_err(Broken)
    }

    /// Sends one line and reads its reply.
    pub(super) async fn command(&mut self, line: &str) -> Result<Reply, Broken> {
        match self.write(format!("{line}\r\n").as_bytes()).await {
            Ok(()) => self.read().await,
            // A server that closes the connection may have sent the reason before.
            Err(broken) => self.read().await.map_err(|_| broken),
        }
    }

    pub(super) async fn write(&mut self, bytes: &[u8]) -> Result<(), Broken> {
        let stream = self.stream.get_mut();
        stream.write_all(bytes).await.map_err(broken)?;
        stream.flush().await.map_err(broken)
    }

    /// Sends EHLO, or HELO if the server does not know EHLO. Returns the server's refusal, if any.
    pub(super) async fn hello(&mut self, name: &str) -> Result<Option<Reply>, Broken> {
        let reply = self.command(&format!("EHLO {name}")).await?;
        match reply.code {
            250 => {
                let extensions = reply.lines.into_iter().skip(1);
                self.extensions = extensions.map(|it| it.to_ascii_uppercase()).collect();
                Ok(None)
            }
            // The server does not know EHLO.
            500 | 502 | 504 => {
                self.extensions.clear();
                let reply = self.command(&format!("HELO {name}")).await?;
                Ok((reply.code != 250).then_some(reply))
            }
            _ => Ok(Some(reply)),
        }
    }

    /// Whether the server announced this extension. Keywords are case-insensitive.
    pub(super) fn offers(&self, keyword: &str) -> bool {
        (self.extensions.iter()).any(|it| it.split_whitespace().next() == Some(keyword))
    }

    fn offers_mechanism(&self, mechanism: &str) -> bool {
        // Some servers write `AUTH=LOGIN`.
        (self.extensions.iter())
            .filter_map(|it| it.strip_prefix("AUTH"))
            .any(|it| (it.split([' ', '=', '\t'])).any(|word| word == mechanism))
    }

    /// Authenticates with PLAIN or, if the server does not offer it, LOGIN.
    pub(super) async fn authenticate(
        &mut self,
        credentials: &Credentials,
    ) -> Result<Authentication, Broken> {
        let Credentials { user, password } = credentials;
        let password = password.reveal();
        let plain = BASE64.encode(format!("\0{user}\0{password}"));
        let (command, answers) = if self.offers_mechanism("PLAIN") {
            // A server that ignores the initial response asks for it again.
            (format!("AUTH PLAIN {plain}"), vec![plain])
        } else if self.offers_mechanism("LOGIN") {
            let answers = vec![BASE64.encode(user), BASE64.encode(password)];
            ("AUTH LOGIN".to_owned(), answers)
        } else {
            return Ok(Authentication::NotOffered);
        };
        let mut reply = self.command(&command).await?;
        for answer in answers.iter().take(MAX_CHALLENGES) {
            if reply.code != 334 {
                break;
            }
            reply = self.command(answer).await?;
        }
        match reply.code {
            // 235, and 250 from servers that do not follow RFC 4954.
            200..300 => Ok(Authentication::Accepted),
            _ => Ok(Authentication::Refused(reply)),
        }
    }
}

fn broken(error: impl std::fmt::Display) -> Broken {
    Broken(error.to_string())
}
