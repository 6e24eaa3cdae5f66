//! `enclave eif describe|measure|verify`.

use std::path::Path;
use std::time::SystemTime;

use attestation::pcr::Measurements;
use eif::describe::{Description, MeasurementReport, describe};
use eif::load::Loaded;
use serde::Serialize;

use crate::args::{EifCommand, EifFilesArgs, EifVerifyArgs, Format};
use crate::error::{Failure, Result};
use crate::image_file::measure;
use crate::input;
use crate::output::{self, Fields, printable};

pub(crate) fn eif(command: &EifCommand) -> Result<()> {
    match command {
        EifCommand::Describe(args) => {
            print_each(args, |path| describe_file(path, measure(path)?), DescribedFile::text)
        }
        EifCommand::Measure(args) => {
            print_each(args, |path| measured_file(path, &measure(path)?), MeasuredFile::text)
        }
        EifCommand::Verify(args) => verify_files(args),
    }
}

/// One object for one file, an array for several; nothing if one of them fails.
fn print_each<T: Serialize>(
    args: &EifFilesArgs,
    each: impl Fn(&Path) -> Result<T>,
    text: impl Fn(&T) -> String,
) -> Result<()> {
    let mut results: Vec<T> = args.files.iter().map(|path| each(path)).collect::<Result<_>>()?;
    match (args.output.format, results.len()) {
        (Format::Json, 1) => results.pop().map_or(Ok(()), |only| output::print(Format::Json, &only, text)),
        (format, _) => {
            output::print(format, &results, |all| all.iter().map(&text).collect::<Vec<_>>().join("\n"))
        }
    }
}

/// nitro-cli's object, then ours.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct DescribedFile {
    #[serde(flatten)]
    description: Description,
    path: String,
    architecture: &'static str,
    sections: Vec<SectionReport>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct SectionReport {
    kind: String,
    offset: u64,
    size: u64,
}

fn describe_file(path: &Path, image: Loaded) -> Result<DescribedFile> {
    let description = describe(&image).map_err(|error| {
        Failure::new(
            format_args!("{} cannot be described: {error}", path.display()),
            "build or sign the image again",
        )
    })?;
    let sections = image.sections.iter().map(|section| SectionReport {
        kind: section.kind.to_string(),
        offset: section.offset,
        size: section.size,
    });
    Ok(DescribedFile {
        description,
        path: path.display().to_string(),
        architecture: if image.header.flags.is_aarch64() { "aarch64" } else { "x86_64" },
        sections: sections.collect(),
    })
}

impl DescribedFile {
    fn text(&self) -> String {
        let description = &self.description;
        let mut fields = Fields::default();
        fields.add("Image", printable(&self.path));
        if let (Some(name), Some(version)) = (&description.image_name, &description.image_version) {
            fields.add("Name", format_args!("{} (version {})", printable(name), printable(version)));
        }
        fields
            .add("Format", format_args!("version {}, {}", description.eif_version, self.architecture))
            .add("Checksum", if description.check_crc { "right" } else { "WRONG: the file is damaged" });
        add_measurements(&mut fields, &description.measurements.0);
        fields.add("Signed", self.signature_text());
        if let Some(certificate) = &description.signing_certificate {
            let name: Vec<String> =
                certificate.issuer_name.iter().map(|(key, value)| format!("{key}={value}")).collect();
            fields.add(" by", printable(&name.join(", ")));
            fields.add(" valid", format_args!("{} to {}", certificate.not_before, certificate.not_after));
        }
        if let Some(metadata) = &description.metadata {
            let build = &metadata.build;
            fields
                .add(
                    "Built",
                    format_args!("{} by {} {}", build.build_time, build.build_tool, build.build_tool_version),
                )
                .add("Kernel", format_args!("{} {}", build.operating_system, build.kernel_version));
            for (key, value) in &metadata.custom {
                fields.add(format!("Metadata {}", printable(key)), printable(&value.to_string()));
            }
        }
        for section in &self.sections {
            fields.add(
                format!("Section {}", section.kind),
                format_args!("{} bytes at {}", section.size, section.offset),
            );
        }
        fields.render(0)
    }

    fn signature_text(&self) -> &'static str {
        match (self.description.is_signed, self.description.signature_check) {
            (false, _) => "no",
            (true, Some(true)) => "yes, and the signature is over this image",
            (true, _) => "yes, but the signature is NOT VALID for this image",
        }
    }
}

/// nitro-cli's object of a built image, and the file it is about.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct MeasuredFile {
    measurements: MeasurementReport,
    path: String,
}

fn measured_file(path: &Path, image: &Loaded) -> Result<MeasuredFile> {
    require_sound(path, image)?;
    let mut measurements = image.measurements.clone();
    if let Some(section) = &image.signature {
        let signed = eif::signature::first_entry(section).and_then(|entry| Ok(entry.certificate()?));
        measurements.pcr8 =
            Some(signed.map_err(|error| refused(path, &error, "sign the image again"))?.pcr8());
    }
    Ok(MeasuredFile { measurements: MeasurementReport(measurements), path: path.display().to_string() })
}

impl MeasuredFile {
    fn text(&self) -> String {
        let mut fields = Fields::default();
        fields.add("Image", printable(&self.path));
        add_measurements(&mut fields, &self.measurements.0);
        fields.render(0)
    }
}

/// Lines for the registers that an image decides.
pub(crate) fn add_measurements(fields: &mut Fields, measurements: &Measurements) {
    fields.add("PCR0", measurements.pcr0).add("PCR1", measurements.pcr1).add("PCR2", measurements.pcr2);
    if let Some(pcr8) = &measurements.pcr8 {
        fields.add("PCR8", pcr8);
    }
}

fn verify_files(args: &EifVerifyArgs) -> Result<()> {
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
            measured: MeasuredFile {
                measurements: MeasurementReport(measurements),
                path: path.display().to_string(),
            },
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

/// An image that would not be booted for its checksum or its flags.
fn require_sound(path: &Path, image: &Loaded) -> Result<()> {
    image
        .checksum
        .check()
        .map_err(|error| refused(path, &error, "the file is damaged: copy or build it again"))?;
    let unknown = image.header.flags.unknown();
    if unknown.is_empty() {
        return Ok(());
    }
    Err(refused(
        path,
        &format_args!("its header has the unknown flags {unknown}"),
        "what such an image measures to is not published: use one made for the plain format",
    ))
}

fn refused(path: &Path, cause: &dyn core::fmt::Display, next: &str) -> Failure {
    Failure::new(format_args!("{} is refused: {cause}", path.display()), next)
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
