//! `enclave build`: from a root folder to an image file.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use eif::describe::MeasurementReport;
use eif::metadata::{MAX_CUSTOM_METADATA, parse_custom};
use image::builder::{self, BuildPlan, DEFAULT_COMMAND_LINE, Report, Step};
use image::error::BuildError;
use image::folder::Builder;
use image::ramdisk::{Application, BootFiles};
use serde::Serialize;
use serde_json::Value;

use super::eif::add_measurements;
use crate::args::BuildArgs;
use crate::error::{Failure, Result};
use crate::guest::{self, Kernel};
use crate::output::{self, Fields, printable};
use crate::rootfs::RootFolder;
use crate::{input, rootfs};

pub(crate) fn build(args: &BuildArgs) -> Result<()> {
    let source = root_source(args)?;
    refuse_signing(args)?;
    let kernel = match &args.kernel {
        Some(file) => guest::kernel_at(file.clone()),
        None => guest::default_kernel()?,
    };
    let init = match &args.init {
        Some(file) => file.clone(),
        None => guest::companion("enclave-init")?,
    };
    let root = rootfs::open(source)?;
    let plan = plan(args, &root, &kernel, init)?;
    let report = builder::build(&plan, &mut tell_step).map_err(|error| build_failure(&error))?;
    for path in &report.lost_capabilities {
        output::tell(format_args!(
            "warning: {} loses its file capabilities: an initial ramdisk cannot hold them",
            printable(&path.display().to_string())
        ));
    }
    output::print(args.format.format, &Built::new(&report, &args.output, &kernel), Built::text)
}

/// The root folder or archive; every other source has its own message.
fn root_source(args: &BuildArgs) -> Result<&Path> {
    if let Some(source) = &args.rootfs {
        return Ok(source);
    }
    let option = if args.oci.is_some() {
        "--oci"
    } else if args.image.is_some() {
        "--image"
    } else if args.docker_archive.is_some() {
        "--docker-archive"
    } else {
        "--dockerfile"
    };
    Err(Failure::new(
        format_args!("this version builds images from root file systems alone: {option} is not supported"),
        "export the container's root file system (docker export, podman export, umoci unpack) and give it with \
         --rootfs, and its command after --",
    ))
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

fn plan(args: &BuildArgs, root: &RootFolder, kernel: &Kernel, init: PathBuf) -> Result<BuildPlan> {
    let epoch = std::env::var("SOURCE_DATE_EPOCH").ok();
    let build_time =
        builder::build_time(epoch.as_deref(), SystemTime::now()).map_err(|error| build_failure(&error))?;
    let custom_metadata = match &args.metadata {
        Some(file) => custom_metadata(file)?,
        None => Value::Null,
    };
    Ok(BuildPlan {
        kernel: kernel.file.clone(),
        kernel_version: kernel.version.clone(),
        kernel_origin: kernel.origin(),
        boot: BootFiles { init, modules: args.modules.clone(), ..BootFiles::default() },
        command_line: args.cmdline.clone().unwrap_or_else(|| DEFAULT_COMMAND_LINE.to_owned()),
        root: root.path().to_owned(),
        builder: Builder::current(),
        application: Application {
            arguments: args.command.clone(),
            environment: args.environment.clone(),
            working_directory: args.workdir.clone(),
            user: args.user.clone(),
        },
        name: args.name.clone().unwrap_or_else(|| default_name(&args.output)),
        version: args.version.clone(),
        custom_metadata,
        build_time,
        output: args.output.clone(),
    })
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

fn tell_step(step: Step) {
    output::tell(match step {
        Step::Listing => "Listing the root folder.",
        Step::Kernel => "Writing the kernel.",
        Step::Boot => "Writing the boot ramdisk.",
        Step::Application => "Writing the application's ramdisk.",
    });
}

fn build_failure(error: &BuildError) -> Failure {
    let message = error.to_string();
    let next = match error {
        BuildError::File { source, .. } => crate::error::file_advice(source),
        BuildError::NotAKernel(_) => {
            "give another file with --kernel, or leave it out for the one of `make build`"
        }
        BuildError::TooLarge { .. } | BuildError::PathTooLong(_) => "leave it out of the root folder",
        BuildError::Setting { .. } => "write it differently",
        BuildError::Metadata(_) | BuildError::CustomMetadata => "mend the file given with --metadata",
        BuildError::BuildTime(_) => "set SOURCE_DATE_EPOCH to seconds since 1970, or unset it",
        BuildError::Write(_) | BuildError::Output(_) => "check the output's folder and its free space",
        BuildError::Changed(_)
        | BuildError::MountPoint(_)
        | BuildError::NoCommand
        | BuildError::OutputInRoot(_) => "then build again",
    };
    match message.split_once("; ") {
        Some((cause, advice)) => Failure::new(cause, advice),
        None => Failure::new(message, next),
    }
}

/// nitro-cli's object, and what the image is made of.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Built {
    measurements: MeasurementReport,
    path: String,
    bytes: u64,
    kernel_version: String,
    kernel_bytes: u64,
    boot_ramdisk_bytes: u64,
    application_ramdisk_bytes: u64,
    build_time: String,
}

impl Built {
    fn new(report: &Report, path: &Path, kernel: &Kernel) -> Self {
        Self {
            measurements: MeasurementReport(report.measurements.clone()),
            path: path.display().to_string(),
            bytes: report.image_bytes,
            kernel_version: kernel
                .version
                .clone()
                .unwrap_or_else(|| report.metadata.build_metadata.kernel_version.clone()),
            kernel_bytes: report.kernel_bytes,
            boot_ramdisk_bytes: report.boot_bytes,
            application_ramdisk_bytes: report.application_bytes,
            build_time: report.metadata.build_metadata.build_time.clone(),
        }
    }

    fn text(&self) -> String {
        let mut fields = Fields::default();
        fields
            .add("Image", format_args!("{} ({} bytes)", printable(&self.path), self.bytes))
            .add(
                "Kernel",
                format_args!("Linux {} ({} bytes)", printable(&self.kernel_version), self.kernel_bytes),
            )
            .add("Boot ramdisk", format_args!("{} bytes", self.boot_ramdisk_bytes))
            .add("Application", format_args!("{} bytes", self.application_ramdisk_bytes))
            .add("Build time", &self.build_time);
        add_measurements(&mut fields, &self.measurements.0);
        fields.render(0)
    }
}
