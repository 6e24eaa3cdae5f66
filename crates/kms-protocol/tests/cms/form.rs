//! The form of an envelope, one part changed at a time.

use aes::Aes256;
use cbc::cipher::block_padding::Pkcs7;
use cbc::cipher::{BlockModeEncrypt, KeyIvInit};
use const_oid::ObjectIdentifier;
use kms_protocol::cms::{MAX_ENVELOPE, MAX_PLAINTEXT};
use rsa::Oaep;
use sha2::Sha256;

use super::*;

const CONTENT_KEY: [u8; 32] = [7; 32];
const VECTOR: [u8; 16] = [9; 16];
const AES_256_CBC: &str = "2.16.840.1.101.3.4.1.42";
const DATA: &str = "1.2.840.113549.1.7.1";
const ENVELOPED_DATA: &str = "1.2.840.113549.1.7.3";
const SHA_256: &str = "2.16.840.1.101.3.4.2.1";

/// An element of definite length.
pub(crate) fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len();
    let [.., high, middle, low] = length.to_be_bytes();
    let header = match length {
        0..0x80 => vec![tag, low],
        0x80..0x100 => vec![tag, 0x81, low],
        0x100..0x1_0000 => vec![tag, 0x82, middle, low],
        _ => vec![tag, 0x83, high, middle, low],
    };
    [&header, content].concat()
}

/// An element of indefinite length.
fn marked(tag: u8, content: &[u8]) -> Vec<u8> {
    [&[tag, 0x80], content, &[0, 0]].concat()
}

pub(crate) fn object(identifier: &str) -> Vec<u8> {
    element(0x06, ObjectIdentifier::new(identifier).unwrap().as_bytes())
}

fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    element(0x30, &parts.concat())
}

/// The parts of an envelope, each an element.
#[derive(Clone)]
struct Parts {
    content_type: Vec<u8>,
    version: Vec<u8>,
    before_recipients: Vec<u8>,
    recipient_version: Vec<u8>,
    identifier: Vec<u8>,
    algorithm: Vec<u8>,
    encrypted_key: Vec<u8>,
    after_recipient: Vec<u8>,
    data_type: Vec<u8>,
    cipher: Vec<u8>,
    content: Vec<u8>,
    after_content: Vec<u8>,
}

impl Parts {
    /// Parts that open, all of definite length.
    fn new(plaintext: &[u8]) -> Self {
        Self::with_key(&CONTENT_KEY, plaintext)
    }

    fn with_key(content_key: &[u8], plaintext: &[u8]) -> Self {
        let public = KEY.to_public_key();
        let encrypted_key = public.encrypt(&mut random(), Oaep::<Sha256>::new(), content_key).unwrap();
        let null = element(0x05, &[]);
        let sha_256 = sequence(&[&object(SHA_256), &null]);
        let generator = sequence(&[&object("1.2.840.113549.1.1.8"), &sha_256]);
        let parameters = sequence(&[&element(0xa0, &sha_256), &element(0xa1, &generator)]);
        Self {
            content_type: object(ENVELOPED_DATA),
            version: element(0x02, &[2]),
            before_recipients: vec![],
            recipient_version: element(0x02, &[2]),
            identifier: element(0x80, &[5; 32]),
            algorithm: sequence(&[&object("1.2.840.113549.1.1.7"), &parameters]),
            encrypted_key: element(0x04, &encrypted_key),
            after_recipient: vec![],
            data_type: object(DATA),
            cipher: sequence(&[&object(AES_256_CBC), &element(0x04, &VECTOR)]),
            content: element(0x80, &encrypt(plaintext)),
            after_content: vec![],
        }
    }

    fn join(&self) -> Vec<u8> {
        self.join_as(element)
    }

    fn join_as(&self, outer: impl Fn(u8, &[u8]) -> Vec<u8>) -> Vec<u8> {
        let recipient = [&self.recipient_version, &self.identifier, &self.algorithm, &self.encrypted_key];
        let recipient = outer(0x30, &recipient.map(Vec::as_slice).concat());
        let recipients = outer(0x31, &[recipient, self.after_recipient.clone()].concat());
        let info = outer(0x30, &[self.data_type.as_slice(), &self.cipher, &self.content].concat());
        let parts = [&self.version, &self.before_recipients, &recipients, &info, &self.after_content];
        let enveloped = outer(0x30, &parts.map(Vec::as_slice).concat());
        outer(0x30, &[self.content_type.clone(), outer(0xa0, &enveloped)].concat())
    }
}

fn encrypt(plaintext: &[u8]) -> Vec<u8> {
    let cipher = cbc::Encryptor::<Aes256>::new((&CONTENT_KEY).into(), (&VECTOR).into());
    cipher.encrypt_padded_vec::<Pkcs7>(plaintext)
}

/// The reason for which an envelope with one part changed is refused.
fn refused(change: impl FnOnce(&mut Parts)) -> &'static str {
    let mut parts = Parts::new(SECRET);
    assert_eq!(opened(&parts.join()).as_deref(), Ok(SECRET));
    change(&mut parts);
    match opened(&parts.join()) {
        Err(CmsError::Structure(reason)) => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_we_seal_opens_in_both_encodings() {
    for encoding in BOTH {
        for length in [0, 1, 15, 16, 17, 32, 999, 1000, 1001, 2376, MAX_PLAINTEXT] {
            let plaintext = vec![0xa5; length];
            assert_eq!(opened(&sealed(&plaintext, encoding)), Ok(plaintext), "{length} {encoding:?}");
        }
    }
}

#[test]
fn a_plaintext_longer_than_the_limit_is_not_sealed() {
    let refused = seal(&recipient(&KEY), &[0; MAX_PLAINTEXT + 1], Encoding::Der, &mut random());
    assert_eq!(refused, Err(CmsError::Size));
}

#[test]
fn two_envelopes_of_one_plaintext_have_nothing_random_in_common() {
    let (one, other) = (sealed(SECRET, Encoding::Der), sealed(SECRET, Encoding::Der));
    let differ = one.iter().zip(&other).filter(|(one, other)| one != other).count();
    // Encrypted key, vector and content are of 256, 16 and 32 bytes; each byte is the same by chance once in 256.
    assert!(differ > 256 + 16 + 32 - 20, "{differ}");
}

#[test]
fn a_generator_that_fails_is_said() {
    /// Gives some bytes, then none.
    struct Fails(usize);
    impl rand_core::TryRng for Fails {
        type Error = core::fmt::Error;
        fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
            Err(core::fmt::Error)
        }
        fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
            Err(core::fmt::Error)
        }
        fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Self::Error> {
            self.0 = self.0.checked_sub(bytes.len()).ok_or(core::fmt::Error)?;
            Ok(())
        }
    }
    impl rand_core::TryCryptoRng for Fails {}
    // The key, the vector and the seed of the padding have 32, 16 and 32 bytes.
    for bytes in [0, 31, 32, 47, 48, 79] {
        let refused = seal(&recipient(&KEY), SECRET, Encoding::Ber, &mut Fails(bytes));
        assert_eq!(refused, Err(CmsError::Random), "{bytes}");
    }
    assert!(seal(&recipient(&KEY), SECRET, Encoding::Ber, &mut Fails(80)).is_ok());
}

#[test]
fn every_element_may_be_of_indefinite_length() {
    assert_eq!(opened(&Parts::new(SECRET).join_as(marked)).as_deref(), Ok(SECRET));
}

#[test]
fn a_content_in_several_pieces_and_pieces_of_pieces_opens() {
    let plaintext = [3; 100];
    let encrypted = encrypt(&plaintext);
    let piece = |range: core::ops::Range<usize>| element(0x04, &encrypted[range]);
    let nested = marked(0x24, &[piece(17..60), element(0x24, &piece(60..112))].concat());
    let pieces = [piece(0..1), piece(1..1), piece(1..17), nested].concat();
    for content in [element(0xa0, &pieces), marked(0xa0, &pieces)] {
        let parts = Parts { content, ..Parts::new(&plaintext) };
        assert_eq!(opened(&parts.join()), Ok(plaintext.to_vec()));
    }
}

#[test]
fn strings_of_pieces_open_wherever_a_string_stands() {
    let mut parts = Parts::new(SECRET);
    parts.identifier = marked(0xa0, &[element(0x04, &[1; 3]), element(0x04, &[2; 3])].concat());
    parts.encrypted_key = marked(0x24, &parts.encrypted_key);
    let vector = element(0x24, &[element(0x04, &VECTOR[..5]), element(0x04, &VECTOR[5..])].concat());
    parts.cipher = sequence(&[&object(AES_256_CBC), &vector]);
    assert_eq!(opened(&parts.join()).as_deref(), Ok(SECRET));
}

#[test]
fn the_null_of_a_hash_may_be_left_out() {
    let sha_256 = sequence(&[&object(SHA_256)]);
    let generator = sequence(&[&object("1.2.840.113549.1.1.8"), &sha_256]);
    let parameters = sequence(&[&element(0xa0, &sha_256), &element(0xa1, &generator)]);
    let algorithm = sequence(&[&object("1.2.840.113549.1.1.7"), &parameters]);
    let parts = Parts { algorithm, ..Parts::new(SECRET) };
    assert_eq!(opened(&parts.join()).as_deref(), Ok(SECRET));
}

#[test]
fn lengths_in_more_octets_than_needed_are_read() {
    let long = |tag: u8, content: &[u8]| {
        let [.., high, low] = content.len().to_be_bytes();
        [&[tag, 0x84, 0, 0, high, low], content].concat()
    };
    assert_eq!(opened(&Parts::new(SECRET).join_as(long)).as_deref(), Ok(SECRET));
    let longer = |tag: u8, content: &[u8]| {
        let [.., high, low] = content.len().to_be_bytes();
        [&[tag, 0x85, 0, 0, 0, high, low], content].concat()
    };
    let refused = opened(&Parts::new(SECRET).join_as(longer));
    assert_eq!(refused, Err(CmsError::Structure("a length of more than four octets")));
}

#[test]
fn another_type_of_content_is_refused() {
    let signed_data = object("1.2.840.113549.1.7.2");
    assert_eq!(refused(|parts| parts.content_type = signed_data.clone()), "its content is no EnvelopedData");
    assert_eq!(refused(|parts| parts.data_type = signed_data), "the encrypted content is not of type data");
}

#[test]
fn other_versions_are_refused() {
    for version in [&[0][..], &[1], &[3], &[4], &[0, 2], &[0x82], &[]] {
        let version = element(0x02, version);
        let of_envelope = refused(|parts| parts.version = version.clone());
        assert_eq!(of_envelope, "the EnvelopedData is not of version 2");
        let of_recipient = refused(|parts| parts.recipient_version = version);
        assert_eq!(of_recipient, "the recipient is not of version 2");
    }
}

#[test]
fn originator_and_attributes_are_refused() {
    let originator = refused(|parts| parts.before_recipients = element(0xa0, &[]));
    assert_eq!(originator, "the EnvelopedData does not go on with its recipients");
    let attributes = refused(|parts| parts.after_content = element(0xa1, &[]));
    assert_eq!(attributes, "the EnvelopedData has unprotected attributes");
}

#[test]
fn no_and_several_recipients_are_refused() {
    let parts = Parts::new(SECRET);
    let recipient = [&parts.recipient_version, &parts.identifier, &parts.algorithm, &parts.encrypted_key];
    let recipient = element(0x30, &recipient.map(Vec::as_slice).concat());
    assert_eq!(refused(|parts| parts.after_recipient = recipient), "it has more than one recipient");
    assert_eq!(refused(|parts| parts.after_recipient = vec![5, 0]), "it has more than one recipient");
}

#[test]
fn key_identifiers_are_taken_up_to_their_longest_length() {
    let with = |length: usize| Parts { identifier: element(0x80, &vec![1; length]), ..Parts::new(SECRET) };
    for length in [1, 20, 64] {
        assert_eq!(opened(&with(length).join()).as_deref(), Ok(SECRET), "{length}");
    }
    for length in [0, 65] {
        let reason = CmsError::Structure("the key identifier is empty or too long");
        assert_eq!(opened(&with(length).join()), Err(reason), "{length}");
    }
}

#[test]
fn an_encrypted_key_of_another_length_is_refused() {
    let reason = "the encrypted key is not as long as the recipient's modulus";
    for length in [0, 1, 255, 257, 384] {
        assert_eq!(refused(|parts| parts.encrypted_key = element(0x04, &vec![1; length])), reason);
    }
}

#[test]
fn a_vector_of_another_length_is_refused() {
    for length in [0, 15, 17] {
        let cipher = sequence(&[&object(AES_256_CBC), &element(0x04, &vec![9; length])]);
        assert_eq!(refused(|parts| parts.cipher = cipher), "the initialisation vector is not of 16 bytes");
    }
}

#[test]
fn a_content_missing_empty_or_not_of_whole_blocks_is_refused() {
    assert_eq!(refused(|parts| parts.content = vec![]), "the EnvelopedData has no encrypted content");
    for length in [0, 1, 15, 17, 31] {
        let reason = refused(|parts| parts.content = element(0x80, &vec![1; length]));
        assert_eq!(reason, "the encrypted content is not of whole blocks", "{length}");
    }
}

#[test]
fn a_content_up_to_the_longest_is_opened_and_no_longer_one() {
    let longest = vec![1; MAX_PLAINTEXT];
    assert_eq!(opened(&Parts::new(&longest).join()).map(|plaintext| plaintext.len()), Ok(MAX_PLAINTEXT));
    let longer = opened(&Parts::new(&[1; MAX_PLAINTEXT + 16]).join());
    assert_eq!(longer, Err(CmsError::Structure("the encrypted content is longer than any plaintext")));
}

#[test]
fn an_envelope_up_to_the_longest_is_read_and_no_longer_one() {
    let with = |length: usize| {
        let pieces = [element(0x04, &encrypt(SECRET)), [4, 0].repeat(length)].concat();
        Parts { content: marked(0xa0, &pieces), ..Parts::new(SECRET) }.join_as(marked)
    };
    let pieces = (MAX_ENVELOPE - with(0).len()) / 2;
    assert!((MAX_ENVELOPE - 1..=MAX_ENVELOPE).contains(&with(pieces).len()));
    assert_eq!(opened(&with(pieces)).as_deref(), Ok(SECRET));
    assert_eq!(opened(&with(pieces + 1)), Err(CmsError::Structure("it is longer than any answer")));
}

#[test]
fn elements_lie_in_each_other_up_to_the_limit() {
    // Four elements of indefinite length are around the content.
    let nested = |depth: usize| {
        let content = (0..depth).fold(element(0x04, &encrypt(SECRET)), |inner, _| marked(0x24, &inner));
        Parts { content: marked(0xa0, &content), ..Parts::new(SECRET) }.join_as(marked)
    };
    assert_eq!(opened(&nested(11)).as_deref(), Ok(SECRET));
    assert_eq!(opened(&nested(12)), Err(CmsError::Structure("elements lie too deep in each other")));
    let definite = |depth: usize| {
        let content = (0..depth).fold(element(0x04, &encrypt(SECRET)), |inner, _| element(0x24, &inner));
        Parts { content: element(0xa0, &content), ..Parts::new(SECRET) }.join()
    };
    assert_eq!(opened(&definite(15)).as_deref(), Ok(SECRET));
    assert_eq!(opened(&definite(16)), Err(CmsError::Structure("elements lie too deep in each other")));
    assert_eq!(opened(&definite(3000)), Err(CmsError::Structure("elements lie too deep in each other")));
}

#[test]
fn pieces_that_are_no_octet_strings_are_refused() {
    for tag in [0x03, 0x0c, 0x80, 0x30] {
        let content = element(0xa0, &element(tag, &encrypt(SECRET)));
        assert_eq!(refused(|parts| parts.content = content), "a piece of a string is no octet string");
    }
}

#[test]
fn what_is_no_encoding_is_refused() {
    for (bytes, reason) in [
        (&b""[..], "it is no ContentInfo"),
        (&[0x30], "it ends within an element"),
        (&[0x30, 0x80], "it ends within an element"),
        (&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff], "it ends within an element"),
        (&[0x30, 0xff], "a length of more than four octets"),
        (&[0x3f, 0x00], "a tag in the long form"),
        (&[0x04, 0x80, 0, 0], "an indefinite length of a primitive element"),
        (&[0x00, 0x00], "an end-of-contents mark where none belongs"),
        (&[0x30, 0x80, 0x00, 0x01, 0x00], "an end-of-contents mark with content"),
        (&[0x04, 0x00], "it is no ContentInfo"),
        (&[0x30, 0x00], "its content is no EnvelopedData"),
        (b"-----BEGIN CMS-----", "it ends within an element"),
    ] {
        assert_eq!(opened(bytes), Err(CmsError::Structure(reason)), "{bytes:02x?}");
    }
}

#[test]
fn every_truncation_of_both_encodings_is_refused() {
    for encoding in BOTH {
        let envelope = sealed(SECRET, encoding);
        for length in 0..envelope.len() {
            assert!(matches!(opened(&envelope[..length]), Err(CmsError::Structure(_))), "{length}");
        }
    }
}
