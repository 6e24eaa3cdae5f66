//! `enclave eif describe`.

use std::path::Path;

use eif::describe::Description;
use eif::load::Loaded;
use serde::Serialize;

use super::{add_measurements, print_each, read};
use crate::args::EifFilesArgs;
use crate::error::{Failure, Result};
use crate::output::{Fields, printable};

/// Describes each file.
pub(super) fn describe(args: &EifFilesArgs) -> Result<()> {
    print_each(args, |path| describe_file(path, read(path)?), DescribedFile::text)
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
    let description = eif::describe::describe(&image).map_err(|error| {
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
