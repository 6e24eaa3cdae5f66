//! Options of `enclave build`.

use std::path::PathBuf;

use clap::{ArgGroup, Args, ValueEnum};
use image::kernel::Architecture;

use super::{Format, OutputArgs};

/// MiB that layers may unpack to unless the user says otherwise: `image::limits::Limits`.
const DEFAULT_MAX_UNPACKED: u64 = 16 << 10;

/// The most that can be asked for, so that the number of bytes stays far from the end of 64 bits: 1 EiB.
const MAX_MAX_UNPACKED: u64 = 1 << 40;

/// `enclave build`.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("source").required(true))]
pub(crate) struct BuildArgs {
    /// A root file system: a folder, or a tar archive of one, plain or compressed by gzip or zstd
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

    /// Which image, where a layout or archive holds several
    #[arg(long, value_name = "NAME")]
    pub(crate) tag: Option<String>,

    /// The architecture of the container image: x86_64 (amd64) or aarch64 (arm64) [default: this machine's]
    #[arg(long, value_parser = architecture)]
    pub(crate) arch: Option<Architecture>,

    /// The image file to write
    #[arg(long, value_name = "FILE")]
    pub(crate) output: PathBuf,

    /// The guest kernel [default: the one that `make build` put into the cache]
    #[arg(long, value_name = "FILE")]
    pub(crate) kernel: Option<PathBuf>,

    /// The first process in the guest [default: enclave-init beside this command]
    #[arg(long, value_name = "FILE")]
    pub(crate) init: Option<PathBuf>,

    /// A folder laid out as AWS's blobs: kernel (bzImage or Image), init, nsm.ko and cmdline are taken from it
    #[arg(long, value_name = "DIR")]
    pub(crate) bootstrap: Option<PathBuf>,

    /// A module of the guest kernel that init loads before the heartbeat; may be given again, in the order of loading
    #[arg(long = "module", value_name = "FILE")]
    pub(crate) modules: Vec<PathBuf>,

    /// The kernel's command line, measured byte for byte
    #[arg(long, value_name = "TEXT")]
    pub(crate) cmdline: Option<String>,

    /// How the ramdisks are stored
    #[arg(long, value_enum, default_value_t)]
    pub(crate) compress: Compress,

    /// Build twice and compare the two images byte for byte
    #[arg(long)]
    pub(crate) check: bool,

    /// Leave out extended attributes that an image cannot keep, instead of refusing them. Capabilities and user attributes are kept
    #[arg(long)]
    pub(crate) drop_xattrs: bool,

    /// The most that archives and layers may unpack to, all together
    #[arg(long, value_name = "MIB", default_value_t = DEFAULT_MAX_UNPACKED, value_parser = clap::value_parser!(u64).range(1..=MAX_MAX_UNPACKED))]
    pub(crate) max_unpacked: u64,

    /// The private key to sign the image with
    #[arg(long, value_name = "PEM", requires = "sign_cert")]
    pub(crate) sign_key: Option<PathBuf>,

    /// The certificate of that key
    #[arg(long, value_name = "PEM", requires = "sign_key")]
    pub(crate) sign_cert: Option<PathBuf>,

    /// The image's name in its metadata [default: the container image's, else the output file's without .eif]
    #[arg(long)]
    pub(crate) name: Option<String>,

    /// The image's version in its metadata [default: the container image's id, else 1.0]
    #[arg(long)]
    pub(crate) version: Option<String>,

    /// A JSON file to put into the metadata
    #[arg(long, value_name = "FILE")]
    pub(crate) metadata: Option<PathBuf>,

    /// A variable of the application's environment, added to or in place of the container image's; may be given again
    #[arg(long = "env", value_name = "K=V", value_parser = environment_variable)]
    pub(crate) environment: Vec<String>,

    /// The folder that the application starts in [default: the container image's WORKDIR, else /]
    #[arg(long, value_name = "DIR")]
    pub(crate) workdir: Option<String>,

    /// The user that the application runs as: a name in the image's /etc/passwd or a number, with :GROUP if wanted [default: the
    /// container image's USER, else root]
    #[arg(long, value_name = "USER[:GROUP]")]
    pub(crate) user: Option<String>,

    #[command(flatten)]
    pub(crate) kms: KmsHelperArgs,

    /// The application and its arguments, as paths inside the image; in place of the container image's ENTRYPOINT and CMD
    #[arg(last = true, value_name = "CMD")]
    pub(crate) command: Vec<String>,

    #[command(flatten)]
    pub(crate) format: OutputArgs,
}

impl BuildArgs {
    /// What nothing was said about but the output. Nothing to build from is named yet.
    pub(crate) fn to(output: PathBuf) -> Self {
        Self {
            rootfs: None,
            oci: None,
            image: None,
            docker_archive: None,
            dockerfile: None,
            tag: None,
            arch: None,
            output,
            kernel: None,
            init: None,
            bootstrap: None,
            modules: Vec::new(),
            cmdline: None,
            compress: Compress::default(),
            check: false,
            drop_xattrs: false,
            max_unpacked: DEFAULT_MAX_UNPACKED,
            sign_key: None,
            sign_cert: None,
            name: None,
            version: None,
            metadata: None,
            environment: Vec::new(),
            workdir: None,
            user: None,
            kms: KmsHelperArgs::default(),
            command: Vec::new(),
            format: OutputArgs { format: Format::Json },
        }
    }
}

/// The helper that gives an application its secrets.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Key service")]
pub(crate) struct KmsHelperArgs {
    /// Add a helper that any AWS SDK in the image gets its secrets by, from this key service: such as
    /// https://kms.eu-central-1.amazonaws.com
    #[arg(long, value_name = "URL", value_parser = kms_endpoint)]
    pub(crate) kms_endpoint: Option<String>,

    /// The host's vsock port that leads to the key service [default: 8000]
    #[arg(long, value_name = "PORT", requires = "kms_endpoint", value_parser = clap::value_parser!(u32).range(1..i64::from(u32::MAX)))]
    pub(crate) kms_port: Option<u32>,

    /// Root certificates for the key service's TLS [default: the CA bundle in the image]
    #[arg(long, value_name = "PEM", requires = "kms_endpoint")]
    pub(crate) kms_ca: Option<PathBuf>,

    /// The host's vsock port that gives credentials [default: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY of the environment are used]
    #[arg(long, value_name = "PORT", requires = "kms_endpoint", value_parser = clap::value_parser!(u32).range(1..i64::from(u32::MAX)))]
    pub(crate) kms_credentials_port: Option<u32>,

    /// The region of the key service [default: what the application's SDK is set to]
    #[arg(long, value_name = "REGION", requires = "kms_endpoint")]
    pub(crate) kms_region: Option<String>,
}

/// How ramdisks are stored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Compress {
    /// As they are: the fastest to build and to boot
    #[default]
    None,
    /// By zstd
    Zstd,
    /// By gzip
    Gzip,
}

fn architecture(text: &str) -> Result<Architecture, String> {
    match text {
        "x86_64" | "amd64" => Ok(Architecture::X86_64),
        "aarch64" | "arm64" => Ok(Architecture::Aarch64),
        _ => Err("write x86_64 (or amd64), or aarch64 (or arm64)".to_owned()),
    }
}

fn environment_variable(text: &str) -> Result<String, String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() && !value.contains('\n') => Ok(text.to_owned()),
        _ => Err("write NAME=VALUE on one line".to_owned()),
    }
}

/// The helper reads it more closely; what can be seen to be wrong shall not wait until the enclave boots.
fn kms_endpoint(text: &str) -> Result<String, String> {
    let host = text.strip_prefix("https://").ok_or(
        "TLS must end in the enclave, or the host could read what is sent: write https://HOST or https://HOST:PORT",
    )?;
    let host = host.strip_suffix('/').unwrap_or(host);
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte);
    if host.is_empty() || !host.bytes().all(allowed) {
        return Err("write https://HOST or https://HOST:PORT, without a path".to_owned());
    }
    Ok(text.to_owned())
}
