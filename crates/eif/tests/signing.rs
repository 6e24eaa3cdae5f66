//! Signing: keys and certificates are OpenSSL's, expected images are put together by the tests' own builder.

#![allow(
    clippy::cast_possible_truncation,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a failed assumption in a test is a failed test"
)]

mod common;

use std::fs;
use std::io::Cursor;
use std::path::Path;
use std::time::{Duration, SystemTime};

use attestation::pcr::Pcr;
use common::openssl::{CURVES, openssl, signer};
use common::*;
use eif::certificate::{CertificateError, SigningCertificate};
use eif::key::Algorithm;
use eif::private_key::{KeyError, PrivateKey};
use eif::rewrite::{MAX_GAP, RewriteError, sign, unsign};
use eif::sign::{SignError, Signer, attach, to_be_signed};
use eif::signature::verify;
use eif::writer::WriteError;
use p256::elliptic_curve::pkcs8::EncodePrivateKey;
use sha2::{Digest, Sha256, Sha384};

const P256_KEY: &[u8] = include_bytes!("data/p256.key.pem");
const P384_KEY: &[u8] = include_bytes!("data/p384.key.pem");
const P256: &[u8] = include_bytes!("data/p256.cert.pem");
const P384: &[u8] = include_bytes!("data/p384.cert.pem");
const RSA: &[u8] = include_bytes!("data/rsa.cert.pem");

/// PCR 0 of the published vector.
const PCR0: &str =
    "501688b0181f09350c6c26ddaf67753f86d56e18ce4ed3311807ace73d90146b80bada418bac61e78d5d07a86f6f16fa";

fn pcr0() -> Pcr {
    PCR0.parse().unwrap()
}

/// A time at which the certificates of tests/data are valid.
fn valid() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

fn certificate(pem: &[u8]) -> SigningCertificate {
    SigningCertificate::from_pem(pem).unwrap()
}

fn p256_signer() -> Signer {
    Signer::new(PrivateKey::from_pem(P256_KEY).unwrap(), certificate(P256), valid()).unwrap()
}

fn p384_signer() -> Signer {
    Signer::new(PrivateKey::from_pem(P384_KEY).unwrap(), certificate(P384), valid()).unwrap()
}

#[test]
fn signatures_are_those_that_rfc_6979_lists() {
    // RFC 6979, A.2.5 to A.2.7: the message "sample" with the curve's own hash; key, then r and s.
    let p256 = p256::SecretKey::from_slice(
        &hex::decode("C9AFA9D845BA75166B5C215767B1D6934E50C3DB36E89B127B8A622B120F6721").unwrap(),
    );
    let p384 = p384::SecretKey::from_slice(
        &hex::decode(
            "6B9D3DAD2E1B8C1C05B19875B6659F4DE23C3B667BF297BA9AA47740787137D896D5724E4C70A825F872C9EA60D2EDF5",
        )
        .unwrap(),
    );
    let p521 = p521::SecretKey::from_slice(
        &hex::decode(concat!(
            "00FAD06DAA62BA3B25D2FB40133DA757205DE67F5BB0018FEE8C86E1B68C7E75CAA896EB32F1F47C70855836A6D16FCC1466",
            "F6D8FBEC67DB89EC0C08B0E996B83538"
        ))
        .unwrap(),
    );
    let vectors = [
        (
            p256.unwrap().to_pkcs8_pem(Default::default()).unwrap(),
            concat!(
                "efd48b2aacb6a8fd1140dd9cd45e81d69d2c877b56aaf991c34d0ea84eaf3716",
                "f7cb1c942d657c41d436c7a1b6e29f65f3e900dbb9aff4064dc4ab2f843acda8"
            ),
        ),
        (
            p384.unwrap().to_pkcs8_pem(Default::default()).unwrap(),
            concat!(
                "94edbb92a5ecb8aad4736e56c691916b3f88140666ce9fa73d64c4ea95ad133c81a648152e44acf96e36dd1e80fabe46",
                "99ef4aeb15f178cea1fe40db2603138f130e740a19624526203b6351d0a3a94fa329c145786e679e7b82c71a38628ac8"
            ),
        ),
        (
            p521.unwrap().to_pkcs8_pem(Default::default()).unwrap(),
            concat!(
                "00c328fafcbd79dd77850370c46325d987cb525569fb63c5d3bc53950e6d4c5f174e25a1ee9017b5d450606add152b534931",
                "d7d4e8455cc91f9b15bf05ec36e377fa",
                "00617cce7cf5064806c467f678d3b4080d6f1cc50af26ca209417308281b68af282623eaa63e5b5c0723d8b8c37ff0777b1a",
                "20f8ccb1dccc43997f1ee0e44da4a67a"
            ),
        ),
    ];
    for (pem, signature) in vectors {
        let key = PrivateKey::from_pem(pem.as_bytes()).unwrap();
        assert_eq!(hex::encode(key.sign(b"sample")), signature, "{key:?}");
        assert_eq!(signature.len(), 2 * key.algorithm().signature_length());
    }
}

#[test]
fn keys_are_read_in_every_form_that_openssl_writes() {
    let folder = tempfile::tempdir().unwrap();
    let algorithms = [Algorithm::Es256, Algorithm::Es384, Algorithm::Es512];
    for (curve, algorithm) in CURVES.into_iter().zip(algorithms) {
        let (pkcs8, certificate) = signer(folder.path(), curve, curve);
        openssl(folder.path(), &format!("ec -in {curve}.key -out {curve}.sec1"));
        // Parameters, then the key in the form of SEC 1.
        openssl(folder.path(), &format!("ecparam -genkey -name {curve} -out {curve}.ecparam"));
        let read = |name: &Path| PrivateKey::from_pem(&fs::read(name).unwrap()).unwrap();
        let (pkcs8, sec1) = (read(&pkcs8), read(&folder.path().join(format!("{curve}.sec1"))));
        assert_eq!(pkcs8.sign(b"x"), sec1.sign(b"x"));
        let file = fs::read(folder.path().join(format!("{curve}.ecparam"))).unwrap();
        assert!(file.starts_with(b"-----BEGIN EC PARAMETERS-----"));
        assert_eq!(PrivateKey::from_pem(&file).unwrap().algorithm(), algorithm);
        // A certificate in the same file, before the key.
        let both =
            [fs::read(certificate).unwrap(), fs::read(folder.path().join(format!("{curve}.key"))).unwrap()];
        assert_eq!(PrivateKey::from_pem(&both.concat()).unwrap().sign(b"x"), pkcs8.sign(b"x"));
    }
}

#[test]
fn a_file_that_is_no_usable_key_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let made = |arguments: &str| {
        openssl(folder.path(), &format!("{arguments} -out key"));
        PrivateKey::from_pem(&fs::read(folder.path().join("key")).unwrap()).unwrap_err()
    };
    assert_eq!(
        made("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-384 -aes256 -pass pass:x"),
        KeyError::Encrypted
    );
    fs::write(folder.path().join("plain"), P384_KEY).unwrap();
    assert_eq!(made("ec -in plain -aes256 -passout pass:x"), KeyError::Encrypted);
    assert_eq!(made("genpkey -algorithm RSA"), KeyError::Kind("RSA".into()));
    openssl(folder.path(), "genpkey -algorithm RSA -out plain");
    assert_eq!(made("rsa -traditional -in plain"), KeyError::Kind("RSA".into()));
    assert_eq!(made("genpkey -algorithm ED25519"), KeyError::Kind("Ed25519".into()));
    assert_eq!(made("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:secp256k1"), KeyError::Unreadable);
    assert_eq!(made("ecparam -genkey -name secp256k1"), KeyError::Unreadable);

    for file in [&b""[..], b"hello", P256, &P384_KEY[..80]] {
        assert_eq!(PrivateKey::from_pem(file).unwrap_err(), KeyError::Pem);
    }
    let text = String::from_utf8(P384_KEY.to_vec()).unwrap();
    for damaged in [text.replacen("MIG2", "MIG3", 1), text.replacen("MIG2", "????", 1)] {
        assert_eq!(PrivateKey::from_pem(damaged.as_bytes()).unwrap_err(), KeyError::Unreadable);
    }
}

#[test]
fn the_key_is_not_printed() {
    assert_eq!(format!("{:?}", PrivateKey::from_pem(P384_KEY).unwrap()), "PrivateKey(ES384, ..)");
}

#[test]
fn the_certificate_is_checked_before_anything_is_signed() {
    let key = || PrivateKey::from_pem(P384_KEY).unwrap();
    let refused = |pem: &[u8], at| Signer::new(key(), certificate(pem), at).unwrap_err();
    assert_eq!(refused(P256, valid()), SignError::Mismatch);
    assert_eq!(refused(RSA, valid()), SignError::CertificateKey("RSA".into()));
    let folder = tempfile::tempdir().unwrap();
    let (_, same_curve) = signer(folder.path(), "other", "secp384r1");
    assert_eq!(refused(&fs::read(same_curve).unwrap(), SystemTime::now()), SignError::Mismatch);

    // `openssl x509 -dates` of tests/data/p384.cert.pem, as seconds since 1970.
    let [first, last] =
        [1_795_318_014, 4_948_918_014].map(|s| SystemTime::UNIX_EPOCH + Duration::from_secs(s));
    let second = Duration::from_secs(1);
    for at in [first, last] {
        assert!(Signer::new(key(), certificate(P384), at).is_ok());
    }
    assert!(matches!(
        refused(P384, first - second),
        SignError::Certificate(CertificateError::NotYetValid { .. })
    ));
    let expired = |error| matches!(error, SignError::Certificate(CertificateError::Expired { .. }));
    assert!(expired(refused(P384, last + second)));
    let signature = p384_signer().section(&pcr0()).unwrap();
    assert!(expired(attach(&pcr0(), &certificate(P384), &signature, last + second).unwrap_err()));
}

#[test]
fn what_is_signed_is_the_published_structure() {
    let (algorithm, bytes) = to_be_signed(&pcr0(), &certificate(P384)).unwrap();
    assert_eq!((algorithm, bytes.len()), (Algorithm::Es384, 143));
    assert_eq!(
        hex::encode(Sha384::digest(&bytes)),
        "edb54046454686c92aad1b5ea4b34cb6d94f731f2ed8958081a08417a57c4adee0aaeffd223586c489a6b69ba8b14e7a"
    );
    let payload = eif::signature::payload(&pcr0());
    assert_eq!(
        hex::encode(Sha256::digest(payload)),
        "83061c77bf8515c4f6bc92a83adf14fc8679a1e8a6c834ca33fd944c5591213d"
    );
    assert_eq!(to_be_signed(&pcr0(), &certificate(RSA)), Err(SignError::CertificateKey("RSA".into())));
}

#[test]
fn the_section_holds_the_certificate_as_its_file_has_it_and_nothing_else_of_that_file() {
    let section = p384_signer().section(&pcr0()).unwrap();
    let signed = verify(&section).unwrap();
    assert_eq!((signed.pcr0, signed.certificate.der()), (pcr0(), certificate(P384).der()));
    // The array of a text of `P384.len()` bytes, then the text, each byte below 24 as itself, others behind 0x18.
    let numbers = |bytes: &[u8]| -> Vec<u8> {
        bytes.iter().flat_map(|byte| if *byte < 24 { vec![*byte] } else { vec![0x18, *byte] }).collect()
    };
    let mut expected = b"\x81\xa2\x73signing_certificate\x99".to_vec();
    expected.extend((P384.len() as u16).to_be_bytes());
    expected.extend(numbers(P384));
    expected.extend(b"\x69signature");
    assert!(section.starts_with(&expected));
    // COSE_Sign1: protected {1: -35}, unprotected {}, the payload; r and s last.
    let begin = numbers(&[0x84, 0x44, 0xa1, 0x01, 0x38, 0x22, 0xa0, 0x58, 123]);
    assert!(section[expected.len() + 2..].starts_with(&begin));

    // The key in the certificate's file does not get into the image.
    let with_key = [P384_KEY, b"a note\n", P384, P256].concat();
    let signer =
        Signer::new(PrivateKey::from_pem(&with_key).unwrap(), certificate(&with_key), valid()).unwrap();
    assert_eq!(signer.section(&pcr0()).unwrap(), section);
}

#[test]
fn a_certificate_that_makes_the_section_too_large_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let made = |length: usize| {
        openssl(
            folder.path(),
            &format!(
                "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=x -addext \
                 nsComment={} -keyout x.key -out x.pem",
                "x".repeat(length)
            ),
        );
        let read = |name: &str| fs::read(folder.path().join(name)).unwrap();
        let key = PrivateKey::from_pem(&read("x.key")).unwrap();
        Signer::new(key, certificate(&read("x.pem")), SystemTime::now()).unwrap().section(&pcr0())
    };
    let section = made(10_000).unwrap();
    assert!(section.len() <= 32_768 && section.len() > 25_000, "{}", section.len());
    assert!(matches!(made(13_000), Err(SignError::TooLarge(32_769..))));
}

#[test]
fn a_signature_made_elsewhere_is_attached_if_it_is_good() {
    let folder = tempfile::tempdir().unwrap();
    for curve in CURVES {
        let (key, pem) = signer(folder.path(), curve, curve);
        let certificate = certificate(&fs::read(pem).unwrap());
        let (algorithm, bytes) = to_be_signed(&pcr0(), &certificate).unwrap();
        fs::write(folder.path().join("tbs"), bytes).unwrap();
        let sign = |hash: &str| {
            openssl(folder.path(), &format!("dgst -{hash} -sign {} -out signature tbs", key.display()));
            fs::read(folder.path().join("signature")).unwrap()
        };
        let der = sign(algorithm.hash());
        let now = SystemTime::now();
        let section = attach(&pcr0(), &certificate, &der, now).unwrap();
        let signed = verify(&section).unwrap();
        assert_eq!((signed.pcr0, &signed.certificate), (pcr0(), &certificate));

        // The same, as raw r and s: made here with the key, deterministically.
        let raw = PrivateKey::from_pem(&fs::read(&key).unwrap()).unwrap();
        let raw = raw.sign(&fs::read(folder.path().join("tbs")).unwrap());
        assert!(attach(&pcr0(), &certificate, &raw, now).is_ok());

        let other_hash = sign("sha1");
        let mut damaged = raw.clone();
        damaged[5] ^= 1;
        for wrong in [&other_hash[..], &damaged, &raw[1..], &der[1..], b"", &[0; 64], &[0; 96], &[0; 132]] {
            let error = attach(&pcr0(), &certificate, wrong, now).unwrap_err();
            assert!(matches!(error, SignError::Signature { .. }), "{error:?}");
        }
        let other_image = Pcr::from_bytes([1; 48]);
        assert!(matches!(attach(&other_image, &certificate, &der, now), Err(SignError::Signature { .. })));
    }
}

/// Header fields of every kind that has no meaning, so that all can be seen to stay.
fn odd_fields() -> Fields {
    Fields { flags: 0x0341, default_mem: 7, default_cpus: 9, reserved: 5, unused: 6, ..Fields::default() }
}

fn gapped() -> Vec<Piece> {
    let mut pieces = vector(FULL_METADATA);
    pieces[0].gap = vec![0; 64];
    pieces[3].gap = b"gap".to_vec();
    pieces[4].flags = 3;
    pieces
}

fn signed_by(signer: &Signer, image: &[u8]) -> Vec<u8> {
    let section = |pcr0: &Pcr| signer.section(pcr0);
    sign(image, image.len() as u64, Cursor::new(Vec::new()), section).unwrap().output.into_inner()
}

fn with_signature(mut pieces: Vec<Piece>, section: &[u8]) -> Vec<u8> {
    pieces.push(piece(SIGNATURE, section));
    build(&odd_fields(), &pieces)
}

fn unsigned(image: &[u8]) -> Vec<u8> {
    unsign(image, image.len() as u64, Cursor::new(Vec::new())).unwrap().output.into_inner()
}

#[test]
fn a_signature_is_put_in_replaced_and_taken_out_and_nothing_else_changes() {
    let plain = build(&odd_fields(), &gapped());
    let [small, large] = [p256_signer(), p384_signer()].map(|signer| signer.section(&pcr0()).unwrap());
    assert!(small.len() < large.len());
    let (signed_small, signed_large) = (with_signature(gapped(), &small), with_signature(gapped(), &large));

    assert!(signed_by(&p256_signer(), &plain) == signed_small);
    assert!(
        signed_by(&p384_signer(), &signed_small) == signed_large,
        "a longer one in place of a shorter one"
    );
    assert!(
        signed_by(&p256_signer(), &signed_large) == signed_small,
        "a shorter one in place of a longer one"
    );
    assert!(signed_by(&p256_signer(), &signed_small) == signed_small, "the same again");
    assert!(unsigned(&signed_large) == plain);
    assert!(unsigned(&plain) == plain);
    // The old signature need not be readable.
    assert!(signed_by(&p256_signer(), &with_signature(gapped(), b"\xff no CBOR")) == signed_small);
}

#[test]
fn a_signature_between_other_sections_moves_to_the_end() {
    let section = p256_signer().section(&pcr0()).unwrap();
    for place in 0..=5 {
        let mut pieces = gapped();
        let mut old = piece(SIGNATURE, b"an old one");
        old.gap = b"its gap".to_vec();
        pieces.insert(place, old);
        let image = build(&odd_fields(), &pieces);
        assert!(signed_by(&p256_signer(), &image) == with_signature(gapped(), &section), "place {place}");
        assert!(unsigned(&image) == build(&odd_fields(), &gapped()), "place {place}");
    }
}

#[test]
fn what_must_not_be_signed_is_refused() {
    let attempt = |image: &[u8]| {
        sign(image, image.len() as u64, Cursor::new(Vec::new()), |pcr0| p256_signer().section(pcr0))
            .unwrap_err()
    };
    let mut damaged = build(&odd_fields(), &gapped());
    *damaged.last_mut().unwrap() ^= 1;
    assert!(matches!(attempt(&damaged), RewriteError::Checksum(_)));
    let length = damaged.len() as u64;
    assert!(matches!(
        unsign(damaged.as_slice(), length, Cursor::new(Vec::new())),
        Err(RewriteError::Checksum(_))
    ));

    let version_2 = build(&Fields { version: 2, ..Fields::default() }, &vector(b"{}"));
    assert!(matches!(attempt(&version_2), RewriteError::Version(2)));
    let version_3 = build(&Fields { version: 3, ..Fields::default() }, &vector(b"{}"));
    let signed = signed_by(&p256_signer(), &version_3);
    assert_eq!(signed[4..6], [0, 3]);

    let full = |ramdisks: usize| {
        let mut pieces = vector(b"{}");
        pieces.extend((2..ramdisks).map(|_| piece(RAMDISK, b"r")));
        build(&Fields::default(), &pieces)
    };
    let _ = signed_by(&p256_signer(), &full(28));
    assert!(matches!(attempt(&full(29)), RewriteError::Write(WriteError::TooManySections)));

    let with_gap = |length: usize| {
        let mut pieces = gapped();
        pieces[2].gap = vec![0; length];
        build(&odd_fields(), &pieces)
    };
    let _ = signed_by(&p256_signer(), &with_gap(MAX_GAP));
    assert!(matches!(attempt(&with_gap(MAX_GAP + 1)), RewriteError::Gap(2)));
    assert!(matches!(attempt(b".eif"), RewriteError::Read(_)));
}
