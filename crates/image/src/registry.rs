//! An image from a container registry: pulled by its reference into an OCI image layout on disk.
//!
//! Specifications: the OCI Distribution Specification 1.1 (how a registry is spoken to), the OCI Image Specification 1.1
//! (manifests, indexes, layouts), Docker's Registry HTTP API V2 (its media types, and the token handshake).
//!
//! A registry is not trusted: everything it says is bounded by [`Limits`] and checked against a digest before anybody uses it.
//! Blobs stream to disk while they are hashed; only manifests, tokens and challenges are held in memory, up to a limit.
//! Which parts do what:
//! [`reference`](mod@reference) says where an image is, [`credentials`] who asks for it, `client` speaks HTTP,
//! `challenge` answers a registry that asks who we are, `manifest` chooses the platform, `layout` writes the result.
//!
//! What users are told of it, and why these libraries: docs/images.md.
//!
//! The asynchronous runtime that the HTTP library needs lives and ends within [`pull`].

mod challenge;
mod client;
pub mod credentials;
mod destination;
pub mod error;
mod layout;
mod limits;
mod manifest;
pub mod reference;
mod resolver;
mod tls;

use std::io;
use std::path::Path;

pub use credentials::DockerConfig;
pub use error::RegistryError;
pub use limits::Limits;
pub use reference::ImageReference;

use crate::kernel::Architecture;
use client::{Client, Fetched};
use layout::Layout;
use manifest::{Descriptor, Image, Index, Parsed};

/// What to pull and how.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// Which image.
    pub reference: &'a ImageReference,
    /// For which machine, where the registry has several.
    pub platform: Architecture,
    /// How much is too much.
    pub limits: &'a Limits,
    /// Where the user's credentials are.
    pub credentials: &'a DockerConfig,
}

/// What was pulled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pulled {
    /// What was asked for, in full: `docker.io/library/alpine:latest`.
    pub reference: String,
    /// What that was: the digest of the image's own manifest, `sha256:` and 64 hexadecimal digits.
    pub digest: String,
    /// The same image, whatever its tag will say tomorrow: `docker.io/library/alpine@sha256:...`.
    pub pinned: String,
    /// The manifest's media type.
    pub media_type: String,
}

/// What a caller may show while an image is pulled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event<'a> {
    /// So much of one blob is on disk. Comes at least once with `done` = `total` for each.
    Blob {
        /// The blob's digest.
        digest: &'a str,
        /// Bytes on disk.
        done: u64,
        /// Bytes it has in all, as the manifest says.
        total: u64,
    },
    /// A transfer broke off and is begun again.
    Retry {
        /// What was being fetched.
        what: &'a str,
        /// Why it is fetched again.
        why: &'a str,
    },
}

/// Pulls an image into the folder `into`, which must be empty: afterwards it is an OCI image layout of that one image.
/// Blocks until done.
///
/// If it fails, `into` holds no complete layout and is to be removed, as a `tempfile::TempDir` does by itself.
///
/// # Errors
/// See [`RegistryError`].
pub fn pull(
    request: &Request<'_>,
    into: &Path,
    progress: &mut dyn FnMut(Event<'_>),
) -> Result<Pulled, RegistryError> {
    let layout = Layout::create(into)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(setup)?;
    runtime.block_on(pull_into(request, layout, progress))
}

async fn pull_into(
    request: &Request<'_>,
    layout: Layout,
    progress: &mut dyn FnMut(Event<'_>),
) -> Result<Pulled, RegistryError> {
    let mut client = Client::connect(request).await?;
    let manifest = resolve(&mut client, request, progress).await?;
    let image = Image::check(&manifest.parsed, request)?;

    let mut file = layout.create_blob(&image.config)?;
    client.blob(&image.config, &mut file, progress).await?;
    // Before the layers, which may be gigabytes for another machine.
    manifest::check_config(&layout.read_config(&image.config, request.limits)?, request)?;
    for layer in &image.layers {
        let mut file = layout.create_blob(layer)?;
        client.blob(layer, &mut file, progress).await?;
    }

    let descriptor =
        Descriptor { digest: manifest.digest, size: u64::try_from(manifest.bytes.len()).unwrap_or(u64::MAX) };
    layout.write_manifest(&descriptor, &manifest.bytes)?;
    layout.finish(&descriptor, &image.media_type, request.platform)?;
    let digest = descriptor.digest.to_string();
    Ok(Pulled {
        reference: request.reference.to_string(),
        pinned: request.reference.pinned(&digest),
        digest,
        media_type: image.media_type,
    })
}

/// Fetches the manifest that the reference means on this platform.
async fn resolve(
    client: &mut Client<'_>,
    request: &Request<'_>,
    progress: &mut dyn FnMut(Event<'_>),
) -> Result<Fetched, RegistryError> {
    let top = client.manifest(request.reference.wanted(), None, progress).await?;
    let Parsed::Index(index) = &top.parsed else { return Ok(top) };
    let chosen = Index::choose(index, request)?;
    let manifest = client.manifest(&chosen.digest.to_string(), Some(chosen.size), progress).await?;
    match manifest.parsed {
        Parsed::Image(_) => Ok(manifest),
        Parsed::Index(_) => Err(RegistryError::NotAnImage {
            reference: request.reference.to_string(),
            why: "its list of platforms leads to another list",
        }),
    }
}

fn setup(source: io::Error) -> RegistryError {
    RegistryError::Setup { why: source.to_string() }
}
