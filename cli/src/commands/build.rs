//! `enclave build`: from a container image or root file system to an image file.

mod failure;
mod progress;
mod report;
mod source;

use std::path::{Path, PathBuf};

use eif::metadata::{MAX_CUSTOM_METADATA, parse_custom};
use image::attributes::Others;
use image::bootstrap::Bootstrap;
use image::builder::{self, BuildPlan, DEFAULT_COMMAND_LINE, Report};
use image::compress::Compression;
use image::limits::Limits;
use image::ramdisk::BootFiles;
use image::root::Reading;
use serde_json::Value;

use self::failure::build_failure;
use self::progress::Display;
use self::report::Built;
use self::source::Source;
use crate::args::{BuildArgs, Compress};
use crate::error::{Failure, Result};
use crate::guest::{self, Kernel};
use crate::{input, output};

/// Bytes of a MiB.
const MIB: u64 = 1 << 20;

/// The version in the metadata of what says none itself.
const DEFAULT_VERSION: &str = "1.0";

pub(crate) fn build(args: &BuildArgs) -> Result<()> {
    refuse_signing(args)?;
    let limits = Limits { unpacked: args.max_unpacked.saturating_mul(MIB), ..Limits::default() };
    let source = source::open(args, &limits)?;
    let boot = Boot::choose(args)?;
    let plan = plan(args, &source, &boot, limits)?;
    let report = builder::build(&plan, &mut Display::new().steps()).map_err(|error| build_failure(&error))?;
    warn_about_init(&plan, &report, &boot);
    let reproducible = if args.check { Some(check(&plan)?) } else { None };
    output::print(args.format.format, &Built::new(&report, &plan, source.facts, reproducible), Built::text)
}

/// Builds again and compares. `true`, or a failure that says where the images differ.
fn check(plan: &BuildPlan) -> Result<bool> {
    output::tell("Building a second time, to compare.");
    let difference =
        builder::check(plan, &mut Display::new().steps()).map_err(|error| build_failure(&error))?;
    match difference {
        None => Ok(true),
        Some(difference) => Err(Failure::new(
            format_args!(
                "the second build is not the same as {}: it differs {difference}",
                plan.output.display()
            ),
            "check that nothing changes what the image is built from, and report it if nothing does",
        )),
    }
}

fn refuse_signing(args: &BuildArgs) -> Result<()> {
    if args.sign_key.is_none() {
        return Ok(());
    }
    Err(Failure::new(
        "this version does not sign images: --sign-key and --sign-cert are not supported",
        "build without them, and sign the image with `nitro-cli sign-eif`: this command reads such signatures",
    ))
}

/// What boots the enclave: each part from its own option, else from the folder of `--bootstrap`, else our own.
struct Boot {
    kernel: Kernel,
    init: PathBuf,
    nsm_module: Option<PathBuf>,
    command_line: String,
    operating_system: Option<String>,
    kernel_version: Option<String>,
    /// Whether init may be another than ours.
    foreign_init: bool,
}

impl Boot {
    fn choose(args: &BuildArgs) -> Result<Self> {
        let folder = args.bootstrap.as_deref().map(Bootstrap::open).transpose();
        let folder = folder.map_err(|error| build_failure(&error))?;
        // The folder's version and driver are those of its own kernel.
        let described = folder.clone().filter(|_| args.kernel.is_none());
        let kernel = match (&args.kernel, &folder) {
            (Some(file), _) => guest::kernel_at(file.clone()),
            (None, Some(folder)) => guest::kernel_at(folder.kernel.clone()),
            (None, None) => guest::default_kernel()?,
        };
        let given = args.init.clone().or_else(|| folder.as_ref().map(|folder| folder.init.clone()));
        let command_line = args.cmdline.clone().or_else(|| folder.as_ref()?.command_line.clone());
        Ok(Self {
            kernel_version: described.as_ref().and_then(|folder| folder.kernel_version.clone()),
            operating_system: described.as_ref().and_then(|folder| folder.operating_system.clone()),
            nsm_module: described.and_then(|folder| folder.nsm_module),
            kernel,
            foreign_init: given.as_ref().is_some_and(|init| !init.ends_with(guest::INIT)),
            init: given.map_or_else(|| guest::companion(guest::INIT), Ok)?,
            command_line: command_line.unwrap_or_else(|| DEFAULT_COMMAND_LINE.to_owned()),
        })
    }
}

fn plan(args: &BuildArgs, source: &Source, boot: &Boot, limits: Limits) -> Result<BuildPlan> {
    let epoch = std::env::var("SOURCE_DATE_EPOCH").ok();
    let build_time = builder::build_time(epoch.as_deref()).map_err(|error| build_failure(&error))?;
    let custom_metadata = match &args.metadata {
        Some(file) => custom_metadata(file)?,
        None => Value::Null,
    };
    let name =
        args.name.clone().or_else(|| source.name.clone()).unwrap_or_else(|| default_name(&args.output));
    let version = args.version.clone().or_else(|| source.version.clone());
    Ok(BuildPlan {
        kernel: boot.kernel.file.clone(),
        kernel_version: boot.kernel_version.clone().or_else(|| boot.kernel.version.clone()),
        operating_system: boot.operating_system.clone(),
        kernel_origin: boot.kernel.origin(),
        boot: BootFiles {
            init: boot.init.clone(),
            modules: args.modules.clone(),
            nsm_module: boot.nsm_module.clone(),
        },
        command_line: boot.command_line.clone(),
        root: source.root.clone(),
        reading: Reading { limits, others: if args.drop_xattrs { Others::Drop } else { Others::Refuse } },
        compression: match args.compress {
            Compress::None => Compression::None,
            Compress::Zstd => Compression::Zstd,
            Compress::Gzip => Compression::Gzip,
        },
        application: source.application.clone(),
        name,
        version: version.unwrap_or_else(|| DEFAULT_VERSION.to_owned()),
        docker_info: source.docker_info.clone(),
        custom_metadata,
        build_time,
        output: args.output.clone(),
    })
}

/// AWS's init ignores what it does not know: better to hear it now than to find out in the enclave.
fn warn_about_init(plan: &BuildPlan, report: &Report, boot: &Boot) {
    if !boot.foreign_init {
        return;
    }
    let needs = [
        ("the working directory", plan.application.working_directory.is_some()),
        ("the user", plan.application.user.is_some()),
        ("capabilities and other extended attributes of files", report.has_attributes),
    ];
    for (what, _) in needs.iter().filter(|(_, needed)| *needed) {
        output::tell(format_args!(
            "warning: {} may not be this project's init; AWS's ignores {what}",
            plan.boot.init.display()
        ));
    }
}

fn custom_metadata(file: &Path) -> Result<Value> {
    let bytes = input::read_bounded(file, MAX_CUSTOM_METADATA as u64, "the metadata")?;
    parse_custom(&bytes).map_err(|error| {
        Failure::new(
            format_args!("{} cannot be the image's metadata: {error}", file.display()),
            format_args!("write a JSON object of at most {MAX_CUSTOM_METADATA} bytes"),
        )
    })
}

fn default_name(output: &Path) -> String {
    let name = output.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    name.strip_suffix(".eif").unwrap_or(&name).to_owned()
}
