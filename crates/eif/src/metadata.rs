//! The metadata section: JSON about the image, which nothing measures.
//!
//! Field names and order are those that nitro-cli writes.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;

/// Most bytes of a file with custom metadata (`MAX_META_FILE_SIZE` of AWS's builder).
pub const MAX_CUSTOM_METADATA: usize = 4096;

/// Who built what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Metadata {
    /// Name of the image.
    pub image_name: String,
    /// Version of the image.
    pub image_version: String,
    /// How it was built.
    pub build_metadata: BuildMetadata,
    /// What the container tool says about the image that this one was made from, or null.
    #[serde(default)]
    pub docker_info: Value,
    /// What the builder's user wanted to add, or null.
    #[serde(default)]
    pub custom_metadata: Value,
}

/// How an image was built.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct BuildMetadata {
    /// When, by RFC 3339.
    pub build_time: String,
    /// With which program.
    pub build_tool: String,
    /// In which version of it.
    pub build_tool_version: String,
    /// What the kernel is: "Linux".
    pub operating_system: String,
    /// Version of the kernel.
    pub kernel_version: String,
}

/// Metadata that says nothing readable.
#[derive(Debug, Error)]
pub enum MetadataError {
    /// The section is not the JSON it should be.
    #[error("the image's metadata is not what an image builder writes: {0}")]
    Json(#[source] serde_json::Error),
    /// The custom metadata is not JSON.
    #[error("the custom metadata is not JSON: {0}")]
    Custom(#[source] serde_json::Error),
    /// The custom metadata is too long.
    #[error("the custom metadata has {0} bytes; at most {MAX_CUSTOM_METADATA} are allowed")]
    CustomTooLong(usize),
}

impl Metadata {
    /// Reads a metadata section.
    ///
    /// # Errors
    /// If it is not JSON with the fields that AWS's tools demand.
    pub fn decode(section: &[u8]) -> Result<Self, MetadataError> {
        serde_json::from_slice(section).map_err(MetadataError::Json)
    }

    /// The metadata section, compact.
    ///
    /// # Errors
    /// None in practice: the value holds nothing that JSON cannot.
    pub fn encode(&self) -> Result<Vec<u8>, MetadataError> {
        serde_json::to_vec(self).map_err(MetadataError::Json)
    }
}

/// Reads a file with custom metadata.
///
/// # Errors
/// If it is too long or not JSON.
pub fn parse_custom(file: &[u8]) -> Result<Value, MetadataError> {
    if file.len() > MAX_CUSTOM_METADATA {
        return Err(MetadataError::CustomTooLong(file.len()));
    }
    serde_json::from_slice(file).map_err(MetadataError::Custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Vector B of the image format's golden vectors.
    pub(crate) const VECTOR_B: &str = r#"{"ImageName":"n","ImageVersion":"v","BuildMetadata":{"BuildTime":"2026-01-01T00:00:00Z","BuildTool":"t","BuildToolVersion":"1","OperatingSystem":"Linux","KernelVersion":"6.6"},"DockerInfo":null,"CustomMetadata":null}"#;

    #[test]
    fn the_bytes_are_those_of_the_published_builder() {
        let metadata = Metadata::decode(VECTOR_B.as_bytes()).unwrap();
        assert_eq!(metadata.build_metadata.kernel_version, "6.6");
        assert_eq!(metadata.encode().unwrap(), VECTOR_B.as_bytes());
    }

    #[test]
    fn metadata_without_its_fields_is_refused() {
        for text in ["", "{}", "[]", "null", r#"{"ImageName":"n","ImageVersion":"v"}"#] {
            assert!(Metadata::decode(text.as_bytes()).is_err(), "{text:?} was taken for metadata");
        }
    }

    #[test]
    fn custom_metadata_is_json_of_at_most_4096_bytes() {
        let fits = format!("\"{}\"", "x".repeat(MAX_CUSTOM_METADATA - 2));
        assert!(parse_custom(fits.as_bytes()).is_ok());
        assert!(matches!(
            parse_custom(format!("{fits} ").as_bytes()),
            Err(MetadataError::CustomTooLong(4097))
        ));
        assert!(matches!(parse_custom(b"{"), Err(MetadataError::Custom(_))));
    }
}
