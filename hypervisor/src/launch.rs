//! What a starting command says to the supervisor it spawns, and what it hears back.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use attestation::pcr::Measurements;

use crate::description::Description;
use crate::exit_reason::ExitReason;

/// Version of everything that a command and a supervisor say to each other. Both refuse another's.
pub const PROTOCOL_VERSION: u32 = 3;

/// How far the processes are contained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum ContainmentMode {
    /// Not, for debugging: what the host's user may do, they may do.
    Off,
    /// As far as the host allows; what it does not is told.
    #[default]
    On,
    /// Entirely, or the enclave does not start.
    Require,
}

impl ContainmentMode {
    /// The argument of `enclave-hypervisor` that says it. A process of an enclave need not know what is required.
    #[must_use]
    pub const fn argument(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::On | Self::Require => "on",
        }
    }
}

/// Numbers of users and groups that belong to no account, for the processes of enclaves that root starts: three for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserRange {
    /// The first number, not root's.
    pub first: u32,
    /// The last number.
    pub last: u32,
}

/// Everything a supervisor needs to begin. Sent once, with the image as the only descriptor. A
/// [`SecurityIdentity`](crate::messages::SecurityIdentity) follows, once, when it is made: nothing waits for it but the security module.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LaunchSpec {
    /// [`PROTOCOL_VERSION`] of the command.
    pub version: u32,
    /// The supervisor's process number: its own, in its own PID namespace, is another.
    pub process_id: u32,
    /// How far the three processes are contained.
    pub containment: ContainmentMode,
    /// Whose the processes become, if root starts them.
    pub users: Option<UserRange>,
    /// The cgroup in which the enclave's is made, or `None` for what this user has been given.
    pub cgroup: Option<PathBuf>,
    /// `i-…-enc…`, without zero padding: the folder's name.
    pub enclave_id: String,
    /// The name users call it by, unique among this user's enclaves that have not ended.
    pub name: String,
    /// Refuse a name that is taken; otherwise `_1`, `_2` and so on is added to it.
    pub exact_name: bool,
    /// The folder that holds one folder per enclave.
    pub run_root: PathBuf,
    /// The image's path, for people; the supervisor reads the descriptor.
    pub image_path: PathBuf,
    /// The guest's vsock address, or `None` to take a free one.
    pub cid: Option<u32>,
    /// Host CPUs, one for each virtual CPU.
    pub cpus: Vec<u32>,
    /// Guest memory in MiB.
    pub memory_mib: u64,
    /// Back guest memory by huge pages of this many bytes instead of ordinary ones.
    pub huge_page_size: Option<u64>,
    /// Debug mode: console kept, PCR 0, 1, 2 and 8 hidden.
    pub debug: bool,
    /// Refuse an image that is not signed by the holder of this certificate (DER).
    pub required_certificate: Option<ByteBuf>,
    /// Milliseconds from the first instruction to the heartbeat, or `None` to derive it from the image, the memory
    /// and the machine.
    pub heartbeat_timeout_ms: Option<u64>,
    /// Run at once, or stay loaded until `enclave start`.
    pub start: bool,
    /// What the identity's `module_id` will be.
    pub module_id: String,
    /// What the identity's `role` will be.
    pub role: String,
}

/// What the supervisor reports while it starts an enclave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum LaunchEvent {
    /// The image is being read and measured.
    Loading {
        /// Bytes read so far.
        done: u64,
        /// Bytes in the image.
        total: u64,
    },
    /// Every check of the image passed.
    Measured(Measurements),
    /// The virtual CPUs run; the heartbeat is awaited.
    Booting,
    /// Not started, as asked: the enclave is loaded. Last.
    Created(Box<Description>),
    /// The heartbeat came. Last.
    Running(Box<Description>),
    /// The enclave ended before that. Last.
    Failed(LaunchFailure),
}

/// Why an enclave did not start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaunchFailure {
    /// The cause.
    pub reason: ExitReason,
    /// What failed and what to do about it.
    pub message: String,
    /// The last lines of the console, in debug mode.
    pub console_tail: Option<String>,
}
