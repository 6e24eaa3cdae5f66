//! Taking an image apart: its sections as files, or the application's root folder as a tar archive.
//!
//! The image is a stranger's. Sections go to files whose names are ours, in a folder that did not exist. Paths inside ramdisks
//! only ever become names in a tar archive ([`rootfs`]), and only those that stay below the root folder wherever the archive is
//! unpacked: see [`tree`].

pub mod rootfs;
mod tree;

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use eif::header::SectionKind;
use eif::reader::{ReadError, Reader};
use thiserror::Error;

use crate::builder::folder_of;
use crate::contents::section_data;
use crate::file_error::{FileError, file};
use crate::newc::NewcError;

/// Bytes copied at a time.
const CHUNK: usize = 256 << 10;

/// Endings of compressed ramdisks by how they begin (lib/decompress.c of Linux).
const ENDINGS: [(&[u8], &str); 8] = [
    (b"\x1f\x8b", ".gz"),
    (b"\x28\xb5\x2f\xfd", ".zst"),
    (b"BZh", ".bz2"),
    (b"\xfd7zXZ\0", ".xz"),
    (b"\x5d\0\0", ".lzma"),
    (b"\x89LZO", ".lzo"),
    (b"\x02\x21\x4c\x18", ".lz4"),
    (b"\x04\x22\x4d\x18", ".lz4"),
];

/// Why an image could not be taken apart. Nothing is left behind then.
#[derive(Debug, Error)]
pub enum ExtractError {
    /// The image cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A file or folder cannot be written.
    #[error(transparent)]
    File(#[from] FileError),
    /// There is something where the folder should be.
    #[error("{} exists; sections are only written to a new folder", .0.display())]
    Exists(PathBuf),
    /// A ramdisk cannot be read.
    #[error("ramdisk {number}: {source}")]
    Ramdisk {
        /// Which one, from 1.
        number: usize,
        /// Why.
        #[source]
        source: NewcError,
    },
    /// The tar archive cannot be written.
    #[error("the archive cannot be written: {0}")]
    Output(#[source] io::Error),
    /// A path leads out of its folder.
    #[error(
        "a ramdisk holds {0:?}, which leads out of the folder it belongs into; this image was made to do harm"
    )]
    Outside(String),
    /// A path leads through a symbolic link.
    #[error("a ramdisk holds {0:?} below a symbolic link; where that leads is for nobody to say here")]
    ThroughLink(String),
    /// Two names of one file come with different contents.
    #[error("a ramdisk holds {0:?} twice as one file with different contents")]
    Links(String),
    /// There is no application in it.
    #[error(
        "no ramdisk of the image has a folder rootfs, which is where an application's root folder is kept"
    )]
    NoRootfs,
}

/// A file that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// Its name in the folder.
    pub name: String,
    /// Bytes of it.
    pub size: u64,
}

/// Writes every section of an image of `length` bytes to a file in `folder`, which must not exist: `kernel`, `cmdline`,
/// `metadata.json`, `ramdisk-1.cpio` and so on (`.gz`, `.zst` behind it if it begins with what is so compressed),
/// `signature.cbor`, and out of that `signing-certificate.pem` if there is one.
///
/// # Errors
/// If the image cannot be read, or something cannot be written.
pub fn sections(source: impl Read, length: u64, folder: &Path) -> Result<Vec<Written>, ExtractError> {
    if fs::symlink_metadata(folder).is_ok() {
        return Err(ExtractError::Exists(folder.to_owned()));
    }
    let parent = folder_of(folder);
    // Filled elsewhere, so that there is all of it or nothing.
    let draft = tempfile::Builder::new()
        .prefix(".enclave-extract-")
        .tempdir_in(parent)
        .map_err(file(parent, "making a folder in it"))?;
    let filled = draft.path().join("sections");
    fs::create_dir(&filled).map_err(file(folder, "making it"))?;
    let written = write_sections(source, length, &filled)?;
    fs::rename(&filled, folder).map_err(file(folder, "putting it into place"))?;
    Ok(written)
}

fn write_sections(source: impl Read, length: u64, folder: &Path) -> Result<Vec<Written>, ExtractError> {
    let mut reader = Reader::new(source, length)?;
    let mut written = Vec::new();
    let mut ramdisks: usize = 0;
    while let Some(section) = reader.next_section()? {
        let mut data = section_data(&mut reader);
        let mut start = vec![0; CHUNK.min(usize::try_from(section.size).unwrap_or(CHUNK))];
        data.read_exact(&mut start).map_err(ReadError::Io)?;
        let name = match section.kind {
            SectionKind::Kernel => "kernel".to_owned(),
            SectionKind::Cmdline => "cmdline".to_owned(),
            SectionKind::Metadata => "metadata.json".to_owned(),
            SectionKind::Signature => "signature.cbor".to_owned(),
            SectionKind::Ramdisk => {
                ramdisks = ramdisks.saturating_add(1);
                format!("ramdisk-{ramdisks}.cpio{}", ending(&start))
            }
        };
        written.push(write_file(folder, &name, start.as_slice().chain(data))?);
        if section.kind == SectionKind::Signature {
            // At most 32 KiB by the rules of the format: `start` is all of it.
            let entry = eif::signature::first_entry(&start).ok();
            if let Some(certificate) = entry.and_then(|entry| entry.certificate().ok()) {
                let pem = certificate.to_pem();
                written.push(write_file(folder, "signing-certificate.pem", pem.as_bytes())?);
            }
        }
    }
    Ok(written)
}

fn ending(start: &[u8]) -> &'static str {
    ENDINGS.iter().find(|(magic, _)| start.starts_with(magic)).map_or("", |(_, ending)| ending)
}

fn write_file(folder: &Path, name: &str, mut data: impl Read) -> Result<Written, ExtractError> {
    let path = folder.join(name);
    let failed = || file(&path, "writing it");
    let mut output = File::create_new(&path).map_err(failed())?;
    let mut buffer = vec![0; CHUNK];
    let mut size: u64 = 0;
    loop {
        let count = data.read(&mut buffer).map_err(ReadError::Io)?;
        if count == 0 {
            return Ok(Written { name: name.to_owned(), size });
        }
        output.write_all(buffer.get(..count).unwrap_or_default()).map_err(failed())?;
        size = size.saturating_add(count as u64);
    }
}
