//! The result of `enclave build`.

use eif::describe::MeasurementReport;
use image::builder::{BuildPlan, Report};
use serde::Serialize;

use super::super::eif::add_measurements;
use super::kms::Note;
use super::source::Facts;
use crate::output::{Fields, printable};

/// nitro-cli's object, and what the image is made of.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Built {
    pub(crate) measurements: MeasurementReport,
    path: String,
    bytes: u64,
    kernel_version: String,
    kernel_bytes: u64,
    boot_ramdisk_bytes: u64,
    application_ramdisk_bytes: u64,
    /// All ramdisks as they are in the guest: what memory they take there.
    unpacked_ramdisk_bytes: u64,
    build_time: String,
    source: Facts,
    /// What was added for the key service, as in the image's metadata.
    #[serde(rename = "KMSHelper", skip_serializing_if = "Option::is_none")]
    kms_helper: Option<Note>,
    /// Whether a second build gave the same bytes, if there was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    reproducible: Option<bool>,
}

impl Built {
    pub(super) fn new(
        report: &Report,
        plan: &BuildPlan,
        source: Facts,
        kms_helper: Option<Note>,
        reproducible: Option<bool>,
    ) -> Self {
        let build = &report.metadata.build_metadata;
        Self {
            measurements: MeasurementReport(report.measurements.clone()),
            path: plan.output.display().to_string(),
            bytes: report.image_bytes,
            kernel_version: build.kernel_version.clone(),
            kernel_bytes: report.kernel_bytes,
            boot_ramdisk_bytes: report.boot.stored,
            application_ramdisk_bytes: report.application.stored,
            unpacked_ramdisk_bytes: report.boot.unpacked.saturating_add(report.application.unpacked),
            build_time: build.build_time.clone(),
            source,
            kms_helper,
            reproducible,
        }
    }

    pub(super) fn text(&self) -> String {
        let mut fields = Fields::default();
        fields
            .add("Image", format_args!("{} ({} bytes)", printable(&self.path), self.bytes))
            .add(
                "Kernel",
                format_args!("Linux {} ({} bytes)", printable(&self.kernel_version), self.kernel_bytes),
            )
            .add("Boot ramdisk", format_args!("{} bytes", self.boot_ramdisk_bytes))
            .add("Application", format_args!("{} bytes", self.application_ramdisk_bytes));
        if self.unpacked_ramdisk_bytes
            > self.boot_ramdisk_bytes.saturating_add(self.application_ramdisk_bytes)
        {
            fields.add("Unpacked", format_args!("{} bytes", self.unpacked_ramdisk_bytes));
        }
        for (label, fact) in [
            ("Container image", &self.source.reference),
            ("Digest", &self.source.digest),
            ("Image id", &self.source.image_id),
        ] {
            if let Some(fact) = fact {
                fields.add(label, printable(fact));
            }
        }
        if let Some(helper) = &self.kms_helper {
            let Note { program, endpoint, vsock_port, .. } = helper;
            let way = format_args!("{program} asks {endpoint} by the host's vsock port {vsock_port}");
            fields.add("Key service", way);
        }
        fields.add("Build time", &self.build_time);
        if self.reproducible == Some(true) {
            fields.add("Built twice", "the same bytes");
        }
        add_measurements(&mut fields, &self.measurements.0);
        fields.render(0)
    }
}
