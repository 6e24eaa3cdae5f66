//! The certificates that we issue: their profile, their dates, and what OpenSSL says of them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failed assumption is a failed test"
)]

mod common;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, UNIX_EPOCH};

use attestation::certificate::{Certificate, MAX_CERTIFICATE_LEN};
use attestation::key::PrivateKey;
use attestation::path::{PathError, check_path};
use attestation::pki::{
    Authority, BACKDATE, EnclaveAuthority, HOST_LIFETIME, HostAuthority, LEAF_LIFETIME, PkiError,
    ROOT_LIFETIME, RootAuthority,
};
use common::{Hierarchy, enclave, instance, now};
use getrandom::SysRng;
use proptest::prelude::*;

const SECOND: Duration = Duration::from_secs(1);

fn all(hierarchy: &Hierarchy) -> Vec<Certificate> {
    hierarchy.enclave.chain().iter().chain([&hierarchy.leaf.certificate]).cloned().collect()
}

#[test]
fn the_chain_leads_from_root_to_leaf() {
    let hierarchy = Hierarchy::new(now());
    assert_eq!(check_path(hierarchy.enclave.chain(), &hierarchy.leaf.certificate), Ok(()));
    let path_lengths: Vec<_> = all(&hierarchy).iter().map(Certificate::path_length).collect();
    assert_eq!(path_lengths, [None, Some(1), Some(0), None]);
    let authorities: Vec<_> = all(&hierarchy).iter().map(Certificate::is_authority).collect();
    assert_eq!(authorities, [true, true, true, false]);
}

#[test]
fn no_certificate_is_longer_than_verifiers_accept() {
    for certificate in all(&Hierarchy::new(now())) {
        assert!(certificate.as_der().len() <= MAX_CERTIFICATE_LEN, "{certificate:?}");
    }
}

#[test]
fn no_name_could_be_taken_for_an_aws_name() {
    for certificate in all(&Hierarchy::new(now())) {
        for name in [certificate.subject(), certificate.issuer()] {
            let name = name.to_lowercase();
            assert!(!name.contains("aws") && !name.contains("amazon") && !name.contains("nitro"), "{name}");
            assert!(name.contains("o=enclave hypervisor"), "{name}");
        }
    }
}

#[test]
fn two_roots_differ_in_their_names() {
    let (first, second) = (Hierarchy::new(now()), Hierarchy::new(now()));
    assert_ne!(first.root_certificate().subject(), second.root_certificate().subject());
}

#[test]
fn lifetimes_are_as_promised() {
    let hierarchy = Hierarchy::new(now());
    let [root, host, authority, leaf] = all(&hierarchy).try_into().unwrap();
    for certificate in [&root, &host, &authority, &leaf] {
        assert_eq!(certificate.not_before(), now() - BACKDATE);
    }
    assert_eq!(root.not_after(), now() + ROOT_LIFETIME);
    assert_eq!(host.not_after(), now() + HOST_LIFETIME);
    assert_eq!(authority.not_after(), host.not_after());
    assert_eq!(leaf.not_after(), now() + LEAF_LIFETIME);
}

#[test]
fn nothing_is_issued_outside_the_issuers_dates() {
    let hierarchy = Hierarchy::new(now());
    let (start, end) = hierarchy.enclave.validity();
    for time in [start - SECOND, end + SECOND, UNIX_EPOCH, now() + ROOT_LIFETIME + SECOND] {
        let leaf = hierarchy.enclave.issue_leaf(&enclave(), time, &mut SysRng);
        assert_eq!(leaf.unwrap_err(), PkiError::IssuerNotValid);
        let authority = hierarchy.host.issue_enclave(&enclave(), time, &mut SysRng);
        assert_eq!(authority.unwrap_err(), PkiError::IssuerNotValid);
    }
    let last = hierarchy.enclave.issue_leaf(&enclave(), end, &mut SysRng).unwrap();
    assert_eq!(last.certificate.not_after(), end);
}

#[test]
fn a_root_cannot_be_made_before_1970_or_after_9999() {
    for time in [UNIX_EPOCH, UNIX_EPOCH + Duration::from_secs(253_402_300_799)] {
        let root = RootAuthority::generate(time, &mut SysRng);
        assert_eq!(root.unwrap_err(), PkiError::Clock);
    }
}

#[test]
fn a_stored_authority_comes_back_and_a_wrong_one_does_not() {
    let hierarchy = Hierarchy::new(now());
    let der = |chain: &[Certificate]| chain.iter().map(|link| link.as_der().to_vec()).collect::<Vec<_>>();
    let key = hierarchy.enclave.key().to_pkcs8_der().unwrap();
    let chain = der(hierarchy.enclave.chain());
    let stored = EnclaveAuthority::from_der(&key, &chain).unwrap();
    assert!(stored.issue_leaf(&enclave(), now(), &mut SysRng).is_ok());

    assert_eq!(HostAuthority::from_der(&key, &chain).unwrap_err(), PkiError::OtherLevel);
    assert_eq!(EnclaveAuthority::from_der(&key, &der(&[])).unwrap_err(), PkiError::Chain(PathError::Empty));
    let without_root = der(&hierarchy.enclave.chain()[1..]);
    let refused = EnclaveAuthority::from_der(&key, &without_root).unwrap_err();
    assert_eq!(refused, PkiError::Chain(PathError::Issuer(0)));
    let other_key = PrivateKey::generate(&mut SysRng).unwrap().to_pkcs8_der().unwrap();
    assert_eq!(EnclaveAuthority::from_der(&other_key, &chain).unwrap_err(), PkiError::OtherKey);
    let too_many = vec![chain[0].clone(); 11];
    assert_eq!(EnclaveAuthority::from_der(&key, &too_many).unwrap_err(), PkiError::TooManyCertificates);
    let with_leaf = der(&all(&hierarchy));
    let leaf_key = hierarchy.leaf.key.to_pkcs8_der().unwrap();
    let refused = EnclaveAuthority::from_der(&leaf_key, &with_leaf).unwrap_err();
    assert_eq!(refused, PkiError::Chain(PathError::PathLength(1)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whenever each level is made, nothing outlives what issued it or begins before it.
    #[test]
    fn no_certificate_reaches_beyond_its_issuer(
        host_after in 0_u64..31 * 31_557_600,
        enclave_after in 0_u64..11 * 31_557_600,
        leaf_after in 0_u64..11 * 31_557_600,
    ) {
        let root = RootAuthority::generate(now(), &mut SysRng).unwrap();
        let at = |seconds: u64| now() + Duration::from_secs(seconds);
        let made = root.issue_host(&instance(), at(host_after), &mut SysRng).and_then(|host| {
            let time = at(host_after + enclave_after);
            let authority = host.issue_enclave(&enclave(), time, &mut SysRng)?;
            let leaf_time = time + Duration::from_secs(leaf_after);
            let leaf = authority.issue_leaf(&enclave(), leaf_time, &mut SysRng)?;
            Ok((authority, leaf))
        });
        match made {
            Err(error) => prop_assert_eq!(error, PkiError::IssuerNotValid),
            Ok((authority, leaf)) => {
                let row: Vec<_> = authority.chain().iter().chain([&leaf.certificate]).collect();
                for pair in row.windows(2) {
                    prop_assert!(pair[0].not_before() <= pair[1].not_before());
                    prop_assert!(pair[1].not_after() <= pair[0].not_after());
                }
                prop_assert_eq!(check_path(authority.chain(), &leaf.certificate), Ok(()));
            }
        }
    }
}

/// Runs openssl in `folder` and returns what it wrote.
fn openssl(folder: &Path, arguments: &[&str]) -> (bool, String) {
    let output = Command::new("openssl").args(arguments).current_dir(folder).output();
    let output = output.expect("the openssl command is needed; `make test` installs it");
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

/// A folder with root.pem, chain.pem and leaf.pem.
fn folder_with(hierarchy: &Hierarchy) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let pem = |certificates: &[Certificate]| {
        certificates.iter().map(|link| link.to_pem().unwrap()).collect::<String>()
    };
    let [root, host, authority, leaf] = all(hierarchy).try_into().unwrap();
    fs::write(folder.path().join("root.pem"), pem(&[root])).unwrap();
    fs::write(folder.path().join("chain.pem"), pem(&[host, authority])).unwrap();
    fs::write(folder.path().join("leaf.pem"), pem(&[leaf])).unwrap();
    folder
}

const STRICT: [&str; 5] = ["verify", "-x509_strict", "-check_ss_sig", "-attime", "1795316400"];

#[test]
fn openssl_accepts_our_chain_even_when_strict() {
    let folder = folder_with(&Hierarchy::new(now()));
    let files = ["-CAfile", "root.pem", "-untrusted", "chain.pem", "leaf.pem"];
    let (accepted, output) = openssl(folder.path(), &[&STRICT[..], &files].concat());
    assert!(accepted, "{output}");
}

#[test]
fn openssl_refuses_a_chain_with_a_level_missing_or_another_root() {
    let folder = folder_with(&Hierarchy::new(now()));
    let (accepted, _) = openssl(folder.path(), &[&STRICT[..], &["-CAfile", "root.pem", "leaf.pem"]].concat());
    assert!(!accepted);
    let other = folder_with(&Hierarchy::new(now()));
    let other_root = other.path().join("root.pem");
    let files = ["-CAfile", other_root.to_str().unwrap(), "-untrusted", "chain.pem", "leaf.pem"];
    let (accepted, _) = openssl(folder.path(), &[&STRICT[..], &files].concat());
    assert!(!accepted);
}

#[test]
fn openssl_reads_the_profile_that_we_meant() {
    let folder = folder_with(&Hierarchy::new(now()));
    let describe = |file: &str| {
        let (read, text) = openssl(folder.path(), &["x509", "-in", file, "-noout", "-text"]);
        assert!(read, "{text}");
        text.lines().map(str::trim).collect::<Vec<_>>().join("\n")
    };
    let root = describe("root.pem");
    assert!(root.contains("X509v3 Basic Constraints: critical\nCA:TRUE\n"), "{root}");
    assert!(
        root.contains("X509v3 Key Usage: critical\nDigital Signature, Certificate Sign, CRL Sign\n"),
        "{root}"
    );
    assert!(root.contains("X509v3 Subject Key Identifier:"), "{root}");
    let host = describe("chain.pem");
    assert!(host.contains("X509v3 Basic Constraints: critical\nCA:TRUE, pathlen:1\n"), "{host}");
    assert!(host.contains("X509v3 Authority Key Identifier:"), "{host}");
    let leaf = describe("leaf.pem");
    assert!(leaf.contains("X509v3 Basic Constraints: critical\nCA:FALSE\n"), "{leaf}");
    assert!(leaf.contains("X509v3 Key Usage:\nDigital Signature, Non Repudiation\n"), "{leaf}");
    assert!(!leaf.contains("Extended Key Usage"), "{leaf}");
    for text in [root, host, leaf] {
        assert!(text.contains("Version: 3 (0x2)"), "{text}");
        assert!(text.contains("Signature Algorithm: ecdsa-with-SHA384"), "{text}");
        assert!(text.contains("ASN1 OID: secp384r1"), "{text}");
    }
}

#[test]
fn openssl_reads_our_private_key() {
    let folder = tempfile::tempdir().unwrap();
    let root = RootAuthority::generate(now(), &mut SysRng).unwrap();
    fs::write(folder.path().join("key.pem"), root.key().to_pkcs8_pem().unwrap()).unwrap();
    let (read, text) = openssl(folder.path(), &["pkey", "-in", "key.pem", "-check", "-noout"]);
    assert!(read, "{text}");
    let again = PrivateKey::from_pkcs8_pem(&root.key().to_pkcs8_pem().unwrap()).unwrap();
    assert!(Authority::<attestation::pki::Root>::from_parts(again, root.chain().to_vec()).is_ok());
}
