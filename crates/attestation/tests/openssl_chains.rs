//! Chains that openssl made, with documents signed under them: what another maker's certificates may and may not be.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failed assumption is a failed test"
)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use attestation::certificate::{Certificate, CertificateError};
use attestation::cose;
use attestation::key::PrivateKey;
use attestation::path::PathError;
use attestation::verify::{ChainError, Policy, VerifyError, verify};
use common::Hierarchy;

/// A P-384 key under its name, as keys of chains are.
const P384: &[&str] = &["ecparam", "-name", "secp384r1", "-genkey", "-noout"];
const AUTHORITY: &str = "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign\n";
const LEAF: &str = "basicConstraints=critical,CA:FALSE\nkeyUsage=digitalSignature\n";

fn openssl(folder: &Path, arguments: &[&str]) -> bool {
    let output = Command::new("openssl").args(arguments).current_dir(folder).output();
    output.expect("the openssl command is needed; `make test` installs it").status.success()
}

/// How one certificate is made.
#[derive(Clone, Copy)]
struct Make {
    key: &'static [&'static str],
    /// What signs it: this digest, with the issuer's key.
    digest: &'static str,
    extensions: &'static str,
    issuer: &'static str,
}

/// The chain root, ca, leaf.
struct Chain {
    folder: tempfile::TempDir,
}

impl Chain {
    /// A chain that is right but for what `change` does to the authority between (0) or the leaf (1).
    fn new(change: impl FnOnce(&mut [Make; 2])) -> Self {
        let chain = Self { folder: tempfile::tempdir().unwrap() };
        let authority = Make { key: P384, digest: "-sha384", extensions: AUTHORITY, issuer: "root" };
        let mut made = [authority, Make { extensions: LEAF, issuer: "ca", ..authority }];
        change(&mut made);
        for root in ["root", "stranger"] {
            chain.key(root, P384);
            fs::write(chain.file("root.cnf"), format!("[req]\ndistinguished_name=d\n[d]\n[e]\n{AUTHORITY}"))
                .unwrap();
            let (key, out) = (format!("{root}.key"), format!("{root}.der"));
            let words =
                ["req", "-x509", "-new", "-config", "root.cnf", "-extensions", "e", "-subj", "/CN=root"];
            let rest = ["-sha384", "-days", "2", "-outform", "DER", "-key", &key, "-out", &out];
            assert!(openssl(chain.folder.path(), &[&words[..], &rest].concat()));
        }
        let [authority, leaf] = made;
        chain.certificate("ca", authority);
        chain.certificate("leaf", leaf);
        chain
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn key(&self, name: &str, make: &[&str]) {
        let out = format!("{name}.key");
        assert!(openssl(self.folder.path(), &[make, &["-out", &out]].concat()), "{make:?}");
    }

    fn certificate(&self, name: &str, make: Make) {
        self.key(name, make.key);
        fs::write(self.file("extensions"), make.extensions).unwrap();
        fs::write(self.file("request.cnf"), "[req]\ndistinguished_name=d\n[d]\n").unwrap();
        let (key, subject) = (format!("{name}.key"), format!("/CN={name}"));
        let (issuer, issuer_key) = (format!("{}.der", make.issuer), format!("{}.key", make.issuer));
        let out = format!("{name}.der");
        let request =
            ["req", "-new", "-config", "request.cnf", "-key", &key, "-subj", &subject, "-out", "request"];
        assert!(openssl(self.folder.path(), &request));
        let words = ["x509", "-req", "-in", "request", "-days", "1", "-set_serial", "1", make.digest];
        let files = [
            "-CA",
            &issuer,
            "-CAkey",
            &issuer_key,
            "-extfile",
            "extensions",
            "-outform",
            "DER",
            "-out",
            &out,
        ];
        assert!(openssl(self.folder.path(), &[&words[..], &files].concat()));
    }

    fn der(&self, name: &str) -> Vec<u8> {
        fs::read(self.file(&format!("{name}.der"))).unwrap()
    }

    /// What becomes of a document that the leaf's key signed.
    fn verdict(&self) -> Result<(), ChainError> {
        let pkcs8 = ["pkcs8", "-topk8", "-nocrypt", "-in", "leaf.key", "-out", "leaf.pkcs8"];
        assert!(openssl(self.folder.path(), &pkcs8));
        let key = fs::read_to_string(self.file("leaf.pkcs8")).unwrap();
        // A leaf with a key of another kind is refused before any signature is looked at.
        let key = PrivateKey::from_pkcs8_pem(&key).unwrap_or_else(|_| Hierarchy::new(common::now()).leaf.key);
        let mut document = Hierarchy::new(common::now()).document(SystemTime::now());
        document.cabundle = vec![self.der("root"), self.der("ca")];
        document.certificate = self.der("leaf");
        let signed = cose::sign(&document.to_payload(), &key).unwrap();
        let root = Certificate::from_der(&self.der("root")).unwrap();
        match verify(&signed, &root, SystemTime::now(), &Policy::default()) {
            Ok(_) => Ok(()),
            Err(VerifyError::Chain(error)) => Err(error),
            Err(other) => panic!("not the chain: {other}"),
        }
    }
}

fn verdict(change: impl FnOnce(&mut [Make; 2])) -> Result<(), ChainError> {
    Chain::new(change).verdict()
}

fn certificate(position: usize, error: CertificateError) -> Result<(), ChainError> {
    Err(ChainError::Certificate { position, error })
}

#[test]
fn a_chain_of_anothers_making_is_accepted() {
    assert_eq!(verdict(|_| ()), Ok(()));
    let server =
        "basicConstraints=critical,CA:FALSE\nkeyUsage=digitalSignature\nextendedKeyUsage=serverAuth\n";
    assert_eq!(verdict(|[_, leaf]| leaf.extensions = server), Ok(()));
}

#[test]
fn keys_of_another_kind_are_refused_wherever_they_are() {
    let kinds: [&[&str]; 4] = [
        &["genpkey", "-algorithm", "RSA"],
        &["ecparam", "-name", "prime256v1", "-genkey", "-noout"],
        &["genpkey", "-algorithm", "ed448"],
        // The curve given by its numbers: whoever chooses those can choose a generator of his own (CVE-2020-0601).
        &["ecparam", "-name", "secp384r1", "-genkey", "-noout", "-param_enc", "explicit"],
    ];
    for key in kinds {
        assert_eq!(
            verdict(|[_, leaf]| leaf.key = key),
            certificate(2, CertificateError::PublicKey),
            "{key:?}"
        );
    }
    let authority = |key| verdict(|[authority, _]| authority.key = key);
    for key in [kinds[0], kinds[1], kinds[3]] {
        assert_eq!(authority(key), certificate(1, CertificateError::PublicKey), "{key:?}");
    }
}

#[test]
fn a_signature_with_another_digest_is_refused() {
    for digest in ["-sha256", "-sha512", "-sha1"] {
        let refused = verdict(|[authority, _]| authority.digest = digest);
        assert_eq!(refused, certificate(1, CertificateError::Algorithm), "{digest}");
        let refused = verdict(|[_, leaf]| leaf.digest = digest);
        assert_eq!(refused, certificate(2, CertificateError::Algorithm), "{digest}");
    }
}

#[test]
fn an_authority_under_a_twin_of_the_root_is_refused() {
    let refused = verdict(|[authority, _]| authority.issuer = "stranger");
    assert_eq!(refused, Err(ChainError::Path(PathError::Signature(1))));
}

#[test]
fn a_leaf_past_its_issuer_is_refused() {
    let refused = verdict(|[_, leaf]| leaf.issuer = "root");
    assert_eq!(refused, Err(ChainError::Path(PathError::Issuer(2))));
}

#[test]
fn a_leaf_that_may_do_more_or_less_is_refused() {
    let path = |error| Err(ChainError::Path(error));
    assert_eq!(verdict(|[_, leaf]| leaf.extensions = AUTHORITY), path(PathError::LeafIsAuthority));
    let encipherment = "basicConstraints=critical,CA:FALSE\nkeyUsage=keyEncipherment,keyAgreement\n";
    assert_eq!(verdict(|[_, leaf]| leaf.extensions = encipherment), path(PathError::MayNotSignDocuments));
    let no_usage = "basicConstraints=critical,CA:FALSE\n";
    assert_eq!(verdict(|[_, leaf]| leaf.extensions = no_usage), path(PathError::MayNotSignDocuments));
}

#[test]
fn an_authority_that_is_none_is_refused() {
    let path = |error| Err(ChainError::Path(error));
    assert_eq!(verdict(|[authority, _]| authority.extensions = LEAF), path(PathError::NotAnAuthority(1)));
    let signs_data = "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,digitalSignature,cRLSign\n";
    let refused = verdict(|[authority, _]| authority.extensions = signs_data);
    assert_eq!(refused, path(PathError::MayNotSignCertificates(1)));
}

#[test]
fn constraints_that_are_not_understood_are_refused() {
    for constraint in [
        "nameConstraints=critical,permitted;DNS:example.org\n",
        "policyConstraints=critical,requireExplicitPolicy:0\n",
    ] {
        let extensions: &'static str = format!("{AUTHORITY}{constraint}").leak();
        let refused = verdict(|[authority, _]| authority.extensions = extensions);
        assert_eq!(refused, certificate(1, CertificateError::UnknownCriticalExtension), "{constraint}");
    }
}
