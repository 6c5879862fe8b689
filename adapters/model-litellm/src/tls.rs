//! Which certificates are trusted, and which one is shown.

use std::fmt::{self, Display};
use std::sync::Arc;

use agent_core::InvalidValue;
use rustls::client::WantsClientCert;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, ConfigBuilder, RootCertStore, WantsVerifier};
use rustls_platform_verifier::Verifier;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use crate::config::hidden;

/// Which certificates are trusted, and which one is shown. The default trusts what the operating system trusts and shows none.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct TlsConfig {
    /// Whom the server's certificate has to be signed by.
    pub roots: Roots,
    /// A certificate of this client, for servers that want one.
    #[serde(deserialize_with = "hidden")]
    pub client_certificate: Option<ClientCertificate>,
}

/// The authorities that are trusted, as PEM, which `Debug` does not show: files of certificates hold keys, too, at times.
#[derive(Clone, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Roots {
    /// Those of the operating system.
    #[default]
    System,
    /// Those of the operating system, and these.
    SystemAnd(String),
    /// These and no others.
    Only(String),
}

/// A client's certificate with its key, as PEM, of which `Debug` shows nothing.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct ClientCertificate {
    /// The certificate, and those that lead from it to an authority.
    pub certificates: String,
    /// The private key.
    pub key: SecretString,
}

impl fmt::Debug for Roots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::System => "System",
            Self::SystemAnd(_) => "SystemAnd(..)",
            Self::Only(_) => "Only(..)",
        })
    }
}

impl fmt::Debug for ClientCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientCertificate").finish_non_exhaustive()
    }
}

impl TlsConfig {
    /// The same, trusting these authorities.
    #[must_use]
    pub fn with_roots(mut self, roots: Roots) -> Self {
        self.roots = roots;
        self
    }

    /// The same, showing this certificate.
    #[must_use]
    pub fn with_client_certificate(mut self, certificates: impl Into<String>, key: impl Into<SecretString>) -> Self {
        self.client_certificate = Some(ClientCertificate { certificates: certificates.into(), key: key.into() });
        self
    }

    /// What rustls needs. Where no TLS will be spoken nothing is looked up, so that hosts without certificates work.
    pub(crate) fn client_config(&self, speaks_tls: bool) -> Result<ClientConfig, InvalidValue> {
        let provider = Arc::new(ring::default_provider());
        let config = if speaks_tls { trusting(&self.roots, &provider)? } else { trusting_nobody(&provider)? };
        let Some(client) = &self.client_certificate else { return Ok(config.with_no_client_auth()) };
        let invalid = |expected: String| InvalidValue::new("tls.client_certificate", "(not shown)", expected);
        let key = PrivateKeyDer::from_pem_slice(client.key.expose_secret().as_bytes())
            .map_err(|_| invalid("a private key as PEM".to_owned()))?;
        let chain = certificates("tls.client_certificate", &client.certificates)?;
        config
            .with_client_auth_cert(chain, key)
            .map_err(|error| invalid(format!("a certificate with its key ({error})")))
    }
}

type Trusting = ConfigBuilder<ClientConfig, WantsClientCert>;

fn trusting(roots: &Roots, provider: &Arc<CryptoProvider>) -> Result<Trusting, InvalidValue> {
    let verifier = match roots {
        Roots::Only(pem) => {
            let mut store = RootCertStore::empty();
            for certificate in certificates("tls.roots", pem)? {
                store.add(certificate).map_err(|error| bad_pem("tls.roots", error))?;
            }
            return Ok(builder(provider)?.with_root_certificates(store));
        }
        Roots::System => Verifier::new(provider.clone()),
        Roots::SystemAnd(pem) => Verifier::new_with_extra_roots(certificates("tls.roots", pem)?, provider.clone()),
    };
    let verifier = Arc::new(verifier.map_err(unusable)?);
    // "Dangerous" is any verifier but rustls' own; this one asks the operating system.
    Ok(builder(provider)?.dangerous().with_custom_certificate_verifier(verifier))
}

fn trusting_nobody(provider: &Arc<CryptoProvider>) -> Result<Trusting, InvalidValue> {
    Ok(builder(provider)?.with_root_certificates(RootCertStore::empty()))
}

fn builder(provider: &Arc<CryptoProvider>) -> Result<ConfigBuilder<ClientConfig, WantsVerifier>, InvalidValue> {
    ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions().map_err(unusable)
}

fn unusable(error: rustls::Error) -> InvalidValue {
    InvalidValue::new("tls.roots", "system", format!("certificates that can be used ({error})"))
}

fn certificates(field: &'static str, pem: &str) -> Result<Vec<CertificateDer<'static>>, InvalidValue> {
    let parsed: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    // The error would show the line that it means, which may be of a key.
    let certificates = parsed.map_err(|_| bad_pem(field, "its lines cannot be read"))?;
    if certificates.is_empty() {
        return Err(bad_pem(field, "there is none"));
    }
    Ok(certificates)
}

fn bad_pem(field: &'static str, problem: impl Display) -> InvalidValue {
    InvalidValue::new(field, "(not shown)", format!("certificates as PEM ({problem})"))
}
