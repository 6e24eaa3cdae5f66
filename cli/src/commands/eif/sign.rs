//! `enclave eif sign`: with a key, or with a signature made elsewhere; or the signature is taken out.

use std::time::SystemTime;

use image::signing::Signature;

use super::measure::MeasuredFile;
use crate::args::EifSignArgs;
use crate::error::Result;
use crate::input;
use crate::output::{self, printable, tell};
use crate::signing::{signer, write};

/// Signs the file in place, or to a new one.
pub(super) fn sign(args: &EifSignArgs) -> Result<()> {
    let output = args.to.as_deref().unwrap_or(&args.file);
    let now = SystemTime::now();
    let (signed, done) = match (&args.sign_key, &args.signature, &args.sign_cert) {
        (Some(key), _, Some(certificate)) => {
            let signer = signer(key, certificate, now)?;
            (write(&args.file, output, Signature::Sign(&signer))?, "Signed.")
        }
        (_, Some(signature), Some(certificate)) => {
            let certificate = input::signing_certificate(certificate)?;
            let signature = input::signature(signature)?;
            let attach = Signature::Attach { certificate: &certificate, signature: &signature, at: now };
            (write(&args.file, output, attach)?, "Signed.")
        }
        _ => (write(&args.file, output, Signature::Remove)?, "The signature was taken out."),
    };
    if !signed.flags.unknown().is_empty() {
        tell(format_args!(
            "warning: {} has the unknown header flags {}: what such an image measures to is not published; they were kept, \
             and the plain PCR0 was signed",
            printable(&args.file.display().to_string()),
            signed.flags.unknown()
        ));
    }
    tell(done);
    output::print(args.output.format, &MeasuredFile::of(output, signed.measurements), MeasuredFile::text)
}
