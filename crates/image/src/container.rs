//! Container images as files: which image of a layout or archive is meant, and what it says about itself.
//!
//! [`open_layout`] reads an OCI layout (folder or archive), [`open_docker_archive`] what `docker save` writes. Everything that
//! names something is checked before it is used: files are opened by digests of 64 hexadecimal digits alone, digests and sizes are
//! those of the bytes read. Specification: the OCI image format (`image-layout.md`, `image-index.md`, `manifest.md`,
//! `config.md`) and Docker's image format 1.2.

mod docker;
mod error;
mod layout;
mod settings;
mod store;

use std::path::PathBuf;

use oci_spec::image::{ImageConfiguration, Os};
use serde_json::{Value, json};

pub use self::docker::open_docker_archive;
pub use self::error::ContainerError;
pub use self::layout::open_layout;
#[cfg(feature = "registry")]
pub(crate) use self::layout::{CONFIGURATIONS, INDEXES, MANIFESTS};
pub use self::settings::{DEFAULT_PATH, Overrides};
use crate::digest::Digest;
use crate::kernel::Architecture;
use crate::layer::blob::Blob;
use crate::limits::Limits;

/// Which image is meant where there are several, and how much of it is believed.
#[derive(Debug, Clone)]
pub struct Selection {
    /// What it runs on.
    pub architecture: Architecture,
    /// Its name in the layout or archive.
    pub tag: Option<String>,
    /// How much of it is believed.
    pub limits: Limits,
    /// Where a compressed archive is unpacked to, as a temporary file.
    pub temporary: PathBuf,
}

/// A container image whose layers can be read.
#[derive(Debug, Clone)]
pub struct ContainerImage {
    /// Its name: what a layout or archive calls it, or what it was fetched by.
    pub reference: Option<String>,
    /// Names with the digest that a registry has given it.
    pub repository_digests: Vec<String>,
    /// The digest of its manifest. Docker's archives have none.
    pub manifest_digest: Option<Digest>,
    /// The digest of its configuration, which Docker calls the image's id.
    pub id: Digest,
    /// What it runs on.
    pub architecture: Architecture,
    /// Its layers, the lowest first.
    pub layers: Vec<Blob>,
    configuration: ImageConfiguration,
    /// The configuration as it stands in the image.
    raw: Value,
}

impl ContainerImage {
    /// What the metadata of an enclave image say about it: the part of `docker inspect` that the image alone determines.
    #[must_use]
    pub fn docker_info(&self) -> Value {
        let of_configuration = |key: &str| self.raw.get(key).cloned().unwrap_or(Value::Null);
        let tags: Vec<&String> = self.reference.iter().collect();
        json!({
            "Id": self.id.to_string(),
            "RepoTags": tags,
            "RepoDigests": self.repository_digests,
            "Created": of_configuration("created"),
            "Architecture": of_configuration("architecture"),
            "Os": of_configuration("os"),
            "Config": of_configuration("config"),
            "RootFS": { "Type": "layers", "Layers": self.configuration.rootfs().diff_ids() },
        })
    }

    /// Its name without tag and digest; layouts often have a tag alone.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        let reference = self.reference.as_deref().filter(|text| text.contains(['/', ':', '@']))?;
        let (name, _) = reference.split_once('@').unwrap_or((reference, ""));
        // A colon before the last slash belongs to a registry's port.
        let last = name.rfind('/').map_or(0, |slash| slash.saturating_add(1));
        let tag = name.get(last..)?.find(':').map(|colon| last.saturating_add(colon));
        Some(name.get(..tag.unwrap_or(name.len())).unwrap_or(name))
    }
}

/// What both formats have in common: a configuration, and the stored layers in its order.
fn assemble(
    bytes: &[u8],
    what: &str,
    layers: Vec<Blob>,
    selection: &Selection,
) -> Result<ContainerImage, ContainerError> {
    let malformed = |error: &dyn ToString| ContainerError::document(what, error);
    let raw: Value = serde_json::from_slice(bytes).map_err(|error| malformed(&error))?;
    let configuration: ImageConfiguration =
        serde_json::from_slice(bytes).map_err(|error| malformed(&error))?;
    if *configuration.os() != Os::Linux {
        return Err(ContainerError::NotLinux(configuration.os().to_string()));
    }
    let found = configuration.architecture().to_string();
    if found != selection.architecture.oci_name() {
        return Err(ContainerError::Platform {
            wanted: selection.architecture,
            available: vec![format!("linux/{found}")],
        });
    }
    let promised = configuration.rootfs().diff_ids();
    if promised.len() != layers.len() {
        let why = format!("it lists {} layers, but the image has {}", promised.len(), layers.len());
        return Err(ContainerError::document(what, &why));
    }
    let layers = layers.into_iter().zip(promised).map(|(layer, diff_id)| {
        let diff_id = diff_id.parse().map_err(|error| malformed(&error))?;
        Ok(Blob { diff_id: Some(diff_id), ..layer })
    });
    Ok(ContainerImage {
        reference: None,
        repository_digests: Vec::new(),
        manifest_digest: None,
        id: Digest::of(bytes),
        architecture: selection.architecture,
        layers: layers.collect::<Result<_, ContainerError>>()?,
        configuration,
        raw,
    })
}

/// Refuses an image with more layers than any real one has.
fn check_layers(count: usize, limits: &Limits) -> Result<(), ContainerError> {
    if count > limits.layers {
        return Err(ContainerError::Limit { what: "layers", limit: limits.layers as u64 });
    }
    Ok(())
}
