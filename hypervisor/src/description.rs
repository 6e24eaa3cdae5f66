//! What `describe` shows of one enclave: the contract of the command line, and the state file's content.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use attestation::pcr::{Measurements, Pcr};

use crate::console_log::printable;
use crate::exit_reason::ExitReason;
use crate::messages::ApplicationEnd;

/// Where an enclave is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum State {
    /// Being loaded and measured, or loaded; no virtual CPU has run.
    Created,
    /// Virtual CPUs run; `Heartbeat` tells whether the guest's init has reported.
    Running,
    /// Being ended.
    Terminating,
    /// Ended; `ExitReason` says why.
    Exited,
}

/// `Flags` of nitro-cli's describe-enclaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Flags {
    /// Production.
    #[serde(rename = "NONE")]
    None,
    /// Debug mode.
    #[serde(rename = "DEBUG_MODE")]
    DebugMode,
}

/// The image's measurements, as nitro-cli prints them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageMeasurements {
    /// Always `Sha384 { ... }`.
    #[serde(rename = "HashAlgorithm")]
    pub hash_algorithm: String,
    /// The registers.
    #[serde(flatten)]
    pub registers: Measurements,
}

impl From<Measurements> for ImageMeasurements {
    fn from(registers: Measurements) -> Self {
        Self { hash_algorithm: "Sha384 { ... }".to_owned(), registers }
    }
}

/// What the enclave's attestation documents say: all zero in debug mode.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttestedPcrs {
    /// PCR 0.
    #[serde(rename = "PCR0")]
    pub pcr0: Pcr,
    /// PCR 1.
    #[serde(rename = "PCR1")]
    pub pcr1: Pcr,
    /// PCR 2.
    #[serde(rename = "PCR2")]
    pub pcr2: Pcr,
    /// PCR 3: the host's role.
    #[serde(rename = "PCR3")]
    pub pcr3: Pcr,
    /// PCR 4: the host's instance id.
    #[serde(rename = "PCR4")]
    pub pcr4: Pcr,
    /// PCR 8: the signing certificate; zero in an unsigned image.
    #[serde(rename = "PCR8")]
    pub pcr8: Pcr,
}

/// One enclave. Field order is nitro-cli's, then ours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// The name users call it by.
    #[serde(rename = "EnclaveName")]
    pub name: String,
    /// `i-…-enc…`.
    #[serde(rename = "EnclaveID")]
    pub enclave_id: String,
    /// The supervisor's process id.
    #[serde(rename = "ProcessID")]
    pub process_id: u32,
    /// The guest's vsock address.
    #[serde(rename = "EnclaveCID")]
    pub cid: u32,
    /// Virtual CPUs.
    #[serde(rename = "NumberOfCPUs")]
    pub number_of_cpus: u32,
    /// Host CPUs, one for each virtual CPU.
    #[serde(rename = "CPUIDs")]
    pub cpu_ids: Vec<u32>,
    /// Guest memory in MiB.
    #[serde(rename = "MemoryMiB")]
    pub memory_mib: u64,
    /// The enclave's folder.
    #[serde(rename = "RunDir")]
    pub run_dir: PathBuf,
    /// Where it is in its life.
    #[serde(rename = "State")]
    pub state: State,
    /// The guest's init has sent its heartbeat.
    #[serde(rename = "Heartbeat", default)]
    pub heartbeat: bool,
    /// Debug mode or not.
    #[serde(rename = "Flags")]
    pub flags: Flags,
    /// What the image measures; absent until it is measured.
    #[serde(rename = "Measurements", default, skip_serializing_if = "Option::is_none")]
    pub measurements: Option<ImageMeasurements>,
    /// What documents say; absent until the image is measured.
    #[serde(rename = "AttestedPCRs", default, skip_serializing_if = "Option::is_none")]
    pub attested_pcrs: Option<AttestedPcrs>,
    /// Why it ended.
    #[serde(rename = "ExitReason", default, skip_serializing_if = "Option::is_none")]
    pub exit_reason: Option<ExitReason>,
    /// The application's status: its own, or 128 plus the signal's number. A claim of the guest.
    #[serde(rename = "ExitStatus", default, skip_serializing_if = "Option::is_none")]
    pub exit_status: Option<u8>,
    /// More about the end, for people.
    #[serde(rename = "ExitDetail", default, skip_serializing_if = "Option::is_none")]
    pub exit_detail: Option<String>,
    /// Milliseconds of each phase of the start, in order.
    #[serde(rename = "Timings", default, skip_serializing_if = "Vec::is_empty")]
    pub timings: Vec<PhaseTiming>,
    /// Host programs that the guest wanted and could not reach, at most [`MAX_VSOCK_PROBLEMS`] ports.
    #[serde(rename = "VsockProblems", default, skip_serializing_if = "Vec::is_empty")]
    pub vsock_problems: Vec<VsockProblem>,
    /// How far the processes are contained: the level that was reached.
    #[serde(rename = "Containment", default)]
    pub containment: ContainmentLevel,
    /// The enclave's cgroup, if it has one.
    #[serde(rename = "Cgroup", default, skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<PathBuf>,
    /// What this host does not allow of the processes' containment, at most [`MAX_CONTAINMENT_MISSING`] lines for people.
    #[serde(rename = "ContainmentMissing", default, skip_serializing_if = "Vec::is_empty")]
    pub containment_missing: Vec<String>,
}

/// How far an enclave's processes are contained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum ContainmentLevel {
    /// Every measure was taken.
    #[default]
    Full,
    /// As far as the host allows; `ContainmentMissing` says what is missing.
    Partial,
    /// None, as asked.
    Off,
}

/// Lines about missing containment that are kept.
pub const MAX_CONTAINMENT_MISSING: usize = 16;

/// Characters of the longest one.
pub const MAX_CONTAINMENT_LINE: usize = 256;

/// Ports whose problems are kept: the guest chooses the ports, so their number has a bound.
pub const MAX_VSOCK_PROBLEMS: usize = 16;

/// A host program that the guest wanted to reach over vsock and could not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VsockProblem {
    /// The vsock port.
    #[serde(rename = "Port")]
    pub port: u32,
    /// The Unix socket that stands for it.
    #[serde(rename = "Path")]
    pub path: PathBuf,
    /// What is wrong and what mends it.
    #[serde(rename = "Problem")]
    pub problem: String,
}

/// How long one phase of the start took.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PhaseTiming {
    /// The phase, in words.
    #[serde(rename = "Phase")]
    pub phase: String,
    /// Its duration in microseconds.
    #[serde(rename = "Microseconds")]
    pub microseconds: u64,
}

impl ApplicationEnd {
    /// The status that `enclave wait` exits with: the application's own, 128 plus the signal's number, or 127 if
    /// it could not be started.
    #[must_use]
    pub const fn status(&self) -> u8 {
        match self {
            Self::Exited(status) => *status,
            Self::Signalled(signal) => 128u8.saturating_add(*signal),
            Self::Failed(_) => 127,
        }
    }
}

impl Description {
    /// Keeps what this host did not allow of a process's containment, within bounds: the process may not be trusted.
    pub(crate) fn lacks(&mut self, process: &str, missing: impl IntoIterator<Item = String>) {
        let room = MAX_CONTAINMENT_MISSING.saturating_sub(self.containment_missing.len());
        for line in missing.into_iter().take(room) {
            let line: String = printable(line.as_bytes()).chars().take(MAX_CONTAINMENT_LINE).collect();
            self.containment_missing.push(format!("{process}: {line}"));
        }
        if !self.containment_missing.is_empty() && self.containment == ContainmentLevel::Full {
            self.containment = ContainmentLevel::Partial;
        }
    }
}

#[cfg(test)]
impl Description {
    /// An enclave that was created and has done nothing, for tests to change.
    pub(crate) fn example() -> Self {
        Self {
            name: "example".to_owned(),
            enclave_id: "i-1-enc2".to_owned(),
            process_id: 1,
            cid: 16,
            number_of_cpus: 1,
            cpu_ids: vec![0],
            memory_mib: 64,
            run_dir: PathBuf::from("/run"),
            state: State::Created,
            heartbeat: false,
            flags: Flags::None,
            measurements: None,
            attested_pcrs: None,
            exit_reason: None,
            exit_status: None,
            exit_detail: None,
            timings: Vec::new(),
            vsock_problems: Vec::new(),
            containment: ContainmentLevel::Full,
            cgroup: None,
            containment_missing: Vec::new(),
        }
    }
}
