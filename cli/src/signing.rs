//! What images are signed with.

use core::fmt;
use std::path::Path;
use std::time::SystemTime;

use eif::sign::Signer;

use crate::error::{Failure, Result};
use crate::input;

/// A key and its certificate, checked before anything is written with them.
///
/// # Errors
/// If one cannot be read or used, they do not belong together, or the certificate is not valid at `now`.
pub(crate) fn signer(key: &Path, certificate: &Path, now: SystemTime) -> Result<Signer> {
    let (key, certificate) = (input::signing_key(key)?, input::signing_certificate(certificate)?);
    Signer::new(key, certificate, now).map_err(|error| sign_failure(&error))
}

/// Many causes say themselves what to do, after a semicolon.
pub(crate) fn sign_failure(error: &impl fmt::Display) -> Failure {
    let message = error.to_string();
    match message.split_once("; ") {
        Some((cause, advice)) => Failure::new(cause, advice),
        None => Failure::new(message, "check the image, the key and the certificate"),
    }
}
