//! What to do about each error of the builder.

use image::error::BuildError;

use crate::error::{Failure, file_advice};
use crate::output::printable;

/// A builder's error as a command's failure. Many errors bring their advice behind a semicolon.
pub(super) fn build_failure(error: &BuildError) -> Failure {
    failure(error, advice(error))
}

/// An error with its own advice, else with this.
pub(super) fn failure(error: &impl core::fmt::Display, advice: &str) -> Failure {
    // Names in archives are anybody's text.
    let message = printable(&error.to_string());
    match message.rsplit_once("; ") {
        Some((cause, own)) => Failure::new(cause, own),
        None => Failure::new(message, advice),
    }
}

fn advice(error: &BuildError) -> &'static str {
    match error {
        BuildError::File(error) => file_advice(&error.source),
        BuildError::NotAKernel(_) => {
            "give another file with --kernel, or leave it out for the one of `make build`"
        }
        BuildError::TooLarge { .. } | BuildError::PathTooLong(_) => "leave it out of the root folder",
        BuildError::Setting { .. } | BuildError::WorkingDirectory { .. } => "write it differently",
        BuildError::Metadata(_) | BuildError::CustomMetadata => "mend the file given with --metadata",
        BuildError::BuildTime(_) => "set SOURCE_DATE_EPOCH to seconds since 1970, or unset it",
        BuildError::Write(_) | BuildError::Output(_) => "check the output's folder and its free space",
        BuildError::Layer(error) => layer_advice(error),
        BuildError::Container(error) => container_advice(error),
        _ => "then build again",
    }
}

fn layer_advice(error: &image::layer::LayerError) -> &'static str {
    use image::layer::LayerError;
    match error {
        LayerError::Temporary { .. } => "free space there, or set TMPDIR to a folder with more of it",
        LayerError::Limit { what, .. } if what.starts_with("bytes unpacked") => {
            "allow more with --max-unpacked if you trust the image"
        }
        LayerError::Mismatch { .. } | LayerError::File { .. } => "fetch or make the image again",
        LayerError::Archive { .. } => "give an archive that is complete, plain or compressed by gzip or zstd",
        _ => "make the archive again without it",
    }
}

fn container_advice(error: &image::container::ContainerError) -> &'static str {
    use image::container::ContainerError;
    match error {
        ContainerError::File(error) => file_advice(&error.source),
        ContainerError::Archive(error) => layer_advice(error),
        _ => "make or fetch the image again",
    }
}
