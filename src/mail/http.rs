//! Sends one HTTP request on a new connection.
//!
//! The other end may close a kept-alive connection at any time, and then it is unknown whether it
//! received the request. On a new connection, a failure before the first byte of the request proves
//! that nothing was received.

use std::{
    convert::Infallible,
    fmt,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use http_body_util::{BodyExt as _, Limited};
use hyper::{
    HeaderMap, Request, Response, StatusCode,
    body::{Body, Bytes, Frame, Incoming, SizeHint},
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

use super::{Authorities, Proxy, proxy::NoTunnel};

/// Maximum size of a response body that is read.
const MAX_ANSWER_BYTES: usize = 64 * 1024;
/// Time limit for connecting, where the limit for the whole request is longer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// An HTTP resource, and how to connect to its server.
#[derive(Clone)]
pub(super) struct Endpoint {
    url: Url,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    proxy: Option<Proxy>,
}

/// A response with any status.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    /// Whether the body of the request was handed to the connection before the response came. If it
    /// was not, the server cannot have accepted the request.
    pub(super) body_sent: bool,
    /// Empty if the body was too long or did not arrive in time.
    pub(super) body: Bytes,
}

/// Why there is no response.
pub(super) enum Failure {
    /// No byte of the request was sent.
    NotSent(String),
    /// No byte of the request was sent, and an operator has to change a setting.
    Misconfigured(String),
    /// The server may have received the whole request.
    NoAnswer(String),
    /// The request was not begun, because this process stops.
    Stopping,
}

impl From<NoTunnel> for Failure {
    fn from(no_tunnel: NoTunnel) -> Self {
        match no_tunnel {
            NoTunnel::Refused(why) => Self::Misconfigured(why),
            NoTunnel::Failed(why) => Self::NotSent(why),
        }
    }
}

impl Endpoint {
    /// With an `https` URL, the server's certificate must be issued by one of the `authorities`.
    ///
    /// # Errors
    ///
    /// Returns the expected form of the URL.
    pub(super) fn new(
        url: Url,
        authorities: &Authorities,
        proxy: Option<Proxy>,
    ) -> Result<Self, String> {
        let tls = match (url.scheme(), url.host()) {
            ("http", Some(_)) => None,
            ("https", Some(host)) => {
                let name = match host {
                    Host::Domain(name) => ServerName::try_from(name.to_owned())
                        .map_err(|_| format!("{name} is not a valid server name"))?,
                    Host::Ipv4(address) => ServerName::from(std::net::IpAddr::from(address)),
                    Host::Ipv6(address) => ServerName::from(std::net::IpAddr::from(address)),
                };
                Some((authorities.connector(), name))
            }
            _ => return Err("expected a URL that begins with https:// or http://".to_owned()),
        };
        // Without TLS a proxy could change the request, so it is not used.
        let proxy = proxy.filter(|_| tls.is_some());
        Ok(Self { url, tls, proxy })
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
        let body_sent = Arc::new(AtomicBool::new(false));
        let body = TrackedBody {
            data: Some(json.into()),
            sent: Arc::clone(&body_sent),
        };
        let request = self.request(authorization, body)?;
        let connecting = timeout(limit.min(CONNECT_TIMEOUT), self.connect());
        let mut sender = tokio::select! {
            connected = connecting => match connected {
                Ok(Ok(sender)) => sender,
                Ok(Err(failure)) => return Err(failure),
                Err(_elapsed) => return Err(Failure::NotSent("no connection within the time limit".to_owned())),
            },
            () = stopping.cancelled() => return Err(Failure::Stopping),
        };
        match timeout_at(until, sender.try_send_request(request)).await {
            Ok(Ok(response)) => {
                let body_sent = body_sent.load(Ordering::Acquire);
                Ok(read(response, body_sent, until).await)
            }
            Ok(Err(mut error)) => {
                // hyper returns the request only if it wrote no byte of it.
                let unwritten =
                    error.take_message().is_some() || !body_sent.load(Ordering::Acquire);
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

    fn request(
        &self,
        authorization: &str,
        body: TrackedBody,
    ) -> Result<Request<TrackedBody>, Failure> {
        let host = self.url.authority().rsplit('@').next().unwrap_or_default();
        Request::post(self.url.path())
            .header("host", host)
            .header("authorization", authorization)
            .header("content-type", "application/json")
            .header("connection", "close")
            .body(body)
            // The error's text would repeat the key.
            .map_err(|_| {
                Failure::NotSent(
                    "the key contains characters that a header cannot contain".to_owned(),
                )
            })
    }

    async fn connect(&self) -> Result<http1::SendRequest<TrackedBody>, Failure> {
        let host = self.url.host_str().unwrap_or_default();
        let port = self.url.port_or_known_default().unwrap_or_default();
        let stream = match &self.proxy {
            Some(proxy) => proxy.connect(host, port).await?,
            None => TcpStream::connect((host.trim_matches(['[', ']']), port))
                .await
                .map_err(not_sent)?,
        };
        // The whole request is one write, so Nagle's algorithm would only delay it.
        stream.set_nodelay(true).map_err(not_sent)?;
        match &self.tls {
            None => handshake(stream).await,
            Some((connector, name)) => {
                let stream = connector.connect(name.clone(), stream).await;
                handshake(stream.map_err(not_sent)?).await
            }
        }
    }
}

async fn handshake(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
) -> Result<http1::SendRequest<TrackedBody>, Failure> {
    let (sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(not_sent)?;
    // The task ends with the sender or the stream. A pending request receives the error.
    tokio::spawn(connection);
    Ok(sender)
}

fn not_sent(error: impl fmt::Display) -> Failure {
    Failure::NotSent(error.to_string())
}

async fn read(response: Response<Incoming>, body_sent: bool, until: Instant) -> Answer {
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
        body_sent,
        body,
    }
}

/// A body that notes when it is handed to the connection.
struct TrackedBody {
    data: Option<Bytes>,
    sent: Arc<AtomicBool>,
}

impl Body for TrackedBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let data = self.data.take();
        if data.is_some() {
            self.sent.store(true, Ordering::Release);
        }
        Poll::Ready(data.map(|data| Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        self.data.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        let length = self.data.as_ref().map_or(0, Bytes::len);
        SizeHint::with_exact(length as u64)
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint")
            .field("url", &self.url.as_str())
            .finish_non_exhaustive()
    }
}
