//! `enclave eif extract`: an image's sections as files, or its application's root folder as a tar archive.

use std::fs::{File, Permissions};
use std::io::BufWriter;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use image::builder::folder_of;
use image::extract::{self, ExtractError, rootfs};
use image::file_error::FileError;
use image::newc::Limits;
use serde::Serialize;

use crate::args::EifExtractArgs;
use crate::error::{Failure, Result, file_advice};
use crate::image_file::open;
use crate::output::{self, Fields, plural, printable, tell};

/// Bytes written at a time.
const WRITE_CHUNK: usize = 256 << 10;
/// Names told of what was left out.
const NAMES_TOLD: usize = 10;

/// Does what the options ask for.
pub(super) fn extract(args: &EifExtractArgs) -> Result<()> {
    let sections = match &args.folder {
        Some(folder) => {
            let (file, length) = open(&args.file)?;
            let written =
                extract::sections(file, length, folder).map_err(|error| failure(&args.file, &error))?;
            written.into_iter().map(|file| Extracted { name: file.name, size: file.size }).collect()
        }
        None => Vec::new(),
    };
    let rootfs = args.rootfs.as_deref().map(|output| root_folder(&args.file, output)).transpose()?;
    let report = Report {
        path: args.file.display().to_string(),
        folder: args.folder.as_ref().map(|folder| folder.display().to_string()),
        sections,
        rootfs,
    };
    output::print(args.output.format, &report, Report::text)
}

fn root_folder(image: &Path, output: &Path) -> Result<RootFolder> {
    let (_, length) = open(image)?;
    let folder = folder_of(output);
    let mut draft = tempfile::Builder::new()
        .prefix(".enclave-rootfs-")
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(folder)
        .map_err(|error| Failure::file("write to", folder, &error))?;
    let written = BufWriter::with_capacity(WRITE_CHUNK, draft.as_file_mut());
    let report = rootfs::write(|| File::open(image), length, Limits::default(), written)
        .map_err(|error| failure(image, &error))?;
    draft.persist(output).map_err(|error| Failure::file("write", output, &error.error))?;
    if !report.left_out.is_empty() {
        let names: Vec<String> =
            report.left_out.iter().take(NAMES_TOLD).map(|name| printable(name)).collect();
        tell(format_args!(
            "warning: left out {}, which a tar archive cannot hold: {}",
            plural(report.left_out.len(), "entry", "entries"),
            names.join(", ")
        ));
    }
    Ok(RootFolder { path: output.display().to_string(), entries: report.entries, left_out: report.left_out })
}

fn failure(image: &Path, error: &ExtractError) -> Failure {
    let message = printable(&format!("{}: {error}", image.display()));
    let next = match error {
        ExtractError::Exists(_) => "choose a folder that does not exist yet",
        ExtractError::File(FileError { source, .. }) | ExtractError::Output(source) => file_advice(source),
        ExtractError::NoRootfs => "without --rootfs, --output DIR writes the ramdisks as they are",
        ExtractError::Outside(_) | ExtractError::ThroughLink(_) | ExtractError::Links(_) => {
            "do not unpack its ramdisks outside an enclave; --output DIR writes them as they are"
        }
        ExtractError::Read(_) | ExtractError::Ramdisk { .. } => {
            "check that the image is complete, or build it again; --output DIR writes the ramdisks as they are"
        }
    };
    match message.split_once("; ") {
        Some((cause, reason)) => Failure::new(format_args!("{cause} ({reason})"), next),
        None => Failure::new(message, next),
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Report {
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    folder: Option<String>,
    sections: Vec<Extracted>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rootfs: Option<RootFolder>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Extracted {
    name: String,
    size: u64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct RootFolder {
    path: String,
    entries: u64,
    left_out: Vec<String>,
}

impl Report {
    fn text(&self) -> String {
        let mut fields = Fields::default();
        fields.add("Image", printable(&self.path));
        if let Some(folder) = &self.folder {
            fields.add("Folder", printable(folder));
        }
        for section in &self.sections {
            fields.add(format!(" {}", section.name), format_args!("{} bytes", section.size));
        }
        if let Some(rootfs) = &self.rootfs {
            fields
                .add("Root folder", format_args!("{} ({} entries)", printable(&rootfs.path), rootfs.entries));
        }
        fields.render(0)
    }
}
