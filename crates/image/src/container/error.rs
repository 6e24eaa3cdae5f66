//! Why a container image cannot be used.

use std::path::PathBuf;

use thiserror::Error;

use crate::digest::Digest;
use crate::file_error::FileError;
use crate::kernel::Architecture;
use crate::layer::LayerError;

/// Why a container image cannot be used.
#[derive(Debug, Error)]
pub enum ContainerError {
    /// A file or folder cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// The archive that holds the image cannot be read.
    #[error(transparent)]
    Archive(#[from] LayerError),
    /// It is something else than it was given as.
    #[error("{} is not {what}; {advice}", path.display())]
    NotOne {
        /// What was given.
        path: PathBuf,
        /// What it should be.
        what: &'static str,
        /// What it may be instead.
        advice: &'static str,
    },
    /// An index, manifest or configuration makes no sense.
    #[error("{what} cannot be used: {why}")]
    Document {
        /// Which one.
        what: String,
        /// What is wrong with it.
        why: String,
    },
    /// There is too much of something.
    #[error("the container image has more than {limit} {what}")]
    Limit {
        /// What there is too much of.
        what: &'static str,
        /// How much is allowed.
        limit: u64,
    },
    /// A part of the image is not there.
    #[error("{0} is missing: the image is not complete")]
    Missing(String),
    /// A part of the image is not what it is called.
    #[error("{what} is damaged: its digest is {found}, not {expected}")]
    Digest {
        /// Which part.
        what: String,
        /// What was found.
        found: Digest,
        /// What was promised.
        expected: Digest,
    },
    /// There is no image for the architecture.
    #[error("there is no image for linux/{} here, only for {}; choose one with --arch", wanted.oci_name(), available.join(", "))]
    Platform {
        /// What was looked for.
        wanted: Architecture,
        /// What there is.
        available: Vec<String>,
    },
    /// There is no image of that name.
    #[error("there is no image called {tag:?} here, only {}; choose one with --tag", available.join(", "))]
    Tag {
        /// What was looked for.
        tag: String,
        /// What there is.
        available: Vec<String>,
    },
    /// There are several images.
    #[error("there are several images here: {}; choose one with --tag", .0.join(", "))]
    Several(Vec<String>),
    /// There is no image at all.
    #[error("there is no container image in it; check how it was made")]
    Empty,
    /// It is something else that registries and layouts hold.
    #[error("{0} is not a container image, but an artifact or an attestation")]
    NotAnImage(String),
    /// It is an image for another operating system.
    #[error("the container image is for {0}; enclaves run Linux")]
    NotLinux(String),
    /// A layer is stored in a way that cannot be read.
    #[error(
        "{layer} is stored as {media_type:?}, which cannot be read; encrypted and foreign layers must be resolved first"
    )]
    MediaType {
        /// Which layer.
        layer: String,
        /// How it is stored.
        media_type: String,
    },
    /// The image does not say what to run.
    #[error(
        "the container image has neither ENTRYPOINT nor CMD; give the command after --, as in `-- /bin/server --port 80`"
    )]
    NoCommand,
}

impl ContainerError {
    pub(super) fn document(what: &str, why: &dyn ToString) -> Self {
        Self::Document { what: what.to_owned(), why: why.to_string() }
    }
}
