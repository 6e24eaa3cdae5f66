//! An OCI layout: `index.json` names manifests, which name a configuration and layers, all of them in `blobs/`.
//!
//! Documents are read as what their descriptor says they are; one that says otherwise of itself is refused, since two readers
//! could take it for two things (CVE-2021-41190).

use std::path::Path;

use oci_spec::image::{Arch, Descriptor, ImageIndex, ImageManifest, Os};
use serde::de::DeserializeOwned;

use super::store::Store;
use super::{ContainerError, ContainerImage, Selection, assemble, check_layers};
use crate::digest::Digest;
use crate::layer::blob::Blob;

/// The file that says that a folder is a layout (`image-layout.md`).
const LAYOUT: &str = "oci-layout";
const INDEX: &str = "index.json";

/// Annotations with an image's name: containerd's, which is the whole reference, and the specification's, often a tag alone.
const NAMES: [&str; 2] = ["io.containerd.image.name", "org.opencontainers.image.ref.name"];

// Media types, the specification's and Docker's (schema 2) for the same thing; other configurations belong to charts, signatures
// and the like.
pub(crate) const INDEXES: [&str; 2] =
    ["application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json"];
pub(crate) const MANIFESTS: [&str; 2] =
    ["application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json"];
pub(crate) const CONFIGURATIONS: [&str; 2] =
    ["application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"];

/// What the media types of layers begin with. How they are compressed is told from their bytes, as Docker does.
const LAYERS: [&str; 4] = [
    "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.oci.image.layer.nondistributable.v1.tar",
    "application/vnd.docker.image.rootfs.diff.tar",
    "application/vnd.docker.image.rootfs.foreign.diff.tar",
];

/// What may follow.
const COMPRESSIONS: [&str; 5] = ["", "+gzip", "+zstd", ".gzip", ".zstd"];

/// A manifest that an index names.
struct Candidate {
    descriptor: Descriptor,
    name: Option<String>,
}

impl Candidate {
    fn platform(&self) -> Option<(&Os, &Arch)> {
        self.descriptor.platform().as_ref().map(|platform| (platform.os(), platform.architecture()))
    }

    /// For lists of what there is.
    fn label(&self) -> String {
        let platform = self.platform().map(|(os, architecture)| format!(" ({os}/{architecture})"));
        let name = self.name.clone().unwrap_or_else(|| self.descriptor.digest().to_string());
        name + platform.as_deref().unwrap_or_default()
    }
}

/// The image of a layout, which is a folder or a tar archive of one.
///
/// # Errors
/// If the layout cannot be read, or does not have exactly one image that fits.
pub fn open_layout(path: &Path, selection: &Selection) -> Result<ContainerImage, ContainerError> {
    let mut store = Store::open(path, selection)?;
    if !store.has(LAYOUT) && !store.has(INDEX) {
        return Err(not_one(&mut store));
    }
    let limits = &selection.limits;
    let index =
        store.document(INDEX, limits.document)?.ok_or_else(|| ContainerError::Missing(INDEX.to_owned()))?;
    let index: ImageIndex = parse(INDEX, &index, &INDEXES)?;
    let mut layout = Layout { store, selection, candidates: Vec::new(), read: 0 };
    let named = by_name(index.manifests(), selection.tag.as_deref())?;
    for descriptor in named {
        layout.collect(descriptor, name_of(descriptor), limits.nesting)?;
    }
    layout.choose()
}

fn not_one(store: &mut Store) -> ContainerError {
    let advice = if store.has("manifest.json") {
        "it was written by `docker save`: give it with --docker-archive"
    } else {
        "it has no index.json; a root file system goes with --rootfs"
    };
    ContainerError::NotOne { path: store.path().to_owned(), what: "an OCI layout", advice }
}

/// The manifests and indexes of that name; all if no name is given.
fn by_name<'d>(
    descriptors: &'d [Descriptor],
    tag: Option<&str>,
) -> Result<Vec<&'d Descriptor>, ContainerError> {
    let Some(tag) = tag else { return Ok(descriptors.iter().collect()) };
    let called = |descriptor: &&Descriptor| names(descriptor).any(|name| name == tag);
    let found: Vec<_> = descriptors.iter().filter(called).collect();
    if found.is_empty() {
        let names = descriptors.iter().filter_map(name_of);
        let available = Some(names.collect::<Vec<_>>()).filter(|names| !names.is_empty());
        let available = available.unwrap_or_else(|| vec!["images without a name".to_owned()]);
        return Err(ContainerError::Tag { tag: tag.to_owned(), available });
    }
    Ok(found)
}

fn names(descriptor: &Descriptor) -> impl Iterator<Item = &str> {
    let annotations = descriptor.annotations().as_ref();
    NAMES.iter().filter_map(move |key| annotations?.get(*key).map(String::as_str))
}

fn name_of(descriptor: &Descriptor) -> Option<String> {
    names(descriptor).next().map(str::to_owned)
}

struct Layout<'s> {
    store: Store,
    selection: &'s Selection,
    candidates: Vec<Candidate>,
    /// Manifests and indexes read so far.
    read: usize,
}

impl Layout<'_> {
    /// Adds a manifest, or all manifests of an index.
    fn collect(
        &mut self,
        descriptor: &Descriptor,
        name: Option<String>,
        nesting: usize,
    ) -> Result<(), ContainerError> {
        let limits = &self.selection.limits;
        self.read = self.read.saturating_add(1);
        if self.read > limits.manifests {
            return Err(ContainerError::Limit { what: "manifests", limit: limits.manifests as u64 });
        }
        let media_type = descriptor.media_type().to_string();
        if MANIFESTS.contains(&media_type.as_str()) {
            self.candidates.push(Candidate { descriptor: descriptor.clone(), name });
            return Ok(());
        }
        if !INDEXES.contains(&media_type.as_str()) {
            // An artifact beside the images.
            return Ok(());
        }
        let Some(nesting) = nesting.checked_sub(1) else {
            return Err(ContainerError::Limit {
                what: "indexes inside indexes",
                limit: limits.nesting as u64,
            });
        };
        let index: ImageIndex = self.document(descriptor, "index", &INDEXES)?;
        for inner in index.manifests() {
            self.collect(inner, name.clone().or_else(|| name_of(inner)), nesting)?;
        }
        Ok(())
    }

    /// The one image for the architecture.
    fn choose(mut self) -> Result<ContainerImage, ContainerError> {
        let candidates = core::mem::take(&mut self.candidates);
        let (mut found, mut others): (Vec<(ContainerImage, String)>, Vec<String>) = (Vec::new(), Vec::new());
        let mut first_error = None;
        for candidate in candidates {
            if let Some((os, architecture)) = candidate.platform()
                && (*os != Os::Linux || architecture.to_string() != self.selection.architecture.oci_name())
            {
                // Attestations call theirs unknown.
                let platform = format!("{os}/{architecture}");
                if platform != "unknown/unknown" {
                    others.push(platform);
                }
                continue;
            }
            match self.image(&candidate) {
                Ok(image)
                    if found.iter().any(|(known, _)| known.manifest_digest == image.manifest_digest) => {}
                Ok(image) => found.push((image, candidate.label())),
                Err(ContainerError::Platform { available, .. }) => others.extend(available),
                Err(error @ (ContainerError::NotAnImage(_) | ContainerError::NotLinux(_))) => {
                    first_error.get_or_insert(error);
                }
                Err(error) => return Err(error),
            }
        }
        let wanted = self.selection.architecture;
        match (found.len(), first_error) {
            (1, _) => found.pop().map(|(image, _)| image).ok_or(ContainerError::Empty),
            (0, Some(error)) if others.is_empty() => Err(error),
            (0, _) if others.is_empty() => Err(ContainerError::Empty),
            (0, _) => {
                others.sort();
                others.dedup();
                Err(ContainerError::Platform { wanted, available: others })
            }
            _ => Err(ContainerError::Several(found.into_iter().map(|(_, label)| label).collect())),
        }
    }

    fn image(&mut self, candidate: &Candidate) -> Result<ContainerImage, ContainerError> {
        let descriptor = &candidate.descriptor;
        let manifest: ImageManifest = self.document(descriptor, "manifest", &MANIFESTS)?;
        let config = manifest.config();
        if !CONFIGURATIONS.contains(&config.media_type().to_string().as_str()) {
            return Err(ContainerError::NotAnImage(candidate.label()));
        }
        check_layers(manifest.layers().len(), &self.selection.limits)?;
        let bytes = self.blob(config, "configuration")?;
        let layers = (1_usize..).zip(manifest.layers()).map(|(number, layer)| self.layer(number, layer));
        let layers = layers.collect::<Result<_, _>>()?;
        let image =
            assemble(&bytes, &format!("the configuration {}", config.digest()), layers, self.selection)?;
        Ok(ContainerImage {
            reference: candidate.name.clone(),
            manifest_digest: Some(digest(descriptor, "the manifest")?),
            ..image
        })
    }

    fn layer(&mut self, number: usize, layer: &Descriptor) -> Result<Blob, ContainerError> {
        let (digest, media_type) = (digest(layer, "a layer")?, layer.media_type().to_string());
        let name = format!("layer {number} ({digest})");
        let known = LAYERS.iter().filter_map(|start| media_type.strip_prefix(start));
        if !known.into_iter().any(|end| COMPRESSIONS.contains(&end)) {
            return Err(ContainerError::MediaType { layer: name, media_type });
        }
        let stored =
            self.store.file(&blob_path(digest))?.ok_or_else(|| ContainerError::Missing(name.clone()))?;
        Ok(Blob { name, stored, size: Some(layer.size()), digest: Some(digest), diff_id: None })
    }

    fn document<D: DeserializeOwned>(
        &mut self,
        descriptor: &Descriptor,
        what: &str,
        media_types: &[&str],
    ) -> Result<D, ContainerError> {
        let bytes = self.blob(descriptor, what)?;
        parse(&format!("the {what} {}", descriptor.digest()), &bytes, media_types)
    }

    /// The bytes of a small blob, checked.
    fn blob(&mut self, descriptor: &Descriptor, what: &str) -> Result<Vec<u8>, ContainerError> {
        let expected = digest(descriptor, &format!("the {what}"))?;
        let name = format!("the {what} {expected}");
        let bytes = self.store.document(&blob_path(expected), self.selection.limits.document)?;
        let bytes = bytes.ok_or_else(|| ContainerError::Missing(name.clone()))?;
        let found = Digest::of(&bytes);
        if found != expected {
            return Err(ContainerError::Digest { what: name, found, expected });
        }
        if bytes.len() as u64 != descriptor.size() {
            let why = format!("it has {} bytes, not {}", bytes.len(), descriptor.size());
            return Err(ContainerError::document(&name, &why));
        }
        Ok(bytes)
    }
}

/// A digest that can be part of a path.
fn digest(descriptor: &Descriptor, what: &str) -> Result<Digest, ContainerError> {
    descriptor.digest().to_string().parse().map_err(|error| ContainerError::document(what, &error))
}

fn blob_path(digest: Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

fn parse<D: DeserializeOwned>(what: &str, bytes: &[u8], media_types: &[&str]) -> Result<D, ContainerError> {
    #[derive(serde::Deserialize)]
    struct Claim {
        #[serde(rename = "mediaType")]
        media_type: Option<String>,
    }
    let malformed = |error| ContainerError::document(what, &error);
    let claim: Claim = serde_json::from_slice(bytes).map_err(malformed)?;
    if let Some(media_type) = claim.media_type.filter(|found| !media_types.contains(&found.as_str())) {
        return Err(ContainerError::document(what, &format!("it says of itself that it is {media_type:?}")));
    }
    serde_json::from_slice(bytes).map_err(malformed)
}
