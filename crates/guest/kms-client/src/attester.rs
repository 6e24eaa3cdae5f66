//! Who makes attestation documents: the security module, as a trait, so that whoever has another way to one can bring it.

use guest::nsm::{Nsm, NsmError};

/// Makes attestation documents.
pub trait Attester: Send + Sync + 'static {
    /// A document (COSE_Sign1) that holds this public key, a SubjectPublicKeyInfo in DER.
    ///
    /// # Errors
    /// If the security module makes none.
    fn attest(&self, public_key: Vec<u8>) -> Result<Vec<u8>, NsmError>;
}

impl Attester for Nsm {
    fn attest(&self, public_key: Vec<u8>) -> Result<Vec<u8>, NsmError> {
        Self::attest(self, None, None, Some(public_key))
    }
}
