//! `/metrics` for Prometheus, over HTTP/1.1.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use http::{Method, Request, Response, StatusCode, header};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus::{Registry, TEXT_FORMAT, TextEncoder};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::{sleep, timeout},
};

/// Maximum number of connections. A Prometheus server keeps one open.
const MAX_CONNECTIONS: usize = 32;
/// How long a client may take to send a request, and between two requests.
const HEADER_TIMEOUT: Duration = Duration::from_mins(2);
/// The maximum age of a connection.
const CONNECTION_TIMEOUT: Duration = Duration::from_hours(1);
/// The pause after a connection cannot be accepted.
const PAUSE: Duration = Duration::from_millis(100);

/// Serves `/metrics` in the background until the process ends. Returns the address.
pub(super) async fn serve(
    address: SocketAddr,
    registry: Registry,
) -> Result<SocketAddr, std::io::Error> {
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    tokio::spawn(accept(listener, registry));
    Ok(address)
}

async fn accept(listener: TcpListener, registry: Registry) {
    let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let permit = Arc::clone(&connections).acquire_owned().await;
        let connection = match listener.accept().await {
            Ok((connection, _)) => connection,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection for metrics");
                sleep(PAUSE).await;
                continue;
            }
        };
        let registry = registry.clone();
        tokio::spawn(async move {
            let _permit = permit;
            // An error of a client has no consequence for the server.
            let _ = timeout(CONNECTION_TIMEOUT, serve_connection(connection, registry)).await;
        });
    }
}

async fn serve_connection(connection: TcpStream, registry: Registry) -> Result<(), hyper::Error> {
    let answer = service_fn(move |request| {
        let response = answer(&request, &registry);
        async move { Ok::<_, Infallible>(response) }
    });
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(connection), answer)
        .await
}

fn answer(request: &Request<Incoming>, registry: &Registry) -> Response<String> {
    let (status, body) = match (request.method(), request.uri().path()) {
        (&Method::GET, "/metrics") => match TextEncoder::new().encode_to_string(&registry.gather())
        {
            Ok(text) => (StatusCode::OK, text),
            Err(error) => {
                tracing::error!(%error, "cannot encode the metrics");
                (StatusCode::INTERNAL_SERVER_ERROR, String::new())
            }
        },
        (_, "/metrics") => (
            StatusCode::METHOD_NOT_ALLOWED,
            "only GET is answered\n".into(),
        ),
        _ => (StatusCode::NOT_FOUND, "metrics are at /metrics\n".into()),
    };
    Response::builder()
        .status(status)
        .header(header::CONTENT_TYPE, TEXT_FORMAT)
        .body(body)
        .expect("a status and a header that are known")
}
