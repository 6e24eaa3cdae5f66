//! Where the parts of an image lie: files in a folder, or members of a tar archive.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags, open, openat2};
use rustix::io::Errno;

use super::{ContainerError, Selection};
use crate::archive::{Archive, Content};
use crate::attributes::Others;
use crate::extent::{Extent, Source};
use crate::file_error::file;
use crate::layer::apply::{Layers, Whiteouts};
use crate::layer::blob::{Blob, Unpacker};
use crate::layer::members::Reader;
use crate::tree::Tree;

/// The folder of the archive's tree.
const PREFIX: &str = "archive";

/// A folder or an archive with the parts of images in it.
#[derive(Debug)]
pub(super) struct Store {
    path: PathBuf,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Folder(OwnedFd),
    Archive(Archive),
}

impl Store {
    /// Opens a folder, or an archive that may be compressed.
    pub(super) fn open(path: &Path, selection: &Selection) -> Result<Self, ContainerError> {
        let failed = |error| failed(path, "opening it", error);
        let kind = if std::fs::metadata(path).map_err(failed)?.is_dir() {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            Kind::Folder(open(path, flags, Mode::empty()).map_err(|error| failed(error.into()))?)
        } else {
            let source = File::open(path).and_then(|file| Source::new(file, path.display().to_string()));
            Kind::Archive(list(Extent::whole(source.map_err(failed)?), selection)?)
        };
        Ok(Self { path: path.to_owned(), kind })
    }

    /// A file; none if there is no such file.
    pub(super) fn file(&mut self, name: &str) -> Result<Option<Extent>, ContainerError> {
        match &mut self.kind {
            Kind::Folder(folder) => open_inside(folder, &self.path, name),
            Kind::Archive(archive) => {
                let mut tree = Tree::new(archive, PREFIX);
                let entry = tree.lookup(name.as_bytes());
                let entry = entry.map_err(|error| ContainerError::document(name, &error))?;
                Ok(match entry.map(|entry| &entry.content) {
                    Some(Content::Extent(extent)) => Some(extent.clone()),
                    _ => None,
                })
            }
        }
    }

    /// The bytes of a file of at most `limit` bytes; none if there is no such file.
    pub(super) fn document(&mut self, name: &str, limit: u64) -> Result<Option<Vec<u8>>, ContainerError> {
        let Some(extent) = self.file(name)? else { return Ok(None) };
        if extent.size() > limit {
            return Err(ContainerError::Limit {
                what: "bytes of an index, manifest or configuration",
                limit,
            });
        }
        let mut bytes = Vec::new();
        extent
            .reader()
            .read_to_end(&mut bytes)
            .map_err(|error| failed(&self.path.join(name), "reading it", error))?;
        Ok(Some(bytes))
    }

    /// Whether there is a file.
    pub(super) fn has(&mut self, name: &str) -> bool {
        self.file(name).is_ok_and(|found| found.is_some())
    }

    /// What was opened.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

/// Opens a file of a folder. Links may lie in between, but not lead out of it.
fn open_inside(folder: &OwnedFd, path: &Path, name: &str) -> Result<Option<Extent>, ContainerError> {
    // NONBLOCK: a pipe in its place must not stop us.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let path = path.join(name);
    let file: File = match openat2(folder, name, flags, Mode::empty(), resolve) {
        Ok(descriptor) => descriptor.into(),
        Err(Errno::NOENT) => return Ok(None),
        Err(Errno::XDEV) => {
            return Err(ContainerError::document(&path.display().to_string(), &"it leads out of the layout"));
        }
        Err(error) => return Err(failed(&path, "opening it", error.into())),
    };
    if !file.metadata().map_err(|error| failed(&path, "reading its properties", error))?.is_file() {
        return Err(ContainerError::document(&path.display().to_string(), &"it is not a file"));
    }
    let source = Source::new(file, path.display().to_string());
    Ok(Some(Extent::whole(source.map_err(|error| failed(&path, "reading its properties", error))?)))
}

/// The members of an archive as a tree, their contents still in it.
fn list(stored: Extent, selection: &Selection) -> Result<Archive, ContainerError> {
    let name = stored.source().name().to_owned();
    let blob = Blob { name, stored, size: None, digest: None, diff_id: None };
    let unpacked =
        Unpacker::new(selection.temporary.clone(), selection.limits.unpacked).unpack(&blob, &mut |_| {})?;
    let reader = Reader {
        name: &blob.name,
        archive: &unpacked,
        limits: &selection.limits,
        others: Others::Drop,
        must_end: false,
    };
    let mut archive = Archive::default();
    Layers::new(&mut archive, PREFIX, &selection.limits, Whiteouts::Ordinary).apply(&reader)?;
    Ok(archive)
}

fn failed(path: &Path, step: &'static str, source: io::Error) -> ContainerError {
    file(path, step)(source).into()
}
