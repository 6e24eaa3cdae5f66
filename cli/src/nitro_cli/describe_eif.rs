//! `nitro-cli describe-eif`, and the measurements that sign-eif and build-enclave print.

use std::path::Path;

use eif::describe::{self, Description};
use eif::load::Loaded;

use super::codes::Code;
use super::error::{Error, Result};
use super::output;
use crate::image_file;

pub(super) fn describe(path: &Path) -> Result<()> {
    let image = read(path)?;
    // As in nitro-cli, a signature that was not made by its certificate's key is an error; one over another image is shown.
    if let Some(section) = &image.signature {
        eif::signature::verify(section).map_err(|error| unreadable(path, &error))?;
    }
    output::print(&description(path, &image)?)
}

/// An image's description, whatever its signature says.
///
/// # Errors
/// E35.
pub(super) fn description_of(path: &Path) -> Result<Description> {
    description(path, &read(path)?)
}

fn read(path: &Path) -> Result<Loaded> {
    image_file::measure(path).map_err(|failure| Error::of(Code::EIF_PARSING, failure))
}

fn description(path: &Path, image: &Loaded) -> Result<Description> {
    describe::describe(image).map_err(|error| unreadable(path, &error))
}

fn unreadable(path: &Path, error: &dyn core::fmt::Display) -> Error {
    Error::of(Code::EIF_PARSING, image_file::indescribable(path, error))
}
