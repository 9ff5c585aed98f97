//! Sends one HTTP request on a new connection.
//!
//! The other end may close a kept-alive connection at any time, and then it is unknown whether it
//! received the request. On a new connection, a failure before the first byte of the request proves
//! that nothing was received.

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

/// Maximum size of a response body that is read.
const MAX_ANSWER_BYTES: usize = 64 * 1024;
/// Time limit for connecting, where the limit for the whole request is longer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// An HTTP resource, and how to connect to its server.
#[derive(Clone)]
pub(super) struct Endpoint {
    url: Url,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

/// A response with any status.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    /// Empty if the body was too long or did not arrive in time.
    pub(super) body: Bytes,
}

/// Why there is no response.
pub(super) enum Failure {
    /// No byte of the request was sent.
    NotSent(String),
    /// The server may have received the whole request.
    NoAnswer(String),
    /// The request was not begun, because this process stops.
    Stopping,
}

impl Endpoint {
    /// With an `https` URL, the server's certificate must be issued by one of the `authorities`.
    ///
    /// # Errors
    ///
    /// Returns the expected form of the URL.
    pub(super) fn new(url: Url, authorities: &Authorities) -> Result<Self, String> {
        let tls = match (url.scheme(), url.host()) {
            ("http", Some(_)) => None,
            ("https", Some(host)) => {
                let name = match host {
                    Host::Domain(name) => ServerName::try_from(name.to_owned())
                        .map_err(|_| format!("{name} is not a valid server name"))?,
                    Host::Ipv4(address) => ServerName::from(std::net::IpAddr::from(address)),
                    Host::Ipv6(address) => ServerName::from(std::net::IpAddr::from(address)),
                };
                Some((authorities.for_http(), name))
            }
            _ => return Err("expected a URL that begins with https:// or http://".to_owned()),
        };
        Ok(Self { url, tls })
    }

    /// Posts JSON within `limit`. When `stopping` is cancelled before the request is written, it is
    /// given up.
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
                Err(_elapsed) => return Err(Failure::NotSent("no connection within the time limit".to_owned())),
            },
            () = stopping.cancelled() => return Err(Failure::Stopping),
        };
        match timeout_at(until, sender.try_send_request(request)).await {
            Ok(Ok(response)) => Ok(read(response, until).await),
            Ok(Err(mut error)) => {
                // hyper returns the request only if it wrote no byte of it.
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
            // The error's text would repeat the key.
            .map_err(|_| {
                Failure::NotSent(
                    "the key contains characters that a header cannot contain".to_owned(),
                )
            })
    }

    async fn connect(&self) -> Result<http1::SendRequest<Full<Bytes>>, String> {
        let host = self.url.host_str().unwrap_or_default();
        let port = self.url.port_or_known_default().unwrap_or_default();
        let stream = TcpStream::connect((host.trim_matches(['[', ']']), port))
            .await
            .map_err(|error| error.to_string())?;
        // The whole request is one write, so Nagle's algorithm would only delay it.
        stream
            .set_nodelay(true)
            .map_err(|error| error.to_string())?;
        match &self.tls {
            None => handshake(stream).await,
            Some((connector, name)) => {
                let stream = connector.connect(name.clone(), stream).await;
                handshake(stream.map_err(|error| error.to_string())?).await
            }
        }
    }
}

async fn handshake(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
) -> Result<http1::SendRequest<Full<Bytes>>, String> {
    let (sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| error.to_string())?;
    // The task ends with the sender or the stream. A pending request receives the error.
    tokio::spawn(connection);
    Ok(sender)
}

async fn read(response: Response<Incoming>, until: Instant) -> Answer {
    let (head, body) = response.into_parts();
    let body = timeout_at(until, Limited::new(body, MAX_ANSWER_BYTES).collect()).await;
    let body = match body {
        Ok(Ok(body)) => body.to_bytes(),
        // The status alone decides the outcome.
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
