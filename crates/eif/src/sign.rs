//! Signing an image: with a key that is at hand, or with a signature made elsewhere (a hardware module, a cloud's key service).
//!
//! What is signed is the COSE `Sig_structure` around PCR 0 ([`to_be_signed`]); what goes into the image is a section with
//! that signature and the certificate ([`Signer::section`], [`attach`]). Everything that would make the image fail to boot is
//! refused before: a certificate that is not valid now, a key of another kind, a key that is not the certificate's. The
//! bytes are those that nitro-cli writes: see [`crate::signature`].

use std::time::SystemTime;

use attestation::pcr::Pcr;
use ciborium::value::Value;
use coset::{CborSerializable, CoseSign1, CoseSign1Builder, HeaderBuilder};
use thiserror::Error;

use crate::certificate::{CertificateError, SigningCertificate};
use crate::key::{Algorithm, PublicKey};
use crate::private_key::{KeyError, PrivateKey};
use crate::reader::as_u64;
use crate::rules::MAX_SIGNATURE_SIZE;
use crate::signature::{self, SignatureError, payload};

/// Why an image cannot be signed so.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SignError {
    /// The key cannot be used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The certificate cannot be used.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The certificate's key is of a kind that does not sign images.
    #[error(
        "the signing certificate's key is {0}; images are signed with keys on P-256, P-384 or P-521: make such a key and a \
         certificate for it"
    )]
    CertificateKey(String),
    /// The certificate is another key's.
    #[error("the signing certificate is not that of the signing key; give the certificate made for this key")]
    Mismatch,
    /// The signature was not made by the certificate's key over this image.
    #[error(
        "the signature was not made over this image with the key of the certificate, as {algorithm} in DER or as \
         {length} bytes r and s; sign what `enclave eif measure --sign-cert CERT --to-be-signed OUT` writes, hashed with {hash}"
    )]
    Signature {
        /// What the certificate's key signs with.
        algorithm: Algorithm,
        /// Bytes of a signature that is not in DER.
        length: usize,
        /// The hash that goes with the algorithm.
        hash: &'static str,
    },
    /// The section would be larger than the format allows.
    #[error(
        "the certificate is too large: the signature section would have {0} bytes; at most {MAX_SIGNATURE_SIZE} are allowed"
    )]
    TooLarge(usize),
}

/// A key with its certificate, both found fit to sign images.
#[derive(Debug)]
pub struct Signer {
    key: PrivateKey,
    certificate: SigningCertificate,
}

impl Signer {
    /// Brings a key and its certificate together, at the time `at`.
    ///
    /// # Errors
    /// If the certificate is not valid then, or not this key's.
    pub fn new(key: PrivateKey, certificate: SigningCertificate, at: SystemTime) -> Result<Self, SignError> {
        let public = usable_key(&certificate)?;
        if public != key.public_key() {
            return Err(SignError::Mismatch);
        }
        certificate.check_dates(at)?;
        Ok(Self { key, certificate })
    }

    /// The certificate, which PCR 8 measures.
    #[must_use]
    pub fn certificate(&self) -> &SigningCertificate {
        &self.certificate
    }

    /// The signature section for an image with this PCR 0.
    ///
    /// # Errors
    /// If the certificate is too large for one.
    pub fn section(&self, pcr0: &Pcr) -> Result<Vec<u8>, SignError> {
        let cose = unsigned(pcr0, self.key.algorithm());
        let signature = self.key.sign(&cose.tbs_data(b""));
        section(cose, signature, &self.certificate)
    }
}

/// What the key of `certificate` has to sign for an image with this PCR 0, and how. The bytes are hashed by who signs:
/// `openssl dgst -sha384 -sign KEY FILE` does both.
///
/// # Errors
/// If the certificate's key is of a kind that does not sign images.
pub fn to_be_signed(pcr0: &Pcr, certificate: &SigningCertificate) -> Result<(Algorithm, Vec<u8>), SignError> {
    let algorithm = usable_key(certificate)?.algorithm();
    Ok((algorithm, unsigned(pcr0, algorithm).tbs_data(b"")))
}

/// The signature section for an image with this PCR 0, with a signature that was made elsewhere: in DER, or r and s of the
/// field's length each.
///
/// # Errors
/// If the certificate is not valid at the time `at`, or its key did not make the signature over this PCR 0.
pub fn attach(
    pcr0: &Pcr,
    certificate: &SigningCertificate,
    signature: &[u8],
    at: SystemTime,
) -> Result<Vec<u8>, SignError> {
    let key = usable_key(certificate)?;
    certificate.check_dates(at)?;
    let algorithm = key.algorithm();
    let cose = unsigned(pcr0, algorithm);
    let data = cose.tbs_data(b"");
    let forms = [Some(signature.to_vec()), key.signature_from_der(signature)];
    let raw = forms.into_iter().flatten().find(|raw| key.verifies(&data, raw));
    let raw = raw.ok_or(SignError::Signature {
        algorithm,
        length: algorithm.signature_length(),
        hash: algorithm.hash(),
    })?;
    section(cose, raw, certificate)
}

fn usable_key(certificate: &SigningCertificate) -> Result<PublicKey, SignError> {
    PublicKey::of(certificate).map_err(SignError::CertificateKey)
}

/// The COSE_Sign1 without its signature.
fn unsigned(pcr0: &Pcr, algorithm: Algorithm) -> CoseSign1 {
    let protected = HeaderBuilder::new().algorithm(algorithm.cose()).build();
    CoseSign1Builder::new().protected(protected).payload(payload(pcr0)).build()
}

/// One entry with certificate and signature, byte strings as arrays of integers: as nitro-cli writes it and QEMU demands it.
fn section(
    mut cose: CoseSign1,
    signature: Vec<u8>,
    certificate: &SigningCertificate,
) -> Result<Vec<u8>, SignError> {
    cose.signature = signature;
    // Serialising to memory cannot fail; if it did, the check below would tell.
    let cose = cose.to_vec().unwrap_or_default();
    let numbers = |bytes: &[u8]| Value::Array(bytes.iter().map(|byte| Value::from(*byte)).collect());
    let entries = Value::Array(vec![Value::Map(vec![
        (Value::from("signing_certificate"), numbers(certificate.to_pem().as_bytes())),
        (Value::from("signature"), numbers(&cose)),
    ])]);
    let mut section = Vec::new();
    let _ = ciborium::into_writer(&entries, &mut section);
    if as_u64(section.len()) > MAX_SIGNATURE_SIZE {
        return Err(SignError::TooLarge(section.len()));
    }
    // What is written is what whoever boots it will read.
    match signature::verify(&section) {
        Ok(_) => Ok(section),
        Err(SignatureError::Certificate(error)) => Err(error.into()),
        Err(_) => Err(SignError::Mismatch),
    }
}
