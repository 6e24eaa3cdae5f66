//! The enclaves that nitro-cli knows: this user's that run or are being ended. One that has ended is gone, one that has not been
//! started is not there yet.

use enclave_hypervisor::client::{self, Cleaned, RunRoot};
use enclave_hypervisor::description::{Description, State};

use super::codes::Code;
use super::error::{Error, Result};
use crate::enclaves::{self, client_failure};
use crate::output;

/// This user's run folder.
#[derive(Debug)]
pub(super) struct Enclaves {
    pub(super) root: RunRoot,
    /// Enclaves of which nothing can be told: nitro-cli's failed connections.
    pub(super) unreadable: usize,
}

/// How the user names an enclave.
#[derive(Debug, Clone, Copy)]
pub(super) enum Which<'a> {
    Id(&'a str),
    Name(&'a str),
}

impl<'a> Which<'a> {
    /// One of two options that exclude each other; clap has seen to it that one is there.
    pub(super) fn new(id: Option<&'a str>, name: Option<&'a str>) -> Self {
        name.map_or_else(|| Self::Id(id.unwrap_or_default()), Self::Name)
    }

    fn is(self, enclave: &Description) -> bool {
        match self {
            Self::Id(id) => enclave.enclave_id == id,
            Self::Name(name) => enclave.name == name,
        }
    }
}

impl Enclaves {
    /// Opens the run folder and cleans up in it, as every command does.
    ///
    /// # Errors
    /// With this code, if it cannot be used.
    pub(super) fn open(code: Code) -> Result<Self> {
        let (root, cleaned) = enclaves::open().map_err(|error| Error::of(code, client_failure(error)))?;
        let unreadable =
            cleaned.iter().filter(|cleaned| matches!(cleaned, Cleaned::Unreadable { .. })).count();
        Ok(Self { root, unreadable })
    }

    /// Those that run or are being ended.
    ///
    /// # Errors
    /// E07.
    pub(super) fn running(&self) -> Result<Vec<Description>> {
        let mut all = client::list(&self.root)
            .map_err(|error| Error::of(Code::READ_FROM_DISK, client_failure(error)))?;
        all.retain(|enclave| matches!(enclave.state, State::Running | State::Terminating));
        Ok(all)
    }

    /// One of them.
    ///
    /// # Errors
    /// E58 for a name that none has, E11 for an EnclaveID.
    pub(super) fn find(&self, which: Which<'_>) -> Result<Description> {
        self.running()?.into_iter().find(|enclave| which.is(enclave)).ok_or_else(|| {
            let next = "`nitro-cli describe-enclaves` lists those that run; `enclave describe` also shows how others ended";
            match which {
                Which::Name(name) => Error::new(
                    Code::ENCLAVE_NAMING,
                    format_args!("No enclave matched the given name. {name:?} is not running"),
                    next,
                ),
                Which::Id(id) => Error::new(
                    Code::SOCKET,
                    format_args!("no enclave with the EnclaveID {id:?} is running"),
                    next,
                ),
            }
        })
    }

    /// Says how many could not be reached.
    ///
    /// # Errors
    /// E39, if any.
    pub(super) fn all_reached(&self, further: usize) -> Result<()> {
        let failed = self.unreadable.saturating_add(further);
        if failed == 0 {
            return Ok(());
        }
        output::tell(format_args!("Failed connections: {failed}"));
        Err(Error::new(
            Code::ENCLAVE_PROCESS_CONNECTION,
            format_args!("Failed to connect to {failed} enclave processes"),
            "the lines above say which and why",
        ))
    }
}
