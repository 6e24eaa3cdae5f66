//! `enclave eif verify`.

use std::path::Path;
use std::time::SystemTime;

use attestation::pcr::Measurements;
use serde::Serialize;

use super::measure::MeasuredFile;
use super::{print_each, refused, require_sound};
use crate::args::EifVerifyArgs;
use crate::error::Result;
use crate::image_file::measure;
use crate::input;

/// Verifies each file.
pub(super) fn verify(args: &EifVerifyArgs) -> Result<()> {
    let required = args.require_signature.as_deref().map(input::signing_certificate).transpose()?;
    let now = SystemTime::now();
    let verify = |path: &Path| {
        let image = measure(path)?;
        require_sound(path, &image)?;
        let mut measurements = image.measurements.clone();
        let signed = match &image.signature {
            Some(section) => Some(verified_signature(path, section, &measurements, now)?),
            None => None,
        };
        measurements.pcr8 = signed.as_ref().map(|signed| signed.certificate.pcr8());
        if let Some(required) = &required {
            match &signed {
                Some(signed) if signed.certificate.der() == required.der() => {}
                Some(_) => return Err(refused(path, &"it is signed by another certificate", OTHER_SIGNER)),
                None => return Err(refused(path, &"it is not signed", OTHER_SIGNER)),
            }
        }
        Ok(VerifiedFile {
            valid: true,
            is_signed: signed.is_some(),
            measured: MeasuredFile::of(path, measurements),
        })
    };
    print_each(&args.images, verify, VerifiedFile::text)
}

const OTHER_SIGNER: &str = "have it signed by the holder of the required certificate, or get the right image";

fn verified_signature(
    path: &Path,
    section: &[u8],
    measurements: &Measurements,
    now: SystemTime,
) -> Result<eif::signature::Signed> {
    let advice = "get the image again from who signed it, or sign it again";
    let signed = eif::signature::verify(section).map_err(|error| refused(path, &error, advice))?;
    signed.check_image(&measurements.pcr0).map_err(|error| refused(path, &error, advice))?;
    signed.certificate.check_dates(now).map_err(|error| refused(path, &error, advice))?;
    Ok(signed)
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct VerifiedFile {
    valid: bool,
    is_signed: bool,
    #[serde(flatten)]
    measured: MeasuredFile,
}

impl VerifiedFile {
    fn text(&self) -> String {
        let signature = if self.is_signed { "signature, dates and signed PCR0" } else { "it is not signed" };
        format!("Valid: layout and checksum; {signature}.\n{}", self.measured.text())
    }
}
