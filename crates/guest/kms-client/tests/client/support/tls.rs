//! A root and a server's certificate by openssl.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tempfile::TempDir;

/// The server's name.
pub(crate) const HOST: &str = "kms.test";

/// A root certificate, and a server's that it signed.
pub(crate) struct Certificates {
    folder: TempDir,
    root: PathBuf,
}

impl Certificates {
    /// For this name of the server.
    pub(crate) fn new(name: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
        fs::write(path("extensions"), format!("subjectAltName=DNS:{name}\nbasicConstraints=CA:FALSE\n"))
            .unwrap();
        let (root, root_key) = (path("root.pem"), path("root.key"));
        openssl(
            &[
                &["req", "-x509", "-subj", "/CN=root", "-days", "2", "-keyout", &root_key, "-out", &root],
                &key[..],
            ]
            .concat(),
        );
        openssl(
            &[
                &["req", "-subj", "/CN=server", "-keyout", &path("key.pem"), "-out", &path("request")],
                &key[..],
            ]
            .concat(),
        );
        openssl(&[
            "x509",
            "-req",
            "-in",
            &path("request"),
            "-CA",
            &root,
            "-CAkey",
            &root_key,
            "-days",
            "2",
            "-extfile",
            &path("extensions"),
            "-out",
            &path("certificate.pem"),
        ]);
        let root = PathBuf::from(root);
        Self { folder, root }
    }

    /// The root certificate's file.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn server(&self) -> Arc<ServerConfig> {
        let certificate = CertificateDer::from_pem_file(self.folder.path().join("certificate.pem")).unwrap();
        let key = PrivateKeyDer::from_pem_file(self.folder.path().join("key.pem")).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config =
            ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        Arc::new(config.with_no_client_auth().with_single_cert(vec![certificate], key).unwrap())
    }
}

fn openssl(words: &[&str]) {
    let status = Command::new("openssl").args(words).stderr(Stdio::null()).status();
    assert!(status.expect("tools/setup installs openssl").success(), "openssl {words:?}");
}
