//! `nitro-cli run-enclave`.

use std::path::Path;
use std::time::SystemTime;

use eif::header::SectionKind;
use eif::reader::ReadError;
use eif::rules::MAX_SIGNATURE_SIZE;
use enclave_hypervisor::client::{ClientError, LaunchError};
use enclave_hypervisor::exit_reason::ExitReason;

use super::args::RunEnclaveArgs;
use super::codes::Code;
use super::console;
use super::enclaves::Enclaves;
use super::error::{Error, Result};
use super::output;
use super::run_settings::Settings;
use crate::config::Config;
use crate::error::Failure;
use crate::image_file;
use crate::launch::{self, Image, PlanError, Request, StartError};
use crate::output::tell;
use crate::paths;
use crate::sections::Sections;
use crate::started::Started;

/// An enclave gets so many times its image's size (nitro-cli's `ENCLAVE_MEMORY_EIF_SIZE_RATIO`).
const MEMORY_PER_IMAGE: u64 = 4;
const MIB: u64 = 1 << 20;

pub(super) fn run(args: &RunEnclaveArgs) -> Result<()> {
    let settings = Settings::new(args)?;
    let enclaves = Enclaves::open(Code::FILE_OPERATION)?;
    let config = Config::load().map_err(|failure| Error::of(Code::FILE_OPERATION, failure))?;
    let refused = |error| not_planned(error, &settings);
    let image = Image::open(&settings.eif_path).map_err(refused)?;
    check_ratio(&image, settings.memory_mib)?;
    check_image(&image)?;
    let request = Request {
        cpus: settings.cpus.clone(),
        memory_mib: settings.memory_mib,
        name: settings.name.clone(),
        exact_name: false,
        cid: settings.cid,
        debug: settings.debug,
        start: true,
        containment: None,
        required_certificate: None,
    };
    let plan = launch::plan(image, request, &config, &enclaves.root).map_err(refused)?;
    tell("Start allocating memory...");
    let enclave = plan.launch(&enclaves.root, &mut |_| {}).map_err(not_started)?;
    tell(format_args!(
        "Started enclave with enclave-cid: {}, memory: {} MiB, cpu-ids: {:?}",
        enclave.cid, enclave.memory_mib, enclave.cpu_ids
    ));
    output::print(&Started::from(&enclave))?;
    if settings.attach_console { console::show(&enclaves.root, &enclave, None) } else { Ok(()) }
}

/// nitro-cli's rule of four.
fn check_ratio(image: &Image, memory_mib: u64) -> Result<()> {
    if image.length.saturating_mul(MEMORY_PER_IMAGE) <= memory_mib.saturating_mul(MIB) {
        return Ok(());
    }
    let least = image.length.div_ceil(MIB).saturating_mul(MEMORY_PER_IMAGE);
    Err(Error::new(
        Code::INSUFFICIENT_MEMORY_REQUESTED,
        format_args!("At least {least} MB must be allocated (which is {MEMORY_PER_IMAGE} times the EIF file size)"),
        format_args!(
            "give at least --memory {least}; `enclave run` does without this rule and computes what the image needs"
        ),
    )
    .with(["memory", &memory_mib.to_string(), &least.to_string()]))
}

/// What nitro-cli finds out before it starts an enclave: whether the file is an image, and whether its signature holds now. The
/// supervisor checks all of it, and more, on what it measures.
fn check_image(image: &Image) -> Result<()> {
    let sections = Sections::of(&image.file).map_err(|error| no_image(&image.path, &error))?;
    let Some(section) = sections.read(&image.file, SectionKind::Signature, MAX_SIGNATURE_SIZE) else {
        return Ok(());
    };
    let section = section.map_err(|error| bad_signature(&error))?;
    let signed = eif::signature::verify(&section).map_err(|error| bad_signature(&error))?;
    signed.certificate.check_dates(SystemTime::now()).map_err(|error| bad_signature(&error))
}

fn no_image(path: &Path, error: &ReadError) -> Error {
    match error {
        ReadError::Io(error) => Error::file(path, "Read", error),
        other => Error::of(Code::EIF_PARSING, image_file::unreadable(path, other)),
    }
}

fn bad_signature(cause: &dyn core::fmt::Display) -> Error {
    Error::new(
        Code::SIGNATURE_CHECKER,
        format_args!("Invalid signing certificate or signature: {cause}"),
        "get the image again from who signed it, or sign it again",
    )
}

/// What was asked for does not fit this host.
fn not_planned(error: PlanError, settings: &Settings) -> Error {
    let cause = error.to_string();
    let memory = settings.memory_mib.to_string();
    let pool = || {
        format!(
            "the pool is what this user may use, limited by cpu_pool in {}; each virtual CPU needs a host CPU of its own",
            paths::config_file().display()
        )
    };
    match &error {
        PlanError::Image { path, error } => Error::file(path, "Open", error),
        PlanError::NotAFile(path) => {
            Error::new(Code::FILE_OPERATION, cause, "give an enclave image file (EIF)")
                .with([&path.display().to_string(), "Open"])
        }
        PlanError::TooLittleMemory { least, .. } => {
            let least = least.to_string();
            Error::of(Code::INSUFFICIENT_MEMORY_REQUESTED, error.into()).with(["memory", &memory, &least])
        }
        PlanError::ScarceMemory { .. } => {
            Error::of(Code::INSUFFICIENT_MEMORY_AVAILABLE, error.into()).with(["memory", &memory])
        }
        PlanError::NoCpus => Error::new(Code::IOCTL, cause, "give a --cpu-count of at least 1"),
        PlanError::TooManyCpus { asked, .. } => {
            Error::new(Code::INSUFFICIENT_CPUS, cause, pool()).with(["cpu-count", &asked.to_string()])
        }
        PlanError::SameCpuTwice(cpus) => {
            let cpus: Vec<String> = cpus.iter().map(u32::to_string).collect();
            Error::of(Code::INVALID_CPU_CONFIGURATION, error.into()).with(["cpu-ids", &cpus.join(", ")])
        }
        PlanError::CpuNotInPool { cpu, .. } => {
            Error::new(Code::NO_SUCH_CPU_IN_POOL, cause, pool()).with(["cpu-ids", &cpu.to_string()])
        }
        PlanError::Pool(_) => Error::of(Code::CPU, Failure::from(error)),
        PlanError::Name(_) => Error::of(Code::ENCLAVE_NAMING, Failure::from(error)),
        PlanError::Others(_) => Error::of(Code::READ_FROM_DISK, Failure::from(error)),
        PlanError::Identity(_) => Error::of(Code::FILE_OPERATION, Failure::from(error)),
        PlanError::Supervisor(_) => Error::of(Code::PROCESS_SPAWN, Failure::from(error)),
    }
}

/// It was tried and failed.
fn not_started(error: StartError) -> Error {
    let code = match &error {
        StartError::Launch(LaunchError::Failed(failure)) if failure.reason == ExitReason::StartFailed => {
            Code::IOCTL
        }
        StartError::Launch(LaunchError::Failed(_)) => Code::ENCLAVE_BOOT,
        StartError::Launch(LaunchError::Client(ClientError::Spawn { .. })) => Code::PROCESS_SPAWN,
        StartError::Identity(_)
        | StartError::Launch(LaunchError::NoIdentity | LaunchError::Client(ClientError::RunDir(_))) => {
            Code::FILE_OPERATION
        }
        StartError::Launch(LaunchError::Client(_)) => Code::ENCLAVE_PROCESS_CONNECTION,
    };
    Error::of(code, error.into())
}
