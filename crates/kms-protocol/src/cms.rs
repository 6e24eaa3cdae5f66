//! CMS EnvelopedData (RFC 5652, section 6) as a key service answers an enclave: the one form that AWS KMS puts into
//! `CiphertextForRecipient`, made and opened.
//!
//! One recipient named by its key (version 2, `subjectKeyIdentifier`), RSAES-OAEP with SHA-256 for hash and mask (RFC 8017,
//! section 7.1), AES-256-CBC with PKCS#7 padding (RFC 3565). The key identifier is the SHA-256 of the recipient's
//! SubjectPublicKeyInfo: so it is in the answers of KMS that people publish together with their keys. Readers do not need
//! it, and neither do we.
//!
//! CBC proves nothing about who sealed: of many changed envelopes, those that still open tell their sender about the
//! plaintext, whatever error the others get. So a recipient takes envelopes from its own TLS connection only; one that
//! others could hand envelopes to would need a new key for each request.

mod ber;
mod error;
mod open;
mod read;
mod recipient;
mod seal;
mod write;

pub use error::{CmsError, RecipientKeyError};
pub use open::open;
pub use recipient::{MAX_MODULUS_BITS, MAX_SPKI, MIN_MODULUS_BITS, RecipientKey};
pub use seal::seal;

use const_oid::ObjectIdentifier;

/// How an envelope is written. Both mean the same; many clients read only one of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Encoding {
    /// Indefinite lengths and a content in pieces, as AWS KMS answers.
    #[default]
    Ber,
    /// Definite lengths and a content in one piece.
    Der,
}

/// Bytes of a plaintext: a private key of RSA 4096 in PKCS#8 has 2,376, random bytes are 1,024 at most.
pub const MAX_PLAINTEXT: usize = 16 * 1024;
/// Bytes of an envelope that is opened: room for the longest plaintext in small pieces.
pub const MAX_ENVELOPE: usize = 32 * 1024;

/// Bytes of the key that encrypts the content, AES-256's.
const KEY: usize = 32;
/// Bytes of a block of AES, and of the vector that begins CBC.
const BLOCK: usize = 16;

/// id-envelopedData (RFC 5652, section 6.1).
const ENVELOPED_DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.3");
/// id-data (RFC 5652, section 4).
const DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.1");
/// id-RSAES-OAEP (RFC 8017, appendix A.2.1).
const RSAES_OAEP: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.7");
/// id-mgf1 (RFC 8017, appendix A.2.1).
const MGF1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.8");
/// id-sha256 (RFC 5754, section 2.2).
const SHA_256: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.1");
/// id-aes256-CBC (RFC 3565, section 4.1).
const AES_256_CBC: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.1.42");
/// The version of an EnvelopedData whose recipient is named by its key, and of that recipient (RFC 5652, sections 6.1 and
/// 6.2.1).
const VERSION: u8 = 2;

/// Identifier octets (X.690, section 8.1.2), of universal types and of tags in context.
mod tag {
    /// The bit of an encoding that consists of encodings.
    pub(super) const CONSTRUCTED: u8 = 0x20;
    pub(super) const INTEGER: u8 = 0x02;
    pub(super) const OCTET_STRING: u8 = 0x04;
    pub(super) const NULL: u8 = 0x05;
    pub(super) const OBJECT_IDENTIFIER: u8 = 0x06;
    pub(super) const SEQUENCE: u8 = 0x30;
    pub(super) const SET: u8 = 0x31;
    /// `[0]` of a string; of anything else with [`CONSTRUCTED`].
    pub(super) const CONTEXT_0: u8 = 0x80;
    /// `[1]`, constructed.
    pub(super) const CONTEXT_1: u8 = 0xa1;
}

/// For the fuzz target: false for bytes that are no envelope. Those that are must be read back the same from what we write of
/// them, in both encodings.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn reads_back(bytes: &[u8]) -> bool {
    let Ok(read) = read::read(bytes) else { return false };
    [Encoding::Ber, Encoding::Der].into_iter().all(|encoding| {
        let written = write::write(encoding, &[1], &read.encrypted_key, &read.vector, &read.content);
        read::read(&written).as_ref() == Ok(&read)
    })
}
