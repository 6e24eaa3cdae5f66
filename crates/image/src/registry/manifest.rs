//! Manifests and lists of platforms: which of several images is meant, and what it is made of.
//!
//! OCI Image Specification 1.1, "Image Manifest" and "Image Index"; Docker's "Image Manifest V 2, Schema 2" has the same shape.

use oci_spec::image::Descriptor as Described;
use serde::Deserialize;

use super::Request;
use super::error::RegistryError;
use crate::container::{CONFIGURATIONS, INDEXES, MANIFESTS};
use crate::digest::Digest;

/// What a registry may say about its platforms is shown to this length.
const SHOWN_PLATFORM_BYTES: usize = 40;
/// How many platforms are shown.
const SHOWN_PLATFORMS: usize = 20;

/// A blob by what it must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Descriptor {
    pub(super) digest: Digest,
    /// Bytes.
    pub(super) size: u64,
}

impl Descriptor {
    fn check(described: &Described, what: &str) -> Result<Self, RegistryError> {
        let digest = described.digest().as_ref().parse().map_err(|_| RegistryError::Document {
            what: what.to_owned(),
            why: "it names something by another digest than SHA-256".to_owned(),
        })?;
        Ok(Self { digest, size: described.size() })
    }
}

/// A manifest or a list of platforms, as both media types have it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    media_type: Option<String>,
    /// Only in a list of platforms.
    manifests: Option<Vec<Described>>,
    /// Only in an image's manifest.
    config: Option<Described>,
    /// Only in an image's manifest.
    layers: Option<Vec<Described>>,
}

/// What a document is.
#[derive(Debug)]
pub(super) enum Parsed {
    /// The manifest of one image.
    Image(Box<Manifest>),
    /// A list of images for several platforms.
    Index(Vec<Described>),
}

/// The manifest of one image, as it came.
#[derive(Debug)]
pub(super) struct Manifest {
    media_type: String,
    config: Described,
    layers: Vec<Described>,
}

impl Parsed {
    /// Reads a document. `content_type` is what the registry called it; the document may say it as well, and must not contradict itself:
    /// bytes that are a manifest to one reader and a list to another have been used to show each something else (CVE-2021-41190).
    pub(super) fn read(bytes: &[u8], content_type: Option<&str>, what: &str) -> Result<Self, RegistryError> {
        let refused = |why: &str| RegistryError::Document { what: what.to_owned(), why: why.to_owned() };
        // What the parser says of a place is enough; what stands there is the registry's text.
        let document: Document = serde_json::from_slice(bytes).map_err(|error| {
            refused(&format!(
                "it is not what a manifest should be (line {}, column {})",
                error.line(),
                error.column()
            ))
        })?;
        let content_type = content_type.map(|value| value.split(';').next().unwrap_or(value).trim());
        let said = document.media_type.as_deref().or(content_type).unwrap_or_default();
        match (document.manifests, document.config, document.layers) {
            (Some(manifests), None, None) => {
                if MANIFESTS.contains(&said) {
                    return Err(refused("it calls itself an image and is a list of images"));
                }
                Ok(Self::Index(manifests))
            }
            (None, Some(config), Some(layers)) => {
                if INDEXES.contains(&said) {
                    return Err(refused("it calls itself a list of images and is one image"));
                }
                let media_type = MANIFESTS.iter().find(|known| **known == said).unwrap_or(&MANIFESTS[0]);
                Ok(Self::Image(Box::new(Manifest { media_type: (*media_type).to_owned(), config, layers })))
            }
            (Some(_), ..) => Err(refused("it is an image and a list of images at once")),
            (None, ..) => Err(refused(
                "it has no configuration and layers; images of Docker's first schema must be pushed again with a current tool",
            )),
        }
    }
}

/// A list of platforms.
#[derive(Debug)]
pub(super) struct Index;

impl Index {
    /// Chooses the image for the platform. Of several the plainest variant, else the first.
    pub(super) fn choose(
        manifests: &[Described],
        request: &Request<'_>,
    ) -> Result<Descriptor, RegistryError> {
        let wanted = request.platform;
        let fits: Vec<&Described> = manifests
            .iter()
            .filter(|entry| {
                entry.platform().as_ref().is_some_and(|platform| {
                    platform.os().to_string() == "linux"
                        && platform.architecture().to_string() == wanted.oci_name()
                })
            })
            .collect();
        let variant = |entry: &Described| {
            entry.platform().as_ref().and_then(|platform| platform.variant().clone()).unwrap_or_default()
        };
        let chosen = fits
            .iter()
            .find(|entry| wanted.plain_variants().contains(&variant(entry).as_str()))
            .or_else(|| fits.first())
            .ok_or_else(|| RegistryError::NoPlatform {
                reference: request.reference.to_string(),
                wanted: format!("linux/{}", wanted.oci_name()),
                available: platforms(manifests),
            })?;
        let what = request.reference.to_string();
        let descriptor = Descriptor::check(chosen, &what)?;
        if descriptor.size > request.limits.manifest_bytes {
            return Err(RegistryError::TooLarge {
                what: format!("the manifest of {what}"),
                size: descriptor.size.to_string(),
                limit: request.limits.manifest_bytes,
            });
        }
        Ok(descriptor)
    }
}

/// The platforms of a list, in words. What build tools attach to images has the platform unknown/unknown.
fn platforms(manifests: &[Described]) -> String {
    let mut names: Vec<String> = Vec::new();
    for platform in manifests.iter().filter_map(|entry| entry.platform().as_ref()) {
        let mut name = format!("{}/{}", platform.os(), platform.architecture());
        if let Some(variant) = platform.variant() {
            name = format!("{name}/{variant}");
        }
        if name != "unknown/unknown" && is_harmless(&name) && !names.contains(&name) {
            names.push(name);
        }
        if names.len() == SHOWN_PLATFORMS {
            break;
        }
    }
    if names.is_empty() { "no platform that it names".to_owned() } else { names.join(", ") }
}

/// True for a registry's text that may be shown to a person.
fn is_harmless(text: &str) -> bool {
    text.len() <= SHOWN_PLATFORM_BYTES
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/._-+".contains(&byte))
}

/// One image within the limits.
#[derive(Debug)]
pub(super) struct Image {
    pub(super) media_type: String,
    pub(super) config: Descriptor,
    /// Each blob once, though an image may have the same layer twice.
    pub(super) layers: Vec<Descriptor>,
}

impl Image {
    /// Checks everything that a manifest says before anything of it is fetched.
    pub(super) fn check(parsed: &Parsed, request: &Request<'_>) -> Result<Self, RegistryError> {
        let reference = request.reference.to_string();
        let Parsed::Image(manifest) = parsed else {
            return Err(RegistryError::NotAnImage { reference, why: "it is a list of images" });
        };
        if !CONFIGURATIONS.contains(&manifest.config.media_type().to_string().as_str()) {
            return Err(RegistryError::NotAnImage {
                reference,
                why: "it is something else that registries keep, such as a chart, a signature or a module",
            });
        }
        let limits = request.limits;
        if manifest.layers.len() > limits.layers {
            return Err(RegistryError::TooManyLayers {
                reference,
                count: manifest.layers.len(),
                limit: limits.layers,
            });
        }
        let config = Descriptor::check(&manifest.config, &reference)?;
        within(config.size, limits.config_bytes, || format!("the configuration of {reference}"))?;

        let mut layers: Vec<Descriptor> = Vec::new();
        let mut total: u64 = 0;
        for layer in &manifest.layers {
            let layer = Descriptor::check(layer, &reference)?;
            within(layer.size, limits.blob_bytes, || format!("layer {}", layer.digest))?;
            if let Some(same) = layers.iter().chain([&config]).find(|known| known.digest == layer.digest) {
                if same.size != layer.size {
                    return Err(RegistryError::Document {
                        what: reference,
                        why: format!("it names {} twice with two sizes", layer.digest),
                    });
                }
                continue;
            }
            total = total.saturating_add(layer.size);
            layers.push(layer);
        }
        within(total, limits.image_bytes, || reference.clone())?;
        Ok(Self { media_type: manifest.media_type.clone(), config, layers })
    }
}

fn within(size: u64, limit: u64, what: impl FnOnce() -> String) -> Result<(), RegistryError> {
    if size <= limit {
        return Ok(());
    }
    Err(RegistryError::TooLarge { what: what(), size: size.to_string(), limit })
}

/// What a configuration says of the machine it is for.
#[derive(Debug, Deserialize)]
struct ConfigPlatform {
    architecture: String,
    os: String,
}

/// Checks that the image is made for the platform, which a manifest outside a list does not say.
pub(super) fn check_config(bytes: &[u8], request: &Request<'_>) -> Result<(), RegistryError> {
    let reference = request.reference.to_string();
    let config: ConfigPlatform = serde_json::from_slice(bytes).map_err(|error| RegistryError::Document {
        what: format!("the configuration of {reference}"),
        why: format!(
            "it names no architecture and system (line {}, column {})",
            error.line(),
            error.column()
        ),
    })?;
    if config.os == "linux" && config.architecture == request.platform.oci_name() {
        return Ok(());
    }
    let made_for = format!("{}/{}", config.os, config.architecture);
    Err(RegistryError::NoPlatform {
        reference,
        wanted: format!("linux/{}", request.platform.oci_name()),
        available: if is_harmless(&made_for) { made_for } else { "no platform that can be named".to_owned() },
    })
}
