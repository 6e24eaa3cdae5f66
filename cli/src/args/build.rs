//! Options of `enclave build`.

use std::path::PathBuf;

use clap::{ArgGroup, Args};

use super::OutputArgs;

/// `enclave build`.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("source").required(true))]
pub(crate) struct BuildArgs {
    /// A root file system: a folder, or a tar archive of one
    #[arg(long, value_name = "DIR|TAR", group = "source")]
    pub(crate) rootfs: Option<PathBuf>,

    /// A container image in OCI layout: a folder, or a tar archive of one
    #[arg(long, value_name = "DIR|TAR", group = "source")]
    pub(crate) oci: Option<PathBuf>,

    /// A container image in a registry
    #[arg(long, value_name = "REF", group = "source")]
    pub(crate) image: Option<String>,

    /// A container image as `docker save` writes it
    #[arg(long, value_name = "TAR", group = "source")]
    pub(crate) docker_archive: Option<PathBuf>,

    /// A folder with a Dockerfile
    #[arg(long, value_name = "DIR", group = "source")]
    pub(crate) dockerfile: Option<PathBuf>,

    /// The image file to write
    #[arg(long, value_name = "FILE")]
    pub(crate) output: PathBuf,

    /// The guest kernel [default: the one that `make build` put into the cache]
    #[arg(long, value_name = "FILE")]
    pub(crate) kernel: Option<PathBuf>,

    /// The first process in the guest [default: enclave-init beside this command]
    #[arg(long, value_name = "FILE")]
    pub(crate) init: Option<PathBuf>,

    /// A module of the guest kernel that init loads before the heartbeat; may be given again, in the order of loading
    #[arg(long = "module", value_name = "FILE")]
    pub(crate) modules: Vec<PathBuf>,

    /// The kernel's command line, measured byte for byte
    #[arg(long, value_name = "TEXT")]
    pub(crate) cmdline: Option<String>,

    /// The private key to sign the image with
    #[arg(long, value_name = "PEM", requires = "sign_cert")]
    pub(crate) sign_key: Option<PathBuf>,

    /// The certificate of that key
    #[arg(long, value_name = "PEM", requires = "sign_key")]
    pub(crate) sign_cert: Option<PathBuf>,

    /// The image's name in its metadata [default: the output file's name without .eif]
    #[arg(long)]
    pub(crate) name: Option<String>,

    /// The image's version in its metadata
    #[arg(long, default_value = "1.0")]
    pub(crate) version: String,

    /// A JSON file to put into the metadata
    #[arg(long, value_name = "FILE")]
    pub(crate) metadata: Option<PathBuf>,

    /// A variable of the application's environment; may be given again
    #[arg(long = "env", value_name = "K=V", value_parser = environment_variable)]
    pub(crate) environment: Vec<String>,

    /// The folder that the application starts in
    #[arg(long, value_name = "DIR")]
    pub(crate) workdir: Option<String>,

    /// The user that the application runs as: a name in the image's /etc/passwd or a number, with :GROUP if wanted
    #[arg(long, value_name = "USER[:GROUP]")]
    pub(crate) user: Option<String>,

    /// The application and its arguments, as paths inside the image
    #[arg(last = true, value_name = "CMD")]
    pub(crate) command: Vec<String>,

    #[command(flatten)]
    pub(crate) format: OutputArgs,
}

fn environment_variable(text: &str) -> Result<String, String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() && !value.contains('\n') => Ok(text.to_owned()),
        _ => Err("write NAME=VALUE on one line".to_owned()),
    }
}
