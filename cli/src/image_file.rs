//! Reading, measuring and looking into one enclave image file, with progress.

use core::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use eif::load::{self, Loaded};
use image::contents::{self, Contents};
use image::newc::Limits;

use crate::error::{Failure, Result};
use crate::progress::Progress;

/// Reads and measures one image. Signature and checksum are for the caller to judge.
///
/// # Errors
/// If it cannot be read or is no image.
pub(crate) fn measure(path: &Path) -> Result<Loaded> {
    let (file, length) = open(path)?;
    let reader = Watched { inner: file, done: 0, length, progress: Progress::new("measuring") };
    load::measure(reader, length).map_err(|error| unreadable(path, &error))
}

/// Looks at what is inside one image; without `files`, at kernel and command line alone.
///
/// # Errors
/// If it cannot be read or is no image. A ramdisk that cannot be read is told in its listing.
pub(crate) fn look_into(path: &Path, files: bool) -> Result<Contents> {
    let (file, length) = open(path)?;
    let reader = Watched { inner: file, done: 0, length, progress: Progress::new("looking into it") };
    let contents =
        if files { contents::all(reader, length, Limits::default()) } else { contents::boot(reader, length) };
    contents.map_err(|error| unreadable(path, &error))
}

/// An image file and its length.
///
/// # Errors
/// If it cannot be opened or is no ordinary file.
pub(crate) fn open(path: &Path) -> Result<(File, u64)> {
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

/// An image that cannot be read to its end.
pub(crate) fn unreadable(path: &Path, error: &dyn fmt::Display) -> Failure {
    Failure::new(
        format_args!("{} is refused: {error}", path.display()),
        "check that it is an enclave image file (EIF) and complete, or build it again",
    )
}

/// An image of which not all can be told.
pub(crate) fn indescribable(path: &Path, error: &dyn fmt::Display) -> Failure {
    Failure::new(
        format_args!("{} cannot be described: {error}", path.display()),
        "build or sign the image again",
    )
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
