//! TLS with ring and verification, whatever the process has set as its default.

use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use crate::{PublishError, Tls};

pub(crate) fn client_config(tls: &Tls) -> Result<Arc<ClientConfig>, PublishError> {
    let roots = match &tls.ca_pem {
        Some(pem) => roots_of(pem)?,
        None => system_roots()?,
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// Every certificate of the file has to be usable.
fn roots_of(pem: &[u8]) -> Result<RootCertStore, PublishError> {
    let bad = |reason: String| PublishError::BadCa { reason };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| bad(error.to_string()))?;
        roots.add(certificate).map_err(|error| bad(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(bad("it holds no certificate".to_owned()));
    }
    Ok(roots)
}

/// The system's store may hold certificates that this library cannot parse; the others count.
fn system_roots() -> Result<RootCertStore, PublishError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (_, n_ignored) = roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let mut reasons: Vec<String> = found.errors.iter().map(ToString::to_string).collect();
        reasons.push(format!("{n_ignored} not parsable"));
        return Err(PublishError::NoSystemRoots { reason: reasons.join("; ") });
    }
    Ok(roots)
}
