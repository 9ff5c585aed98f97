//! `heist healthcheck`

mod tls;

use std::time::Duration;

use tonic::transport::Endpoint;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use crate::cli::{
    config::{LogConfig, TargetConfig},
    output::{Found, print_line},
};

const TIMEOUT: Duration = Duration::from_secs(3);

const EXAMPLES: &str = "\
Examples:
  heist healthcheck
  heist healthcheck --service heist.v1.HeistService
  HEIST_LISTEN=0.0.0.0:50051 heist healthcheck
  HEIST_TLS_CERT_FILE=/etc/heist/tls.crt heist healthcheck
      The server uses TLS.";

/// Reads the health of a running server: exit code 0 if it serves, 1 if it does not
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Healthcheck {
    #[command(flatten)]
    target: TargetConfig,

    /// The service whose health is read. Default: the whole server
    #[arg(long, value_name = "NAME", default_value = "")]
    service: String,

    #[command(flatten)]
    pub(super) log: LogConfig,
}

impl Healthcheck {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let address = self.target.reachable();
        let endpoint = Endpoint::from_shared(format!("http://{address}"))?
            .connect_timeout(TIMEOUT)
            .timeout(TIMEOUT);
        let channel = if self.target.tls_cert_file.is_some() {
            endpoint
                .connect_with_connector(tls::connector(address))
                .await
        } else {
            endpoint.connect().await
        };
        let channel = channel.map_err(|error| {
            let error = anyhow::Error::from(error);
            Found(format!("cannot reach {address}: {error:#}"))
        })?;
        let request = HealthCheckRequest {
            service: self.service,
        };
        let answer = HealthClient::new(channel)
            .check(request)
            .await
            .map_err(|status| {
                let message = status.message();
                Found(format!("{address} does not report its health: {message}"))
            })?;
        match answer.into_inner().status() {
            ServingStatus::Serving => print_line("SERVING"),
            status => Err(Found(format!("{address} is {}", status.as_str_name())).into()),
        }
    }
}
