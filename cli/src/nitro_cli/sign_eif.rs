//! `nitro-cli sign-eif`, and the checks of what build-enclave signs with.

use std::fs::File;
use std::path::Path;
use std::time::SystemTime;

use eif::sign::Signer;
use image::signing::Signature;

use super::args::{SignEifArgs, SigningArgs};
use super::codes::Code;
use super::describe_eif;
use super::error::{Error, Result};
use super::output::{self, Measured};
use super::run_settings::missing;
use crate::output::tell;
use crate::signing;

/// What the name of a key in AWS's key management service begins with.
const ARN: &str = "arn:";

pub(super) fn sign(args: &SignEifArgs) -> Result<()> {
    let image = args.eif_path.as_deref().ok_or_else(|| missing("eif-path"))?;
    let signer = signer(&args.signing)?.ok_or_else(|| {
        Error::new(
            Code::EIF_SIGNING,
            "neither a key nor a certificate was given",
            "add --private-key and --signing-certificate",
        )
    })?;
    File::open(image).map_err(|error| Error::file(image, "Open", &error).coded(Code::EIF_SIGNING))?;
    signing::write(image, image, Signature::Sign(&signer))
        .map_err(|failure| Error::of(Code::EIF_SIGNING, failure))?;
    tell("Enclave Image successfully signed.");
    output::print(&Measured { measurements: describe_eif::description_of(image)?.measurements })
}

/// What to sign with, if anything: key and certificate belong together, and the certificate is valid now.
///
/// # Errors
/// E60.
fn signer(args: &SigningArgs) -> Result<Option<Signer>> {
    let (Some(certificate), Some(key)) = (&args.signing_certificate, &args.private_key) else {
        return Ok(None);
    };
    refuse_key_service(key)?;
    File::open(key).map_err(|error| Error::file(key, "Open", &error).coded(Code::EIF_SIGNING))?;
    signing::signer(key, certificate, SystemTime::now())
        .map(Some)
        .map_err(|failure| Error::of(Code::EIF_SIGNING, failure))
}

/// nitro-cli takes keys in AWS's key management service as well.
///
/// # Errors
/// E60 if `key` is one.
pub(super) fn refuse_key_service(key: &Path) -> Result<()> {
    if !key.to_string_lossy().starts_with(ARN) {
        return Ok(());
    }
    Err(Error::new(
        Code::EIF_SIGNING,
        format_args!("{} names a key in AWS KMS: such keys are not supported", key.display()),
        "give --private-key a file in PEM",
    ))
}
