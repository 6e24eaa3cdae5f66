//! `enclave eif`: what image files hold, and what they measure to. One module for each command.

mod describe;
mod diff;
mod extract;
mod files;
mod measure;
pub(super) mod sign;
mod verify;

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use attestation::pcr::Measurements;
use eif::load::{Loaded, measure};
use image::contents::{self, Contents};
use image::newc::Limits;
use serde::Serialize;

use crate::args::{EifCommand, EifFilesArgs, Format};
use crate::error::{Failure, Result};
use crate::output::{self, Fields};
use crate::progress::Progress;

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
        (Format::Json, 1) => results.pop().map_or(Ok(()), |only| output::print(Format::Json, &only, text)),
        (format, _) => {
            output::print(format, &results, |all| all.iter().map(&text).collect::<Vec<_>>().join("\n"))
        }
    }
}

/// Reads and measures one image, with progress.
pub(crate) fn read(path: &Path) -> Result<Loaded> {
    let (file, length) = open(path)?;
    let reader = Watched { inner: file, done: 0, length, progress: Progress::new("measuring") };
    measure(reader, length).map_err(|error| unreadable(path, &error))
}

/// Looks at what is inside one image, with progress; without `files`, at kernel and command line alone.
fn look_into(path: &Path, files: bool) -> Result<Contents> {
    let (file, length) = open(path)?;
    let reader = Watched { inner: file, done: 0, length, progress: Progress::new("looking into it") };
    let contents =
        if files { contents::all(reader, length, Limits::default()) } else { contents::boot(reader, length) };
    contents.map_err(|error| unreadable(path, &error))
}

fn unreadable(path: &Path, error: &dyn core::fmt::Display) -> Failure {
    refused(path, error, "check that it is an enclave image file (EIF) and complete, or build it again")
}

/// An image file and its length.
fn open(path: &Path) -> Result<(File, u64)> {
    let failed = |error: io::Error| Failure::file("read the image", path, &error);
    let file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(Failure::new(
            format_args!("{} is not an ordinary file", path.display()),
            "give an enclave image file (EIF), such as `enclave build` writes",
        ));
    }
    Ok((file, metadata.len()))
}

/// A reader that shows how far it is.
struct Watched<R> {
    inner: R,
    done: u64,
    length: u64,
    progress: Progress,
}

impl<R: Read> Read for Watched<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.done += count as u64;
        self.progress.bytes(self.done, self.length);
        Ok(count)
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
