//! Why an enclave could not start its application.

use std::fmt;

use rustix::io::Errno;

/// A step that failed, told to the console and to the host.
///
/// One type for all steps: nothing here recovers by kind, everything ends in a message and a reboot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    what: String,
    cause: Option<Errno>,
}

impl Failure {
    /// A failure that the program itself found; `what` is a whole sentence without a full stop.
    pub fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), cause: None }
    }

    /// A system call that failed while doing `what` ("cannot mount ...").
    pub fn system(what: impl Into<String>, cause: Errno) -> Self {
        Self { what: what.into(), cause: Some(cause) }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.cause {
            Some(cause) => write!(f, "{}: {cause}", self.what),
            None => f.write_str(&self.what),
        }
    }
}

impl std::error::Error for Failure {}
