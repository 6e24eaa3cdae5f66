//! Signed images: what boots, what its documents say, and each thing that stops it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest, Sha384};
use tests::enclave::Start;
use tests::product::User;
use tests::{demo, image};

/// A key on this curve and its certificate, made by OpenSSL.
fn signer(user: &User, name: &str, curve: &str) -> (PathBuf, PathBuf) {
    let (key, certificate) = (user.path(&format!("{name}.key")), user.path(&format!("{name}.pem")));
    let status = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-nodes", "-days", "2", "-subj", "/CN=signer", "-pkeyopt"])
        .arg(format!("ec_paramgen_curve:{curve}"))
        .arg("-keyout")
        .arg(&key)
        .arg("-out")
        .arg(&certificate)
        .output()
        .unwrap();
    assert!(status.status.success(), "{status:?}");
    (key, certificate)
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// The demo image signed by a new signer, and that one's certificate.
fn signed(user: &User, name: &str, curve: &str) -> (PathBuf, PathBuf) {
    let (key, certificate) = signer(user, name, curve);
    let signed = user.path(&format!("{name}.eif"));
    let demo = image::demo();
    let words = ["eif", "sign", text(&demo), "--output", text(&signed), "--sign-key", text(&key)];
    let _ = user.enclave(&[&words[..], &["--sign-cert", text(&certificate)]].concat()).success();
    (signed, certificate)
}

/// PCR 8: OpenSSL makes the DER.
fn pcr8(certificate: &Path) -> String {
    let der =
        Command::new("openssl").args(["x509", "-outform", "DER", "-in"]).arg(certificate).output().unwrap();
    let extended = Sha384::new().chain_update([0; 48]).chain_update(Sha384::digest(der.stdout));
    hex::encode(extended.finalize())
}

#[test]
#[ignore = "needs a KVM that can run a kernel"]
fn a_signed_image_boots_and_its_document_names_the_signer() {
    let user = User::new();
    let (image, certificate) = signed(&user, "signed", "secp384r1");
    let required = ["--require-signature", text(&certificate)];
    let enclave = Start::new(&image, "signed").with(&required).run(&user);
    let (document, root) = (user.path("document"), user.path("root.pem"));
    fs::write(&document, demo::attest(&enclave, b"nonce")).unwrap();
    fs::write(&root, user.enclave(&["pki", "export-root"]).success().stdout).unwrap();
    let expected = format!("8={}", pcr8(&certificate));
    let verify = ["attest", "verify", text(&document), "--root", text(&root), "--pcr"];
    let _ = user.enclave(&[&verify[..], &[&expected]].concat()).success();
    let zero = format!("8={}", "0".repeat(96));
    let _ = user.enclave(&[&verify[..], &[&zero]].concat()).failure(&["PCR 8"]);
    assert_eq!(enclave.describe()["Measurements"]["PCR8"], pcr8(&certificate));
}

/// The image with a byte of its own changed, and a right checksum.
fn tampered(user: &User, name: &str, image: &Path, change: impl FnOnce(&mut Vec<u8>)) -> PathBuf {
    let mut bytes = fs::read(image).unwrap();
    change(&mut bytes);
    let mut checksum = crc32fast::Hasher::new();
    checksum.update(&bytes[..544]);
    checksum.update(&bytes[548..]);
    bytes[544..548].copy_from_slice(&checksum.finalize().to_be_bytes());
    let path = user.path(name);
    fs::write(&path, bytes).unwrap();
    path
}

#[test]
#[ignore = "needs a KVM that can run a kernel"]
fn a_signed_image_that_was_tampered_with_is_refused_with_what_is_wrong() {
    let user = User::new();
    let (image, certificate) = signed(&user, "signed", "prime256v1");
    let (_, stranger) = signed(&user, "stranger", "secp521r1");
    let refused = |image: &Path, more: &[&str], words: &[&str]| {
        let _ = Start::new(image, "refused").with(more).attempt(&user, "run").failure(words);
        let _ = user.enclave(&["terminate", "--all"]).success();
    };
    // The last byte is one of the signature's numbers; 0 and 1 are as long as each other.
    let forged = tampered(&user, "forged.eif", &image, |bytes| *bytes.last_mut().unwrap() ^= 1);
    refused(&forged, &[], &["ImageRefused", "signature is not valid"]);
    // The command line says something else than what was signed.
    let changed = tampered(&user, "changed.eif", &image, |bytes| {
        let words = b"quiet";
        let at = bytes.windows(words.len()).position(|window| window == words).unwrap();
        bytes[at..at + words.len()].copy_from_slice(b"debug");
    });
    refused(
        &changed,
        &[],
        &["ImageRefused", "the signature is over an image with PCR0", "this image has PCR0"],
    );
    let required = ["--require-signature", text(&stranger)];
    refused(&image, &required, &["ImageRefused", &pcr8(&certificate), &pcr8(&stranger)]);
    let unsigned = user.path("unsigned.eif");
    let words = ["eif", "sign", text(&image), "--remove", "--output", text(&unsigned)];
    let _ = user.enclave(&words).success();
    refused(&unsigned, &["--require-signature", text(&certificate)], &["ImageRefused", "not signed"]);
}
