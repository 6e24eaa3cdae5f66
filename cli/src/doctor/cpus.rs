//! Processors: how many, shared cores, known weaknesses.

use std::fs;

use super::Finding;
use crate::{host, output};

/// How many may be used?
pub(super) fn count() -> Finding {
    const CHECK: &str = "CPUs";
    const MEANING: &str = "each virtual CPU is pinned to a host CPU of its own, CPU 0 last";
    let cpus = host::allowed_cpus();
    let cores = host::cores(&cpus);
    let found = format!(
        "{} on {}",
        output::plural(cpus.len(), "CPU", "CPUs"),
        output::plural(cores.len(), "core", "cores"),
    );
    match cpus.len() {
        0 => Finding::failure(
            CHECK,
            "no CPU may be used",
            MEANING,
            "check this process's CPU affinity and cpuset",
        ),
        1 => Finding::warning(
            CHECK,
            found,
            "the enclave shares the only CPU with the host",
            "give the host, or this process's cpuset, more CPUs",
        ),
        _ => Finding::ok(CHECK, found, MEANING),
    }
}

/// Do cores run two threads at once?
pub(super) fn threads() -> Finding {
    const CHECK: &str = "Shared cores (SMT)";
    let Some(active) = host::read("/sys/devices/system/cpu/smt/active") else {
        return Finding::ok(
            CHECK,
            "the kernel does not tell",
            "virtual machines rarely know their host's cores",
        );
    };
    if active == "0" {
        return Finding::ok(CHECK, "one thread on each core", "no other program runs on an enclave's cores");
    }
    Finding::warning(
        CHECK,
        "two threads or more on each core",
        "an enclave whose number of CPUs is not a multiple of the threads of a core shares one with other programs, \
         which may learn from the caches in between",
        "give enclaves whole cores (an even number of CPUs), or turn SMT off: echo off > \
         /sys/devices/system/cpu/smt/control",
    )
}

/// Which known weaknesses are not mitigated?
pub(super) fn vulnerabilities() -> Finding {
    const CHECK: &str = "CPU vulnerabilities";
    const MEANING: &str = "guests are kept from reading other memory through the processor's weaknesses";
    let Ok(folder) = fs::read_dir("/sys/devices/system/cpu/vulnerabilities") else {
        return Finding::warning(
            CHECK,
            "the kernel does not tell",
            MEANING,
            "use a kernel that lists them in /sys",
        );
    };
    let mut open: Vec<String> = folder
        .flatten()
        .filter(|entry| host::read(entry.path()).is_some_and(|state| state.starts_with("Vulnerable")))
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    open.sort_unstable();
    if open.is_empty() {
        return Finding::ok(CHECK, "none that is not mitigated", MEANING);
    }
    Finding::warning(
        CHECK,
        format!("not mitigated: {}", open.join(", ")),
        "an enclave, or a program beside it, may read memory that is not its own",
        "install the microcode and the newest kernel, and do not boot with mitigations=off",
    )
}
