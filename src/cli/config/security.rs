//! Authentication and TLS.

use std::path::PathBuf;

use super::Auth;
use crate::{
    auth::{self, ClientScopes, JwtOptions, KeyFile},
    server::TlsOptions,
    watched::WatchedFile,
};

/// Valid bearer tokens, and the certificates of TLS.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Security")]
pub struct SecurityConfig {
    #[command(flatten)]
    pub jwt: JwtConfig,

    /// Public keys that verify bearer tokens, in PEM: RS256, ES256, EdDSA
    #[arg(long, env = "HEIST_JWT_PUBLIC_KEY_FILE", value_name = "FILE")]
    pub jwt_public_key_file: Option<PathBuf>,

    /// Public keys that verify bearer tokens, as a JSON Web Key Set
    #[arg(long, env = "HEIST_JWKS_FILE", value_name = "FILE")]
    pub jwks_file: Option<PathBuf>,

    /// The server's certificate chain in PEM, without the root
    #[arg(long, env = "HEIST_TLS_CERT_FILE", value_name = "FILE")]
    pub tls_cert_file: Option<PathBuf>,

    /// The private key of the certificate, in PEM
    #[arg(long, env = "HEIST_TLS_KEY_FILE", value_name = "FILE")]
    pub tls_key_file: Option<PathBuf>,

    /// Root certificates of clients, in PEM. Every call except health then needs a client certificate
    #[arg(long, env = "HEIST_TLS_CLIENT_CA_FILE", value_name = "FILE")]
    pub tls_client_ca_file: Option<PathBuf>,

    /// Services that need no token, by a DNS or URI name in their client certificate, such as
    /// `auth.internal=token.award; web.internal=heist.execute heist.read`
    #[arg(long, env = "HEIST_TLS_CLIENT_SCOPES", value_name = "NAME=SCOPES", value_parser = ClientScopes::parse)]
    pub tls_client_scopes: Option<ClientScopes>,
}

/// The required claims of a token, and its secret.
#[derive(Clone, Debug, clap::Args)]
pub struct JwtConfig {
    /// Secrets that sign bearer tokens, one per line: HS256
    #[arg(long, env = "HEIST_JWT_SECRET_FILE", value_name = "FILE")]
    pub jwt_secret_file: Option<PathBuf>,

    /// The issuer of the tokens, as in their claim `iss`
    #[arg(long, env = "HEIST_JWT_ISSUER", value_name = "NAME", value_parser = name)]
    pub jwt_issuer: Option<String>,

    /// The audience of the tokens, as in their claim `aud`
    #[arg(long, env = "HEIST_JWT_AUDIENCE", value_name = "NAME", value_parser = name)]
    pub jwt_audience: Option<String>,
}

impl SecurityConfig {
    /// The options that result from these settings and `HEIST_AUTH`.
    ///
    /// # Errors
    ///
    /// A setting is missing, or has no effect. The latter is an error because the operator may rely
    /// on its protection.
    pub fn resolve(&self, auth: Auth) -> Result<(auth::Options, Option<TlsOptions>), String> {
        let certificate_needed = self.tls_client_ca_file.is_some();
        if self.tls_client_scopes.is_some() && !certificate_needed {
            return Err("HEIST_TLS_CLIENT_SCOPES needs HEIST_TLS_CLIENT_CA_FILE".to_owned());
        }
        let jwt = match auth {
            Auth::None => {
                self.check_that_nothing_is_for_tokens()?;
                None
            }
            Auth::Jwt => Some(self.jwt_options()?),
        };
        let options = auth::Options {
            jwt,
            certificate_needed,
        };
        Ok((options, self.tls()?))
    }

    fn check_that_nothing_is_for_tokens(&self) -> Result<(), String> {
        let set = [
            ("HEIST_JWT_SECRET_FILE", self.jwt.jwt_secret_file.is_some()),
            (
                "HEIST_JWT_PUBLIC_KEY_FILE",
                self.jwt_public_key_file.is_some(),
            ),
            ("HEIST_JWKS_FILE", self.jwks_file.is_some()),
            ("HEIST_JWT_ISSUER", self.jwt.jwt_issuer.is_some()),
            ("HEIST_JWT_AUDIENCE", self.jwt.jwt_audience.is_some()),
            ("HEIST_TLS_CLIENT_SCOPES", self.tls_client_scopes.is_some()),
        ];
        match set.into_iter().find(|(_, is_set)| *is_set) {
            Some((name, _)) => Err(format!("{name} needs HEIST_AUTH=jwt")),
            None => Ok(()),
        }
    }

    fn jwt_options(&self) -> Result<JwtOptions, String> {
        let files = [
            file("HEIST_JWT_SECRET_FILE", self.jwt.jwt_secret_file.as_ref()).map(KeyFile::Secret),
            file(
                "HEIST_JWT_PUBLIC_KEY_FILE",
                self.jwt_public_key_file.as_ref(),
            )
            .map(KeyFile::Public),
            file("HEIST_JWKS_FILE", self.jwks_file.as_ref()).map(KeyFile::Jwks),
        ];
        let mut files = files.into_iter().flatten();
        let (Some(keys), None) = (files.next(), files.next()) else {
            return Err(
                "HEIST_AUTH=jwt needs exactly one of HEIST_JWT_SECRET_FILE, HEIST_JWT_PUBLIC_KEY_FILE \
                 and HEIST_JWKS_FILE"
                    .to_owned(),
            );
        };
        let needed = |value: &Option<String>, name| {
            value
                .clone()
                .ok_or_else(|| format!("HEIST_AUTH=jwt needs {name}"))
        };
        Ok(JwtOptions {
            keys,
            issuer: needed(&self.jwt.jwt_issuer, "HEIST_JWT_ISSUER")?,
            audience: needed(&self.jwt.jwt_audience, "HEIST_JWT_AUDIENCE")?,
            client_scopes: self.tls_client_scopes.clone().unwrap_or_default(),
        })
    }

    fn tls(&self) -> Result<Option<TlsOptions>, String> {
        let certificate = file("HEIST_TLS_CERT_FILE", self.tls_cert_file.as_ref());
        let key = file("HEIST_TLS_KEY_FILE", self.tls_key_file.as_ref());
        match (certificate, key) {
            (Some(certificate), Some(key)) => Ok(Some(TlsOptions {
                certificate,
                key,
                client_ca: file("HEIST_TLS_CLIENT_CA_FILE", self.tls_client_ca_file.as_ref()),
            })),
            (Some(_), None) => Err("HEIST_TLS_CERT_FILE needs HEIST_TLS_KEY_FILE".to_owned()),
            (None, Some(_)) => Err("HEIST_TLS_KEY_FILE needs HEIST_TLS_CERT_FILE".to_owned()),
            (None, None) if self.tls_client_ca_file.is_some() => {
                Err("HEIST_TLS_CLIENT_CA_FILE needs HEIST_TLS_CERT_FILE".to_owned())
            }
            (None, None) => Ok(None),
        }
    }
}

fn file(variable: &'static str, path: Option<&PathBuf>) -> Option<WatchedFile> {
    Some(WatchedFile::named(variable, path?.clone()))
}

fn name(value: &str) -> Result<String, String> {
    if value.is_empty() || value.contains(char::is_control) {
        return Err("expected a name, such as https://login.example.com".to_owned());
    }
    Ok(value.to_owned())
}
