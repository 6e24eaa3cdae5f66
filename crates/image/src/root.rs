//! Where an application's root file system comes from, and how it gets into the archive.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::archive::{Archive, Content};
use crate::attributes::Others;
use crate::builder::Step;
use crate::container::ContainerImage;
use crate::error::BuildError;
use crate::extent::{Extent, Source};
use crate::folder::{self, Builder, Folder};
use crate::layer::apply::{Layers, Whiteouts};
use crate::layer::blob::{Blob, Unpacker};
use crate::layer::members::Reader;
use crate::limits::Limits;

/// The root file system's folder in the application's ramdisk, as AWS's init expects it.
pub const ROOT: &str = "rootfs";

/// Where a root file system comes from.
#[derive(Debug, Clone)]
pub enum Root {
    /// A folder of the host. Whose files become root's is said as well.
    Folder(PathBuf, Builder),
    /// A tar archive, plain or compressed by gzip or zstd. Owners are those of the archive.
    Archive(PathBuf),
    /// The layers of a container image.
    Container(Box<ContainerImage>),
}

/// How a root file system is read.
#[derive(Debug, Clone, Default)]
pub struct Reading {
    /// How much of an archive or image is believed.
    pub limits: Limits,
    /// What becomes of extended attributes that cannot be kept.
    pub others: Others,
}

impl Root {
    /// Puts everything into an archive, below [`ROOT`].
    pub(crate) fn fill(
        &self,
        archive: &mut Archive,
        reading: &Reading,
        temporary: &Path,
        progress: &mut dyn FnMut(Step<'_>),
    ) -> Result<(), BuildError> {
        match self {
            Self::Folder(path, builder) => {
                progress(Step::Listing);
                folder::add(archive, ROOT, &Rc::new(Folder::at(path)?), *builder, reading.others)
            }
            Self::Archive(path) => {
                let blob = archive_file(path)?;
                let from = Layered { blobs: core::slice::from_ref(&blob), whiteouts: Whiteouts::Ordinary };
                from.fill(archive, reading, temporary, progress)?;
                if archive.below(ROOT.as_bytes()).next().is_none() {
                    return Err(BuildError::EmptyRoot(path.clone()));
                }
                Ok(())
            }
            Self::Container(image) => {
                let from = Layered { blobs: &image.layers, whiteouts: Whiteouts::Apply };
                from.fill(archive, reading, temporary, progress)
            }
        }
    }
}

/// Checks that nothing that an archive is read from has been written since it was listed.
pub(crate) fn check_unchanged(archive: &Archive) -> Result<(), BuildError> {
    let mut last: Option<&Rc<Source>> = None;
    for (_, entry) in archive.entries() {
        let Content::Extent(extent) = &entry.content else { continue };
        // Neighbours mostly come from one file.
        if last.is_some_and(|last| Rc::ptr_eq(last, extent.source())) {
            continue;
        }
        if !extent.source().is_unchanged() {
            return Err(BuildError::Changed(extent.source().name().into()));
        }
        last = Some(extent.source());
    }
    Ok(())
}

fn archive_file(path: &Path) -> Result<Blob, BuildError> {
    let failed = |error| BuildError::file(path, "opening the archive")(error);
    let source =
        Source::new(File::open(path).map_err(failed)?, path.display().to_string()).map_err(failed)?;
    Ok(Blob {
        name: path.display().to_string(),
        stored: Extent::whole(source),
        size: None,
        digest: None,
        diff_id: None,
    })
}

struct Layered<'l> {
    blobs: &'l [Blob],
    whiteouts: Whiteouts,
}

impl Layered<'_> {
    fn fill(
        &self,
        archive: &mut Archive,
        reading: &Reading,
        temporary: &Path,
        progress: &mut dyn FnMut(Step<'_>),
    ) -> Result<(), BuildError> {
        archive.directory(ROOT)?;
        let mut unpacker = Unpacker::new(temporary.to_owned(), reading.limits.unpacked);
        let mut layers = Layers::new(archive, ROOT, &reading.limits, self.whiteouts);
        for (index, blob) in self.blobs.iter().enumerate() {
            let (total, count) = (blob.stored.size(), self.blobs.len());
            let number = index.saturating_add(1);
            let mut told = |done| progress(Step::Layer { name: &blob.name, number, count, done, total });
            told(0);
            let unpacked = unpacker.unpack(blob, &mut told)?;
            let reader = Reader {
                name: &blob.name,
                archive: &unpacked,
                limits: &reading.limits,
                others: reading.others,
                // Without a digest, only the end of an archive tells that it is all there.
                must_end: blob.diff_id.is_none(),
            };
            layers.apply(&reader)?;
        }
        Ok(())
    }
}
