//! TLS to registries: rustls, with the certificate authorities of the system.

use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};

use super::error::RegistryError;

/// The configuration of every connection. The authorities are those of the system, or of `SSL_CERT_FILE` and `SSL_CERT_DIR` if set.
///
/// A machine without any can still reach registries of its own over the loopback interface, so that is no error here.
pub(super) fn configuration() -> Result<ClientConfig, RegistryError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| RegistryError::Setup { why: format!("TLS does not start: {error}") })?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}
