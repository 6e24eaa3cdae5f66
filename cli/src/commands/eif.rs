//! `enclave eif`: what image files hold, and what they measure to. One module for each command.

mod describe;
mod diff;
mod extract;
mod files;
mod measure;
mod sign;
mod verify;

use std::path::Path;

use attestation::pcr::Measurements;
use eif::load::Loaded;
use serde::Serialize;

use crate::args::{EifCommand, EifFilesArgs, Format};
use crate::error::{Failure, Result};
use crate::output::{self, Fields};

/// Does what is asked for; the value is the exit status.
pub(crate) fn eif(command: &EifCommand) -> Result<u8> {
    match command {
        EifCommand::Describe(args) => describe::describe(args)?,
        EifCommand::Measure(args) => measure::measure(args)?,
        EifCommand::Verify(args) => verify::verify(args)?,
        EifCommand::Sign(args) => sign::sign(args)?,
        EifCommand::Diff(args) => return diff::diff(args),
        EifCommand::Extract(args) => extract::extract(args)?,
    }
    Ok(0)
}

/// One object for one file, an array for several; nothing if one of them fails.
fn print_each<T: Serialize>(
    args: &EifFilesArgs,
    each: impl Fn(&Path) -> Result<T>,
    text: impl Fn(&T) -> String,
) -> Result<()> {
    let mut results: Vec<T> = args.files.iter().map(|path| each(path)).collect::<Result<_>>()?;
    match (args.output.format, results.len()) {
        (Format::Json, 1) => results.pop().map_or(Ok(()), |only| output::json(&only)),
        (format, _) => {
            output::print(format, &results, |all| all.iter().map(&text).collect::<Vec<_>>().join("\n"))
        }
    }
}

/// Lines for the registers that an image decides.
pub(crate) fn add_measurements(fields: &mut Fields, measurements: &Measurements) {
    fields.add("PCR0", measurements.pcr0).add("PCR1", measurements.pcr1).add("PCR2", measurements.pcr2);
    if let Some(pcr8) = &measurements.pcr8 {
        fields.add("PCR8", pcr8);
    }
}

/// An image that would not be booted for its checksum or its flags.
fn require_sound(path: &Path, image: &Loaded) -> Result<()> {
    image
        .checksum
        .check()
        .map_err(|error| refused(path, &error, "the file is damaged: copy or build it again"))?;
    let unknown = image.header.flags.unknown();
    if unknown.is_empty() {
        return Ok(());
    }
    Err(refused(
        path,
        &format_args!("its header has the unknown flags {unknown}"),
        "what such an image measures to is not published: use one made for the plain format",
    ))
}

fn refused(path: &Path, cause: &dyn core::fmt::Display, next: &str) -> Failure {
    Failure::new(format_args!("{} is refused: {cause}", path.display()), next)
}
