//! What `nitro-cli describe-eif` says about an image, in the same JSON.

use std::collections::BTreeMap;

use attestation::pcr::Measurements;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};
use thiserror::Error;

use crate::certificate::SigningCertificate;
use crate::load::Loaded;
use crate::metadata::{BuildMetadata, Metadata, MetadataError};
use crate::signature::{self, SignatureError};

/// Name of the hash as AWS documents it. Clients must not interpret it: it has changed between versions of nitro-cli.
pub const HASH_ALGORITHM: &str = "Sha384 { ... }";

/// Measurements as nitro-cli prints them, sorted by key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MeasurementReport(pub Measurements);

impl Serialize for MeasurementReport {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Measurements { pcr0, pcr1, pcr2, pcr8 } = &self.0;
        let registers =
            [("PCR0", Some(pcr0)), ("PCR1", Some(pcr1)), ("PCR2", Some(pcr2)), ("PCR8", pcr8.as_ref())];
        let registers =
            registers.into_iter().filter_map(|(name, pcr)| pcr.map(|pcr| (name, pcr.to_string())));
        serializer.collect_map([("HashAlgorithm", HASH_ALGORITHM.to_owned())].into_iter().chain(registers))
    }
}

/// The certificate of a signed image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct CertificateReport {
    /// Issuer's attributes by their long names.
    pub issuer_name: BTreeMap<String, String>,
    /// Algorithm of the signature on the certificate.
    pub algorithm: String,
    /// Start of validity as OpenSSL prints it.
    pub not_before: String,
    /// End of validity as OpenSSL prints it.
    pub not_after: String,
    /// Signature on the certificate, `XX:XX:...`.
    pub signature: String,
}

impl From<&SigningCertificate> for CertificateReport {
    fn from(certificate: &SigningCertificate) -> Self {
        let (not_before, not_after) = certificate.validity();
        let signature: Vec<String> =
            certificate.signature().iter().map(|byte| format!("{byte:02X}")).collect();
        Self {
            issuer_name: certificate.issuer().collect(),
            algorithm: certificate.algorithm(),
            not_before,
            not_after,
            signature: signature.join(":"),
        }
    }
}

/// Metadata as one object, in the builder's order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MetadataReport {
    /// How the image was built.
    #[serde(flatten)]
    pub build: BuildMetadata,
    /// What the container tool said about the image's origin.
    #[serde(rename = "DockerInfo")]
    pub docker_info: Value,
    /// The keys of the custom metadata, beside the others.
    #[serde(flatten)]
    pub custom: Map<String, Value>,
}

/// An image as `describe-eif` shows it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Description {
    /// Format version.
    pub eif_version: u16,
    /// PCR 0, 1, 2, and 8 if the image is signed.
    pub measurements: MeasurementReport,
    /// True if there is a signature section.
    pub is_signed: bool,
    /// The certificate of a signed image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signing_certificate: Option<CertificateReport>,
    /// True if the checksum is right.
    #[serde(rename = "CheckCRC")]
    pub check_crc: bool,
    /// True if the signature holds and is over this image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signature_check: Option<bool>,
    /// Name from the metadata.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_name: Option<String>,
    /// Version from the metadata.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_version: Option<String>,
    /// Build metadata, with the custom metadata's keys beside them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<MetadataReport>,
}

/// Why an image cannot be described.
#[derive(Debug, Error)]
pub enum DescribeError {
    /// The metadata cannot be read.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// The signature section cannot be read, or holds no certificate.
    #[error(transparent)]
    Signature(#[from] SignatureError),
}

/// Describes an image that has been read. A wrong checksum or signature is shown, not refused.
///
/// # Errors
/// If the metadata or the signature section cannot be read at all.
pub fn describe(image: &Loaded) -> Result<Description, DescribeError> {
    let certificate = match &image.signature {
        Some(section) => Some(signature::first_entry(section)?.certificate().map_err(SignatureError::from)?),
        None => None,
    };
    let mut measurements = image.measurements.clone();
    measurements.pcr8 = certificate.as_ref().map(SigningCertificate::pcr8);
    let metadata = image.metadata.as_deref().map(Metadata::decode).transpose()?;
    Ok(Description {
        eif_version: image.header.version,
        is_signed: certificate.is_some(),
        signing_certificate: certificate.as_ref().map(CertificateReport::from),
        check_crc: image.checksum.matches(),
        signature_check: image.signature.as_deref().map(|section| signature_holds(section, &measurements)),
        measurements: MeasurementReport(measurements),
        image_name: metadata.as_ref().map(|metadata| metadata.image_name.clone()),
        image_version: metadata.as_ref().map(|metadata| metadata.image_version.clone()),
        metadata: metadata.map(MetadataReport::from),
    })
}

fn signature_holds(section: &[u8], measurements: &Measurements) -> bool {
    signature::verify(section).and_then(|signed| signed.check_image(&measurements.pcr0)).is_ok()
}

/// The builder's keys come first; a custom key does not hide one of them.
impl From<Metadata> for MetadataReport {
    fn from(metadata: Metadata) -> Self {
        const BUILDERS: [&str; 6] =
            ["BuildTime", "BuildTool", "BuildToolVersion", "OperatingSystem", "KernelVersion", "DockerInfo"];
        let mut custom = match metadata.custom_metadata {
            Value::Object(custom) => custom,
            _ => Map::new(),
        };
        custom.retain(|key, _| !BUILDERS.contains(&key.as_str()));
        Self { build: metadata.build_metadata, docker_info: metadata.docker_info, custom }
    }
}
