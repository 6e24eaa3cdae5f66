//! What `docker save` writes: `manifest.json`, a configuration and layers for each image.
//!
//! Older versions have a folder for each layer, with symbolic links between layers that are the same; newer ones name everything by
//! digest, as in an OCI layout. `manifest.json` says where things are in both.

use std::path::Path;

use serde::Deserialize;

use super::store::Store;
use super::{ContainerError, ContainerImage, Selection, assemble, check_layers};
use crate::digest::Digest;
use crate::layer::blob::Blob;

/// The file that names the images.
const MANIFEST: &str = "manifest.json";

/// The file of versions before 1.10 that named layers alone.
const LEGACY: &str = "repositories";

/// One image of an archive.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

impl Saved {
    fn tags(&self) -> &[String] {
        self.repo_tags.as_deref().unwrap_or_default()
    }

    fn label(&self) -> String {
        if self.tags().is_empty() { self.config.clone() } else { self.tags().join(" = ") }
    }
}

/// The image of an archive that `docker save` or `podman save` has written.
///
/// # Errors
/// If the archive cannot be read, or does not have exactly one image that fits.
pub fn open_docker_archive(path: &Path, selection: &Selection) -> Result<ContainerImage, ContainerError> {
    let mut store = Store::open(path, selection)?;
    let Some(manifest) = store.document(MANIFEST, selection.limits.document)? else {
        return Err(not_one(&mut store));
    };
    let saved: Vec<Saved> =
        serde_json::from_slice(&manifest).map_err(|error| ContainerError::document(MANIFEST, &error))?;
    if saved.len() > selection.limits.manifests {
        return Err(ContainerError::Limit { what: "images", limit: selection.limits.manifests as u64 });
    }
    let (saved, reference) = choose(&saved, selection.tag.as_deref())?;
    check_layers(saved.layers.len(), &selection.limits)?;
    let bytes = store
        .document(&saved.config, selection.limits.document)?
        .ok_or_else(|| ContainerError::Missing(saved.config.clone()))?;
    check_name(&saved.config, &bytes)?;
    let layers = (1_usize..).zip(&saved.layers).map(|(number, name)| {
        let stored = store.file(name)?.ok_or_else(|| ContainerError::Missing(name.clone()))?;
        Ok(Blob {
            name: format!("layer {number} ({name})"),
            stored,
            size: None,
            digest: digest_in(name),
            diff_id: None,
        })
    });
    let layers = layers.collect::<Result<_, ContainerError>>()?;
    Ok(ContainerImage { reference, ..assemble(&bytes, &saved.config, layers, selection)? })
}

fn not_one(store: &mut Store) -> ContainerError {
    let advice = if store.has(LEGACY) {
        "it was written by a version of Docker before 1.10; save the image again with a newer one"
    } else if store.has("index.json") {
        "it is an OCI layout: give it with --oci"
    } else {
        "give what `docker save` writes; a root file system (`docker export`) goes with --rootfs"
    };
    ContainerError::NotOne { path: store.path().to_owned(), what: "an archive of `docker save`", advice }
}

/// The image that is meant, and its name.
fn choose<'s>(saved: &'s [Saved], tag: Option<&str>) -> Result<(&'s Saved, Option<String>), ContainerError> {
    let Some(tag) = tag else {
        return match saved {
            [] => Err(ContainerError::Empty),
            [one] => Ok((one, one.tags().first().cloned())),
            several => Err(ContainerError::Several(several.iter().map(Saved::label).collect())),
        };
    };
    let called = |name: &&String| *name == tag || name.strip_suffix(":latest") == Some(tag);
    let found = saved.iter().find_map(|image| Some((image, image.tags().iter().find(called)?.clone())));
    let (image, name) = found.ok_or_else(|| ContainerError::Tag {
        tag: tag.to_owned(),
        available: saved.iter().map(Saved::label).collect(),
    })?;
    Ok((image, Some(name)))
}

/// The digest that a file's name is, if it is one: `blobs/sha256/HEX` of newer archives.
fn digest_in(name: &str) -> Option<Digest> {
    format!("sha256:{}", name.strip_prefix("blobs/sha256/")?).parse().ok()
}

/// A configuration is named by its digest, as `HEX.json` or `blobs/sha256/HEX`.
fn check_name(name: &str, bytes: &[u8]) -> Result<(), ContainerError> {
    let digits = name.strip_suffix(".json").map(|digits| format!("sha256:{digits}").parse().ok());
    let expected = digits.unwrap_or_else(|| digest_in(name));
    let found = Digest::of(bytes);
    match expected {
        Some(expected) if expected != found => {
            Err(ContainerError::Digest { what: name.to_owned(), found, expected })
        }
        _ => Ok(()),
    }
}
