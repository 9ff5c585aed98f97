//! The HTTP/1.1 server for Prometheus (`/metrics`) and for load balancers (`/livez`, `/readyz`).

use std::{
    collections::VecDeque,
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, OnceLock},
    time::Duration,
};

use http::{Method, Request, Response, StatusCode, header};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus::{Registry, TEXT_FORMAT, TextEncoder};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
    time::{sleep, timeout},
};

/// Maximum number of connections. A further connection closes the oldest one, so that silent
/// connections cannot block a scrape or a probe.
const MAX_CONNECTIONS: usize = 128;
/// How long a client may take to send a request, and between two requests.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// The maximum age of a connection.
const CONNECTION_TIMEOUT: Duration = Duration::from_hours(1);
/// The pause after a connection cannot be accepted.
const PAUSE: Duration = Duration::from_millis(100);

/// The sources of the answers.
#[derive(Clone)]
pub(super) struct Exposition {
    pub(super) registry: Registry,
    /// Whether the gRPC server is ready. Not set until it has started.
    pub(super) readiness: Arc<OnceLock<watch::Receiver<bool>>>,
}

/// Serves in the background until the process ends. Returns the address.
pub(super) async fn serve(
    address: SocketAddr,
    exposition: Exposition,
) -> Result<SocketAddr, std::io::Error> {
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    tokio::spawn(accept(listener, exposition));
    Ok(address)
}

async fn accept(listener: TcpListener, exposition: Exposition) {
    let mut connections: VecDeque<JoinHandle<()>> = VecDeque::new();
    loop {
        let connection = match listener.accept().await {
            Ok((connection, _)) => connection,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection for metrics");
                sleep(PAUSE).await;
                continue;
            }
        };
        connections.retain(|connection| !connection.is_finished());
        if connections.len() >= MAX_CONNECTIONS
            && let Some(oldest) = connections.pop_front()
        {
            oldest.abort();
        }
        let exposition = exposition.clone();
        connections.push_back(tokio::spawn(async move {
            // An error of a client has no consequence for the server.
            let serving = serve_connection(connection, exposition);
            let _ = timeout(CONNECTION_TIMEOUT, serving).await;
        }));
    }
}

async fn serve_connection(
    connection: TcpStream,
    exposition: Exposition,
) -> Result<(), hyper::Error> {
    let answer = service_fn(move |request: Request<Incoming>| {
        let response = exposition.answer(request.method(), request.uri().path());
        async move { Ok::<_, Infallible>(response) }
    });
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        // Rendering the metrics takes time: requests in a row on one connection would delay calls.
        .keep_alive(false)
        .serve_connection(TokioIo::new(connection), answer)
        .await
}

impl Exposition {
    fn answer(&self, method: &Method, path: &str) -> Response<String> {
        let (status, body) = match path {
            "/metrics" | "/livez" | "/readyz"
                if method != Method::GET && method != Method::HEAD =>
            {
                (
                    StatusCode::METHOD_NOT_ALLOWED,
                    "only GET is supported\n".to_owned(),
                )
            }
            "/metrics" => self.metrics(),
            "/livez" => (StatusCode::OK, "alive\n".to_owned()),
            "/readyz" if self.is_ready() => (StatusCode::OK, "ready\n".to_owned()),
            "/readyz" => (StatusCode::SERVICE_UNAVAILABLE, "not ready\n".to_owned()),
            _ => (
                StatusCode::NOT_FOUND,
                "the paths are /metrics, /livez and /readyz\n".to_owned(),
            ),
        };
        Response::builder()
            .status(status)
            .header(header::CONTENT_TYPE, TEXT_FORMAT)
            .body(body)
            .expect("the status and the header are valid")
    }

    fn metrics(&self) -> (StatusCode, String) {
        match TextEncoder::new().encode_to_string(&self.registry.gather()) {
            Ok(text) => (StatusCode::OK, text),
            Err(error) => {
                tracing::error!(%error, "cannot encode the metrics");
                (StatusCode::INTERNAL_SERVER_ERROR, String::new())
            }
        }
    }

    fn is_ready(&self) -> bool {
        self.readiness.get().is_some_and(|ready| *ready.borrow())
    }
}
