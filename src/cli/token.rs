//! `heist token`

use std::{path::PathBuf, time::Duration};

use anyhow::{Context as _, bail, ensure};

use super::{
    config::{JwtConfig, LogConfig},
    output::print_line,
};
use crate::{
    auth::{Grant, Scope, Scopes, SigningKey},
    settings::parse,
};

const EXAMPLES: &str = "\
Examples:
  export HEIST_JWT_SECRET_FILE=secret HEIST_JWT_ISSUER=heist-dev HEIST_JWT_AUDIENCE=heist
  heist token --subject web --scope 'heist.execute heist.read'
      For a service, which can act for any player.
  heist token --subject 42
      For player 42, who can only act for themselves.
  heist token --subject auth --scope token.award --private-key-file ed25519.pem --expires-in 5m
      Signed with a private key in PEM (PKCS#8). The kind of key decides the algorithm.
  grpcurl -H \"authorization: Bearer $(heist token --subject 42)\" ...

The scopes: heist.execute, heist.read, token.award, token.read, token.adjust, notification.read,
notification.write.";

/// Signs a bearer token for development, and prints it
///
/// In production an identity provider signs the tokens, and the service has only its public keys.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Token {
    /// The id of a player, or the name of a service
    #[arg(long, value_name = "SUBJECT")]
    subject: String,

    /// The scopes of a service, separated by spaces
    #[arg(long, value_name = "SCOPES")]
    scope: Option<String>,

    /// The validity of the token
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = parse::duration)]
    expires_in: Duration,

    /// The private key to sign with, instead of the secret
    #[arg(long, value_name = "FILE")]
    private_key_file: Option<PathBuf>,

    #[command(flatten)]
    jwt: JwtConfig,

    #[command(flatten)]
    pub(super) log: LogConfig,
}

impl Token {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let key = self.signing_key().await?;
        if let Some(scope) = &self.scope {
            check_scopes(scope)?;
        }
        let grant = Grant {
            subject: self.subject,
            scope: self.scope,
            issuer: (self.jwt.jwt_issuer).context("HEIST_JWT_ISSUER is not set")?,
            audience: (self.jwt.jwt_audience).context("HEIST_JWT_AUDIENCE is not set")?,
            expires_in: self.expires_in,
        };
        print_line(key.sign(&grant).context("cannot sign the token")?)
    }

    async fn signing_key(&self) -> anyhow::Result<SigningKey> {
        let (file, is_private) = match (&self.private_key_file, &self.jwt.jwt_secret_file) {
            (Some(file), _) => (file, true),
            (None, Some(file)) => (file, false),
            (None, None) => bail!("expected --private-key-file or HEIST_JWT_SECRET_FILE"),
        };
        let name = || file.display().to_string();
        let content = tokio::fs::read(file).await.with_context(name)?;
        let key = if is_private {
            SigningKey::private(&content)
        } else {
            SigningKey::secret(&content)
        };
        key.map_err(anyhow::Error::msg).with_context(name)
    }
}

/// The server ignores unknown scopes, so a typing error would go unnoticed.
fn check_scopes(claim: &str) -> anyhow::Result<()> {
    for name in claim.split(' ') {
        ensure!(Scope::named(name).is_some(), "there is no scope {name:?}");
    }
    ensure!(!Scopes::of_claim(claim).is_empty(), "expected scopes");
    Ok(())
}
