//! What this host offers to enclaves, what is missing, and how to mend it.
//!
//! Each check is a function that returns one [`Finding`]; it says what it found, what that means and what to do.
//! Only what prevents enclaves from running is a failure.

mod containment;
mod cpus;
mod installation;
mod kvm;
mod limits;
mod memory;
pub(crate) mod processes;

use serde::Serialize;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum Verdict {
    /// As it should be.
    Ok,
    /// Enclaves run, but slower or with less protection than they could.
    Warning,
    /// Enclaves cannot run.
    Failure,
}

/// The result of one check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Finding {
    /// What was looked at.
    pub(crate) check: &'static str,
    /// How bad it is.
    pub(crate) verdict: Verdict,
    /// What was found.
    pub(crate) found: String,
    /// What it means for enclaves.
    pub(crate) meaning: String,
    /// How to mend it; empty if there is nothing to mend.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) mend: String,
}

impl Finding {
    fn ok(check: &'static str, found: impl Into<String>, meaning: impl Into<String>) -> Self {
        Self {
            check,
            verdict: Verdict::Ok,
            found: found.into(),
            meaning: meaning.into(),
            mend: String::new(),
        }
    }

    fn warning(
        check: &'static str,
        found: impl Into<String>,
        meaning: impl Into<String>,
        mend: impl Into<String>,
    ) -> Self {
        Self { mend: mend.into(), verdict: Verdict::Warning, ..Self::ok(check, found, meaning) }
    }

    fn failure(
        check: &'static str,
        found: impl Into<String>,
        meaning: impl Into<String>,
        mend: impl Into<String>,
    ) -> Self {
        Self { mend: mend.into(), verdict: Verdict::Failure, ..Self::ok(check, found, meaning) }
    }
}

/// Every check, in the order in which they are read.
pub(crate) fn examine() -> Vec<Finding> {
    let checks: [fn() -> Finding; 25] = [
        limits::kernel_version,
        kvm::access,
        kvm::capabilities,
        kvm::runs_kernels,
        cpus::count,
        cpus::threads,
        cpus::vulnerabilities,
        memory::available,
        memory::huge_pages,
        memory::shared_huge_pages,
        memory::transparent_huge_pages,
        memory::merging,
        memory::swap,
        limits::locked_memory,
        limits::open_files,
        limits::processes,
        limits::core_dumps,
        containment::measures,
        installation::configuration,
        installation::run_folder,
        installation::state_folder,
        installation::root_of_trust,
        installation::hypervisor,
        installation::guest_kernel,
        installation::guest_init,
    ];
    checks.into_iter().map(|check| check()).collect()
}
