//! `enclave build`: from a container image or root file system to an image file.

mod failure;
mod fetch;
mod kms;
mod progress;
mod report;
mod source;

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::SystemTime;

use eif::metadata::{MAX_CUSTOM_METADATA, parse_custom};
use eif::sign::Signer;
use image::attributes::Others;
use image::bootstrap::Bootstrap;
use image::builder::{self, BuildPlan, DEFAULT_COMMAND_LINE, KERNEL_ORIGIN, Report};
use image::compress::Compression;
use image::limits::Limits;
use image::ramdisk::BootFiles;
use image::root::Reading;
use serde_json::{Value, json};

use self::failure::build_failure;
pub(crate) use self::fetch::Fetched;
use self::kms::KmsHelper;
use self::progress::Display;
pub(crate) use self::report::Built;
use self::source::Source;
use crate::args::{BuildArgs, Compress};
use crate::error::{Failure, Result};
use crate::guest::{self, Kernel};
use crate::{input, output, signing};

/// The version in the metadata of what says none itself.
const DEFAULT_VERSION: &str = "1.0";

pub(crate) fn build(args: &BuildArgs) -> Result<()> {
    let prepared = prepare(args)?;
    let fetched = prepared.fetch(args)?;
    let built = make(args, prepared, fetched.as_ref())?;
    output::print(args.format.format, &built, Built::text)
}

/// Everything of an image but its application.
pub(crate) struct Prepared {
    boot: Boot,
    kms_helper: Option<KmsHelper>,
    custom_metadata: Value,
    build_time: SystemTime,
    signer: Option<Signer>,
}

impl Prepared {
    /// Pulls or makes the container image, if what is to be built comes from one that is no file.
    ///
    /// # Errors
    /// If it cannot be had.
    pub(crate) fn fetch(&self, args: &BuildArgs) -> Result<Option<Fetched>> {
        fetch::fetch(args, self.build_time)
    }
}

/// Finds and checks what can be checked before anything is fetched.
///
/// # Errors
/// If a part is missing, or what the image is to be signed with cannot be used.
pub(crate) fn prepare(args: &BuildArgs) -> Result<Prepared> {
    let epoch = std::env::var("SOURCE_DATE_EPOCH").ok();
    Ok(Prepared {
        custom_metadata: args.metadata.as_deref().map_or(Ok(Value::Null), custom_metadata)?,
        build_time: builder::build_time(epoch.as_deref()).map_err(|error| build_failure(&error))?,
        signer: match (&args.sign_key, &args.sign_cert) {
            (Some(key), Some(certificate)) => Some(signing::signer(key, certificate, SystemTime::now())?),
            _ => None,
        },
        boot: Boot::choose(args)?,
        kms_helper: KmsHelper::choose(&args.kms)?,
    })
}

/// Builds the image, from what was fetched if it was.
///
/// # Errors
/// If it cannot be built; then no image is left.
pub(crate) fn make(args: &BuildArgs, prepared: Prepared, fetched: Option<&Fetched>) -> Result<Built> {
    let limits = Limits { unpacked: source::max_unpacked(args), ..Limits::default() };
    let source = source::open(args, &limits, fetched)?;
    let foreign_init = prepared.boot.foreign_init;
    let note = prepared.kms_helper.as_ref().map(|helper| helper.note.clone());
    let plan = plan(args, &source, prepared, limits)?;
    let report = builder::build(&plan, &mut Display::new().steps()).map_err(|error| build_failure(&error))?;
    if foreign_init {
        warn_about_init(&plan, &report);
    }
    let reproducible = if args.check { Some(check(&plan)?) } else { None };
    Ok(Built::new(&report, &plan, source.facts, note, reproducible))
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

fn plan(args: &BuildArgs, source: &Source, prepared: Prepared, limits: Limits) -> Result<BuildPlan> {
    let Prepared { boot, kms_helper, custom_metadata, build_time, signer } = prepared;
    let mut application = source.application.clone();
    if let Some(helper) = &kms_helper {
        helper.wrap(&mut application)?;
    }
    let origin = boot.kernel.origin().map(|origin| (KERNEL_ORIGIN, origin));
    let helper = kms_helper.as_ref().map(|helper| (kms::NOTE, json!(helper.note)));
    let name =
        args.name.clone().or_else(|| source.name.clone()).unwrap_or_else(|| default_name(&args.output));
    let version = args.version.clone().or_else(|| source.version.clone());
    Ok(BuildPlan {
        kernel: boot.kernel.file.clone(),
        kernel_version: boot.kernel_version.clone().or_else(|| boot.kernel.version.clone()),
        operating_system: boot.operating_system.clone(),
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
        application,
        additions: kms_helper.map(|helper| helper.additions).unwrap_or_default(),
        name,
        version: version.unwrap_or_else(|| DEFAULT_VERSION.to_owned()),
        docker_info: source.docker_info.clone(),
        custom_metadata,
        notes: origin.into_iter().chain(helper).collect(),
        build_time,
        signer: signer.map(Rc::new),
        output: args.output.clone(),
    })
}

/// AWS's init ignores what it does not know: better to hear it now than to find out in the enclave.
fn warn_about_init(plan: &BuildPlan, report: &Report) {
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
