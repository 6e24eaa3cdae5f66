//! Why an enclave is not even tried to start.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use super::MAX_NAME;
use crate::error::{Failure, file_advice};

/// What was asked for does not fit this host, or something of it is missing. Each front says it in its own words.
#[derive(Debug, Error)]
pub(crate) enum PlanError {
    /// The image file.
    #[error("cannot open the image {path}: {error}")]
    Image {
        /// The path as it was given.
        path: PathBuf,
        /// The system's error.
        error: io::Error,
    },
    /// The image is a folder, a device or the like.
    #[error("{0} is not an ordinary file")]
    NotAFile(PathBuf),
    /// Less memory than the image needs to boot.
    #[error("{asked} MiB is too little: the image needs {least} MiB to boot")]
    TooLittleMemory {
        /// MiB that were asked for.
        asked: u64,
        /// MiB that the image needs.
        least: u64,
        /// Where that figure comes from.
        explained: String,
    },
    /// More memory than the host has.
    #[error("{asked} MiB is more than this host can give: {available} MiB of {kind}")]
    ScarceMemory {
        /// MiB that were asked for.
        asked: u64,
        /// MiB that there are.
        available: u64,
        /// Of which kind of memory.
        kind: String,
        /// How there would be more.
        mend: &'static str,
    },
    /// An enclave without a virtual CPU.
    #[error("an enclave cannot run without a CPU")]
    NoCpus,
    /// More CPUs than the pool has.
    #[error("{asked} CPUs were asked for, and this host offers {offered}")]
    TooManyCpus {
        /// CPUs that were asked for.
        asked: usize,
        /// CPUs in the pool.
        offered: usize,
    },
    /// A CPU that was named more than once.
    #[error("CPU {} is named more than once", list(.0))]
    SameCpuTwice(Vec<u32>),
    /// A CPU that is not in the pool.
    #[error("CPU {cpu} is not one that enclaves may run on: {}", list(pool))]
    CpuNotInPool {
        /// The CPU.
        cpu: u32,
        /// Those that are.
        pool: Vec<u32>,
    },
    /// `cpu_pool` of the configuration.
    #[error("cpu_pool is not a list of CPUs: {0:?}")]
    Pool(String),
    /// A name that no enclave can have.
    #[error("{0:?} cannot be an enclave's name")]
    Name(String),
    /// The enclaves that already run.
    #[error("{0}")]
    Others(Failure),
    /// The enclave's identity: its certificates, or the host's root of trust.
    #[error("{0}")]
    Identity(Failure),
    /// The supervisor.
    #[error("{0}")]
    Supervisor(Failure),
}

impl From<PlanError> for Failure {
    fn from(error: PlanError) -> Self {
        let next = match &error {
            PlanError::Image { error, .. } => file_advice(error).to_owned(),
            PlanError::NotAFile(_) => {
                "give an enclave image file (EIF), such as `enclave build` writes".to_owned()
            }
            PlanError::TooLittleMemory { least, explained, .. } => {
                format!("give at least --memory {least} ({explained})")
            }
            PlanError::ScarceMemory { available, mend, .. } => {
                format!("give --memory {available} or less, terminate other enclaves, or {mend}")
            }
            PlanError::NoCpus => "give at least one CPU".to_owned(),
            PlanError::TooManyCpus { .. } => {
                "give a lower --cpus: each virtual CPU needs a host CPU of its own".to_owned()
            }
            PlanError::SameCpuTwice(_) => "name each CPU once".to_owned(),
            PlanError::CpuNotInPool { .. } => {
                "name others, or change cpu_pool in the configuration".to_owned()
            }
            PlanError::Pool(_) => "write it as \"2-7,10\" in the configuration".to_owned(),
            PlanError::Name(_) => {
                format!("choose 1 to {MAX_NAME} printable characters that are not an EnclaveID")
            }
            PlanError::Others(failure) | PlanError::Identity(failure) | PlanError::Supervisor(failure) => {
                return failure.clone();
            }
        };
        Self::new(error, next)
    }
}

fn list(cpus: &[u32]) -> String {
    cpus.iter().map(u32::to_string).collect::<Vec<_>>().join(", ")
}
