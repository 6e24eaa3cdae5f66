//! What nitro-cli's subcommands print: on standard output one JSON value, indented by two spaces, with keys in its order.

use eif::describe::{MeasurementReport, MetadataReport};
use enclave_hypervisor::description::{Description, Flags, State};
use serde::Serialize;

use super::codes::Code;
use super::error::{Error, Result};
use crate::output;
use crate::started::Started;

/// Prints the one JSON value of a subcommand.
pub(super) fn print<T: Serialize>(value: &T) -> Result<()> {
    output::json(value).map_err(cannot_write)
}

/// Standard output's failure.
pub(super) fn cannot_write(failure: crate::error::Failure) -> Error {
    Error::of(Code::WRITE_OUTPUT, failure)
}

/// One enclave of describe-enclaves.
#[derive(Debug, Serialize)]
pub(super) struct Described<'d> {
    #[serde(flatten)]
    started: Started<'d>,
    #[serde(rename = "State")]
    state: State,
    #[serde(rename = "Flags")]
    flags: Flags,
    #[serde(flatten)]
    measured: Option<Measured>,
    #[serde(flatten)]
    image: Option<ImageReport>,
}

/// What --metadata adds.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ImageReport {
    pub(super) image_name: String,
    pub(super) image_version: String,
    pub(super) metadata: MetadataReport,
}

impl<'d> Described<'d> {
    pub(super) fn new(enclave: &'d Description, image: Option<ImageReport>) -> Self {
        let registers = enclave.measurements.as_ref().map(|measurements| measurements.registers.clone());
        Self {
            started: enclave.into(),
            state: enclave.state,
            flags: enclave.flags,
            measured: registers.map(|registers| Measured { measurements: MeasurementReport(registers) }),
            image,
        }
    }
}

/// What terminate-enclave prints.
#[derive(Debug, Serialize)]
pub(super) struct Terminated {
    #[serde(rename = "EnclaveName")]
    pub(super) name: String,
    #[serde(rename = "EnclaveID")]
    pub(super) enclave_id: String,
    #[serde(rename = "Terminated")]
    pub(super) terminated: bool,
}

/// What build-enclave and sign-eif print.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Measured {
    pub(super) measurements: MeasurementReport,
}
