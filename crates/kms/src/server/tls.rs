//! TLS 1.2 and 1.3, by rustls on ring.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use thiserror::Error;

use crate::store::private_file::{self, FileError};

/// The only protocol in TLS here.
const ALPN: &[u8] = b"http/1.1";
/// Longest file of certificates or of a key.
const MAX_FILE_LEN: usize = 64 * 1024;

/// The service's certificate chain and key, in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate, then those that lead to the root.
    pub certificate: PathBuf,
    /// Its key, unencrypted; a private file.
    pub key: PathBuf,
}

/// Why there is no TLS.
#[derive(Debug, Error)]
pub enum TlsError {
    /// The key cannot be read, or not by this user alone.
    #[error(transparent)]
    Key(#[from] FileError),
    /// The certificate cannot be read.
    #[error("cannot read the certificate {}: {source}", path.display())]
    Certificate {
        /// Where it should be.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// There is something else in the file.
    #[error("{} holds no {what} in PEM", path.display())]
    NotPem {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        what: &'static str,
    },
    /// They do not go together, or rustls has no use for them.
    #[error("{} cannot be used with its key: {source}", path.display())]
    Unusable {
        /// The certificate.
        path: PathBuf,
        /// What rustls says.
        source: rustls::Error,
    },
}

/// TLS with this certificate.
///
/// # Errors
/// If a file cannot be read, or the two do not go together.
pub(super) fn load(files: &TlsFiles) -> Result<Arc<ServerConfig>, TlsError> {
    let chain = read_chain(&files.certificate)?;
    let pem = private_file::read(&files.key, MAX_FILE_LEN)?;
    let key = PrivateKeyDer::from_pem_slice(&pem)
        .map_err(|_| TlsError::NotPem { path: files.key.clone(), what: "private key" })?;
    let unusable = |source| TlsError::Unusable { path: files.certificate.clone(), source };
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(unusable)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(unusable)?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(Arc::new(config))
}

fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let not_pem = || TlsError::NotPem { path: path.to_owned(), what: "certificate" };
    let failed = |source| TlsError::Certificate { path: path.to_owned(), source };
    let length = std::fs::metadata(path).map_err(failed)?.len();
    if length > MAX_FILE_LEN as u64 {
        return Err(not_pem());
    }
    let pem = std::fs::read(path).map_err(failed)?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    chain.ok().filter(|chain| !chain.is_empty()).ok_or_else(not_pem)
}
