//! One HTTP request on a connection of its own.
//!
//! A connection that lives on may be closed by the other end at any time, and then nobody can tell
//! whether a request on it was heard. On a new one, everything that fails before the request is
//! written surely did not leave.

use std::{fmt, time::Duration};

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{
    HeaderMap, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    client::conn::http1,
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::{Instant, timeout, timeout_at},
};
use tokio_rustls::{TlsConnector, rustls::pki_types::ServerName};
use tokio_util::sync::CancellationToken;
use url::{Host, Url};

use super::Authorities;

/// The most of an answer that is looked at.
const MAX_ANSWER_BYTES: usize = 64 * 1024;
/// How long a connection may take, where the whole may take longer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// An HTTP server, and how to reach it.
#[derive(Clone)]
pub(super) struct Endpoint {
    url: Url,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

/// An answer, whatever it says.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    /// Empty where it was too long, or did not arrive in time.
    pub(super) body: Bytes,
}

/// Why there is no answer.
pub(super) enum Failure {
    /// Nothing has left.
    NotSent(String),
    /// Everything may have left.
    NoAnswer(String),
    /// It was not begun, because the server stops.
    Stopping,
}

impl Endpoint {
    /// `url` is where it is, with the path of what is posted there. Where that is HTTPS, its
    /// certificate has to be of one of the `authorities`.
    ///
    /// # Errors
    ///
    /// Says what is expected of a URL.
    pub(super) fn new(url: Url, authorities: &Authorities) -> Result<Self, String> {
        let tls = match (url.scheme(), url.host()) {
            ("http", Some(_)) => None,
            ("https", Some(host)) => {
                let name = match host {
                    Host::Domain(name) => ServerName::try_from(name.to_owned())
                        .map_err(|_| format!("{name} is no name of a server"))?,
                    Host::Ipv4(address) => ServerName::from(std::net::IpAddr::from(address)),
                    Host::Ipv6(address) => ServerName::from(std::net::IpAddr::from(address)),
                };
                Some((authorities.for_http(), name))
            }
            _ => return Err("expected a URL that begins with https:// or http://".to_owned()),
        };
        Ok(Self { url, tls })
    }

    /// Posts JSON. Takes `limit` at the most. Until the request is written, it is given up when
    /// the server is `stopping`.
    pub(super) async fn post(
        &self,
        authorization: &str,
        json: Vec<u8>,
        limit: Duration,
        stopping: &CancellationToken,
    ) -> Result<Answer, Failure> {
        let until = Instant::now() + limit;
        let request = self.request(authorization, json)?;
        let connecting = timeout(limit.min(CONNECT_TIMEOUT), self.connect());
        let mut sender = tokio::select! {
            connected = connecting => match connected {
                Ok(Ok(sender)) => sender,
                Ok(Err(error)) => return Err(Failure::NotSent(error)),
                Err(_elapsed) => return Err(Failure::NotSent("no connection in time".to_owned())),
            },
            () = stopping.cancelled() => return Err(Failure::Stopping),
        };
        match timeout_at(until, sender.try_send_request(request)).await {
            Ok(Ok(response)) => Ok(read(response, until).await),
            Ok(Err(mut error)) => {
                // Handed back: not a byte of it was written.
                let unwritten = error.take_message().is_some();
                let why = error.into_error().to_string();
                Err(if unwritten {
                    Failure::NotSent(why)
                } else {
                    Failure::NoAnswer(why)
                })
            }
            Err(_elapsed) => Err(Failure::NoAnswer(format!(
                "none within {}",
                humantime::format_duration(limit)
            ))),
        }
    }

    fn request(&self, authorization: &str, json: Vec<u8>) -> Result<Request<Full<Bytes>>, Failure> {
        let host = self.url.authority().rsplit('@').next().unwrap_or_default();
        Request::post(self.url.path())
            .header("host", host)
            .header("authorization", authorization)
            .header("content-type", "application/json")
            .header("connection", "close")
            .body(Full::from(json))
            // The error would repeat the key.
            .map_err(|_| Failure::NotSent("the key cannot be put into a header".to_owned()))
    }

    async fn connect(&self) -> Result<http1::SendRequest<Full<Bytes>>, String> {
        let host = self.url.host_str().unwrap_or_default();
        let port = self.url.port_or_known_default().unwrap_or_default();
        let stream = TcpStream::connect((host.trim_matches(['[', ']']), port))
            .await
            .map_err(|error| error.to_string())?;
        // The whole request is one write: it should not wait for more.
        stream
            .set_nodelay(true)
            .map_err(|error| error.to_string())?;
        match &self.tls {
            None => speak_http(stream).await,
            Some((connector, name)) => {
                let stream = connector.connect(name.clone(), stream).await;
                speak_http(stream.map_err(|error| error.to_string())?).await
            }
        }
    }
}

async fn speak_http(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
) -> Result<http1::SendRequest<Full<Bytes>>, String> {
    let (sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| error.to_string())?;
    // Ends with the sender, or with the stream; whoever waits for an answer is told why.
    tokio::spawn(connection);
    Ok(sender)
}

async fn read(response: Response<Incoming>, until: Instant) -> Answer {
    let (head, body) = response.into_parts();
    let body = timeout_at(until, Limited::new(body, MAX_ANSWER_BYTES).collect()).await;
    let body = match body {
        Ok(Ok(body)) => body.to_bytes(),
        // The status has said what matters.
        Ok(Err(_)) | Err(_) => Bytes::new(),
    };
    Answer {
        status: head.status,
        headers: head.headers,
        body,
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint")
            .field("url", &self.url.as_str())
            .finish_non_exhaustive()
    }
}
