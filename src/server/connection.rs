//! A connection that is ready for HTTP/2, with TLS or without.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::SystemTime,
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Connected;

use super::limited_connection::LimitedConnection;
use crate::{auth::ClientCertificate, rpc::ConnectionInfo};

/// A connection that is ready for HTTP/2.
pub(super) enum Connection {
    Plain(LimitedConnection),
    Tls {
        stream: Box<TlsStream<LimitedConnection>>,
        certificate: Option<Arc<ClientCertificate>>,
    },
}

impl Connection {
    /// A connection whose handshake is done. If it has a client certificate, it ends when the
    /// certificate expires, or when the roots that have verified the certificate change.
    pub(super) fn tls(
        mut stream: TlsStream<LimitedConnection>,
        roots_changed: &CancellationToken,
    ) -> Self {
        let certificates = stream.get_ref().1.peer_certificates();
        let certificate = certificates.and_then(|chain| chain.first());
        let certificate = certificate.map(|der| Arc::new(ClientCertificate::read(der)));
        if let Some(certificate) = &certificate {
            let time_left = certificate.time_left(SystemTime::now());
            let connection = stream.get_mut().0;
            connection.close_after(time_left);
            connection.close_when(roots_changed);
        }
        Self::Tls {
            certificate,
            stream: Box::new(stream),
        }
    }
}

impl Connected for Connection {
    type ConnectInfo = ConnectionInfo;

    fn connect_info(&self) -> ConnectionInfo {
        let (tcp, certificate) = match self {
            Self::Plain(stream) => (stream, None),
            Self::Tls {
                stream,
                certificate,
            } => (stream.get_ref().0, certificate.clone()),
        };
        ConnectionInfo {
            tcp: tcp.connect_info(),
            certificate,
            usage: Arc::clone(tcp.usage()),
        }
    }
}

/// Calls the same method of either kind of stream.
macro_rules! either {
    ($connection:expr, $stream:ident => $action:expr) => {
        match $connection.get_mut() {
            Connection::Plain(stream) => {
                let $stream = Pin::new(stream);
                $action
            }
            Connection::Tls { stream, .. } => {
                let $stream = Pin::new(&mut **stream);
                $action
            }
        }
    };
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        either!(self, stream => stream.poll_read(context, buffer))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        either!(self, stream => stream.poll_write(context, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        either!(self, stream => stream.poll_write_vectored(context, parts))
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls { stream, .. } => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => stream.poll_flush(context))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => stream.poll_shutdown(context))
    }
}
