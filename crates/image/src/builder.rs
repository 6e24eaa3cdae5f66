//! From kernel, init and root folder to an image file.

use std::fs::Permissions;
use std::io::{BufWriter, Seek, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use attestation::pcr::Measurements;
use der::DateTime;
use eif::header::{Header, SectionKind};
use eif::metadata::{BuildMetadata, Metadata};
use eif::writer::Writer;
use serde_json::Value;

use crate::archive::Archive;
use crate::cpio;
use crate::error::BuildError;
use crate::folder::{Builder, Folder};
use crate::kernel::Kernel;
use crate::ramdisk::{self, Application, BootFiles};

/// The kernel's command line unless another is given. `reboot=k`: a reboot, with which init ends, is a keyboard
/// controller's reset, which ends the enclave at once. `panic=1`: so does a panic, a second later. `pci=off`:
/// no search for a bus that no enclave has, which leaves the guest some 220 times. `random.trust_cpu`: the first random
/// numbers need not wait for the security module's.
pub const DEFAULT_COMMAND_LINE: &str = "reboot=k panic=1 pci=off quiet console=ttyS0 random.trust_cpu=on";

/// Key of the custom metadata under which the kernel's origin is noted.
pub const KERNEL_ORIGIN: &str = "Kernel";

/// The builder's name in the metadata.
const BUILD_TOOL: &str = "enclave";

/// What a kernel's version is called that cannot be told, as nitro-cli does.
const UNKNOWN: &str = "Unknown";

/// Everything an image is made of.
#[derive(Debug, Clone)]
pub struct BuildPlan {
    /// The kernel.
    pub kernel: PathBuf,
    /// Its version, if known better than from looking at it.
    pub kernel_version: Option<String>,
    /// Where it comes from, for the metadata: source package, its hash, the configuration's hash.
    pub kernel_origin: Option<Value>,
    /// Init, and the modules it loads.
    pub boot: BootFiles,
    /// The command line, byte for byte.
    pub command_line: String,
    /// The root folder.
    pub root: PathBuf,
    /// Whose files become root's.
    pub builder: Builder,
    /// What runs in it.
    pub application: Application,
    /// Name in the metadata.
    pub name: String,
    /// Version in the metadata.
    pub version: String,
    /// What the user wants in the metadata; null for nothing.
    pub custom_metadata: Value,
    /// The date in the metadata, the only one in the image: [`build_time`]. It is not measured.
    pub build_time: SystemTime,
    /// The image file. It appears complete or not at all.
    pub output: PathBuf,
}

/// An image that was built.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// PCR 0, 1 and 2.
    pub measurements: Measurements,
    /// What the image says about itself.
    pub metadata: Metadata,
    /// Bytes of the image.
    pub image_bytes: u64,
    /// Bytes of the kernel.
    pub kernel_bytes: u64,
    /// Bytes of the boot ramdisk.
    pub boot_bytes: u64,
    /// Bytes of the application's ramdisk.
    pub application_bytes: u64,
    /// Files that have capabilities in the root folder and none in the image, which cannot hold them.
    pub lost_capabilities: Vec<PathBuf>,
}

/// What is being done, for a progress display.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The root folder is listed.
    Listing,
    /// The kernel is copied.
    Kernel,
    /// The boot ramdisk is written.
    Boot,
    /// The root folder is written.
    Application,
}

/// The time to put into an image: `SOURCE_DATE_EPOCH` if given (reproducible-builds.org), else now.
///
/// # Errors
/// If it is given and no number of seconds.
pub fn build_time(source_date_epoch: Option<&str>, now: SystemTime) -> Result<SystemTime, BuildError> {
    let Some(text) = source_date_epoch else { return Ok(now) };
    let wrong = || BuildError::BuildTime(text.to_owned());
    let seconds: u64 = text.parse().map_err(|_| wrong())?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds)).ok_or_else(wrong)
}

/// Builds an image.
///
/// # Errors
/// If something it is made of cannot be used, or it cannot be written. No output is left behind then.
pub fn build(plan: &BuildPlan, progress: &mut dyn FnMut(Step)) -> Result<Report, BuildError> {
    check_output(&plan.output, &plan.root)?;
    let kernel = Kernel::open(&plan.kernel)?;
    let metadata = metadata(plan, kernel.version.as_deref())?;
    progress(Step::Listing);
    let root = Rc::new(Folder::at(&plan.root)?);
    let boot = ramdisk::boot(&plan.boot)?;
    let (application, lost_capabilities) = ramdisk::application(&root, &plan.application, plan.builder)?;

    let folder = folder_of(&plan.output);
    let mut output = tempfile::Builder::new()
        .prefix(".enclave-image-")
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(folder)
        .map_err(BuildError::file(folder, "creating the image"))?;
    let mut writer = Writer::new(output.as_file_mut(), Header { flags: kernel.flags, ..Header::default() })?;
    progress(Step::Kernel);
    let kernel_bytes = writer.section(SectionKind::Kernel, &kernel.file)?;
    writer.section(SectionKind::Cmdline, plan.command_line.as_bytes())?;
    writer.section(SectionKind::Metadata, metadata.encode()?.as_slice())?;
    progress(Step::Boot);
    let boot_bytes = write_ramdisk(&mut writer, &boot)?;
    progress(Step::Application);
    let application_bytes = write_ramdisk(&mut writer, &application)?;
    let written = writer.finish()?;
    let (measurements, image_bytes) = (written.measurements, written.length);
    output.as_file().sync_all().map_err(BuildError::Output)?;
    output
        .persist(&plan.output)
        .map_err(|error| BuildError::file(&plan.output, "putting the image into place")(error.error))?;
    Ok(Report {
        measurements,
        metadata,
        image_bytes,
        kernel_bytes,
        boot_bytes,
        application_bytes,
        lost_capabilities,
    })
}

fn write_ramdisk<W: Write + Seek>(writer: &mut Writer<W>, archive: &Archive) -> Result<u64, BuildError> {
    let mut section = writer.begin(SectionKind::Ramdisk, 0)?;
    cpio::write(archive, BufWriter::with_capacity(256 << 10, &mut section))?;
    Ok(section.finish()?)
}

fn metadata(plan: &BuildPlan, kernel_version: Option<&str>) -> Result<Metadata, BuildError> {
    let since_1970 = plan.build_time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let build_time = DateTime::from_unix_duration(since_1970)
        .map_err(|_| BuildError::BuildTime(since_1970.as_secs().to_string()))?;
    let kernel_version = plan.kernel_version.as_deref().or(kernel_version).unwrap_or(UNKNOWN);
    Ok(Metadata {
        image_name: plan.name.clone(),
        image_version: plan.version.clone(),
        build_metadata: BuildMetadata {
            build_time: build_time.to_string(),
            build_tool: BUILD_TOOL.to_owned(),
            build_tool_version: env!("CARGO_PKG_VERSION").to_owned(),
            operating_system: "Linux".to_owned(),
            kernel_version: kernel_version.to_owned(),
        },
        docker_info: Value::Null,
        custom_metadata: custom_metadata(plan)?,
    })
}

/// The user's metadata, with the kernel's origin beside it unless the user has put something else there.
fn custom_metadata(plan: &BuildPlan) -> Result<Value, BuildError> {
    let Some(origin) = &plan.kernel_origin else { return Ok(plan.custom_metadata.clone()) };
    let mut custom = match &plan.custom_metadata {
        Value::Null => serde_json::Map::new(),
        Value::Object(custom) => custom.clone(),
        _ => return Err(BuildError::CustomMetadata),
    };
    custom.entry(KERNEL_ORIGIN).or_insert_with(|| origin.clone());
    Ok(Value::Object(custom))
}

/// The folder of a path that may be a bare name.
fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn check_output(output: &Path, root: &Path) -> Result<(), BuildError> {
    let canonical = |path: &Path, step| std::fs::canonicalize(path).map_err(BuildError::file(path, step));
    let folder = canonical(folder_of(output), "finding the output's folder")?;
    if folder.starts_with(canonical(root, "finding the root folder")?) {
        return Err(BuildError::OutputInRoot(output.to_owned()));
    }
    match std::fs::metadata(output) {
        Ok(found) if !found.is_file() => Err(BuildError::Setting {
            what: "the output",
            text: output.display().to_string(),
            why: "it exists and is not a file",
        }),
        _ => Ok(()),
    }
}
