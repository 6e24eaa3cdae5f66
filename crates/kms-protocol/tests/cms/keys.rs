//! Which public keys are sealed for.

use kms_protocol::cms::{MAX_MODULUS_BITS, MAX_SPKI, MIN_MODULUS_BITS, RecipientKeyError};
use rsa::traits::PublicKeyParts;

use super::form::{element, object};
use super::*;

const RSA: &str = "1.2.840.113549.1.1.1";

/// A SubjectPublicKeyInfo with these numbers, whatever they are.
fn with_numbers(modulus: &[u8], exponent: &[u8]) -> Vec<u8> {
    with_algorithm(&object(RSA), &element(0x05, &[]), modulus, exponent)
}

fn with_algorithm(algorithm: &[u8], parameters: &[u8], modulus: &[u8], exponent: &[u8]) -> Vec<u8> {
    let number = |bytes: &[u8]| match bytes {
        [0x80..=0xff, ..] => element(0x02, &[&[0], bytes].concat()),
        _ => element(0x02, bytes),
    };
    let numbers = element(0x30, &[number(modulus), number(exponent)].concat());
    let key = element(0x03, &[&[0], numbers.as_slice()].concat());
    element(0x30, &[element(0x30, &[algorithm, parameters].concat()), key].concat())
}

/// An odd number of so many bits: no product of two primes, which nobody can see quickly.
fn modulus(bits: usize) -> Vec<u8> {
    let mut bytes = vec![0xff; bits.div_ceil(8)];
    bytes[0] >>= (8 - bits % 8) % 8;
    bytes
}

fn read(spki: &[u8]) -> Result<(), RecipientKeyError> {
    RecipientKey::from_spki_der(spki).map(|_| ())
}

const E: &[u8] = &[1, 0, 1];

#[test]
fn the_numbers_are_written_as_the_library_writes_them() {
    let (n, e) = (KEY.n().to_be_bytes(), KEY.e().to_be_bytes_trimmed_vartime());
    assert_eq!(with_numbers(&n, &e), spki(&KEY));
}

#[test]
fn moduli_within_the_limits_are_taken_and_none_beyond() {
    for bits in [MIN_MODULUS_BITS, 3072, MAX_MODULUS_BITS] {
        assert_eq!(read(&with_numbers(&modulus(bits), E)), Ok(()), "{bits}");
    }
    for bits in [512, 1024, MIN_MODULUS_BITS - 1, MAX_MODULUS_BITS + 1] {
        assert_eq!(read(&with_numbers(&modulus(bits), E)), Err(RecipientKeyError::Modulus), "{bits}");
    }
}

#[test]
fn a_huge_modulus_is_refused_before_it_is_read() {
    let longest = with_numbers(&modulus(MAX_MODULUS_BITS + 8 * 400), E);
    assert!(longest.len() <= MAX_SPKI, "{}", longest.len());
    assert_eq!(read(&longest), Err(RecipientKeyError::Modulus));
    for bits in [16_384, 1 << 20] {
        let huge = with_numbers(&modulus(bits), E);
        assert_eq!(read(&huge), Err(RecipientKeyError::Modulus), "{bits}");
    }
}

#[test]
fn exponents_even_too_small_or_too_large_are_refused() {
    let refused: [&[u8]; 8] = [
        &[0],
        &[1],
        &[3],
        &[1, 0, 0],
        &[0xff, 0xff],
        &[1, 0, 2],
        &[2, 0, 0, 0, 1],
        &[1, 0, 0, 0, 0, 0, 0, 0, 1],
    ];
    for exponent in refused {
        let key = with_numbers(&modulus(2048), exponent);
        assert_eq!(read(&key), Err(RecipientKeyError::Exponent), "{exponent:?}");
    }
    let allowed: [&[u8]; 3] = [E, &[1, 0, 3], &[1, 0xff, 0xff, 0xff, 0xff]];
    for exponent in allowed {
        assert_eq!(read(&with_numbers(&modulus(2048), exponent)), Ok(()), "{exponent:?}");
    }
}

#[test]
fn an_even_modulus_is_refused() {
    let mut even = modulus(2048);
    *even.last_mut().unwrap() = 0xfe;
    assert_eq!(read(&with_numbers(&even, E)), Err(RecipientKeyError::Numbers));
}

#[test]
fn keys_of_other_algorithms_are_refused() {
    // RSASSA-PSS (RFC 8017), id-ecPublicKey (RFC 5480), X25519 (RFC 8410).
    for algorithm in ["1.2.840.113549.1.1.10", "1.2.840.10045.2.1", "1.3.101.110"] {
        let key = with_algorithm(&object(algorithm), &element(0x05, &[]), &modulus(2048), E);
        assert_eq!(read(&key), Err(RecipientKeyError::Algorithm), "{algorithm}");
    }
}

#[test]
fn other_encodings_are_refused() {
    let good = spki(&KEY);
    let trailing = [good.as_slice(), &[0]].concat();
    let pkcs1 = good[24..].to_vec();
    let without_null = with_algorithm(&object(RSA), &[], &modulus(2048), E);
    let pem = KEY.to_public_key().to_public_key_pem(Default::default()).unwrap();
    for (key, what) in [
        (&b""[..], "nothing"),
        (&good[..good.len() - 1], "truncated"),
        (&trailing, "trailing"),
        (&pkcs1, "PKCS#1"),
        (&without_null, "no NULL"),
        (pem.as_bytes(), "PEM"),
    ] {
        assert_eq!(read(key), Err(RecipientKeyError::Encoding), "{what}");
    }
}

#[test]
fn negative_and_padded_numbers_are_refused() {
    let key = |modulus: Vec<u8>, exponent: Vec<u8>| {
        let numbers = element(0x30, &[modulus, exponent].concat());
        let key = element(0x03, &[&[0], numbers.as_slice()].concat());
        element(0x30, &[element(0x30, &[object(RSA), element(0x05, &[])].concat()), key].concat())
    };
    let negative = key(element(0x02, &modulus(2048)), element(0x02, E));
    let padded = key(element(0x02, &[&[0, 0], modulus(2048).as_slice()].concat()), element(0x02, E));
    let padded_exponent =
        key(element(0x02, &[&[0], modulus(2048).as_slice()].concat()), element(0x02, &[0, 1, 0, 1]));
    for key in [negative, padded, padded_exponent] {
        assert_eq!(read(&key), Err(RecipientKeyError::Encoding));
    }
}

#[test]
fn a_key_is_shown_by_its_identifier_alone() {
    let shown = format!("{:?}", recipient(&KEY));
    assert!(shown.len() < 120 && shown.contains("identifier"), "{shown}");
}
