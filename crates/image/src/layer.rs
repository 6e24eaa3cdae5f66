//! One layer of a container image, a tar archive, and what it makes of the tree below it.
//!
//! Specification: the OCI image format, `layer.md`. In three steps, each in a file of its own: [`blob`] checks and decompresses,
//! [`members`] reads the archive, [`apply`] changes the tree. Nothing is unpacked into a folder, so owners, modes and devices
//! need no privilege, and no link can lead out of the tree: there is nothing outside it.

pub mod apply;
pub mod blob;
pub mod members;
mod pax;

use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// Why a layer cannot be used.
#[derive(Debug, Error)]
pub enum LayerError {
    /// Reading or unpacking failed.
    #[error("{layer}: {step}: {source}")]
    File {
        /// Which layer.
        layer: String,
        /// What was being done.
        step: &'static str,
        /// What the system or the decompressor said.
        #[source]
        source: io::Error,
    },
    /// The temporary file cannot be written.
    #[error("a temporary file in {} for the unpacked layer: {source}", folder.display())]
    Temporary {
        /// Where it was to be.
        folder: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It is not what its manifest or configuration says.
    #[error("{layer} is damaged or not what it claims to be: its {what} is {found}, not {expected}")]
    Mismatch {
        /// Which layer.
        layer: String,
        /// Digest, size, or digest of the uncompressed archive.
        what: &'static str,
        /// What was found.
        found: String,
        /// What was promised.
        expected: String,
    },
    /// It is compressed in a way that is not read.
    #[error("{layer} is compressed with {compression}, which is not supported; use gzip or zstd")]
    Compression {
        /// Which layer.
        layer: String,
        /// What its first bytes tell.
        compression: &'static str,
    },
    /// Something grew beyond its limit.
    #[error("{layer}: more than {limit} {what}")]
    Limit {
        /// Which layer.
        layer: String,
        /// What there is too much of.
        what: &'static str,
        /// How much is allowed.
        limit: u64,
    },
    /// It is no archive, or an incomplete one.
    #[error("{layer} is not a complete tar archive: {why}")]
    Archive {
        /// Which layer.
        layer: String,
        /// What is wrong.
        why: String,
    },
    /// A member cannot be taken.
    #[error("{layer}: {}: {why}", path.display())]
    Member {
        /// Which layer.
        layer: String,
        /// The member's name.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A file is larger than a ramdisk holds.
    #[error("{layer}: {} has {size} bytes; an initial ramdisk holds files of less than 4 GiB", path.display())]
    TooLarge {
        /// Which layer.
        layer: String,
        /// The file.
        path: PathBuf,
        /// Bytes of it.
        size: u64,
    },
    /// A member has an extended attribute that an image cannot keep.
    #[error("{layer}: {} has the extended attribute {name}, which an image cannot keep; remove it, or leave such attributes out with --drop-xattrs", path.display())]
    Attribute {
        /// Which layer.
        layer: String,
        /// The member's name.
        path: PathBuf,
        /// The attribute.
        name: String,
    },
}
