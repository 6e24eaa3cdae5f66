//! Rows of certificates that break one rule each, and the error that names it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failed assumption is a failed test"
)]

mod common;

use std::time::Duration;

use attestation::certificate::{Certificate, CertificateError, MAX_CERTIFICATE_LEN};
use attestation::key::PrivateKey;
use attestation::path::{DatesError, PathError, check_authorities, check_dates, check_path};
use common::forge::{Forgery, unknown_extension};
use common::{Hierarchy, now};
use getrandom::SysRng;
use x509_cert::ext::pkix::{BasicConstraints, KeyUsages};
use x509_cert::ext::{Extension, ToExtension};
use x509_cert::spki::SubjectPublicKeyInfoOwned;

fn key() -> PrivateKey {
    PrivateKey::generate(&mut SysRng).unwrap()
}

/// Checks the row root, a, b, leaf after changing one certificate's description.
fn check(changed: usize, change: impl FnOnce(&mut Forgery)) -> Result<(), PathError> {
    let mut row = [
        Forgery::authority("root", "root", None),
        Forgery::authority("a", "root", Some(1)),
        Forgery::authority("b", "a", Some(0)),
        Forgery::leaf("b"),
    ];
    change(&mut row[changed]);
    check_row(row.to_vec())
}

fn check_row(row: Vec<Forgery>) -> Result<(), PathError> {
    let keys: Vec<_> = row.iter().map(|_| key()).collect();
    let issuers = [0].into_iter().chain(0..);
    let mut certificates: Vec<_> = row
        .into_iter()
        .zip(issuers)
        .zip(&keys)
        .map(|((forgery, issuer), key)| forgery.make(key, &keys[issuer]))
        .collect();
    let leaf = certificates.pop().unwrap();
    check_path(&certificates, &leaf)
}

#[test]
fn an_unbroken_row_is_accepted() {
    assert_eq!(check(0, |_| ()), Ok(()));
}

#[test]
fn every_authority_must_say_that_it_is_one() {
    for position in 0..3 {
        let refused = Err(PathError::NotAnAuthority(position));
        assert_eq!(check(position, |forgery| forgery.constraints = None), refused);
        let no_authority = BasicConstraints { ca: false, path_len_constraint: None };
        assert_eq!(check(position, |forgery| forgery.constraints = Some(no_authority)), refused);
    }
}

#[test]
fn every_authority_must_be_allowed_to_sign_certificates() {
    for position in 0..3 {
        let refused = Err(PathError::MayNotSignCertificates(position));
        assert_eq!(check(position, |forgery| forgery.usage = None), refused);
        let signs_data = KeyUsages::DigitalSignature.into();
        assert_eq!(check(position, |forgery| forgery.usage = Some(signs_data)), refused);
    }
}

#[test]
fn path_lengths_are_respected_at_their_edge_and_one_past_it() {
    let with = |position, path_length| {
        check(position, |forgery: &mut Forgery| {
            forgery.constraints = Some(BasicConstraints { ca: true, path_len_constraint: path_length });
        })
    };
    assert_eq!(with(0, Some(2)), Ok(()));
    assert_eq!(with(0, Some(1)), Err(PathError::PathLength(0)));
    assert_eq!(with(1, Some(1)), Ok(()));
    assert_eq!(with(1, Some(0)), Err(PathError::PathLength(1)));
    assert_eq!(with(2, None), Ok(()));
}

#[test]
fn an_enclave_cannot_make_an_authority_below_its_own() {
    let row = vec![
        Forgery::authority("root", "root", None),
        Forgery::authority("a", "root", Some(1)),
        Forgery::authority("b", "a", Some(0)),
        Forgery::authority("c", "b", Some(0)),
        Forgery::leaf("c"),
    ];
    assert_eq!(check_row(row), Err(PathError::PathLength(1)));
}

#[test]
fn the_leaf_may_sign_documents_and_is_no_authority() {
    let authority = |forgery: &mut Forgery| {
        forgery.constraints = Some(BasicConstraints { ca: true, path_len_constraint: None });
    };
    assert_eq!(check(3, authority), Err(PathError::LeafIsAuthority));
    assert_eq!(check(3, |forgery| forgery.usage = None), Err(PathError::MayNotSignDocuments));
    let certificates = KeyUsages::KeyCertSign.into();
    assert_eq!(check(3, |forgery| forgery.usage = Some(certificates)), Err(PathError::MayNotSignDocuments));
    assert_eq!(check(3, |forgery| forgery.constraints = None), Ok(()));
}

#[test]
fn names_must_join() {
    for position in 0..4 {
        let refused = Err(PathError::Issuer(position));
        assert_eq!(check(position, |forgery| forgery.issuer = "other".into()), refused);
    }
}

#[test]
fn signatures_must_join_though_the_names_do() {
    let (right, wrong, leaf_key) = (key(), key(), key());
    let root = Forgery::authority("root", "root", None).make(&right, &right);
    let leaf = Forgery::leaf("root").make(&leaf_key, &wrong);
    assert_eq!(check_path(&[root], &leaf), Err(PathError::Signature(1)));
    let not_self_signed = Forgery::authority("root", "root", None).make(&right, &wrong);
    assert_eq!(check_authorities(&[not_self_signed]), Err(PathError::Signature(0)));
    assert_eq!(check_path(&[], &leaf), Err(PathError::Empty));
}

#[test]
fn dates_hold_from_the_first_second_to_the_last() {
    let hierarchy = Hierarchy::new(now());
    let leaf = &hierarchy.leaf.certificate;
    let row: Vec<_> = hierarchy.enclave.chain().iter().chain([leaf]).cloned().collect();
    let second = Duration::from_secs(1);
    assert_eq!(check_dates(&row, leaf.not_before()), Ok(()));
    assert_eq!(check_dates(&row, leaf.not_before() - second), Err(DatesError::NotYetValid(0)));
    assert_eq!(check_dates([leaf], leaf.not_before() - second), Err(DatesError::NotYetValid(0)));
    assert_eq!(check_dates(&row, leaf.not_after()), Ok(()));
    assert_eq!(check_dates(&row, leaf.not_after() + second), Err(DatesError::Expired(3)));
    let host = &hierarchy.host.chain()[1];
    assert_eq!(check_dates(&row, host.not_after() + second), Err(DatesError::Expired(1)));
}

#[test]
fn extensions_that_are_critical_and_unknown_are_refused() {
    let with = |extension: Extension| {
        let key = key();
        Forgery::leaf("b").with(|forgery| forgery.extra.push(extension)).try_make(&key, &key).map(|_| ())
    };
    assert_eq!(with(unknown_extension(false, 1)), Ok(()));
    assert_eq!(with(unknown_extension(true, 1)), Err(CertificateError::UnknownCriticalExtension));
}

#[test]
fn extensions_that_are_there_twice_or_malformed_are_refused() {
    let with = |extension: Extension| {
        let key = key();
        Forgery::leaf("b").with(|forgery| forgery.extra.push(extension)).try_make(&key, &key).unwrap_err()
    };
    let authority = BasicConstraints { ca: true, path_len_constraint: None };
    let second = authority.to_extension(&"CN=b".parse().unwrap(), &[]).unwrap();
    assert_eq!(with(second.clone()), CertificateError::Extension);
    let key = key();
    // A boolean of 1 instead of 0xff, and an explicit default: BER, but not DER.
    for content in [&[0x30, 0x03, 0x01, 0x01, 0x01][..], &[0x30, 0x03, 0x01, 0x01, 0x00], &[]] {
        let mut malformed = second.clone();
        malformed.extn_value = der::asn1::OctetString::new(content).unwrap();
        let forgery = Forgery::leaf("b").with(|forgery| {
            forgery.constraints = None;
            forgery.extra.push(malformed);
        });
        assert_eq!(forgery.try_make(&key, &key).unwrap_err(), CertificateError::Extension, "{content:02x?}");
    }
}

#[test]
fn length_is_bounded_at_1024_bytes() {
    let with_filler = |filler: usize| {
        let key = key();
        Forgery::leaf("b")
            .with(|forgery| forgery.extra.push(unknown_extension(false, filler)))
            .der(&key, &key)
    };
    // Signatures differ in length by a byte or two: try until one fits.
    let of_length = |length: usize| {
        let filler = 500 + length - with_filler(500).len();
        (0..100).map(|_| with_filler(filler)).find(|der| der.len() == length).unwrap()
    };
    assert!(Certificate::from_der(&of_length(MAX_CERTIFICATE_LEN)).is_ok());
    let refused = Certificate::from_der(&of_length(MAX_CERTIFICATE_LEN + 1)).unwrap_err();
    assert_eq!(refused, CertificateError::TooLong);
}

#[test]
fn keys_on_another_curve_are_refused() {
    // A P-256 key, made with openssl ecparam -name prime256v1 -genkey.
    let point = hex::decode(concat!(
        "3059301306072a8648ce3d020106082a8648ce3d030107034200",
        "046b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296",
        "4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5"
    ))
    .unwrap();
    let info: SubjectPublicKeyInfoOwned = der::Decode::from_der(&point).unwrap();
    let der = Forgery::leaf("b").der_for(info, &key());
    assert_eq!(Certificate::from_der(&der).unwrap_err(), CertificateError::PublicKey);
}

#[test]
fn other_algorithms_and_versions_are_refused() {
    let hierarchy = Hierarchy::new(now());
    let good = hierarchy.leaf.certificate.as_der();
    // ecdsa-with-SHA384 (1.2.840.10045.4.3.3) becomes ecdsa-with-SHA256, in both places.
    let oid = |last| [0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, last];
    let places: Vec<_> = (0..good.len() - 10).filter(|at| good[*at..at + 10] == oid(3)).collect();
    assert_eq!(places.len(), 2);
    for place in places {
        let mut changed = good.to_vec();
        changed[place + 9] = 2;
        assert_eq!(Certificate::from_der(&changed).unwrap_err(), CertificateError::Algorithm);
    }
    let version = [0xa0, 0x03, 0x02, 0x01, 0x02];
    let place = (0..good.len() - 5).find(|at| good[*at..at + 5] == version).unwrap();
    let mut changed = good.to_vec();
    changed[place + 4] = 1;
    assert_eq!(Certificate::from_der(&changed).unwrap_err(), CertificateError::Version);
}

#[test]
fn what_is_not_strict_der_is_refused() {
    let hierarchy = Hierarchy::new(now());
    let good = hierarchy.leaf.certificate.as_der();
    let trailing = [good, &[0]].concat();
    // The outer length in one byte more than it needs.
    let mut long_length = vec![0x30, 0x83, 0x00];
    long_length.extend_from_slice(&good[2..]);
    for bytes in [&[][..], &[0x30], &good[..good.len() - 1], &trailing, &long_length] {
        assert_eq!(Certificate::from_der(bytes).unwrap_err(), CertificateError::Malformed);
    }
}

#[test]
fn pem_survives_and_other_text_is_refused() {
    let hierarchy = Hierarchy::new(now());
    let root = hierarchy.root_certificate();
    assert_eq!(&Certificate::from_pem(&root.to_pem().unwrap()).unwrap(), root);
    let key = hierarchy.root.key().to_pkcs8_pem().unwrap();
    let long = format!("{}{}", "x\n".repeat(10_000), root.to_pem().unwrap());
    for text in ["", "-----BEGIN CERTIFICATE-----", &key, &long] {
        assert_eq!(Certificate::from_pem(text).unwrap_err(), CertificateError::Pem);
    }
}

#[test]
fn a_name_that_differs_in_its_encoding_alone_does_not_join() {
    // The same text as another string type is another name here: we compare bytes, as strict verifiers do.
    let row = |issuer: &str| {
        let (root_key, leaf_key) = (key(), key());
        let root = Forgery::authority("root", "root", None).make(&root_key, &root_key);
        check_path(&[root], &Forgery::leaf(issuer).make(&leaf_key, &root_key))
    };
    assert_eq!(row("root"), Ok(()));
    assert_eq!(row("ROOT"), Err(PathError::Issuer(1)));
}
