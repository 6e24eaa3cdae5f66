//! Why an enclave ended: one name for each cause, shown by `describe`, `wait` and a failed `run`.

use core::fmt;

use serde::{Deserialize, Serialize};

/// Why an enclave ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ExitReason {
    /// The application ended; our init told how before it restarted the machine.
    ApplicationExited,
    /// The guest restarted through the keyboard controller (`reboot=k`) without saying why: AWS's init at
    /// its end, or a kernel panic with `panic=` set.
    GuestReset,
    /// The guest powered off through the ACPI sleep register.
    AcpiPowerOff,
    /// The guest restarted through the ACPI reset register.
    AcpiReset,
    /// A virtual CPU could not deliver an exception.
    TripleFault,
    /// KVM could not go on running a virtual CPU.
    KvmError,
    /// No heartbeat came in time after the first virtual CPU ran.
    HeartbeatTimeout,
    /// SIGTERM to the supervisor.
    Signalled,
    /// `enclave terminate`.
    Terminated,
    /// The image was refused: damaged, wrongly signed, or too big for the memory.
    ImageRefused,
    /// Something the host should provide was missing before the first virtual CPU ran.
    StartFailed,
    /// The virtual machine process ended without a report: killed, or crashed.
    VmProcessKilled,
    /// The security module ended: killed, or crashed.
    SecurityModuleKilled,
    /// The supervisor ended without a report: killed, or crashed. A later command found its remains.
    SupervisorKilled,
}

impl ExitReason {
    /// What the name means, in one sentence for people.
    #[must_use]
    pub const fn explanation(self) -> &'static str {
        match self {
            Self::ApplicationExited => "the application in the enclave ended",
            Self::GuestReset => "the guest restarted itself through the keyboard controller",
            Self::AcpiPowerOff => "the guest powered itself off through ACPI",
            Self::AcpiReset => "the guest restarted itself through the ACPI reset register",
            Self::TripleFault => "a virtual CPU shut down with a triple fault",
            Self::KvmError => "KVM could not go on running a virtual CPU",
            Self::HeartbeatTimeout => "no heartbeat came from the guest in time",
            Self::Signalled => "the supervisor was told to end by a signal",
            Self::Terminated => "the enclave was terminated by command",
            Self::ImageRefused => "the image was refused",
            Self::StartFailed => "the enclave could not be started",
            Self::VmProcessKilled => "the virtual machine process was killed or crashed",
            Self::SecurityModuleKilled => "the security module was killed or crashed",
            Self::SupervisorKilled => "the supervisor was killed or crashed",
        }
    }
}

impl fmt::Display for ExitReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The name users match on is the variant's, in text as in JSON.
        fmt::Debug::fmt(self, f)
    }
}
