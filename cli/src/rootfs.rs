//! The root file system of an image to be built: a folder, or a tar archive that is unpacked into one for the while.

use std::fs::{self, File};
use std::io::{self, Read, Seek};
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use tar::{Archive, EntryType};
use tempfile::TempDir;

use crate::error::{Failure, Result};
use crate::output::{self, printable};

/// What gzip files begin with.
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// A root folder to read from; an unpacked one vanishes with it.
#[derive(Debug)]
pub(crate) enum RootFolder {
    /// The user's own.
    Given(PathBuf),
    /// Unpacked from an archive.
    Unpacked(TempDir),
}

impl RootFolder {
    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::Given(path) => path,
            Self::Unpacked(folder) => folder.path(),
        }
    }
}

/// Takes a folder as it is, and unpacks a tar archive (plain or gzip) into a folder of its own.
///
/// # Errors
/// If it is neither, cannot be read, or holds what an unprivileged user cannot unpack faithfully.
pub(crate) fn open(source: &Path) -> Result<RootFolder> {
    let failed = |error: io::Error| Failure::file("read the root file system", source, &error);
    let metadata = fs::metadata(source).map_err(failed)?;
    if metadata.is_dir() {
        return Ok(RootFolder::Given(source.to_owned()));
    }
    output::tell(format_args!("Unpacking {}.", printable(&source.display().to_string())));
    let folder = tempfile::Builder::new()
        .prefix("enclave-rootfs-")
        .tempdir()
        .map_err(|error| Failure::file("make a folder in", &std::env::temp_dir(), &error))?;
    let mut archive = File::open(source).map_err(failed)?;
    let mut magic = [0; 2];
    let gzip = archive.read_exact(&mut magic).is_ok() && magic == GZIP_MAGIC;
    archive.rewind().map_err(failed)?;
    let root = rustix::process::geteuid().is_root();
    if gzip {
        unpack(GzDecoder::new(archive), source, folder.path(), root)?;
    } else {
        unpack(archive, source, folder.path(), root)?;
    }
    Ok(RootFolder::Unpacked(folder))
}

fn unpack(archive: impl Read, source: &Path, folder: &Path, root: bool) -> Result<()> {
    let failed = |error: io::Error| {
        Failure::new(
            format_args!("{} cannot be unpacked: {error}", source.display()),
            "give a folder, or a tar archive (plain or gzip) that is complete",
        )
    };
    let mut archive = Archive::new(archive);
    archive.set_preserve_permissions(true);
    archive.set_preserve_ownerships(root);
    archive.set_preserve_mtime(false);
    // Permissions of folders come last: a folder that may not be written must be filled first.
    let mut folders = Vec::new();
    let mut empty = true;
    for entry in archive.entries().map_err(failed)? {
        let mut entry = entry.map_err(failed)?;
        empty = false;
        let path = entry.path().map_err(failed)?.into_owned();
        check(&entry, &path, source, root)?;
        if entry.header().entry_type() == EntryType::Directory {
            folders.push(entry);
        } else if !entry.unpack_in(folder).map_err(failed)? {
            return Err(outside(source, &path));
        }
    }
    // Deeper ones first.
    folders.sort_by_key(|entry| std::cmp::Reverse(entry.path_bytes().into_owned()));
    for mut entry in folders {
        if !entry.unpack_in(folder).map_err(failed)? {
            return Err(outside(source, &entry.path().map_err(failed)?));
        }
    }
    if empty {
        return Err(failed(io::Error::new(io::ErrorKind::InvalidData, "it holds nothing")));
    }
    Ok(())
}

/// Refuses what would be unpacked as something else: an image must not depend on who builds it.
fn check(entry: &tar::Entry<'_, impl Read>, path: &Path, source: &Path, root: bool) -> Result<()> {
    let (name, source) = (printable(&path.display().to_string()), source.display());
    let header = entry.header();
    if matches!(header.entry_type(), EntryType::Char | EntryType::Block | EntryType::Fifo) {
        return Err(Failure::new(
            format_args!("{name} in {source} is a device or a pipe"),
            "leave it out of the archive: the guest's kernel makes the devices that there are",
        ));
    }
    let owner = (header.uid().unwrap_or(0), header.gid().unwrap_or(0));
    if !root && owner != (0, 0) {
        return Err(Failure::new(
            format_args!("{name} in {source} belongs to {}:{}, which only root can unpack", owner.0, owner.1),
            "build as root or under fakeroot, or make the archive with --owner=0 --group=0",
        ));
    }
    Ok(())
}

fn outside(source: &Path, path: &Path) -> Failure {
    Failure::new(
        format_args!(
            "{} holds {}, a path outside itself",
            source.display(),
            printable(&path.display().to_string())
        ),
        "do not use this archive: it was made to write elsewhere",
    )
}
