//! What a host may not have, and how that is told.

use core::fmt;

/// A part of the containment that depends on the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    /// A user of its own, not the one who started it. Only root's processes have that.
    User,
    /// A PID namespace of its own: no process outside has a number in it.
    ProcessIds,
    /// Mount, network, IPC, UTS and cgroup namespaces of its own, with a root that holds nothing of the host's.
    Namespaces,
    /// No files, ports, outer processes or outer abstract sockets.
    Landlock,
    /// One cgroup for the enclave, which bounds its memory and its processes.
    Cgroup,
}

impl Measure {
    /// All that there are.
    pub const ALL: [Self; 5] = [Self::User, Self::ProcessIds, Self::Namespaces, Self::Landlock, Self::Cgroup];
}

impl fmt::Display for Measure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::User => "own user",
            Self::ProcessIds => "own process numbers",
            Self::Namespaces => "namespaces",
            Self::Landlock => "landlock",
            Self::Cgroup => "cgroup",
        })
    }
}

/// A measure that could not be taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// Which.
    pub measure: Measure,
    /// Why, for people.
    pub why: String,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.measure, self.why)
    }
}
