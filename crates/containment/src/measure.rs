//! What a host may not have, and how that is told.

use core::fmt;

/// A part of the containment that depends on the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    /// Mount, network, IPC, UTS and cgroup namespaces of its own, with an empty root.
    Namespaces,
    /// No files, ports, outer processes or outer abstract sockets.
    Landlock,
}

impl fmt::Display for Measure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Namespaces => "namespaces",
            Self::Landlock => "landlock",
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
