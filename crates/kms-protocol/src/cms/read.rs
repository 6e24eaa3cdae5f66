//! The form of an envelope, read.

use std::borrow::Cow;

use const_oid::ObjectIdentifier;

use super::ber::Reader;
use super::tag::{
    CONSTRUCTED, CONTEXT_0, CONTEXT_1, INTEGER, NULL, OBJECT_IDENTIFIER, OCTET_STRING, SEQUENCE, SET,
};
use super::{
    AES_256_CBC, BLOCK, CmsError, DATA, ENVELOPED_DATA, MAX_ENVELOPE, MAX_PLAINTEXT, MGF1, RSAES_OAEP,
    SHA_256, VERSION,
};

/// Bytes of a key identifier: SHA-1 has 20, SHA-512 has 64.
const MAX_IDENTIFIER: usize = 64;

/// The parts of an envelope that open it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Envelope<'a> {
    /// The content's key, encrypted.
    pub(super) encrypted_key: Cow<'a, [u8]>,
    /// What CBC begins with.
    pub(super) vector: [u8; BLOCK],
    /// The content, encrypted: one block or more.
    pub(super) content: Cow<'a, [u8]>,
}

/// Reads a ContentInfo that holds an EnvelopedData (RFC 5652, sections 3 and 6.1) and nothing else.
///
/// # Errors
/// [`CmsError::Structure`] names the first thing that is not as it must be.
pub(super) fn read(bytes: &[u8]) -> Result<Envelope<'_>, CmsError> {
    if bytes.len() > MAX_ENVELOPE {
        return Err(CmsError::Structure("it is longer than any answer"));
    }
    let mut input = Reader::new(bytes);
    let mut content_info = input.within(SEQUENCE, "it is no ContentInfo")?;
    input.end("something follows the ContentInfo")?;
    object(&mut content_info, ENVELOPED_DATA, "its content is no EnvelopedData")?;
    let mut wrapper = content_info.within(CONTEXT_0 | CONSTRUCTED, "the ContentInfo has no content")?;
    content_info.end("something follows in the ContentInfo")?;
    let mut enveloped = wrapper.within(SEQUENCE, "its content is no EnvelopedData")?;
    wrapper.end("something follows the EnvelopedData")?;

    version(&mut enveloped, "the EnvelopedData is not of version 2")?;
    let mut recipients = enveloped.within(SET, "the EnvelopedData does not go on with its recipients")?;
    let encrypted_key = recipient(&mut recipients)?;
    recipients.end("it has more than one recipient")?;
    let (vector, content) = encrypted_content(&mut enveloped)?;
    enveloped.end("the EnvelopedData has unprotected attributes")?;
    Ok(Envelope { encrypted_key, vector, content })
}

/// A KeyTransRecipientInfo (RFC 5652, section 6.2.1). Which key it names does not matter: only the right one opens it.
fn recipient<'a>(recipients: &mut Reader<'a>) -> Result<Cow<'a, [u8]>, CmsError> {
    let mut recipient = recipients.within(SEQUENCE, "the recipient is not one of key transport")?;
    version(&mut recipient, "the recipient is not of version 2")?;
    let identifier = recipient.string(CONTEXT_0, "the recipient has no key identifier")?;
    if !(1..=MAX_IDENTIFIER).contains(&identifier.len()) {
        return Err(CmsError::Structure("the key identifier is empty or too long"));
    }
    oaep(&mut recipient)?;
    let encrypted_key = recipient.string(OCTET_STRING, "the encrypted key is no octet string")?;
    recipient.end("something follows the encrypted key")?;
    Ok(encrypted_key)
}

/// RSAES-OAEP-params with SHA-256 for both, and the empty label by default (RFC 8017, appendix A.2.1).
fn oaep(recipient: &mut Reader<'_>) -> Result<(), CmsError> {
    const NOT_OAEP: &str = "the key is not encrypted with RSAES-OAEP";
    const NOT_SHA_256: &str = "RSAES-OAEP is not with SHA-256 and MGF1 of SHA-256";
    let mut algorithm = recipient.within(SEQUENCE, NOT_OAEP)?;
    object(&mut algorithm, RSAES_OAEP, NOT_OAEP)?;
    let mut parameters = algorithm.within(SEQUENCE, NOT_SHA_256)?;
    algorithm.end(NOT_SHA_256)?;
    let mut hash = parameters.within(CONTEXT_0 | CONSTRUCTED, NOT_SHA_256)?;
    sha_256(&mut hash, NOT_SHA_256)?;
    hash.end(NOT_SHA_256)?;
    let mut mask = parameters.within(CONTEXT_1, NOT_SHA_256)?;
    parameters.end(NOT_SHA_256)?;
    let mut generator = mask.within(SEQUENCE, NOT_SHA_256)?;
    mask.end(NOT_SHA_256)?;
    object(&mut generator, MGF1, NOT_SHA_256)?;
    sha_256(&mut generator, NOT_SHA_256)?;
    generator.end(NOT_SHA_256)
}

/// SHA-256 as an AlgorithmIdentifier: its parameters are NULL or left out (RFC 8017, appendix A.2.1).
fn sha_256(reader: &mut Reader<'_>, what: &'static str) -> Result<(), CmsError> {
    let mut algorithm = reader.within(SEQUENCE, what)?;
    object(&mut algorithm, SHA_256, what)?;
    if !algorithm.is_empty() {
        algorithm.within(NULL, what)?.end(what)?;
    }
    algorithm.end(what)
}

/// An EncryptedContentInfo (RFC 5652, section 6.1).
fn encrypted_content<'a>(enveloped: &mut Reader<'a>) -> Result<([u8; BLOCK], Cow<'a, [u8]>), CmsError> {
    const NOT_AES: &str = "the content is not encrypted with AES-256-CBC";
    let mut info = enveloped.within(SEQUENCE, "the EnvelopedData has no encrypted content")?;
    object(&mut info, DATA, "the encrypted content is not of type data")?;
    let mut algorithm = info.within(SEQUENCE, NOT_AES)?;
    object(&mut algorithm, AES_256_CBC, NOT_AES)?;
    let vector = algorithm.string(OCTET_STRING, NOT_AES)?;
    algorithm.end(NOT_AES)?;
    let vector = vector.as_ref().try_into();
    let vector = vector.map_err(|_| CmsError::Structure("the initialisation vector is not of 16 bytes"))?;
    let content = info.string(CONTEXT_0, "the EnvelopedData has no encrypted content")?;
    info.end("something follows the encrypted content")?;
    if content.is_empty() || !content.len().is_multiple_of(BLOCK) {
        return Err(CmsError::Structure("the encrypted content is not of whole blocks"));
    }
    // Padding adds a block at most.
    if content.len() > MAX_PLAINTEXT.saturating_add(BLOCK) {
        return Err(CmsError::Structure("the encrypted content is longer than any plaintext"));
    }
    Ok((vector, content))
}

fn object(reader: &mut Reader<'_>, expected: ObjectIdentifier, what: &'static str) -> Result<(), CmsError> {
    let found = reader.content(OBJECT_IDENTIFIER, what)?;
    if found == expected.as_bytes() { Ok(()) } else { Err(CmsError::Structure(what)) }
}

fn version(reader: &mut Reader<'_>, what: &'static str) -> Result<(), CmsError> {
    if reader.content(INTEGER, what)? == [VERSION] { Ok(()) } else { Err(CmsError::Structure(what)) }
}
