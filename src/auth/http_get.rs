//! Fetches a small document with HTTP GET, on a new connection.

use std::{net::IpAddr, sync::Arc, time::Duration};

use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::{
    HeaderMap, Request,
    body::Bytes,
    client::conn::http1,
    header::{ACCEPT, AGE, CACHE_CONTROL, CONNECTION, HOST, USER_AGENT},
};
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;
use url::{Host, Url};

const MAX_BYTES: usize = 256 * 1024;

/// Connects to servers whose certificates are issued by a public authority or by a given one.
pub(super) struct Client(TlsConnector);

/// A document, and how long it may be cached.
pub(super) struct Document {
    pub(super) body: Vec<u8>,
    pub(super) lifetime: Option<Duration>,
}

/// Checks that a document of this URL cannot be forged on the way: `https`, or `http` on this host.
pub(super) fn check(url: &Url) -> Result<(), String> {
    let is_local = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => return Err(expected()),
    };
    match url.scheme() {
        "https" => Ok(()),
        "http" if is_local => Ok(()),
        _ => Err(expected()),
    }
}

pub(super) fn expected() -> String {
    "expected a URL that begins with https://; http:// is allowed for this host".to_owned()
}

pub(super) fn without_password(url: &Url) -> String {
    let mut url = url.clone();
    // Both fail only for URLs without a host, which have no password.
    let _ = url.set_password(None);
    let _ = url.set_username("");
    url.set_query(None);
    url.to_string()
}

impl Client {
    /// Trusts the authorities in `roots` (PEM) besides the public ones.
    pub(super) fn new(roots: &[u8]) -> Result<Self, String> {
        let mut trusted = RootCertStore::empty();
        trusted.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        for certificate in CertificateDer::pem_slice_iter(roots) {
            let certificate =
                certificate.map_err(|error| format!("expected certificates in PEM: {error}"))?;
            trusted
                .add(certificate)
                .map_err(|error| error.to_string())?;
        }
        if !roots.is_empty() && trusted.len() == webpki_roots::TLS_SERVER_ROOTS.len() {
            return Err("expected certificates in PEM".to_owned());
        }
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("ring supports TLS 1.2 and 1.3")
            .with_root_certificates(trusted)
            .with_no_client_auth();
        Ok(Self(Arc::new(config).into()))
    }

    /// Has no time limit: the caller sets it.
    pub(super) async fn get(&self, url: &Url) -> Result<Document, String> {
        let source = without_password(url);
        let named = |error: String| format!("{source}: {error}");
        self.request(url).await.map_err(named)
    }

    async fn request(&self, url: &Url) -> Result<Document, String> {
        let host = url.host().ok_or_else(expected)?;
        let port = url.port_or_known_default().ok_or_else(expected)?;
        let name = match &host {
            Host::Domain(name) => (*name).to_owned(),
            Host::Ipv4(address) => address.to_string(),
            Host::Ipv6(address) => address.to_string(),
        };
        let stream = TcpStream::connect((name.as_str(), port)).await;
        let stream = stream.map_err(|error| format!("cannot connect: {error}"))?;
        if url.scheme() == "http" {
            return exchange(stream, url).await;
        }
        let server = match name.parse::<IpAddr>() {
            Ok(address) => ServerName::from(address),
            Err(_) => ServerName::try_from(name).map_err(|error| error.to_string())?,
        };
        let stream = self.0.connect(server, stream).await;
        exchange(stream.map_err(|error| format!("TLS: {error}"))?, url).await
    }
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    url: &Url,
) -> Result<Document, String> {
    let as_text = |error: hyper::Error| error.to_string();
    let path = match url.query() {
        Some(query) => format!("{}?{query}", url.path()),
        None => url.path().to_owned(),
    };
    let authority = url.authority().rsplit('@').next().unwrap_or_default();
    let request = Request::get(path)
        .header(HOST, authority)
        .header(ACCEPT, "application/json")
        .header(USER_AGENT, "heist")
        .header(CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| error.to_string())?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(as_text)?;
    // The task ends with the sender.
    tokio::spawn(connection);
    let (head, body) = sender
        .send_request(request)
        .await
        .map_err(as_text)?
        .into_parts();
    if !head.status.is_success() {
        return Err(format!("answered {}", head.status));
    }
    let body = Limited::new(body, MAX_BYTES).collect().await;
    let body = body.map_err(|error| error.to_string())?.to_bytes();
    Ok(Document {
        body: body.to_vec(),
        lifetime: lifetime(&head.headers),
    })
}

/// The remaining cache lifetime (RFC 9111), if the server gives one.
fn lifetime(headers: &HeaderMap) -> Option<Duration> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let directives = text(CACHE_CONTROL)?.split(',').map(str::trim);
    let mut lifetime = None;
    for directive in directives {
        if directive.eq_ignore_ascii_case("no-store") || directive.eq_ignore_ascii_case("no-cache")
        {
            return Some(Duration::ZERO);
        }
        if let Some((name, seconds)) = directive.split_once('=')
            && name.eq_ignore_ascii_case("max-age")
        {
            lifetime = seconds
                .trim_matches('"')
                .parse()
                .ok()
                .map(Duration::from_secs);
        }
    }
    let age = text(AGE)
        .and_then(|age| age.parse().ok())
        .unwrap_or_default();
    Some(lifetime?.saturating_sub(Duration::from_secs(age)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_lifetime_follows_the_headers() {
        for (cache_control, age, seconds) in [
            ("public, max-age=600", "", Some(600)),
            ("max-age=\"600\"", "60", Some(540)),
            ("max-age=600", "700", Some(0)),
            ("no-cache, max-age=600", "", Some(0)),
            ("private", "", None),
            ("max-age=soon", "", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(CACHE_CONTROL, cache_control.parse().unwrap());
            if !age.is_empty() {
                headers.insert(AGE, age.parse().unwrap());
            }
            assert_eq!(
                lifetime(&headers),
                seconds.map(Duration::from_secs),
                "{cache_control}"
            );
        }
    }

    #[test]
    fn a_message_has_neither_password_nor_query() {
        let url = "https://user:hunter2@login.example.com/keys?secret=hunter2"
            .parse()
            .unwrap();
        assert_eq!(without_password(&url), "https://login.example.com/keys");
    }
}
