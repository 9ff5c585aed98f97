//! What a call's connection tells about its caller.

use std::{net::IpAddr, sync::Arc};

use tonic::transport::server::TcpConnectInfo;

use crate::auth::ClientCertificate;

/// The remote end of a connection. tonic puts a copy into the extensions of each request.
#[derive(Clone, Debug)]
pub struct ConnectionInfo {
    pub tcp: TcpConnectInfo,
    /// The client certificate, which the TLS handshake has verified; `None`: the client sent none.
    pub certificate: Option<Arc<ClientCertificate>>,
}

impl ConnectionInfo {
    /// The caller's IP address.
    #[must_use]
    pub fn ip_address(&self) -> Option<IpAddr> {
        self.tcp.remote_addr().map(|address| address.ip())
    }
}
