//! Signed images: certificates made by OpenSSL, signatures of every curve, and everything that can be wrong with one.

#![allow(
    clippy::cast_possible_truncation,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a failed assumption in a test is a failed test"
)]

mod common;

use std::time::{Duration, SystemTime};

use ciborium::value::Value;
use common::*;
use coset::{CborSerializable, CoseSign1, CoseSign1Builder, HeaderBuilder, TaggedCborSerializable, iana};
use ecdsa::signature::Signer;
use eif::certificate::{CertificateError, SigningCertificate};
use eif::describe::describe;
use eif::load::measure;
use eif::signature::{SignatureError, first_entry, payload, verify};
use p256::pkcs8::DecodePrivateKey;

const P256_KEY: &str = include_str!("data/p256.key.pem");
const P384_KEY: &str = include_str!("data/p384.key.pem");
const P521_KEY: &str = include_str!("data/p521.key.pem");
const P256: &[u8] = include_bytes!("data/p256.cert.pem");
const P384: &[u8] = include_bytes!("data/p384.cert.pem");
const P521: &[u8] = include_bytes!("data/p521.cert.pem");
const RSA: &[u8] = include_bytes!("data/rsa.cert.pem");

fn sign_with(algorithm: iana::Algorithm, data: &[u8]) -> Vec<u8> {
    match algorithm {
        iana::Algorithm::ES256 => {
            let key = p256::ecdsa::SigningKey::from_pkcs8_pem(P256_KEY).unwrap();
            let signature: p256::ecdsa::Signature = key.sign(data);
            signature.to_vec()
        }
        iana::Algorithm::ES384 => {
            let key = p384::ecdsa::SigningKey::from_pkcs8_pem(P384_KEY).unwrap();
            let signature: p384::ecdsa::Signature = key.sign(data);
            signature.to_vec()
        }
        _ => {
            let key = p521::ecdsa::SigningKey::from_pkcs8_pem(P521_KEY).unwrap();
            let signature: p521::ecdsa::Signature = key.sign(data);
            signature.to_vec()
        }
    }
}

fn cose(algorithm: iana::Algorithm, payload: Vec<u8>) -> CoseSign1 {
    CoseSign1Builder::new()
        .protected(HeaderBuilder::new().algorithm(algorithm).build())
        .payload(payload)
        .create_signature(b"", |data| sign_with(algorithm, data))
        .build()
}

fn sections() -> Vec<Piece> {
    vector(FULL_METADATA)
}

fn pcr0() -> attestation::pcr::Pcr {
    expected_pcrs(&sections())[0].parse().unwrap()
}

fn section(algorithm: iana::Algorithm, certificate: &[u8]) -> Vec<u8> {
    signature_section(certificate, &cose(algorithm, payload(&pcr0())).to_vec().unwrap())
}

fn signed_image(section: &[u8]) -> Vec<u8> {
    let mut pieces = sections();
    pieces.push(piece(SIGNATURE, section));
    build(&Fields::default(), &pieces)
}

#[test]
fn signatures_of_all_three_curves_verify() {
    for (algorithm, certificate) in
        [(iana::Algorithm::ES256, P256), (iana::Algorithm::ES384, P384), (iana::Algorithm::ES512, P521)]
    {
        let signed = verify(&section(algorithm, certificate)).unwrap();
        assert_eq!(signed.pcr0, pcr0());
        signed.check_image(&pcr0()).unwrap();
    }
}

#[test]
fn the_section_begins_as_the_published_signer_writes_it() {
    let section = section(iana::Algorithm::ES384, P384);
    assert!(section.starts_with(b"\x81\xa2\x73signing_certificate\x99"));
    assert_eq!(
        cose(iana::Algorithm::ES384, payload(&pcr0())).to_vec().unwrap()[..6],
        [0x84, 0x44, 0xa1, 0x01, 0x38, 0x22]
    );
}

#[test]
fn byte_strings_proper_and_a_tagged_signature_are_read_too() {
    let tagged = cose(iana::Algorithm::ES384, payload(&pcr0())).to_tagged_vec().unwrap();
    let section = cbor(&Value::Array(vec![Value::Map(vec![
        (Value::from("signing_certificate"), Value::Bytes(P384.to_vec())),
        (Value::from("signature"), Value::Bytes(tagged)),
    ])]));
    assert_eq!(verify(&section).unwrap().pcr0, pcr0());
    let value = Value::Map(vec![
        (Value::from("register_index"), Value::from(0)),
        (Value::from("register_value"), Value::Bytes(pcr0().as_bytes().to_vec())),
    ]);
    let cose = cose(iana::Algorithm::ES384, cbor(&value)).to_vec().unwrap();
    assert_eq!(verify(&signature_section(P384, &cose)).unwrap().pcr0, pcr0());
}

#[test]
fn pcr8_measures_the_certificate_as_openssl_wrote_it() {
    // Expected: `openssl x509 -outform DER | sha384sum`, extended once.
    let der_digest =
        "cf4ac1a47d358d18ea6573d5b9e51893d34365dc5f3d9386c3592bd3d564d9829ead0c17b209c5d7bd22ef5075ebfc4e";
    let certificate = SigningCertificate::from_pem(P384).unwrap();
    assert_eq!(sha384sum(certificate.der()), der_digest);
    assert_eq!(certificate.pcr8().to_string(), measuring(certificate.der()));
    let with_text = [b"Certificate:\n    Data:\n".as_slice(), P384, b"trailing text\n", P256].concat();
    assert_eq!(SigningCertificate::from_pem(&with_text).unwrap(), certificate);
}

#[test]
fn a_signed_image_is_described_with_its_certificate() {
    let image = signed_image(&section(iana::Algorithm::ES384, P384));
    let loaded = measure(image.as_slice(), image.len() as u64).unwrap();
    let json = serde_json::to_value(describe(&loaded).unwrap()).unwrap();
    assert_eq!(json["IsSigned"], true);
    assert_eq!(json["SignatureCheck"], true);
    assert_eq!(json["Measurements"]["PCR8"], SigningCertificate::from_pem(P384).unwrap().pcr8().to_string());
    let certificate = &json["SigningCertificate"];
    assert_eq!(
        certificate["IssuerName"],
        serde_json::json!({"countryName": "XX", "organizationName": "Test only", "commonName": "Image signer P-384"})
    );
    assert_eq!(certificate["Algorithm"], "ecdsa-with-SHA384");
    assert_eq!(certificate["NotBefore"], "Nov 22 03:26:54 2026 GMT");
    assert_eq!(certificate["NotAfter"], "Oct 29 03:26:54 2126 GMT");
    let signature = certificate["Signature"].as_str().unwrap();
    assert!(signature.starts_with("30:") && signature.split(':').all(|byte| byte.len() == 2), "{signature}");
}

#[test]
fn a_signature_over_another_image_is_good_but_not_for_this_one() {
    let other = attestation::pcr::Pcr::from_bytes([7; 48]);
    let cose = cose(iana::Algorithm::ES384, payload(&other)).to_vec().unwrap();
    let section = signature_section(P384, &cose);
    assert_eq!(
        verify(&section).unwrap().check_image(&pcr0()),
        Err(SignatureError::OtherImage { signed: other, measured: pcr0() })
    );
    let image = signed_image(&section);
    let described = describe(&measure(image.as_slice(), image.len() as u64).unwrap()).unwrap();
    assert_eq!(described.signature_check, Some(false));
}

#[test]
fn any_changed_byte_of_the_signature_is_noticed() {
    let good = cose(iana::Algorithm::ES256, payload(&pcr0())).to_vec().unwrap();
    for index in 0..good.len() {
        let mut changed = good.clone();
        changed[index] ^= 0x01;
        let verdict = verify(&signature_section(P256, &changed));
        assert!(verdict.is_err(), "byte {index} changed unnoticed: {verdict:?}");
    }
}

#[test]
fn each_flaw_has_its_name() {
    let good = cose(iana::Algorithm::ES384, payload(&pcr0())).to_vec().unwrap();
    let of = |certificate: &[u8]| verify(&signature_section(certificate, &good)).unwrap_err();
    assert!(matches!(of(P256), SignatureError::Algorithm { expected: "ES256", .. }));
    assert_eq!(of(RSA), SignatureError::Key("RSA".into()));
    assert_eq!(of(b"no certificate"), SignatureError::Certificate(CertificateError::Pem));
    assert!(matches!(
        of(b"-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n"),
        SignatureError::Certificate(CertificateError::Der(_))
    ));

    assert_eq!(verify(&cbor(&Value::Array(Vec::new()))), Err(SignatureError::Empty));
    assert_eq!(verify(&vec![0; 32_769]), Err(SignatureError::TooLarge(32_769)));
    let mut trailing = signature_section(P384, &good);
    trailing.push(0);
    assert!(matches!(verify(&trailing), Err(SignatureError::Encoding(_))));
    assert!(matches!(verify(b"\xff"), Err(SignatureError::Encoding(_))));

    let second_register = Value::Map(vec![
        (Value::from("register_index"), Value::from(1)),
        (Value::from("register_value"), Value::Bytes(vec![0; 48])),
    ]);
    let cose_over = |payload: Vec<u8>| {
        let cose = cose(iana::Algorithm::ES384, payload).to_vec().unwrap();
        verify(&signature_section(P384, &cose)).unwrap_err()
    };
    assert_eq!(cose_over(cbor(&second_register)), SignatureError::Register(1));
    assert!(matches!(cose_over(Vec::new()), SignatureError::Encoding(_)));
    assert!(matches!(cose_over([payload(&pcr0()), vec![0]].concat()), SignatureError::Encoding(_)));
}

#[test]
fn what_is_wrong_is_told_in_few_words_however_much_was_written() {
    // What an error quotes is escaped, which makes it several times as long.
    let text = "\u{1}".repeat(32_000);
    let certificate = Value::Map(vec![
        (Value::from("signing_certificate"), Value::from(text.as_str())),
        (Value::from("signature"), Value::Bytes(Vec::new())),
    ]);
    let algorithm = coset::RegisteredLabelWithPrivate::Text(text[..30_000].to_owned());
    let algorithm = coset::Header { alg: Some(algorithm), ..coset::Header::default() };
    let cose = CoseSign1Builder::new().protected(algorithm).payload(Vec::new()).build().to_vec().unwrap();
    let cose = Value::Map(vec![
        (Value::from("signing_certificate"), Value::Bytes(P384.to_vec())),
        (Value::from("signature"), Value::Bytes(cose)),
    ]);
    for entry in [certificate, cose] {
        let error = verify(&cbor(&Value::Array(vec![entry]))).unwrap_err();
        assert!(error.to_string().len() < 1000, "{} bytes", error.to_string().len());
    }
}

#[test]
fn a_length_that_lies_costs_no_memory() {
    // An array of one map whose byte string claims 2^62 bytes.
    let mut section = b"\x81\xa2\x73signing_certificate\x5b\x40\0\0\0\0\0\0\0".to_vec();
    assert!(matches!(first_entry(&section), Err(SignatureError::Encoding(_))));
    section[22] = 0x9b;
    assert!(matches!(first_entry(&section), Err(SignatureError::Encoding(_))));
}

#[test]
fn the_dates_are_judged_at_the_time_given() {
    let certificate = SigningCertificate::from_pem(P384).unwrap();
    // `date -ud 'Nov 22 03:26:54 2026' +%s` and `date -ud 'Oct 29 03:26:54 2126' +%s`.
    let (first, last) = (at(1_795_318_014), at(4_948_918_014));
    assert_eq!(certificate.check_dates(first), Ok(()));
    assert_eq!(certificate.check_dates(last), Ok(()));
    let second = Duration::from_secs(1);
    let early = certificate.check_dates(first - second).unwrap_err();
    assert_eq!(early, CertificateError::NotYetValid { not_before: "Nov 22 03:26:54 2026 GMT".into() });
    let late = certificate.check_dates(last + second).unwrap_err();
    assert_eq!(late, CertificateError::Expired { not_after: "Oct 29 03:26:54 2126 GMT".into() });
}

fn at(unix_seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(unix_seconds)
}
