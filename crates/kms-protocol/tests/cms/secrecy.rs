//! What an envelope that does not open tells its sender: nothing but that.

use aes::Aes256;
use cbc::cipher::block_padding::NoPadding;
use cbc::cipher::{BlockModeEncrypt, KeyIvInit};
use proptest::prelude::*;
use rsa::Oaep;
use sha2::{Sha256, Sha512};

use super::*;

/// Where the encrypted key begins in a sealed envelope in DER, and what follows it up to the content: fixed elements, the vector.
const BEFORE_CONTENT: usize = 18 + 15 + 16;

/// A sealed envelope in DER with the encrypted key replaced, if given, and the content.
fn with(encrypted_key: Option<&[u8]>, content: Option<&[u8]>) -> Vec<u8> {
    let mut envelope = sealed(SECRET, Encoding::Der);
    let length = envelope.len();
    let content_at = length - 32;
    if let Some(content) = content {
        envelope[content_at..].copy_from_slice(content);
    }
    if let Some(encrypted_key) = encrypted_key {
        let header = [0x04, 0x82, 0x01, 0x00];
        let at = envelope.windows(4).position(|window| window == header).unwrap() + 4;
        assert!(at + 256 + BEFORE_CONTENT >= content_at - 4, "{at} {content_at}");
        envelope[at..at + 256].copy_from_slice(encrypted_key);
    }
    envelope
}

fn encrypted<P: rsa::traits::PaddingScheme>(padding: P, content_key: &[u8]) -> Vec<u8> {
    KEY.to_public_key().encrypt(&mut random(), padding, content_key).unwrap()
}

/// Opens many envelopes of a kind. With the substitute for a key that did not decrypt, the padding of one in 256 is right by chance: then
/// nonsense comes out, which the same envelope gives each time.
fn tells_nothing(kind: impl Fn() -> Vec<u8>) {
    let mut refused = 0;
    for _ in 0..24 {
        let envelope = kind();
        let result = opened(&envelope);
        assert_eq!(opened(&envelope), result, "an envelope opens differently the second time");
        match result {
            Err(error) => {
                assert_eq!(error, CmsError::Unopenable);
                refused += 1;
            }
            Ok(plaintext) => assert_ne!(plaintext, SECRET),
        }
    }
    assert!(refused > 12, "{refused} of 24");
}

#[test]
fn an_envelope_for_another_key_does_not_open() {
    let other = recipient(&new_key(2048));
    tells_nothing(|| seal(&other, SECRET, Encoding::Ber, &mut random()).unwrap());
}

#[test]
fn an_encrypted_key_that_is_not_of_this_padding_does_not_open() {
    tells_nothing(|| with(Some(&encrypted(Oaep::<Sha512>::new(), &[7; 32])), None));
    tells_nothing(|| with(Some(&encrypted(rsa::Pkcs1v15Encrypt, &[7; 32])), None));
    tells_nothing(|| with(Some(&encrypted(Oaep::<Sha256>::new_with_label(*b"label"), &[7; 32])), None));
}

#[test]
fn an_encrypted_key_that_is_no_number_below_the_modulus_does_not_open() {
    tells_nothing(|| with(Some(&[0xff; 256]), None));
    tells_nothing(|| with(Some(&[0; 256]), None));
}

#[test]
fn a_content_key_of_another_length_does_not_open() {
    for length in [0, 1, 16, 24, 31, 33, 190] {
        tells_nothing(|| with(Some(&encrypted(Oaep::<Sha256>::new(), &vec![7; length])), None));
    }
}

#[test]
fn wrong_padding_of_the_content_gives_the_same_error() {
    for last in [0, 17, 32, 0xff] {
        let mut block = [0xaa; 32];
        block[31] = last;
        let key = [7; 32];
        let envelope = with(Some(&encrypted(Oaep::<Sha256>::new(), &key)), None);
        let vector_at = envelope.len() - 34 - 16;
        let vector: [u8; 16] = envelope[vector_at..vector_at + 16].try_into().unwrap();
        let cipher = cbc::Encryptor::<Aes256>::new((&key).into(), (&vector).into());
        let content = cipher.encrypt_padded_vec::<NoPadding>(&block);
        let envelope = [&envelope[..envelope.len() - 32], &content].concat();
        assert_eq!(opened(&envelope), Err(CmsError::Unopenable), "{last}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn whatever_is_sealed_opens(plaintext in proptest::collection::vec(any::<u8>(), 0..3000)) {
        for encoding in BOTH {
            prop_assert_eq!(opened(&sealed(&plaintext, encoding)), Ok(plaintext.clone()));
        }
    }

    #[test]
    fn a_changed_byte_never_opens_to_the_secret_unless_it_is_in_the_name_of_the_key(
        at in any::<proptest::sample::Index>(),
        bit in 0_u8..8,
    ) {
        for encoding in BOTH {
            let mut envelope = sealed(SECRET, encoding);
            let identifier = [0x80, 32];
            let name = envelope.windows(2).position(|window| window == identifier).unwrap() + 2;
            let at = at.index(envelope.len());
            envelope[at] ^= 1 << bit;
            prop_assert_eq!(opened(&envelope).as_deref() == Ok(SECRET), (name..name + 32).contains(&at));
        }
    }

    #[test]
    fn any_bytes_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(matches!(opened(&bytes), Err(CmsError::Structure(_))));
    }
}
