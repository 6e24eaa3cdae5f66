//! `nitro-cli describe-enclaves`.

use eif::describe::MetadataReport;
use eif::metadata::Metadata;
use enclave_hypervisor::client;
use enclave_hypervisor::description::Description;

use super::codes::Code;
use super::enclaves::Enclaves;
use super::error::Result;
use super::output::{self, Described, ImageReport};
use crate::output::{printable, tell};

pub(super) fn describe(with_metadata: bool) -> Result<()> {
    let enclaves = Enclaves::open(Code::READ_FROM_DISK)?;
    let running = enclaves.running()?;
    let image = |enclave: &Description| with_metadata.then(|| metadata(&enclaves, enclave)).flatten();
    let described: Vec<Described<'_>> =
        running.iter().map(|enclave| Described::new(enclave, image(enclave))).collect();
    output::print(&described)?;
    enclaves.all_reached(0)
}

/// What the image says of itself; an enclave is shown without it if it cannot be read.
fn metadata(enclaves: &Enclaves, enclave: &Description) -> Option<ImageReport> {
    let lacking = |cause: &dyn core::fmt::Display| {
        tell(format_args!("warning: no metadata of {}: {cause}", printable(&enclave.name)));
    };
    let section = client::metadata(&enclaves.root, enclave).inspect_err(|error| lacking(error)).ok()??;
    let metadata = Metadata::decode(&section).inspect_err(|error| lacking(error)).ok()?;
    Some(ImageReport {
        image_name: metadata.image_name.clone(),
        image_version: metadata.image_version.clone(),
        metadata: MetadataReport::from(metadata),
    })
}
