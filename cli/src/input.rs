//! Reading what the user names: documents and certificates. Everything is bounded before it is read.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use attestation::certificate::Certificate;
use base64ct::{Base64, Base64Unpadded, Base64UrlUnpadded, Encoding};
use eif::certificate::SigningCertificate;
use eif::private_key::PrivateKey;
use zeroize::Zeroizing;

use crate::error::{Failure, Result, file_advice};

/// Longest text of a document: 16 KiB of document in hexadecimal, with room for line ends.
const MAX_DOCUMENT_TEXT: u64 = 64 * 1024;
/// Longest certificate file: certificates are at most 1024 bytes; tools put descriptions before them.
const MAX_CERTIFICATE_FILE: u64 = 64 * 1024;
/// Longest key file that is looked into: keys have a few hundred bytes; tools put parameters and a certificate beside them.
const MAX_KEY_FILE: u64 = 64 * 1024;
/// Room for such a file.
const KEY_CAPACITY: usize = 64 * 1024 + 32;
/// Longest file with a signature: 139 bytes at most in DER, as text.
const MAX_SIGNATURE_FILE: u64 = 4096;
/// First byte of a DER sequence, which a certificate is; PEM is text.
const DER_SEQUENCE: u8 = 0x30;

/// The file at `path`, or standard input for "-", if it is at most `limit` bytes long.
///
/// # Errors
/// If it cannot be read or is longer.
pub(crate) fn read_bounded(path: &Path, limit: u64, what: &str) -> Result<Vec<u8>> {
    let bytes = read_beginning(path, limit, what)?;
    if bytes.len() as u64 > limit {
        return Err(Failure::new(
            format_args!("{} is longer than {limit} bytes, too long for {what}", path.display()),
            "check that it is the right file",
        ));
    }
    Ok(bytes)
}

/// The file at `path`, or standard input for "-", at most one byte more of it than `limit`.
fn read_beginning(path: &Path, limit: u64, what: &str) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = if path == Path::new("-") {
        io::stdin().lock().take(limit + 1).read_to_end(&mut bytes)
    } else {
        File::open(path).and_then(|file| file.take(limit + 1).read_to_end(&mut bytes))
    };
    read.map_err(|error| {
        Failure::new(format_args!("cannot read {what} {}: {error}", path.display()), file_advice(&error))
    })?;
    Ok(bytes)
}

/// An attestation document: raw, hexadecimal or base64, told apart by its content. What is none of them, or too long, is
/// given as it is: to refuse it is the verifier's affair.
///
/// # Errors
/// If it cannot be read.
pub(crate) fn document(path: &Path) -> Result<Vec<u8>> {
    let bytes = read_beginning(path, MAX_DOCUMENT_TEXT, "the document")?;
    // Of a longer one the end is not known; what was read of it is too long for any document.
    Ok(if bytes.len() as u64 > MAX_DOCUMENT_TEXT { bytes } else { decode_document(bytes) })
}

/// A document usually begins with a CBOR array of four elements or COSE's tag; neither byte is text.
fn decode_document(bytes: Vec<u8>) -> Vec<u8> {
    const ARRAY_OF_FOUR: u8 = 0x84;
    const TAG_18: u8 = 0xd2;
    if matches!(bytes.first(), Some(&(ARRAY_OF_FOUR | TAG_18))) {
        return bytes;
    }
    let Ok(text) = std::str::from_utf8(&bytes) else { return bytes };
    let text: String = text.split_whitespace().collect();
    hex::decode(&text)
        .ok()
        .or_else(|| Base64::decode_vec(&text).ok())
        .or_else(|| Base64Unpadded::decode_vec(&text).ok())
        .or_else(|| Base64UrlUnpadded::decode_vec(text.trim_end_matches('=')).ok())
        .unwrap_or(bytes)
}

/// A root certificate, PEM or DER, of the profile that documents' chains have.
///
/// # Errors
/// If it cannot be read, or is no certificate of that profile.
pub(crate) fn root_certificate(path: &Path) -> Result<Certificate> {
    let bytes = read_bounded(path, MAX_CERTIFICATE_FILE, "the root certificate")?;
    let parsed = match std::str::from_utf8(&bytes) {
        Ok(text) if text.contains("-----BEGIN") => Certificate::from_pem(text),
        _ => Certificate::from_der(&bytes),
    };
    parsed.map_err(|error| {
        Failure::new(
            format_args!("{} is not a root certificate for attestation documents: {error}", path.display()),
            "export this host's with `enclave pki export-root`, or get AWS's from its published archive",
        )
    })
}

/// The certificate that signs images, PEM or DER.
///
/// # Errors
/// If it cannot be read or holds no certificate.
pub(crate) fn signing_certificate(path: &Path) -> Result<SigningCertificate> {
    let bytes = read_bounded(path, MAX_CERTIFICATE_FILE, "the certificate")?;
    let parsed = if bytes.starts_with(&[DER_SEQUENCE]) {
        SigningCertificate::from_der(bytes)
    } else {
        SigningCertificate::from_pem(&bytes)
    };
    parsed.map_err(|error| {
        Failure::new(
            format_args!("{} cannot be used: {error}", path.display()),
            "give a certificate in PEM or DER, not the private key or a request",
        )
    })
}

/// The key that signs images.
///
/// # Errors
/// If it cannot be read or is not such a key.
pub(crate) fn signing_key(path: &Path) -> Result<PrivateKey> {
    if path.to_str().is_some_and(|text| text.starts_with("arn:")) {
        return Err(Failure::new(
            "a key of a cloud's key service is not asked for signatures by this command",
            "write what is to be signed with `enclave eif measure --sign-cert CERT --to-be-signed OUT`, have it signed, and \
             attach the signature with `enclave eif sign --signature FILE`",
        ));
    }
    let failed = |error: &io::Error| Failure::file("read the signing key", path, error);
    // Not to grow, which would leave a part of it behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(KEY_CAPACITY));
    let file = File::open(path).map_err(|error| failed(&error))?;
    file.take(MAX_KEY_FILE).read_to_end(&mut bytes).map_err(|error| failed(&error))?;
    PrivateKey::from_pem(&bytes).map_err(|error| {
        Failure::advised(
            format_args!("{} cannot be used: {error}", path.display()),
            "give the private key in PEM, not its certificate",
        )
    })
}

/// A signature over an image: raw, or as hexadecimal or base64 text, which no raw signature happens to be.
///
/// # Errors
/// If it cannot be read.
pub(crate) fn signature(path: &Path) -> Result<Vec<u8>> {
    let bytes = read_bounded(path, MAX_SIGNATURE_FILE, "the signature")?;
    let decoded = std::str::from_utf8(&bytes).ok().and_then(|text| {
        let text: String = text.split_whitespace().collect();
        hex::decode(&text).ok().or_else(|| Base64::decode_vec(&text).ok())
    });
    Ok(decoded.unwrap_or(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_recognised_in_every_form() {
        let raw = [0x84, 0x44, 0xa1, 0x01, 0x38, 0x22, 0xa0, 0x41, 0xff, 0x41, 0xfe, 0xfb];
        let forms = [
            raw.to_vec(),
            b"8444a1013822a041ff41fefb\n".to_vec(),
            b"8444A1013822\nA041FF41FEFB".to_vec(),
            b"hESh ATgi\noEH/Qf77\n".to_vec(),
            b"hEShATgioEH_Qf77".to_vec(),
        ];
        for form in forms {
            assert_eq!(decode_document(form.clone()), raw, "{form:?}");
        }
    }

    #[test]
    fn what_is_in_none_of_the_forms_is_left_to_the_verifier() {
        for bytes in [&b""[..], b"hello!", b"\x00\xff", b"\x9f\xff"] {
            assert_eq!(decode_document(bytes.to_vec()), bytes, "{bytes:?}");
        }
    }
}
