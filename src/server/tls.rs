//! TLS: the server's certificate, the verification of client certificates, and the handshakes.

use std::{
    io,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use rustls::{
    RootCertStore, ServerConfig,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::{NoServerSessionStorage, WebPkiClientVerifier},
    version::{TLS12, TLS13},
};
use tokio::{
    sync::{Semaphore, mpsc},
    time::timeout,
};
use tokio_rustls::TlsAcceptor;
use tokio_stream::{Stream, StreamExt as _, wrappers::ReceiverStream};
use tokio_util::sync::CancellationToken;

use super::{connection::Connection, limited_connection::LimitedConnection};
use crate::{
    auth,
    telemetry::{Part, permits_stranger},
    watched::{Watched, WatchedError, WatchedFile},
};

/// The time limit of a handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum number of concurrent handshakes. The server closes further connections, so that the
/// memory of silent connections is bounded.
const MAX_HANDSHAKES: usize = 1024;
/// The capacity of the queue of connections between the handshakes and the server.
const QUEUE: usize = 64;
/// The protocol of gRPC (RFC 7301).
const HTTP_2: &[u8] = b"h2";

/// The files of TLS, in PEM.
#[derive(Clone, Debug)]
pub struct TlsOptions {
    /// The server's certificate and its intermediate certificates.
    pub certificate: WatchedFile,
    pub key: WatchedFile,
    /// The roots of client certificates; `None`: the server does not request any.
    pub client_ca: Option<WatchedFile>,
}

/// The configuration of handshakes.
pub(super) struct TlsConfig {
    server: Arc<ServerConfig>,
    /// Cancelled when the roots of client certificates change.
    roots_changed: CancellationToken,
}

/// The last roots of client certificates, in PEM, with the token of their end.
#[derive(Default)]
struct LastRoots(Mutex<Option<(Vec<u8>, CancellationToken)>>);

impl LastRoots {
    /// The token of these roots. If they differ from the last ones, cancels the token of those.
    fn token_of(&self, pem: &[u8]) -> CancellationToken {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &*last {
            Some((same, token)) if same == pem => token.clone(),
            other => {
                if let Some((_, token)) = other {
                    token.cancel();
                }
                let token = CancellationToken::new();
                *last = Some((pem.to_owned(), token.clone()));
                token
            }
        }
    }
}

/// The configuration of handshakes, which follows changes of the files. If the roots of client
/// certificates change, connections with a client certificate end, so that their callers present it
/// to the new roots.
///
/// # Errors
///
/// A file cannot be read, or the files do not fit together.
pub(super) async fn open(options: TlsOptions) -> Result<Watched<TlsConfig>, WatchedError> {
    let TlsOptions {
        certificate,
        key,
        client_ca,
    } = options;
    let files = [Some(certificate), Some(key), client_ca];
    let files: Vec<WatchedFile> = files.into_iter().flatten().collect();
    let names: Vec<String> = files.iter().map(ToString::to_string).collect();
    let last_roots = LastRoots::default();
    let parse = move |contents: &[Vec<u8>]| {
        let server = Arc::new(server_config(contents, &names)?);
        let roots = contents.get(2);
        let roots_changed =
            roots.map_or_else(CancellationToken::new, |pem| last_roots.token_of(pem));
        Ok(TlsConfig {
            server,
            roots_changed,
        })
    };
    Watched::open("the certificates of TLS", files, parse).await
}

fn server_config(contents: &[Vec<u8>], names: &[String]) -> Result<ServerConfig, String> {
    let chain = certificates(&contents[0]).map_err(|error| format!("{}: {error}", names[0]))?;
    if auth::certificate_end(&chain[0]).is_some_and(|end| end <= SystemTime::now()) {
        tracing::warn!(file = names[0], "the server's certificate has expired");
    }
    let key = PrivateKeyDer::from_pem_slice(&contents[1])
        .map_err(|error| format!("{}: expected a private key in PEM: {error}", names[1]))?;
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(|error| error.to_string())?;
    let builder = match contents.get(2) {
        None => builder.with_no_client_auth(),
        Some(roots) => {
            let roots = roots_of(roots).map_err(|error| format!("{}: {error}", names[2]))?;
            builder.with_client_cert_verifier(client_verifier(roots, provider)?)
        }
    };
    let mut config = builder.with_single_cert(chain, key).map_err(|error| {
        let (certificate, key) = (&names[0], &names[1]);
        format!("{certificate} and {key} cannot be used together: {error}")
    })?;
    config.alpn_protocols = vec![HTTP_2.to_vec()];
    if contents.len() > 2 {
        // A resumed session would not verify the client certificate again, which may have expired
        // or lost its root since.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    }
    Ok(config)
}

/// Verifies client certificates and accepts connections without one. The `Authenticate` layer decides
/// whether a call needs a certificate: health probes have none.
fn client_verifier(
    roots: RootCertStore,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn rustls::server::danger::ClientCertVerifier>, String> {
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
        .allow_unauthenticated()
        .build()
        .map_err(|error| error.to_string())
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) => Err("expected certificates in PEM".to_owned()),
        Err(error) => Err(format!("expected certificates in PEM: {error}")),
    }
}

fn roots_of(pem: &[u8]) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(pem)? {
        roots.add(certificate).map_err(|error| error.to_string())?;
    }
    Ok(roots)
}

/// Returns the connections whose handshake is done. Each handshake runs in a task of its own, so
/// that a slow one does not delay others. It uses the newest certificates.
pub(super) fn handshakes(
    mut incoming: impl Stream<Item = io::Result<LimitedConnection>> + Send + Unpin + 'static,
    certificates: Watched<TlsConfig>,
) -> ReceiverStream<io::Result<Connection>> {
    let (ready, connections) = mpsc::channel(QUEUE);
    let handshakes = Arc::new(Semaphore::new(MAX_HANDSHAKES));
    tokio::spawn(async move {
        loop {
            let accepted = tokio::select! {
                accepted = incoming.next() => accepted,
                () = ready.closed() => return,
            };
            let stream = match accepted {
                Some(Ok(stream)) => stream,
                Some(Err(error)) => {
                    // tonic decides whether it continues after the error.
                    if ready.send(Err(error)).await.is_err() {
                        return;
                    }
                    continue;
                }
                None => return,
            };
            let address = stream.address();
            let Ok(permit) = Arc::clone(&handshakes).try_acquire_owned() else {
                let limit = format!("{MAX_HANDSHAKES} handshakes are in progress");
                log_failure("TOO_MANY", &limit, address);
                continue;
            };
            let config = certificates.newest();
            let acceptor = TlsAcceptor::from(Arc::clone(&config.server));
            let ready = ready.clone();
            tokio::spawn(async move {
                let handshake = timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await;
                drop(permit);
                match handshake {
                    Ok(Ok(stream)) => {
                        // An error means that the server has stopped.
                        let _ = ready
                            .send(Ok(Connection::tls(stream, &config.roots_changed)))
                            .await;
                    }
                    // A load balancer that only tries whether the port is open.
                    Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {}
                    Ok(Err(error)) => log_failure("FAILED", &error.to_string(), address),
                    Err(_elapsed) => log_failure("TIMED_OUT", "it took too long", address),
                }
            });
        }
    });
    ReceiverStream::new(connections)
}

/// Logs the first failed handshake of an address in a minute, and the number of further ones.
fn log_failure(reason: &str, error: &str, address: Option<IpAddr>) {
    const EVENT: &str = "HANDSHAKE_FAILED";
    if permits_stranger(Part::Main, EVENT, reason, address) {
        let address = address.map(tracing::field::display);
        tracing::warn!(event = EVENT, reason, error, ipAddress = address);
    }
}
