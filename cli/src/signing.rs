//! Signing image files: key and certificate as files, and what to say when they do not do.

use core::fmt;
use std::path::Path;
use std::time::SystemTime;

use eif::rewrite::RewriteError;
use eif::sign::Signer;
use eif::writer::WriteError;
use image::file_error::FileError;
use image::signing::{self, Signature, Signed, SigningError};

use crate::error::{Failure, Result, file_advice};
use crate::input;

/// A key and its certificate, checked before anything is written with them.
///
/// # Errors
/// If one cannot be read or used, they do not belong together, or the certificate is not valid at `now`.
pub(crate) fn signer(key: &Path, certificate: &Path, now: SystemTime) -> Result<Signer> {
    let (key, certificate) = (input::signing_key(key)?, input::signing_certificate(certificate)?);
    Signer::new(key, certificate, now).map_err(|error| failure(&error))
}

/// Writes an image with another signature; the output may be the image itself.
///
/// # Errors
/// If it cannot be signed so or written; then it is as it was.
pub(crate) fn write(image: &Path, output: &Path, signature: Signature<'_>) -> Result<Signed> {
    signing::write(image, output, signature).map_err(|error| match &error {
        SigningError::File(FileError { source, .. })
        | SigningError::Image { source: RewriteError::Write(WriteError::Output(source)), .. } => {
            Failure::new(&error, file_advice(source))
        }
        SigningError::NotAFile(_) => Failure::new(&error, "give an enclave image file (EIF)"),
        SigningError::Image { .. } => failure(&error),
    })
}

/// Many causes say themselves what to do, after a semicolon.
pub(crate) fn failure(error: &impl fmt::Display) -> Failure {
    Failure::advised(error, "check the image, the key and the certificate")
}
