//! Signatures that we make, judged by AWS's reader and checker; signatures that AWS's tools made, replaced by ours.

use std::fs;
use std::path::Path;
use std::time::SystemTime;

use eif::certificate::SigningCertificate;
use eif::private_key::PrivateKey;
use eif::sign::Signer;
use image::signing::{Signature, write};

use super::{
    CURVES, assert_same_certificate, assert_same_registers, described, ours, read_ours, read_theirs, signer,
    theirs,
};

fn our_signer(curve: &str) -> Signer {
    let (certificate, key) = signer(curve);
    let certificate = SigningCertificate::from_pem(&fs::read(certificate).unwrap()).unwrap();
    Signer::new(PrivateKey::from_pem(&fs::read(key).unwrap()).unwrap(), certificate, SystemTime::now())
        .unwrap()
}

fn sign(path: &Path, curve: &str) {
    write(path, path, Signature::Sign(&our_signer(curve))).unwrap();
}

/// AWS's reader finds the same registers, PCR 8 included, and holds the signature for good.
fn assert_aws_accepts(path: &Path) {
    let ours = described(path);
    assert_same_registers(&ours, &read_theirs(path).get_measurements().unwrap());
    assert!(ours["Measurements"]["PCR8"].is_string());
    assert_same_certificate(path, &ours);
}

#[test]
fn aws_accepts_our_signatures_on_our_images_and_on_its_own() {
    for curve in CURVES {
        let folder = tempfile::tempdir().unwrap();
        let image = ours(&folder);
        sign(&image, curve);
        assert_aws_accepts(&image);
        let folder = tempfile::tempdir().unwrap();
        let (image, _) = theirs(&folder, None);
        sign(&image, curve);
        assert_aws_accepts(&image);
    }
}

#[test]
fn we_replace_awss_signature_by_a_longer_a_shorter_and_an_equally_long_one() {
    for old in CURVES {
        for new in CURVES {
            let folder = tempfile::tempdir().unwrap();
            let (image, measurements) = theirs(&folder, Some(old));
            sign(&image, new);
            assert_aws_accepts(&image);
            let ours = described(&image);
            for register in ["PCR0", "PCR1", "PCR2"] {
                assert_eq!(ours["Measurements"][register], measurements[register]);
            }
            let same_signer = ours["Measurements"]["PCR8"] == measurements["PCR8"];
            assert_eq!(same_signer, old == new);
        }
    }
}

#[test]
fn without_its_signature_awss_image_is_the_one_it_would_have_built() {
    let folder = tempfile::tempdir().unwrap();
    let (image, _) = theirs(&folder, None);
    let unsigned = fs::read(image).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (image, _) = theirs(&folder, Some("p521"));
    write(&image, &image, Signature::Remove).unwrap();
    assert!(fs::read(image).unwrap() == unsigned);
}

#[test]
fn our_section_is_awss_but_for_the_signature_itself() {
    for curve in CURVES {
        let sections = [true, false].map(|by_us| {
            let folder = tempfile::tempdir().unwrap();
            let (image, _) = theirs(&folder, (!by_us).then_some(curve));
            if by_us {
                sign(&image, curve);
            }
            read_ours(&image).signature.unwrap()
        });
        let common = sections[0].iter().zip(&sections[1]).take_while(|(ours, theirs)| ours == theirs).count();
        // Certificate, headers and payload come before r and s, which take at most two bytes for each of theirs.
        let signature = 2 * match curve {
            "p256" => 64,
            "p384" => 96,
            _ => 132,
        };
        for section in &sections {
            assert!(section.len() - common <= signature, "{curve}: {} of {}", common, section.len());
        }
    }
}

#[test]
fn signing_in_place_and_to_a_new_file_give_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let image = ours(&folder);
    let other = folder.path().join("signed.eif");
    write(&image, &other, Signature::Sign(&our_signer("p384"))).unwrap();
    sign(&image, "p384");
    assert!(fs::read(&image).unwrap() == fs::read(other).unwrap());
}
