//! The names in client certificates, and the scopes of the services that they name.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use rustls::pki_types::CertificateDer;
use webpki::EndEntityCert;

use super::{
    caller::{Caller, Scope, Scopes, Who},
    validity,
};

/// A certificate that TLS has verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// Its subject alternative names of the kinds DNS and URI, in this order. The common name is
    /// ignored, because its meaning is undefined (RFC 9525).
    names: Vec<CertificateName>,
    valid_until: SystemTime,
}

/// A subject alternative name.
#[derive(Clone, Debug, PartialEq, Eq)]
enum CertificateName {
    Dns(String),
    Uri(String),
}

/// The scopes of services, by a name in their certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientScopes(BTreeMap<String, Scopes>);

impl ClientCertificate {
    /// Reads the names of a certificate. A certificate that does not parse has no names.
    #[must_use]
    pub fn read(der: &CertificateDer<'_>) -> Self {
        let names = EndEntityCert::try_from(der).map(|certificate| {
            let dns = certificate.valid_dns_names().map(str::to_owned);
            let uris = certificate.valid_uri_names().map(str::to_owned);
            dns.map(CertificateName::Dns)
                .chain(uris.map(CertificateName::Uri))
                .collect()
        });
        Self {
            names: names.unwrap_or_default(),
            // A certificate that TLS has verified has an end.
            valid_until: validity::end(der).unwrap_or(SystemTime::UNIX_EPOCH),
        }
    }

    /// The time until the certificate expires.
    #[must_use]
    pub fn time_left(&self, now: SystemTime) -> Duration {
        (self.valid_until.duration_since(now)).unwrap_or_default()
    }
}

impl ClientScopes {
    /// Reads `NAME=SCOPE SCOPE; NAME=SCOPE`. A name may contain `=`, as URIs do.
    ///
    /// # Errors
    ///
    /// The value does not parse. The message says what is expected.
    pub fn parse(value: &str) -> Result<Self, String> {
        let mut services = BTreeMap::new();
        for entry in value.split(';').map(str::trim) {
            let (name, scopes) = entry.rsplit_once('=').ok_or_else(expected)?;
            let (name, scopes) = (name.trim(), parse_scopes(scopes)?);
            if name.is_empty() || name.contains(char::is_whitespace) {
                return Err(expected());
            }
            if services.insert(name.to_owned(), scopes).is_some() {
                return Err(format!("expected each name once, not {name} twice"));
            }
        }
        Ok(Self(services))
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The scopes of a name. A listed name with `://` applies to URI names only, and every other
    /// listed name to DNS names only.
    fn scopes_of(&self, name: &CertificateName) -> Option<Scopes> {
        let (CertificateName::Dns(text) | CertificateName::Uri(text)) = name;
        let is_uri = matches!(name, CertificateName::Uri(_));
        let scopes = (text.contains("://") == is_uri).then(|| self.0.get(text))?;
        scopes.copied()
    }

    /// The service of a certificate. Its name is the first name of the certificate that is listed; its
    /// scopes are those of all listed names.
    pub(super) fn service(&self, certificate: &ClientCertificate) -> Option<Caller> {
        let mut listed =
            (certificate.names.iter()).filter_map(|name| Some((name, self.scopes_of(name)?)));
        let (CertificateName::Dns(name) | CertificateName::Uri(name), first) = listed.next()?;
        let scopes = listed.fold(first, |all, (_, scopes)| all.union(scopes));
        Some(Caller {
            who: Who::Service {
                name: Arc::from(name.as_str()),
                scopes,
            },
            valid_until: None,
        })
    }
}

fn parse_scopes(value: &str) -> Result<Scopes, String> {
    let names = value.split_whitespace();
    let scopes = names
        .map(|name| Scope::named(name).ok_or_else(|| format!("there is no scope {name}")))
        .collect::<Result<Scopes, String>>()?;
    if scopes.is_empty() {
        return Err(expected());
    }
    Ok(scopes)
}

fn expected() -> String {
    "expected NAME=SCOPE SCOPE; NAME=SCOPE, such as auth.internal=token.award".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(names: &[&str]) -> ClientCertificate {
        ClientCertificate {
            names: (names.iter())
                .map(|name| match name.strip_prefix("URI:") {
                    Some(uri) => CertificateName::Uri(uri.to_owned()),
                    None => CertificateName::Dns((*name).to_owned()),
                })
                .collect(),
            valid_until: SystemTime::UNIX_EPOCH,
        }
    }

    #[test]
    fn a_listed_name_authenticates_a_service() {
        let listed = ClientScopes::parse(
            "auth.internal=token.award; spiffe://prod/web?a=b=heist.execute heist.read",
        )
        .unwrap();
        let scopes = |names: &[&str]| match listed.service(&certificate(names))?.who {
            Who::Service { name, scopes } => Some((name.to_string(), scopes)),
            other => panic!("{other:?}"),
        };
        let award: Scopes = [Scope::TokenAward].into_iter().collect();
        let web: Scopes = [Scope::HeistExecute, Scope::HeistRead]
            .into_iter()
            .collect();
        assert_eq!(
            scopes(&["auth.internal"]),
            Some(("auth.internal".to_owned(), award))
        );
        assert_eq!(
            scopes(&["other", "URI:spiffe://prod/web?a=b", "auth.internal"]),
            Some(("spiffe://prod/web?a=b".to_owned(), web.union(award)))
        );
        for unlisted in [
            &[][..],
            &["internal"],
            &["x.auth.internal"],
            &["AUTH.INTERNAL"],
            &["URI:auth.internal"],
            &["spiffe://prod/web?a=b"],
        ] {
            assert_eq!(scopes(unlisted), None);
        }
    }

    #[test]
    fn an_invalid_mapping_is_refused() {
        for wrong in [
            "",
            ";",
            "auth.internal",
            "auth.internal=",
            "=token.award",
            "auth.internal=token.awards",
            "auth.internal=token.award;",
            "a=token.award;a=token.read",
            "a b=token.award",
        ] {
            ClientScopes::parse(wrong).expect_err(wrong);
        }
    }
}
