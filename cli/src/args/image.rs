//! Options of the commands that read image files.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::OutputArgs;

/// `enclave eif`.
#[derive(Debug, Subcommand)]
pub(crate) enum EifCommand {
    /// Show what image files hold and measure to, as nitro-cli describe-eif does
    Describe(EifFilesArgs),
    /// Print the PCRs that image files measure to
    Measure(EifFilesArgs),
    /// Check image files: layout, checksum and, if signed, signature, dates and signed PCR0
    Verify(EifVerifyArgs),
}

/// Image files.
#[derive(Debug, Args)]
pub(crate) struct EifFilesArgs {
    /// Image files
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,

    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// `enclave eif verify`.
#[derive(Debug, Args)]
pub(crate) struct EifVerifyArgs {
    #[command(flatten)]
    pub(crate) images: EifFilesArgs,

    /// Refuse an image that the holder of this certificate (PEM or DER) has not signed
    #[arg(long, value_name = "CERT")]
    pub(crate) require_signature: Option<PathBuf>,
}
