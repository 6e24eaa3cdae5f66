//! What makes and signs images for build-enclave and sign-eif: the one place where this front meets the builder and the signer.

use std::path::{Path, PathBuf};

use eif::sign::Signer;
use image::signing::{self, Signature};
use serde_json::Value;

use super::codes::Code;
use super::error::{Error, Result};

/// What build-enclave is asked for.
#[derive(Debug)]
#[expect(dead_code, reason = "the builder of this version takes no container images")]
pub(super) struct BuildOrder {
    /// The container image as it was given, without a tag if none was.
    pub(super) docker_uri: String,
    /// The folder of the Dockerfile to build it from; without, it comes from a registry.
    pub(super) docker_dir: Option<PathBuf>,
    /// The image file to write.
    pub(super) output: PathBuf,
    pub(super) signer: Option<Signer>,
    /// The image's name in its metadata.
    pub(super) name: String,
    /// Its version; without, the container image's id.
    pub(super) version: Option<String>,
    /// What the user adds to the metadata, or null.
    pub(super) metadata: Value,
    /// A folder with AWS's kernel, command line, init and module; without, ours are used.
    pub(super) blobs: Option<PathBuf>,
}

/// Builds an image from a container image.
///
/// # Errors
/// E48, E49 or E50.
pub(super) fn build(order: &BuildOrder) -> Result<()> {
    Err(Error::new(
        Code::EIF_BUILDING,
        format_args!(
            "building from the container image {:?} is not supported in this version",
            order.docker_uri
        ),
        "export the container's root file system and build the image with `enclave build --rootfs`",
    ))
}

/// Signs an image in place; a signature that it has is replaced.
///
/// # Errors
/// E60.
pub(super) fn sign(image: &Path, signer: &Signer) -> Result<()> {
    signing::write(image, image, Signature::Sign(signer))
        .map(drop)
        .map_err(|error| Error::new(Code::EIF_SIGNING, error, "check the image, the key and the certificate"))
}
