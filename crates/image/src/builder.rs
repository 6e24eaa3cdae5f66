//! From kernel, init and root file system to an image file.

use std::fs::File;
use std::io::{Seek, Write};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use attestation::pcr::Measurements;
use der::DateTime;
use eif::header::{Header, SectionKind};
use eif::metadata::{BuildMetadata, Metadata};
use eif::sign::Signer;
use eif::writer::Writer;
use serde_json::Value;

use crate::archive::Archive;
use crate::compare::{Difference, compare};
use crate::compress::{Compression, Compressor};
use crate::cpio;
use crate::error::BuildError;
use crate::kernel::Kernel;
use crate::layer::blob::temporary_folder;
use crate::output::Output;
use crate::ramdisk::{self, Addition, Application, BootFiles};
use crate::root::{Reading, Root, check_unchanged};

/// The kernel's command line unless another is given. `reboot=k`: a reboot, with which init ends, is a keyboard
/// controller's reset, which ends the enclave at once. `panic=1`: so does a panic, a second later. `pci=off`:
/// no search for a bus that no enclave has, which leaves the guest some 220 times. `noreplace-smp`: with one virtual CPU
/// the kernel would take the 6000 lock prefixes out of its own code, each behind a switch of address spaces, which takes
/// longer than a tenth of the boot. `random.trust_cpu`: the first random numbers need not wait for the security module's.
pub const DEFAULT_COMMAND_LINE: &str =
    "reboot=k panic=1 pci=off noreplace-smp quiet console=ttyS0 random.trust_cpu=on";

/// Key of the note that says where the kernel comes from: source package, its hash, the configuration's hash.
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
    /// The operating system's name, if known better than "Linux".
    pub operating_system: Option<String>,
    /// Init, and the modules it loads.
    pub boot: BootFiles,
    /// The command line, byte for byte.
    pub command_line: String,
    /// The root file system.
    pub root: Root,
    /// How it is read.
    pub reading: Reading,
    /// How ramdisks are stored.
    pub compression: Compression,
    /// What runs in it.
    pub application: Application,
    /// What the builder adds to the root file system.
    pub additions: Vec<Addition>,
    /// Name in the metadata.
    pub name: String,
    /// Version in the metadata.
    pub version: String,
    /// What the metadata say about the container image; null for none.
    pub docker_info: Value,
    /// What the user wants in the metadata; null for nothing.
    pub custom_metadata: Value,
    /// What is noted beside it, by key, unless the user has put something else there.
    pub notes: Vec<(&'static str, Value)>,
    /// The date in the metadata, the only one in the image: [`build_time`]. It is not measured.
    pub build_time: SystemTime,
    /// Who signs it; nobody if not given.
    pub signer: Option<Rc<Signer>>,
    /// The image file. It appears complete or not at all.
    pub output: PathBuf,
}

impl BuildPlan {
    /// An image of these parts, everything else as it is unless someone says otherwise.
    #[must_use]
    pub fn new(
        kernel: PathBuf,
        boot: BootFiles,
        root: Root,
        application: Application,
        output: PathBuf,
    ) -> Self {
        Self {
            kernel,
            kernel_version: None,
            operating_system: None,
            boot,
            command_line: DEFAULT_COMMAND_LINE.to_owned(),
            root,
            reading: Reading::default(),
            compression: Compression::default(),
            application,
            additions: Vec::new(),
            name: String::new(),
            version: String::new(),
            docker_info: Value::Null,
            custom_metadata: Value::Null,
            notes: Vec::new(),
            build_time: DEFAULT_BUILD_TIME,
            signer: None,
            output,
        }
    }
}

/// An image that was built.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// PCR 0, 1 and 2, and 8 if it is signed.
    pub measurements: Measurements,
    /// What the image says about itself.
    pub metadata: Metadata,
    /// Bytes of the image.
    pub image_bytes: u64,
    /// Bytes of the kernel.
    pub kernel_bytes: u64,
    /// The boot ramdisk.
    pub boot: Ramdisk,
    /// The application's ramdisk.
    pub application: Ramdisk,
    /// Whether files have extended attributes, which only our init sets.
    pub has_attributes: bool,
}

/// Size of a ramdisk in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ramdisk {
    /// In the image.
    pub stored: u64,
    /// Uncompressed.
    pub unpacked: u64,
}

/// What is being done, for a progress display.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step<'s> {
    /// The root folder is listed.
    Listing,
    /// A layer, or the archive of a root file system, is checked and unpacked.
    Layer {
        /// What it is called.
        name: &'s str,
        /// Which one it is, from 1.
        number: usize,
        /// Of how many.
        count: usize,
        /// How many of its stored bytes are through.
        done: u64,
        /// How many it has.
        total: u64,
    },
    /// The kernel is copied.
    Kernel,
    /// The boot ramdisk is written.
    Boot,
    /// The root file system is written.
    Application,
}

/// The time in an image unless another is given: the same for every build.
pub const DEFAULT_BUILD_TIME: SystemTime = SystemTime::UNIX_EPOCH;

/// The time to put into an image: `SOURCE_DATE_EPOCH` if given (reproducible-builds.org), else [`DEFAULT_BUILD_TIME`].
///
/// # Errors
/// If it is given and no number of seconds.
pub fn build_time(source_date_epoch: Option<&str>) -> Result<SystemTime, BuildError> {
    let Some(text) = source_date_epoch else { return Ok(DEFAULT_BUILD_TIME) };
    let wrong = || BuildError::BuildTime(text.to_owned());
    let seconds: u64 = text.parse().map_err(|_| wrong())?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds)).ok_or_else(wrong)
}

/// Builds an image.
///
/// # Errors
/// If something it is made of cannot be used, or it cannot be written. No output is left behind then.
pub fn build(plan: &BuildPlan, progress: &mut dyn FnMut(Step<'_>)) -> Result<Report, BuildError> {
    check_output(&plan.output, &plan.root)?;
    let mut output = Output::begin(folder_of(&plan.output))?;
    let report = write(plan, output.file(), progress)?;
    output.persist(&plan.output)?;
    Ok(report)
}

/// Builds the image a second time, into a file without a name, and says whether it came out the same.
///
/// # Errors
/// As [`build`], and if either image cannot be read.
pub fn check(plan: &BuildPlan, progress: &mut dyn FnMut(Step<'_>)) -> Result<Option<Difference>, BuildError> {
    let mut again = Output::begin(folder_of(&plan.output))?;
    write(plan, again.file(), progress)?;
    let failed = BuildError::file(&plan.output, "comparing it");
    let first = File::open(&plan.output).map_err(BuildError::file(&plan.output, "opening it again"))?;
    compare(&first, again.file()).map_err(failed)
}

/// Writes the image that a plan says.
fn write(
    plan: &BuildPlan,
    output: &mut File,
    progress: &mut dyn FnMut(Step<'_>),
) -> Result<Report, BuildError> {
    let kernel = Kernel::open(&plan.kernel)?;
    check_architecture(&plan.root, &kernel)?;
    ramdisk::check(&plan.application)?;
    let metadata = metadata(plan, kernel.version.as_deref())?;
    let boot = ramdisk::boot(&plan.boot)?;
    let mut application = Archive::default();
    let temporary = temporary_folder(folder_of(&plan.output));
    plan.root.fill(&mut application, &plan.reading, &temporary, progress)?;
    ramdisk::add(&mut application, &plan.additions)?;
    ramdisk::complete(&mut application, &plan.application)?;

    let mut writer = Writer::new(output, Header { flags: kernel.flags(), ..Header::default() })?;
    progress(Step::Kernel);
    let kernel_bytes = writer.section(SectionKind::Kernel, &kernel.file)?;
    writer.section(SectionKind::Cmdline, plan.command_line.as_bytes())?;
    writer.section(SectionKind::Metadata, metadata.encode()?.as_slice())?;
    progress(Step::Boot);
    let boot = write_ramdisk(&mut writer, &boot, plan.compression)?;
    progress(Step::Application);
    let application_ramdisk = write_ramdisk(&mut writer, &application, plan.compression)?;
    check_unchanged(&application)?;
    let written = match &plan.signer {
        Some(signer) => writer.finish_signed(|pcr0| signer.section(pcr0))?,
        None => writer.finish()?,
    };
    let pcr8 = plan.signer.as_ref().map(|signer| signer.certificate().pcr8());
    Ok(Report {
        measurements: Measurements { pcr8, ..written.measurements },
        metadata,
        image_bytes: written.length,
        kernel_bytes,
        boot,
        application: application_ramdisk,
        has_attributes: application.get(b"xattrs").is_some(),
    })
}

fn write_ramdisk<W: Write + Seek>(
    writer: &mut Writer<W>,
    archive: &Archive,
    compression: Compression,
) -> Result<Ramdisk, BuildError> {
    let unpacked = cpio::length(archive);
    let mut section = writer.begin(SectionKind::Ramdisk, 0)?;
    let mut compressor = Compressor::new(compression, unpacked, &mut section).map_err(BuildError::Output)?;
    cpio::write(archive, &mut compressor)?;
    compressor.finish().map_err(BuildError::Output)?;
    Ok(Ramdisk { stored: section.finish()?, unpacked })
}

fn check_architecture(root: &Root, kernel: &Kernel) -> Result<(), BuildError> {
    match root {
        Root::Container(image) if image.architecture != kernel.architecture => {
            Err(BuildError::Architecture { image: image.architecture, kernel: kernel.architecture })
        }
        _ => Ok(()),
    }
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
            operating_system: plan.operating_system.as_deref().unwrap_or("Linux").to_owned(),
            kernel_version: kernel_version.to_owned(),
        },
        docker_info: plan.docker_info.clone(),
        custom_metadata: custom_metadata(plan)?,
    })
}

/// The user's metadata, with the notes beside it unless the user has put something else there.
fn custom_metadata(plan: &BuildPlan) -> Result<Value, BuildError> {
    if plan.notes.is_empty() {
        return Ok(plan.custom_metadata.clone());
    }
    let mut custom = match &plan.custom_metadata {
        Value::Null => serde_json::Map::new(),
        Value::Object(custom) => custom.clone(),
        _ => return Err(BuildError::CustomMetadata),
    };
    for (key, note) in &plan.notes {
        custom.entry(*key).or_insert_with(|| note.clone());
    }
    Ok(Value::Object(custom))
}

/// The folder of a path that may be a bare name.
#[must_use]
pub fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn check_output(output: &Path, root: &Root) -> Result<(), BuildError> {
    let canonical = |path: &Path, step| std::fs::canonicalize(path).map_err(BuildError::file(path, step));
    let folder = canonical(folder_of(output), "finding the output's folder")?;
    if let Root::Folder(root, _) = root
        && folder.starts_with(canonical(root, "finding the root folder")?)
    {
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
