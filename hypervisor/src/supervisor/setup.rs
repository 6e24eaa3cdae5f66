//! Before anything runs: the request is checked, the name, the vsock address and the users are claimed, the folder and the cgroup
//! are made. Then the supervisor gives up what let it do so, and settles in the folder.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::AsFd;

use attestation::identity::{EnclaveId, IdentityError, Role};
use attestation::pcr::{Measurements, Pcr};
use containment::{Cgroup, CgroupLimits, ContainmentError, Isolation, Measure, Missing, Root, SystemCalls};
use thiserror::Error;

use crate::description::{AttestedPcrs, ContainmentLevel, Description, Flags, State};
use crate::launch::{ContainmentMode, LaunchSpec, PROTOCOL_VERSION};
use crate::memory::{Descriptor, MemoryError};
use crate::run_dir::{EnclaveFolder, LOG_FILE, RootLock, RunDirError, RunRoot};
use crate::state::{Record, StateError, StateLock};
use crate::supervisor::cid::{CidClaim, CidError};
use crate::supervisor::control_server::{ControlServer, Owner};
use crate::supervisor::host_sockets::HostSockets;
use crate::supervisor::log::Log;
use crate::supervisor::users::{UserClaim, UsersError};
use crate::system_calls;

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
    #[error("{0} MiB of memory are more than can be counted")]
    TooMuchMemory(u64),
    #[error(transparent)]
    Memory(#[from] MemoryError),
    #[error("the enclave's identity does not hold together: {0}")]
    Identity(#[from] IdentityError),
    #[error("the EnclaveID {0:?} is not that of the security module's identity")]
    OtherIdentity(String),
    #[error(transparent)]
    Cid(#[from] CidError),
    #[error(transparent)]
    Users(#[from] UsersError),
    #[error("the supervisor could not be contained: {0}")]
    Containment(#[from] ContainmentError),
    #[error(transparent)]
    RunDir(#[from] RunDirError),
    #[error("{0}")]
    State(#[from] StateError),
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// What an enclave has claimed for itself. Nobody lists it yet, and nobody cleans it up while the run root is locked.
#[derive(Debug)]
pub(super) struct Claims {
    cid: CidClaim,
    users: Option<UserClaim>,
    cgroup: Option<Cgroup>,
    name: String,
    folder: EnclaveFolder,
    /// Held until the enclave is listed.
    _lock: RootLock,
    missing: Vec<Missing>,
}

/// An enclave that has a place of its own.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) folder: EnclaveFolder,
    pub(super) state: StateLock,
    pub(super) cid: CidClaim,
    pub(super) description: Description,
    pub(super) log: Log,
    pub(super) control: ControlServer,
    pub(super) sockets: HostSockets,
    _users: Option<UserClaim>,
}

/// Checks the request and claims what the enclave needs, with all rights of the user who started it.
pub(super) fn claim(spec: &LaunchSpec) -> Result<Claims, SetupError> {
    check(spec)?;
    let cid = CidClaim::take(spec.cid)?;
    let root = RunRoot::at(&spec.run_root);
    let lock = root.lock()?;
    let name = free_name(&root, spec)?;
    let folder = root.create(&lock, &spec.enclave_id)?;
    let contained = spec.containment != ContainmentMode::Off;
    let mut missing = Vec::new();
    let users = match spec.users.filter(|_| contained && rustix::process::geteuid().is_root()) {
        Some(range) => {
            let users = UserClaim::take(range, &root.owners(&lock)?)?;
            match folder.give_to(users.supervisor().id) {
                Ok(()) => Some(users),
                Err(error) => {
                    let why = format!("user {} cannot be had here: {error}", users.supervisor().id);
                    missing.push(Missing { measure: Measure::User, why });
                    None
                }
            }
        }
        None => None,
    };
    let cgroup = contained.then(|| Cgroup::enter(spec.cgroup.as_deref(), &spec.enclave_id, limits(spec)));
    let cgroup = match cgroup {
        Some(Ok(cgroup)) => Some(cgroup),
        Some(Err(why)) => {
            missing.push(Missing { measure: Measure::Cgroup, why });
            None
        }
        None => None,
    };
    Ok(Claims { cid, users, cgroup, name, folder, _lock: lock, missing })
}

/// What the processes of an enclave may take together: the guest's memory, what the kernel keeps for it (page tables of two
/// kinds), and what the processes need, with room to spare.
fn limits(spec: &LaunchSpec) -> CgroupLimits {
    const MIB: u64 = 1 << 20;
    /// The processes' own memory is a few MiB; sockets' buffers, 4096 connections of them, are counted too.
    const PROCESSES: u64 = 256 * MIB;
    /// A table of 8 bytes for each page of 4 KiB, in each of two kinds, is 1/256.
    const GUEST_TO_TABLES: u64 = 128;
    /// Threads that are there whatever the machine: of the three processes, and of KVM on their behalf.
    const TASKS: u64 = 32;
    let guest = spec.memory_mib.saturating_mul(MIB);
    CgroupLimits {
        memory: guest.saturating_add(guest / GUEST_TO_TABLES).saturating_add(PROCESSES),
        tasks: TASKS.saturating_add(u64::try_from(spec.cpus.len()).unwrap_or(u64::MAX)),
    }
}

impl Claims {
    /// Who the virtual machine process and the security module become.
    pub(super) const fn users(&self) -> Option<&UserClaim> {
        self.users.as_ref()
    }

    /// Gives up everything but the folder, and settles in it. The children have been started. The guest's memory is made on the way.
    pub(super) fn settle(mut self, spec: &LaunchSpec) -> Result<(Place, Descriptor), SetupError> {
        let owner = Owner::current();
        rustix::process::fchdir(&self.folder).map_err(io::Error::from)?;
        let memory = if spec.containment == ContainmentMode::Off {
            memory_of(spec)?
        } else {
            let user = self.users.as_ref().map(UserClaim::supervisor);
            let isolation = Isolation { root: Root::Folder(self.folder.as_fd()), user };
            let (memory, missing) = isolation.enter_after(|| memory_of(spec))?;
            self.missing.extend(missing);
            memory?
        };
        // The first handle leads out of the new root.
        let folder = EnclaveFolder::here(self.folder.path().to_owned())?;
        let description = self.describe(spec);
        let log = Log::new(folder.append_to(LOG_FILE)?);
        let control = ControlServer::listen(owner)?;
        let sockets = HostSockets::listen()?;
        let calls = (spec.containment != ContainmentMode::Off).then(system_calls::supervisor);
        calls.as_ref().map(SystemCalls::enforce).transpose()?;
        // Last: with its state an enclave is listed, and can be talked to.
        let state = StateLock::create(folder.as_fd(), &Record::new(description.clone(), None))?;
        let place =
            Place { folder, state, cid: self.cid, description, log, control, sockets, _users: self.users };
        Ok((place, memory))
    }

    fn describe(&self, spec: &LaunchSpec) -> Description {
        let mut description = Description {
            name: self.name.clone(),
            enclave_id: spec.enclave_id.clone(),
            process_id: spec.process_id,
            cid: self.cid.cid(),
            number_of_cpus: u32::try_from(spec.cpus.len()).unwrap_or(u32::MAX),
            cpu_ids: spec.cpus.clone(),
            memory_mib: spec.memory_mib,
            run_dir: self.folder.path().to_owned(),
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
            containment: match spec.containment {
                ContainmentMode::Off => ContainmentLevel::Off,
                ContainmentMode::On | ContainmentMode::Require => ContainmentLevel::Full,
            },
            cgroup: self.cgroup.as_ref().map(|cgroup| cgroup.path().to_owned()),
            containment_missing: Vec::new(),
        };
        description.lacks("supervisor", self.missing.iter().map(ToString::to_string));
        description
    }
}

/// The guest's memory: nobody has it yet, and nothing is in it.
fn memory_of(spec: &LaunchSpec) -> Result<Descriptor, SetupError> {
    let bytes = spec.memory_mib.checked_mul(1 << 20).ok_or(SetupError::TooMuchMemory(spec.memory_mib))?;
    Ok(Descriptor::create(bytes, spec.huge_page_size)?)
}

/// What the enclave's documents will say of PCR 0 to 4 and 8.
pub(super) fn attested(spec: &LaunchSpec, image: &Measurements) -> Result<AttestedPcrs, IdentityError> {
    let hidden = |value: Pcr| if spec.debug { Pcr::ZERO } else { value };
    let enclave: EnclaveId = spec.module_id.parse()?;
    let role = if spec.role.is_empty() { None } else { Some(spec.role.parse::<Role>()?) };
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
    let identified: EnclaveId = spec.module_id.parse()?;
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
