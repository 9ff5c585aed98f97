//! An HTTP proxy between this server and a provider: `HTTPS_PROXY`.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use percent_encoding::percent_decode_str;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
};
use url::Url;

use super::Secret;

/// Maximum size of a proxy's answer to CONNECT.
const MAX_ANSWER_BYTES: u64 = 16 * 1024;

/// Why a proxy opened no tunnel.
pub(super) enum NoTunnel {
    /// The proxy refuses the credentials, or needs some: an operator has to change a setting.
    Refused(String),
    /// The proxy cannot be reached, or cannot reach the host.
    Failed(String),
}

/// A proxy that opens tunnels with CONNECT. It sees the host name, and never the content.
#[derive(Clone)]
pub struct Proxy {
    host: String,
    port: u16,
    /// The value of `Proxy-Authorization`.
    authorization: Option<Secret>,
}

impl Proxy {
    /// Parses the value of `HTTPS_PROXY`.
    ///
    /// # Errors
    ///
    /// Returns the expected form. The text repeats nothing of the URL, which may contain a
    /// password.
    pub fn parse(url: &str) -> Result<Self, String> {
        Self::parsed(url).ok_or_else(|| {
            "expected a URL such as http://proxy.example.com:3128 or \
             http://user:password@proxy.example.com:3128"
                .to_owned()
        })
    }

    fn parsed(url: &str) -> Option<Self> {
        let with_scheme = if url.contains("://") {
            url.to_owned()
        } else {
            format!("http://{url}")
        };
        let url = Url::parse(&with_scheme).ok()?;
        if url.scheme() != "http" || !matches!(url.path(), "" | "/") || url.query().is_some() {
            return None;
        }
        let decoded = |text| percent_decode_str(text).decode_utf8().ok();
        let authorization = match (url.username(), url.password()) {
            ("", None) => None,
            (user, password) => {
                let user = decoded(user)?;
                let password = decoded(password.unwrap_or_default())?;
                let credentials = BASE64.encode(format!("{user}:{password}"));
                Some(Secret::new(&format!("Basic {credentials}")))
            }
        };
        Some(Self {
            host: url.host_str()?.trim_matches(['[', ']']).to_owned(),
            port: url.port_or_known_default()?,
            authorization,
        })
    }

    /// Whether `no_proxy`, a value of `NO_PROXY`, excludes this host: `*`, or a list of names that
    /// also exclude their subdomains.
    #[must_use]
    pub fn is_excluded(no_proxy: &str, host: &str) -> bool {
        let host = host.to_ascii_lowercase();
        (no_proxy.split(','))
            .map(|it| it.trim().trim_start_matches('.').to_ascii_lowercase())
            .filter(|it| !it.is_empty())
            .any(|it| it == "*" || host == it || host.ends_with(&format!(".{it}")))
    }

    /// Opens a tunnel. No byte of a request is sent before it is open.
    pub(super) async fn connect(&self, host: &str, port: u16) -> Result<TcpStream, NoTunnel> {
        let stream = TcpStream::connect((self.host.as_str(), self.port))
            .await
            .map_err(failed)?;
        let mut stream = BufReader::new(stream);
        let mut request = format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n");
        if let Some(authorization) = &self.authorization {
            for part in ["Proxy-Authorization: ", authorization.reveal(), "\r\n"] {
                request += part;
            }
        }
        request += "\r\n";
        stream.write_all(request.as_bytes()).await.map_err(failed)?;
        let status = status(&mut stream).await?;
        match status {
            200..300 if stream.buffer().is_empty() => Ok(stream.into_inner()),
            407 => Err(NoTunnel::Refused(
                "the proxy refuses the credentials: HTTP 407".to_owned(),
            )),
            _ => Err(NoTunnel::Failed(format!("the proxy answers HTTP {status}"))),
        }
    }
}

/// Reads the head of the answer.
async fn status(stream: &mut BufReader<TcpStream>) -> Result<u16, NoTunnel> {
    let mut head = stream.take(MAX_ANSWER_BYTES);
    let mut first = Vec::new();
    head.read_until(b'\n', &mut first).await.map_err(failed)?;
    loop {
        let mut line = Vec::new();
        let read = head.read_until(b'\n', &mut line).await.map_err(failed)?;
        match line.trim_ascii() {
            b"" if read > 0 => break,
            b"" => return Err(NoTunnel::Failed("the proxy gives no answer".to_owned())),
            _ => {}
        }
    }
    (std::str::from_utf8(&first).ok())
        .filter(|line| line.starts_with("HTTP/1."))
        .and_then(|line| line.split_whitespace().nth(1)?.parse().ok())
        .ok_or_else(|| NoTunnel::Failed("the proxy does not speak HTTP".to_owned()))
}

fn failed(error: impl fmt::Display) -> NoTunnel {
    NoTunnel::Failed(format!("the proxy cannot be reached: {error}"))
}

/// Without the credentials.
impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy")
            .field("host", &self.host)
            .field("port", &self.port)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_defines_host_port_and_credentials() {
        let proxy = Proxy::parse("http://ada:p%2Fw@proxy.example.com:3128").unwrap();
        assert_eq!(
            (proxy.host.as_str(), proxy.port),
            ("proxy.example.com", 3128)
        );
        // printf 'ada:p/w' | base64
        assert_eq!(proxy.authorization.unwrap().reveal(), "Basic YWRhOnAvdw==");
        let proxy = Proxy::parse("proxy.example.com").unwrap();
        assert_eq!((proxy.host.as_str(), proxy.port), ("proxy.example.com", 80));
        for bad in [
            "",
            "socks5://hunter2",
            "https://hunter2@a.example",
            "http://a/hunter2",
        ] {
            assert!(!Proxy::parse(bad).unwrap_err().contains("hunter2"), "{bad}");
        }
    }

    #[test]
    fn no_proxy_excludes_hosts_and_their_subdomains() {
        for (list, expected) in [
            ("*", true),
            ("sendgrid.com", true),
            (" other.example , .sendgrid.com", true),
            ("API.SENDGRID.COM", true),
            ("grid.com", false),
            ("", false),
            (",", false),
        ] {
            assert_eq!(
                Proxy::is_excluded(list, "api.sendgrid.com"),
                expected,
                "{list}"
            );
        }
    }
}
