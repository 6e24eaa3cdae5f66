//! Before anything runs: the request is checked, the name and the vsock address are claimed, the folder is made.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::AsFd;

use attestation::identity::{EnclaveId, IdentityError, Role};
use attestation::pcr::{Measurements, Pcr};
use thiserror::Error;

use crate::description::{AttestedPcrs, Description, Flags, State};
use crate::launch::{LaunchSpec, PROTOCOL_VERSION};
use crate::run_dir::{EnclaveFolder, LOG_FILE, RunDirError, RunRoot};
use crate::state::{Record, StateError, StateLock};
use crate::supervisor::cid::{CidClaim, CidError};
use crate::supervisor::control_server::ControlServer;
use crate::supervisor::host_sockets::HostSockets;
use crate::supervisor::log::Log;

/// Virtual CPUs of the largest enclave.
pub const MAX_CPUS: usize = 64;

/// Bytes of the longest name.
const MAX_NAME: usize = 128;

/// Numbers that are tried behind a taken name.
const SUFFIXES: u32 = 100_000;

/// Why an enclave could not be set up. The text is all that the starting command shows.
#[derive(Debug, Error)]
pub(super) enum SetupError {
    #[error(
        "`enclave` speaks version {0} of the protocol and `enclave-hypervisor` version {PROTOCOL_VERSION}; install both \
         from the same build"
    )]
    Version(u32),
    #[error("the name {0:?} cannot be used: 1 to {MAX_NAME} bytes, no control characters, no slash")]
    Name(String),
    #[error("an enclave named {0:?} exists already; choose another --name, or terminate that one")]
    NameTaken(String),
    #[error("an enclave has 1 to {MAX_CPUS} CPUs, each once; asked for: {0:?}")]
    Cpus(Vec<u32>),
    #[error("an enclave needs memory: give --memory in MiB")]
    NoMemory,
    #[error("the enclave's identity does not hold together: {0}")]
    Identity(#[from] IdentityError),
    #[error("the EnclaveID {0:?} is not that of the security module's identity")]
    OtherIdentity(String),
    #[error(transparent)]
    Cid(#[from] CidError),
    #[error(transparent)]
    RunDir(#[from] RunDirError),
    #[error("{0}")]
    State(#[from] StateError),
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// An enclave that has a place of its own.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) root: RunRoot,
    pub(super) folder: EnclaveFolder,
    pub(super) state: StateLock,
    pub(super) cid: CidClaim,
    pub(super) description: Description,
    pub(super) log: Log,
    pub(super) control: ControlServer,
    pub(super) sockets: HostSockets,
}

/// Checks the request and claims what the enclave needs.
pub(super) fn set_up(spec: &LaunchSpec) -> Result<Place, SetupError> {
    check(spec)?;
    let cid = CidClaim::take(spec.cid)?;
    let root = RunRoot::at(&spec.run_root);
    let lock = root.lock()?;
    let name = free_name(&root, spec)?;
    let folder = root.create(&lock, &spec.enclave_id)?;
    let description = Description {
        name,
        enclave_id: spec.enclave_id.clone(),
        process_id: std::process::id(),
        cid: cid.cid(),
        number_of_cpus: u32::try_from(spec.cpus.len()).unwrap_or(u32::MAX),
        cpu_ids: spec.cpus.clone(),
        memory_mib: spec.memory_mib,
        run_dir: folder.path().to_owned(),
        state: State::Created,
        heartbeat: false,
        flags: if spec.debug { Flags::DebugMode } else { Flags::None },
        measurements: None,
        attested_pcrs: None,
        exit_reason: None,
        exit_status: None,
        exit_detail: None,
        timings: Vec::new(),
        vsock_problems: Vec::new(),
        containment_missing: Vec::new(),
    };
    let log = Log::new(folder.append_to(LOG_FILE)?);
    let control = ControlServer::listen(&folder)?;
    let sockets = HostSockets::listen(&folder)?;
    // Last: with its state an enclave is listed, and can be talked to.
    let state = StateLock::create(folder.as_fd(), &Record::new(description.clone(), None))?;
    Ok(Place { root, folder, state, cid, description, log, control, sockets })
}

/// What the enclave's documents will say of PCR 0 to 4 and 8.
pub(super) fn attested(spec: &LaunchSpec, image: &Measurements) -> Result<AttestedPcrs, IdentityError> {
    let hidden = |value: Pcr| if spec.debug { Pcr::ZERO } else { value };
    let enclave: EnclaveId = spec.identity.module_id.parse()?;
    let role = if spec.identity.role.is_empty() { None } else { Some(spec.identity.role.parse::<Role>()?) };
    Ok(AttestedPcrs {
        pcr0: hidden(image.pcr0),
        pcr1: hidden(image.pcr1),
        pcr2: hidden(image.pcr2),
        pcr3: role.map_or(Pcr::ZERO, |role| role.pcr3()),
        pcr4: enclave.instance().pcr4(),
        pcr8: hidden(image.pcr8.unwrap_or(Pcr::ZERO)),
    })
}

pub(super) fn check(spec: &LaunchSpec) -> Result<(), SetupError> {
    if spec.version != PROTOCOL_VERSION {
        return Err(SetupError::Version(spec.version));
    }
    let name = &spec.name;
    if name.is_empty() || name.len() > MAX_NAME || name.chars().any(|c| c.is_control() || c == '/') {
        return Err(SetupError::Name(name.clone()));
    }
    let distinct: BTreeSet<u32> = spec.cpus.iter().copied().collect();
    if spec.cpus.is_empty() || spec.cpus.len() > MAX_CPUS || distinct.len() != spec.cpus.len() {
        return Err(SetupError::Cpus(spec.cpus.clone()));
    }
    if spec.memory_mib == 0 {
        return Err(SetupError::NoMemory);
    }
    let named: EnclaveId = spec.enclave_id.parse()?;
    let identified: EnclaveId = spec.identity.module_id.parse()?;
    if named != identified {
        return Err(SetupError::OtherIdentity(spec.enclave_id.clone()));
    }
    Ok(())
}

/// The name that was asked for, or with `_1`, `_2` and so on if it may be changed. Under the run root's lock.
fn free_name(root: &RunRoot, spec: &LaunchSpec) -> Result<String, SetupError> {
    let mut taken = BTreeSet::new();
    for id in root.enclave_ids()? {
        // A state that cannot be read has no name that anybody can use.
        if let Some(folder) = root.open(&id)?
            && let Ok(Some((record, true))) = folder.read_state()
            && record.description.state != State::Exited
        {
            taken.insert(record.description.name);
        }
    }
    if !taken.contains(&spec.name) {
        return Ok(spec.name.clone());
    }
    if spec.exact_name {
        return Err(SetupError::NameTaken(spec.name.clone()));
    }
    (1..SUFFIXES)
        .map(|number| format!("{}_{number}", spec.name))
        .find(|name| !taken.contains(name))
        .ok_or_else(|| SetupError::NameTaken(spec.name.clone()))
}
