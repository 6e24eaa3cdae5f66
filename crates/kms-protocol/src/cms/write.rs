//! The form of an envelope, written.

use const_oid::ObjectIdentifier;

use super::tag::{
    CONSTRUCTED, CONTEXT_0, CONTEXT_1, INTEGER, NULL, OBJECT_IDENTIFIER, OCTET_STRING, SEQUENCE, SET,
};
use super::{AES_256_CBC, BLOCK, DATA, ENVELOPED_DATA, Encoding, MGF1, RSAES_OAEP, SHA_256, VERSION};

/// Bytes of each piece of the content in BER. The one answer of KMS that we have is shorter, and has one piece; where KMS cuts longer ones
/// is not documented. Readers have to take any length: this one is our choice.
pub(super) const PIECE: usize = 1000;

/// Writes a ContentInfo that holds an EnvelopedData.
pub(super) fn write(
    encoding: Encoding,
    identifier: &[u8],
    encrypted_key: &[u8],
    vector: &[u8; BLOCK],
    content: &[u8],
) -> Vec<u8> {
    let recipient = [
        element(INTEGER, &[VERSION]),
        element(CONTEXT_0, identifier),
        oaep(),
        element(OCTET_STRING, encrypted_key),
    ];
    let recipients = element(SET, &element(SEQUENCE, &recipient.concat()));
    let cipher = [object(AES_256_CBC), element(OCTET_STRING, vector)];
    let info = [object(DATA), element(SEQUENCE, &cipher.concat()), encrypted_content(encoding, content)];
    let enveloped = [element(INTEGER, &[VERSION]), recipients, outer(encoding, SEQUENCE, &info.concat())];
    let enveloped = outer(encoding, SEQUENCE, &enveloped.concat());
    let content_info = [object(ENVELOPED_DATA), outer(encoding, CONTEXT_0 | CONSTRUCTED, &enveloped)];
    outer(encoding, SEQUENCE, &content_info.concat())
}

fn oaep() -> Vec<u8> {
    let sha_256 = || element(SEQUENCE, &[object(SHA_256), element(NULL, &[])].concat());
    let generator = element(SEQUENCE, &[object(MGF1), sha_256()].concat());
    let parameters = [element(CONTEXT_0 | CONSTRUCTED, &sha_256()), element(CONTEXT_1, &generator)];
    element(SEQUENCE, &[object(RSAES_OAEP), element(SEQUENCE, &parameters.concat())].concat())
}

fn encrypted_content(encoding: Encoding, content: &[u8]) -> Vec<u8> {
    match encoding {
        Encoding::Der => element(CONTEXT_0, content),
        Encoding::Ber => {
            let pieces: Vec<Vec<u8>> =
                content.chunks(PIECE).map(|piece| element(OCTET_STRING, piece)).collect();
            outer(encoding, CONTEXT_0 | CONSTRUCTED, &pieces.concat())
        }
    }
}

fn object(identifier: ObjectIdentifier) -> Vec<u8> {
    element(OBJECT_IDENTIFIER, identifier.as_bytes())
}

/// An element around the content, of indefinite length in BER.
fn outer(encoding: Encoding, tag: u8, content: &[u8]) -> Vec<u8> {
    match encoding {
        Encoding::Der => element(tag, content),
        Encoding::Ber => [&[tag, 0x80], content, &[0, 0]].concat(),
    }
}

/// An element of definite length, in the shortest form (X.690, sections 8.1.3 and 10.1).
fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    let significant: Vec<u8> = length.into_iter().skip_while(|octet| *octet == 0).collect();
    let header = match (significant.as_slice(), u8::try_from(content.len())) {
        (_, Ok(short @ 0..0x80)) => vec![tag, short],
        (octets, _) => [&[tag, 0x80 | u8::try_from(octets.len()).unwrap_or_default()], octets].concat(),
    };
    [&header, content].concat()
}
