//! Options of the commands that read image files.

use std::path::PathBuf;

use attestation::identity::{InstanceId, Role};
use clap::{ArgGroup, Args, Subcommand};

use super::OutputArgs;

/// `enclave eif`.
#[derive(Debug, Subcommand)]
pub(crate) enum EifCommand {
    /// Show what image files hold and measure to, as nitro-cli describe-eif does
    Describe(EifDescribeArgs),
    /// Print the PCRs that image files measure to, and what is to be signed of them
    Measure(EifMeasureArgs),
    /// Check image files: layout, checksum and, if signed, signature, dates and signed PCR0
    Verify(EifVerifyArgs),
    /// Sign an image file, in place of an older signature if there is one
    Sign(EifSignArgs),
    /// Say why two image files have different PCRs, down to the files of their ramdisks
    #[command(
        after_help = "Exit status: 0 if the PCRs are the same, 1 if they differ, 2 if something went wrong."
    )]
    Diff(EifDiffArgs),
    /// Write an image file's sections to a folder, or its application's root folder to a tar archive
    Extract(EifExtractArgs),
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

/// `enclave eif measure`.
#[derive(Debug, Args)]
pub(crate) struct EifMeasureArgs {
    #[command(flatten)]
    pub(crate) images: EifFilesArgs,

    /// Print the PCR3 of a host with this role, too
    #[arg(long, value_name = "ARN")]
    pub(crate) role: Option<Role>,

    /// Print the PCR4 of a host with this instance id, too
    #[arg(long, value_name = "ID")]
    pub(crate) instance_id: Option<InstanceId>,

    /// Print what the key of this certificate (PEM or DER) has to sign, and the PCR8 that comes of it
    #[arg(long, value_name = "CERT")]
    pub(crate) sign_cert: Option<PathBuf>,

    /// Write the bytes that are to be hashed and signed to this file
    #[arg(long, value_name = "OUT", requires = "sign_cert")]
    pub(crate) to_be_signed: Option<PathBuf>,
}

/// `enclave eif sign`.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("how").required(true))]
pub(crate) struct EifSignArgs {
    /// The image file, changed in place unless --output is given
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,

    /// Write the signed image to this file and leave the other as it is
    #[arg(long = "output", value_name = "FILE")]
    pub(crate) to: Option<PathBuf>,

    /// The private key to sign with: PEM, on P-256, P-384 or P-521, not encrypted
    #[arg(long, value_name = "PEM", group = "how", requires = "sign_cert")]
    pub(crate) sign_key: Option<PathBuf>,

    /// Attach this signature, made elsewhere over what `eif measure --to-be-signed` wrote (DER, or r and s; raw, hexadecimal
    /// or base64)
    #[arg(long, value_name = "FILE", group = "how", requires = "sign_cert")]
    pub(crate) signature: Option<PathBuf>,

    /// Take the signature out
    #[arg(long, group = "how", conflicts_with = "sign_cert")]
    pub(crate) remove: bool,

    /// The certificate of the key that signs (PEM or DER)
    #[arg(long, value_name = "CERT")]
    pub(crate) sign_cert: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// `enclave eif diff`.
#[derive(Debug, Args)]
pub(crate) struct EifDiffArgs {
    /// One image file
    #[arg(value_name = "A")]
    pub(crate) a: PathBuf,

    /// The other
    #[arg(value_name = "B")]
    pub(crate) b: PathBuf,

    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// `enclave eif describe`.
#[derive(Debug, Args)]
pub(crate) struct EifDescribeArgs {
    #[command(flatten)]
    pub(crate) images: EifFilesArgs,

    /// List the files of the ramdisks, too
    #[arg(long = "files")]
    pub(crate) list_files: bool,
}

/// `enclave eif extract`.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("what").required(true).multiple(true))]
pub(crate) struct EifExtractArgs {
    /// The image file
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,

    /// Write every section to a file in this folder, which must not exist
    #[arg(long = "output", value_name = "DIR", group = "what")]
    pub(crate) folder: Option<PathBuf>,

    /// Write the application's root folder to this tar archive, which `enclave build --rootfs` takes again
    #[arg(long, value_name = "TAR", group = "what")]
    pub(crate) rootfs: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) output: OutputArgs,
}
