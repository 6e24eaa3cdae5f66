//! Why an image cannot be built.

use std::io;
use std::path::PathBuf;

use eif::metadata::MetadataError;
use eif::writer::WriteError;
use thiserror::Error;

use crate::attributes::MAX_FILE_BYTES;
use crate::container::ContainerError;
use crate::file_error::{FileError, file};
use crate::kernel::Architecture;
use crate::layer::LayerError;
use crate::ramdisk::RESERVED_FOLDER;

/// Why an image cannot be built.
#[derive(Debug, Error)]
pub enum BuildError {
    /// A file or folder cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// A file changed between listing and reading it.
    #[error("{} changed while the image was built; stop what writes to it and build again", .0.display())]
    Changed(PathBuf),
    /// Another file system is mounted in the root folder.
    #[error("{} is a mount point; unmount it, or leave it out of the root folder", .0.display())]
    MountPoint(PathBuf),
    /// A file is larger than the archive format allows.
    #[error("{} has {size} bytes; an initial ramdisk holds files of less than 4 GiB", path.display())]
    TooLarge {
        /// Which file.
        path: PathBuf,
        /// Bytes of it.
        size: u64,
    },
    /// A path or symbolic link is longer than Linux unpacks.
    #[error("{} is longer than Linux unpacks from an initial ramdisk: a path has at most 4095 bytes, a name in it 255", .0.display())]
    PathTooLong(PathBuf),
    /// A file has an extended attribute that an image cannot keep.
    #[error("{} has the extended attribute {name}, which an image cannot keep; remove it, or leave such attributes out with --drop-xattrs", path.display())]
    Attribute {
        /// Which file.
        path: PathBuf,
        /// The attribute.
        name: String,
    },
    /// There are more extended attributes than init reads.
    #[error("the extended attributes up to those of {} take more than {MAX_FILE_BYTES} bytes, which is what init reads; remove some", .0.display())]
    TooManyAttributes(PathBuf),
    /// A layer, or the archive of a root file system, cannot be used.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// A folder of boot files lacks one.
    #[error("{} has no {what}; give a folder with bzImage (or Image), init, and if wanted nsm.ko and cmdline", folder.display())]
    Bootstrap {
        /// The folder.
        folder: PathBuf,
        /// What it lacks.
        what: &'static str,
    },
    /// The archive of a root file system holds nothing.
    #[error("{} holds nothing; give a folder, or a tar archive of a root file system", .0.display())]
    EmptyRoot(PathBuf),
    /// The folder for what the builder adds is taken.
    #[error(
        "the root file system has a /{RESERVED_FOLDER} of its own, where the builder puts the helper; rename it, or build without the helper"
    )]
    Reserved,
    /// The application cannot start where it is to.
    #[error("the working directory {folder:?} cannot be made: {why}")]
    WorkingDirectory {
        /// Where.
        folder: String,
        /// What is in the way.
        why: String,
    },
    /// Kernel and container image are of different architectures.
    #[error(
        "the container image is for {image}, the kernel for {kernel}; give a kernel of the image's architecture with --kernel, or choose the image with --arch"
    )]
    Architecture {
        /// The image's.
        image: Architecture,
        /// The kernel's.
        kernel: Architecture,
    },
    /// The container image cannot be used.
    #[error(transparent)]
    Container(#[from] ContainerError),
    /// The kernel is none.
    #[error("{} is not a Linux kernel: a bzImage, an uncompressed ELF file (vmlinux) or an arm64 Image is needed", .0.display())]
    NotAKernel(PathBuf),
    /// There is nothing to run.
    #[error(
        "no command: a root file system does not say what to run; give it after --, as in `-- /bin/server --port 80`"
    )]
    NoCommand,
    /// A setting cannot be handed to init, which reads lines.
    #[error("{what} {text:?} cannot be used: {why}")]
    Setting {
        /// Which setting.
        what: &'static str,
        /// What it is.
        text: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The output lies in the root folder, so that one build would contain the one before it.
    #[error("the output {} lies inside the root folder; write it elsewhere", .0.display())]
    OutputInRoot(PathBuf),
    /// The metadata is none.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// The custom metadata cannot hold what is added to it.
    #[error("custom metadata must be a JSON object, so that the kernel's origin can be noted beside it")]
    CustomMetadata,
    /// `SOURCE_DATE_EPOCH` is no number of seconds.
    #[error("SOURCE_DATE_EPOCH is {0:?}, but must be a number of seconds since 1970")]
    BuildTime(String),
    /// The image cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// An archive cannot be written to the image.
    #[error("the image cannot be written: {0}")]
    Output(#[source] io::Error),
}

impl BuildError {
    /// An error about a file.
    pub(crate) fn file<E: Into<io::Error>>(
        path: impl Into<PathBuf>,
        step: &'static str,
    ) -> impl FnOnce(E) -> Self {
        move |source| file(path, step)(source).into()
    }
}
