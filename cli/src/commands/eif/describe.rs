//! `enclave eif describe`.

use std::path::Path;

use eif::describe::Description;
use eif::load::Loaded;
use image::contents::Contents;
use serde::Serialize;

use super::files::RamdiskFiles;
use super::{add_measurements, print_each};
use crate::args::EifDescribeArgs;
use crate::error::Result;
use crate::image_file::{indescribable, look_into, measure};
use crate::output::{Fields, printable};

/// Describes each file.
pub(super) fn describe(args: &EifDescribeArgs) -> Result<()> {
    let describe = |path: &Path| describe_file(path, measure(path)?, look_into(path, args.list_files)?);
    print_each(&args.images, describe, DescribedFile::text)
}

/// nitro-cli's object, then ours.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct DescribedFile {
    #[serde(flatten)]
    description: Description,
    path: String,
    architecture: &'static str,
    /// The version in the kernel itself; the metadata's is the builder's word.
    #[serde(skip_serializing_if = "Option::is_none")]
    kernel_version: Option<String>,
    command_line: String,
    sections: Vec<SectionReport>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ramdisks: Vec<RamdiskFiles>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct SectionReport {
    kind: String,
    offset: u64,
    size: u64,
    #[serde(rename = "SHA384")]
    digest: String,
}

fn describe_file(path: &Path, image: Loaded, contents: Contents) -> Result<DescribedFile> {
    let description = eif::describe::describe(&image).map_err(|error| indescribable(path, &error))?;
    let sections = image.sections.iter().zip(&image.digests).map(|(section, digest)| SectionReport {
        kind: section.kind.to_string(),
        offset: section.offset,
        size: section.size,
        digest: hex::encode(digest),
    });
    Ok(DescribedFile {
        description,
        path: path.display().to_string(),
        architecture: if image.header.flags.is_aarch64() { "aarch64" } else { "x86_64" },
        kernel_version: contents.kernel_version,
        command_line: String::from_utf8_lossy(&contents.command_line).into_owned(),
        sections: sections.collect(),
        ramdisks: (1..)
            .zip(contents.ramdisks)
            .map(|(number, listing)| RamdiskFiles::new(number, listing))
            .collect(),
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
        if let Some(version) = &self.kernel_version {
            fields.add("Kernel itself", format_args!("Linux {}", printable(version)));
        }
        fields.add("Command line", printable(&self.command_line));
        for section in &self.sections {
            fields.add(
                format!("Section {}", section.kind),
                format_args!("{} bytes at {}, SHA-384 {}", section.size, section.offset, section.digest),
            );
        }
        fields.render(0) + &self.ramdisks.iter().map(RamdiskFiles::text).collect::<String>()
    }

    fn signature_text(&self) -> &'static str {
        match (self.description.is_signed, self.description.signature_check) {
            (false, _) => "no",
            (true, Some(true)) => "yes, and the signature is over this image",
            (true, _) => "yes, but the signature is NOT VALID for this image",
        }
    }
}
