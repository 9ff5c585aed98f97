//! Authentication and TLS.

use std::path::PathBuf;

use crate::{
    auth::{
        self, ClaimName, ClaimNames, ClientScopes, JwtOptions, KeyFile, KeySource, Location,
        Provider, ServiceRule,
    },
    rpc::TrustedProxies,
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

    /// The URL of the identity provider's JSON Web Key Set. Default, if no keys are given: found by
    /// OpenID discovery from the issuer
    #[arg(long, env = "HEIST_JWKS_URL", value_name = "URL", hide_env_values = true, value_parser = Location::key_set)]
    pub jwks_url: Option<Location>,

    /// Root certificates that are trusted besides the public ones for the identity provider, in PEM
    #[arg(long, env = "HEIST_JWKS_CA_FILE", value_name = "FILE")]
    pub jwks_ca_file: Option<PathBuf>,

    /// The claim of the player's id; with a leading `/`, a JSON pointer
    #[arg(long, env = "HEIST_JWT_PLAYER_CLAIM", value_name = "CLAIM", default_value = "sub", value_parser = ClaimName::parse)]
    pub jwt_player_claim: ClaimName,

    /// The claim of a service's scopes, an array or a string with spaces; with a leading `/`, a JSON
    /// pointer
    #[arg(long, env = "HEIST_JWT_SCOPE_CLAIM", value_name = "CLAIM", default_value = "scope", value_parser = ClaimName::parse)]
    pub jwt_scope_claim: ClaimName,

    /// The prefix of this service's scopes, such as `heist/`
    #[arg(
        long,
        env = "HEIST_JWT_SCOPE_PREFIX",
        value_name = "PREFIX",
        default_value = ""
    )]
    pub jwt_scope_prefix: String,

    /// The condition for tokens of services: `CLAIM`, `CLAIM=VALUE` or `CLAIM==CLAIM`. Required for
    /// services if the player claim is not `sub`
    #[arg(long, env = "HEIST_JWT_SERVICE_CLAIM", value_name = "RULE", value_parser = ServiceRule::parse)]
    pub jwt_service_claim: Option<ServiceRule>,

    /// Proxies whose `x-forwarded-for` tells the address of the player, such as
    /// `10.0.0.0/8, fd00::/8`. Default: none
    #[arg(long, env = "HEIST_TRUSTED_PROXIES", value_name = "NETWORKS", default_value = "", hide_default_value = true, value_parser = TrustedProxies::parse)]
    pub trusted_proxies: TrustedProxies,

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

/// How callers are authenticated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Auth {
    /// Not at all: any client that can connect may call every RPC.
    None,
    /// By a bearer token, or by a client certificate that is listed as a service.
    Jwt,
}

impl Auth {
    pub(super) fn parse(value: &str) -> Result<Self, String> {
        match value {
            "none" => Ok(Self::None),
            "jwt" => Ok(Self::Jwt),
            _ => Err("expected none or jwt".to_owned()),
        }
    }
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
            ("HEIST_JWKS_URL", self.jwks_url.is_some()),
            ("HEIST_JWKS_CA_FILE", self.jwks_ca_file.is_some()),
            ("HEIST_JWT_SERVICE_CLAIM", self.jwt_service_claim.is_some()),
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
        let needed = |value: &Option<String>, name| {
            value
                .clone()
                .ok_or_else(|| format!("HEIST_AUTH=jwt needs {name}"))
        };
        let issuer = needed(&self.jwt.jwt_issuer, "HEIST_JWT_ISSUER")?;
        Ok(JwtOptions {
            keys: self.keys(&issuer)?,
            issuer,
            audience: needed(&self.jwt.jwt_audience, "HEIST_JWT_AUDIENCE")?,
            claims: ClaimNames {
                player: self.jwt_player_claim.clone(),
                scope: self.jwt_scope_claim.clone(),
                scope_prefix: self.jwt_scope_prefix.clone(),
                service: self.jwt_service_claim.clone(),
            },
            client_scopes: self.tls_client_scopes.clone().unwrap_or_default(),
        })
    }

    fn keys(&self, issuer: &str) -> Result<KeySource, String> {
        let roots = file("HEIST_JWKS_CA_FILE", self.jwks_ca_file.as_ref());
        let provider = |location| {
            let roots = roots.clone();
            KeySource::Provider(Provider { location, roots })
        };
        let secrets = file("HEIST_JWT_SECRET_FILE", self.jwt.jwt_secret_file.as_ref());
        let public = file(
            "HEIST_JWT_PUBLIC_KEY_FILE",
            self.jwt_public_key_file.as_ref(),
        );
        let jwks = file("HEIST_JWKS_FILE", self.jwks_file.as_ref());
        let given = [
            secrets.map(|file| KeyFile::Secret(file).into()),
            public.map(|file| KeyFile::Public(file).into()),
            jwks.map(|file| KeyFile::Jwks(file).into()),
            self.jwks_url.clone().map(provider),
        ];
        let expected = || {
            "HEIST_AUTH=jwt needs exactly one of HEIST_JWT_SECRET_FILE, HEIST_JWT_PUBLIC_KEY_FILE, \
             HEIST_JWKS_FILE and HEIST_JWKS_URL, or an https:// URL as HEIST_JWT_ISSUER, whose keys \
             are found by OpenID discovery"
                .to_owned()
        };
        let mut given = given.into_iter().flatten();
        match (given.next(), given.next()) {
            (Some(KeySource::File(_)), None) if roots.is_some() => {
                Err("HEIST_JWKS_CA_FILE has no effect on keys in a file".to_owned())
            }
            (Some(keys), None) => Ok(keys),
            (None, _) => Location::issuer(issuer).map(provider).ok_or_else(expected),
            (Some(_), Some(_)) => Err(expected()),
        }
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
