//! The real `nitro-cli` (crate aws-nitro-enclaves-cli) on our images, and we on what it signed. Built once into the project's
//! cache by tools/cargo-tool.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use std::time::SystemTime;

use eif::certificate::SigningCertificate;
use eif::private_key::PrivateKey;
use eif::sign::Signer;
use image::signing::{Signature, write};
use serde_json::Value;

use super::{CURVES, described, ours, signer};

/// Where the program is.
static PROGRAM: LazyLock<PathBuf> = LazyLock::new(|| {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../tools/cargo-tool");
    let output = Command::new(tools).arg("nitro-cli").output().unwrap();
    assert!(output.status.success(), "nitro-cli cannot be built: {output:?}");
    PathBuf::from(String::from_utf8(output.stdout).unwrap().trim())
});

/// What it prints, which is one JSON value.
fn nitro_cli(arguments: &[&str]) -> Value {
    // It ends at once unless there is a folder for its log.
    let logs = tempfile::tempdir().unwrap();
    let output =
        Command::new(&*PROGRAM).args(arguments).env("NITRO_CLI_LOGS_PATH", logs.path()).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Everything that describe-eif says, the hash's name apart, which is a Rust name and changes.
fn assert_described_alike(image: &Path) {
    let mut theirs = nitro_cli(&["describe-eif", "--eif-path", text(image)]);
    let mut ours = described(image);
    for description in [&mut theirs, &mut ours] {
        description["Measurements"].as_object_mut().unwrap().remove("HashAlgorithm");
    }
    assert_eq!(ours, theirs);
}

#[test]
fn nitro_cli_describes_our_images_as_we_do() {
    let folder = tempfile::tempdir().unwrap();
    let image = ours(&folder);
    assert_described_alike(&image);
    for curve in CURVES {
        let (certificate, key) = signer(curve);
        let certificate = SigningCertificate::from_pem(&fs::read(certificate).unwrap()).unwrap();
        let key = PrivateKey::from_pem(&fs::read(key).unwrap()).unwrap();
        let signer = Signer::new(key, certificate, SystemTime::now()).unwrap();
        write(&image, &image, Signature::Sign(&signer)).unwrap();
        assert_eq!(described(&image)["SignatureCheck"], true);
        assert_described_alike(&image);
    }
}

#[test]
fn nitro_cli_signs_our_images_and_we_hold_the_signature_for_good() {
    for curve in CURVES {
        let folder = tempfile::tempdir().unwrap();
        let image = ours(&folder);
        let unsigned = described(&image)["Measurements"].clone();
        let (certificate, key) = signer(curve);
        let words = ["sign-eif", "--eif-path", text(&image), "--private-key", text(&key)];
        let signed = nitro_cli(&[&words[..], &["--signing-certificate", text(&certificate)]].concat());
        for register in ["PCR0", "PCR1", "PCR2"] {
            assert_eq!(signed["Measurements"][register], unsigned[register]);
        }
        let ours = described(&image);
        assert_eq!((&ours["CheckCRC"], &ours["SignatureCheck"]), (&true.into(), &true.into()));
        assert_eq!(ours["Measurements"]["PCR8"], signed["Measurements"]["PCR8"]);
        assert_described_alike(&image);
    }
}

#[test]
fn nitro_cli_computes_the_same_registers_from_files() {
    let folder = tempfile::tempdir().unwrap();
    let (certificate, _) = signer("p384");
    let pcr8 = nitro_cli(&["pcr", "--signing-certificate", text(&certificate)]);
    let certificate = SigningCertificate::from_pem(&fs::read(certificate).unwrap()).unwrap();
    assert_eq!(pcr8["PCR8"], certificate.pcr8().to_string());
    // PCR 2 of an image of two ramdisks is that of the second as a file.
    let image = ours(&folder);
    image::extract::sections(
        fs::File::open(&image).unwrap(),
        fs::metadata(&image).unwrap().len(),
        &folder.path().join("x"),
    )
    .unwrap();
    let pcr2 = nitro_cli(&["pcr", "--input", text(&folder.path().join("x/ramdisk-2.cpio"))]);
    assert_eq!(pcr2["PCR"], described(&image)["Measurements"]["PCR2"]);
}
