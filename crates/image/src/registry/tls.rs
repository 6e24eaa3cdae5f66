//! TLS to registries: rustls, with the certificate authorities of the system.

use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};

use super::error::RegistryError;

/// The configuration of every connection. The authorities are those of the system, or of `SSL_CERT_FILE` and `SSL_CERT_DIR` if set.
///
/// # Errors
/// If there are none, and `needed` says that the registry is not on this machine, which may do without.
pub(super) fn configuration(needed: bool) -> Result<ClientConfig, RegistryError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() && needed {
        let errors: String = found.errors.iter().map(|error| format!(" ({error})")).collect();
        return Err(RegistryError::Setup {
            why: format!(
                "no certificate authorities were found{errors}; install ca-certificates, or set SSL_CERT_FILE to a file with them"
            ),
        });
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| RegistryError::Setup { why: format!("TLS does not start: {error}") })?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}
