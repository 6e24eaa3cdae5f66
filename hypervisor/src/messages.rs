//! What the supervisor, the virtual machine process and the security module say to each other.
//!
//! The receiver trusts no message: numbers are checked where they are used. The virtual machine process may be
//! taken over by its guest; nothing it can send here changes a measurement.

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use zeroize::{Zeroize, ZeroizeOnDrop};

use attestation::pcr::Measurements;

use crate::exit_reason::ExitReason;

/// Descriptor of a child's channel to its supervisor.
pub const SUPERVISOR_FD: i32 = 3;

/// Descriptor of the socketpair between the virtual machine process and the security module, in both. A
/// packet is one NSM request or one response, raw.
pub const SECURITY_MODULE_FD: i32 = 4;

/// Supervisor to virtual machine process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToVm {
    /// The machine to prepare, sent as soon as the process runs and before any guest memory exists.
    ///
    /// Descriptors: /dev/kvm; in debug mode then the writing end of the console's pipe.
    Prepare(MachineSpec),
    /// Measuring is done: run. Descriptors: one, all of the guest's memory.
    Boot(BootSpec),
    /// Answer to [`FromVm::Connect`]: the descriptor is the connected stream, in non-blocking mode.
    Connected {
        /// The number the request had.
        request: u64,
    },
    /// Answer to [`FromVm::Connect`]: nobody could be reached.
    Refused {
        /// The number the request had.
        request: u64,
    },
    /// A host program connected to `vsock.sock`; the descriptor is its stream, in non-blocking mode.
    Incoming,
    /// End the machine, then the process.
    Stop,
}

/// The machine to prepare.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineSpec {
    /// Host CPU of each virtual CPU, in order: their number is the number of virtual CPUs, 1 to 64.
    pub cpus: Vec<u32>,
    /// The guest's own vsock address.
    pub guest_cid: u32,
    /// Debug mode: console output leaves the machine.
    pub debug: bool,
}

/// What to run, and where it lies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootSpec {
    /// The guest's memory, ascending, not overlapping.
    pub regions: Vec<MemoryRegion>,
    /// Where and how the first virtual CPU starts.
    pub entry: EntryPoint,
}

/// One range of guest memory, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryRegion {
    /// Guest physical address, a multiple of 4 KiB.
    pub guest_address: u64,
    /// Length, a multiple of 4 KiB.
    pub length: u64,
    /// Where the range begins in the descriptor.
    pub offset: u64,
}

/// How the first virtual CPU starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum EntryPoint {
    /// The 64-bit Linux boot protocol (Documentation/arch/x86/boot.rst, "64-bit Boot Protocol").
    Linux64 {
        /// Address of the first instruction.
        instruction: u64,
        /// Address of `struct boot_params`, for RSI.
        boot_params: u64,
    },
    /// The PVH entry (Xen, docs/misc/pvh.pandoc).
    Pvh {
        /// Address of the first instruction, below 4 GiB.
        instruction: u64,
        /// Address of `struct hvm_start_info`, for EBX.
        start_info: u64,
    },
}

/// Virtual machine process to supervisor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromVm {
    /// Before anything else: parts of the containment that this host does not allow, for people. Not sent if it allows all.
    Contained {
        /// One line for each.
        missing: Vec<String>,
    },
    /// The machine is prepared and waits for [`ToVm::Boot`].
    Prepared,
    /// The virtual CPUs run.
    Started,
    /// The guest wants to reach a host program: connect to `vsock.sock_<port>`.
    Connect {
        /// Chosen by the sender, to match the answer with.
        request: u64,
        /// The vsock port.
        port: u32,
    },
    /// The guest's init sent its heartbeat and was answered.
    Heartbeat,
    /// The guest's init told how the application ended.
    ApplicationEnded(ApplicationEnd),
    /// The machine ended. Nothing follows.
    Ended {
        /// One of the reasons that lie in the machine.
        reason: ExitReason,
        /// What a person should know beyond the reason: registers at a KVM error, a failed setup step.
        detail: String,
    },
}

/// How the application ended, by the word of the guest's init: a claim, shown as such.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ApplicationEnd {
    /// It exited with this status.
    Exited(u8),
    /// A signal of this number ended it.
    Signalled(u8),
    /// It could not be started; printable text.
    Failed(String),
}

/// Supervisor to security module.
#[derive(Debug, Serialize, Deserialize)]
pub enum ToSecurityModule {
    /// Who this security module is. Sent once, first.
    Identity(SecurityIdentity),
    /// What was booted. Accepted once; refused ever after. `None` in debug mode: the registers stay zero.
    Measured(Option<Measurements>),
}

/// What a security module needs in order to sign for an enclave.
#[derive(Clone, Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
pub struct SecurityIdentity {
    /// `module_id` of documents: instance id, `-enc`, 16 hexadecimal digits.
    #[zeroize(skip)]
    pub module_id: String,
    /// The host's instance id: PCR 4.
    #[zeroize(skip)]
    pub instance_id: String,
    /// The host's role: PCR 3.
    #[zeroize(skip)]
    pub role: String,
    /// The enclave CA's private key, PKCS#8 DER.
    pub ca_key: ByteBuf,
    /// Certificates in DER, root first, the enclave's CA last.
    #[zeroize(skip)]
    pub ca_chain: Vec<ByteBuf>,
}

impl core::fmt::Debug for SecurityIdentity {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("SecurityIdentity").field("module_id", &self.module_id).finish_non_exhaustive()
    }
}

/// Security module to supervisor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromSecurityModule {
    /// As [`FromVm::Contained`].
    Contained {
        /// One line for each.
        missing: Vec<String>,
    },
    /// The identity was accepted.
    Ready,
    /// The measurements were accepted and PCR 0 to 15 are locked.
    Locked,
    /// The message was refused, and why. The security module goes on.
    Refused(String),
}
