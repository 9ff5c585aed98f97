//! Certificates, and clients that speak TLS.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};
use rustls::{
    ClientConfig, DEFAULT_VERSIONS, RootCertStore, ServerConfig, SupportedProtocolVersion,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
};
use time::OffsetDateTime;
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::{
    codegen::{BoxFuture, Service},
    transport::{Channel, Endpoint, Uri},
};

use super::identity::Folder;

/// The name in the certificates of servers.
pub const SERVER_NAME: &str = "heist.internal";

/// A root and what it signs.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub root: String,
}

/// A certificate and its key, in PEM.
pub struct Identity {
    pub certificate: String,
    pub key: String,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let root = params.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(params, key);
        Self { issuer, root }
    }

    /// For these DNS names, or URIs where they look like such.
    pub fn issue(&self, names: &[&str]) -> Identity {
        self.issue_until(names, None)
    }

    /// A certificate that expires after this time.
    pub fn issue_for(&self, names: &[&str], time: Duration) -> Identity {
        self.issue_until(names, Some(OffsetDateTime::now_utc() + time))
    }

    fn issue_until(&self, names: &[&str], end: Option<OffsetDateTime>) -> Identity {
        let (uris, dns): (Vec<&str>, Vec<&str>) =
            names.iter().partition(|name| name.contains("://"));
        let dns: Vec<String> = dns.into_iter().map(str::to_owned).collect();
        let mut params = CertificateParams::new(dns).unwrap();
        for uri in uris {
            let uri = uri.try_into().unwrap();
            params.subject_alt_names.push(SanType::URI(uri));
        }
        if let Some(end) = end {
            params.not_after = end;
        }
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Identity {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        }
    }

    /// How a client trusts this authority, with a certificate or without.
    pub fn client(&self, identity: Option<&Identity>) -> Client {
        self.client_of(identity, DEFAULT_VERSIONS)
    }

    /// A client that speaks this version of TLS.
    pub fn client_with(
        &self,
        identity: Option<&Identity>,
        version: &'static SupportedProtocolVersion,
    ) -> Client {
        self.client_of(identity, &[version])
    }

    fn client_of(
        &self,
        identity: Option<&Identity>,
        versions: &[&'static SupportedProtocolVersion],
    ) -> Client {
        let mut roots = RootCertStore::empty();
        let root = CertificateDer::from_pem_slice(self.root.as_bytes()).unwrap();
        roots.add(root).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match identity {
            None => config.with_no_client_auth(),
            Some(Identity { certificate, key }) => {
                let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
                config
                    .with_client_auth_cert(vec![certificate], key)
                    .unwrap()
            }
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        Client(config)
    }
}

impl Identity {
    /// How a server shows it.
    pub fn server_config(&self) -> ServerConfig {
        let certificate = CertificateDer::from_pem_slice(self.certificate.as_bytes()).unwrap();
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).unwrap();
        ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .unwrap()
    }

    /// Writes both files, the certificate's first.
    pub fn files(&self, folder: &Folder) -> (PathBuf, PathBuf) {
        (
            folder.file("tls.crt", &self.certificate),
            folder.file("tls.key", &self.key),
        )
    }
}

/// A client that has yet to connect.
pub struct Client(pub ClientConfig);

impl Client {
    pub async fn connect(self, address: SocketAddr) -> Result<Channel, tonic::transport::Error> {
        let connector = Connector {
            address,
            tls: Arc::new(self.0).into(),
        };
        let endpoint = Endpoint::from_shared(format!("http://{address}"))?;
        endpoint.connect_with_connector(connector).await
    }
}

struct Connector {
    address: SocketAddr,
    tls: TlsConnector,
}

impl Service<Uri> for Connector {
    type Response = TokioIo<TlsStream<TcpStream>>;
    type Error = std::io::Error;
    type Future = BoxFuture<Self::Response, std::io::Error>;

    fn poll_ready(
        &mut self,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), std::io::Error>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let (address, tls) = (self.address, self.tls.clone());
        Box::pin(async move {
            let stream = TcpStream::connect(address).await?;
            let name = ServerName::try_from(SERVER_NAME).expect("a name");
            Ok(TokioIo::new(tls.connect(name, stream).await?))
        })
    }
}
