//! Which system calls a thread may make: all others end the process. See seccomp(2).

use std::collections::BTreeMap;
use std::io;

use core::sync::atomic::{AtomicBool, Ordering};

use rustix::io::Errno;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, apply_filter,
};

use crate::ContainmentError;

/// Whether this process has a list.
static ENFORCED: AtomicBool = AtomicBool::new(false);

/// A condition on one argument of a system call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Argument {
    /// The lower 32 bits of the argument of this index equal this value.
    Is(u8, u32),
    /// In the lower 32 bits of the argument of this index, the bits of this mask...
    Bits {
        /// Index of the argument, from 0.
        index: u8,
        /// Which bits are looked at.
        mask: u32,
        /// ...equal these.
        are: u32,
    },
}

/// The system calls that a thread may make.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SystemCalls {
    /// By number: the alternatives, each of which is a list of conditions; `None` without conditions.
    allowed: BTreeMap<i64, Option<Vec<Vec<Argument>>>>,
    /// By error: calls that fail with it instead of ending the process.
    failing: BTreeMap<i32, Vec<i64>>,
}

impl SystemCalls {
    /// No system call at all.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// These calls, whatever their arguments.
    #[must_use]
    pub fn allow(mut self, calls: &[i64]) -> Self {
        for call in calls {
            self.allowed.insert(*call, None);
        }
        self
    }

    /// This call if all conditions hold. Several such permissions are alternatives.
    #[must_use]
    pub fn allow_if(mut self, call: i64, conditions: &[Argument]) -> Self {
        if let Some(alternatives) = self.allowed.entry(call).or_insert_with(|| Some(Vec::new())) {
            alternatives.push(conditions.to_vec());
        }
        self
    }

    /// This call fails with this error, whatever its arguments: who makes it can do without.
    #[must_use]
    pub fn fail(mut self, call: i64, errno: Errno) -> Self {
        self.failing.entry(errno.raw_os_error()).or_default().push(call);
        self.allow(&[call])
    }

    /// A shorter list for this thread, in a process that has one already. Does nothing in one without: its containment is off.
    ///
    /// # Errors
    /// As [`Self::enforce`].
    pub fn narrow(&self) -> Result<(), ContainmentError> {
        if ENFORCED.load(Ordering::Relaxed) { self.enforce() } else { Ok(()) }
    }

    /// From now on this thread, and each that it starts, can make these calls only; any other ends the process with
    /// `SIGSYS`. A second list leaves what is on both.
    ///
    /// # Errors
    /// The kernel has no seccomp filters.
    pub fn enforce(&self) -> Result<(), ContainmentError> {
        let rules = self
            .allowed
            .iter()
            .map(|(call, alternatives)| Ok((*call, rules(alternatives.as_deref().unwrap_or_default())?)))
            .collect::<Result<_, seccompiler::BackendError>>()
            .map_err(failed)?;
        // The kernel follows the strictest of all filters, and an error is stricter than a permission.
        for (errno, calls) in &self.failing {
            let calls = calls.iter().map(|call| (*call, Vec::new())).collect();
            let errno = u32::try_from(*errno).map_err(failed)?;
            install(calls, SeccompAction::Allow, SeccompAction::Errno(errno))?;
        }
        install(rules, SeccompAction::KillProcess, SeccompAction::Allow)?;
        ENFORCED.store(true, Ordering::Relaxed);
        Ok(())
    }
}

fn rules(alternatives: &[Vec<Argument>]) -> Result<Vec<SeccompRule>, seccompiler::BackendError> {
    let condition = |argument: &Argument| match *argument {
        Argument::Is(index, value) => {
            SeccompCondition::new(index, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value.into())
        }
        Argument::Bits { index, mask, are } => {
            let masked = SeccompCmpOp::MaskedEq(mask.into());
            SeccompCondition::new(index, SeccompCmpArgLen::Dword, masked, are.into())
        }
    };
    alternatives
        .iter()
        .map(|conditions| SeccompRule::new(conditions.iter().map(condition).collect::<Result<_, _>>()?))
        .collect()
}

fn install(
    rules: BTreeMap<i64, Vec<SeccompRule>>,
    others: SeccompAction,
    listed: SeccompAction,
) -> Result<(), ContainmentError> {
    let architecture = TargetArch::try_from(std::env::consts::ARCH).map_err(failed)?;
    let filter = SeccompFilter::new(rules, others, listed, architecture).map_err(failed)?;
    let program = BpfProgram::try_from(filter).map_err(failed)?;
    apply_filter(&program).map_err(failed)
}

fn failed(error: impl std::error::Error + Send + Sync + 'static) -> ContainmentError {
    ContainmentError { step: "restrict its system calls", error: io::Error::other(error) }
}
