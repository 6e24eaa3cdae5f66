//! The kernel and this process's limits.

use rustix::process::{Resource, getrlimit};

use super::Finding;
use crate::host;

/// The oldest kernel series that is tested: Debian 12's.
const OLDEST_KERNEL: (u32, u32) = (6, 1);
/// Descriptors that an enclave with a few hundred connections needs.
const MIN_OPEN_FILES: u64 = 1024;
/// Threads of one enclave with the most virtual CPUs, with room.
const MIN_PROCESSES: u64 = 128;
/// Locked memory that is worth having: a small guest.
const MIN_LOCKED: u64 = 256 << 20;

/// Which kernel is it?
pub(super) fn kernel_version() -> Finding {
    const CHECK: &str = "Kernel";
    const MEANING: &str = "enclaves are tested on Linux 6.1 and later";
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let mut numbers = release.split(['.', '-']).map(|part| part.parse::<u32>().ok());
    match (numbers.next().flatten(), numbers.next().flatten()) {
        (Some(major), Some(minor)) if (major, minor) >= OLDEST_KERNEL => Finding::ok(CHECK, release, MEANING),
        _ => Finding::warning(CHECK, release, MEANING, "use a newer kernel"),
    }
}

/// How much memory may be kept from swapping?
pub(super) fn locked_memory() -> Finding {
    const CHECK: &str = "Limit on locked memory";
    let limit = getrlimit(Resource::Memlock).current;
    let found = limit.map_or_else(|| "unlimited".to_owned(), |bytes| format!("{} MiB", bytes >> 20));
    let enough = limit.is_none_or(|bytes| bytes >= MIN_LOCKED) || rustix::process::geteuid().is_root();
    if enough || host::meminfo_mib("SwapTotal") == Some(0) {
        return Finding::ok(
            CHECK,
            found,
            "an enclave whose memory is within this limit is locked against swapping",
        );
    }
    Finding::warning(
        CHECK,
        found,
        "the memory of an enclave that has more than this is not locked, none of it, and may be swapped out",
        "raise memlock in /etc/security/limits.conf (or LimitMEMLOCK= of the service), or turn swap off",
    )
}

/// How many descriptors may be open?
pub(super) fn open_files() -> Finding {
    at_least(
        "Limit on open files",
        Resource::Nofile,
        MIN_OPEN_FILES,
        "each vsock connection of an enclave is an open file",
        "raise nofile in /etc/security/limits.conf (or LimitNOFILE= of the service)",
    )
}

/// How many threads may run?
pub(super) fn processes() -> Finding {
    at_least(
        "Limit on processes",
        Resource::Nproc,
        MIN_PROCESSES,
        "an enclave is three processes and a thread for each virtual CPU",
        "raise nproc in /etc/security/limits.conf (or TasksMax= of the service)",
    )
}

fn at_least(check: &'static str, resource: Resource, minimum: u64, meaning: &str, mend: &str) -> Finding {
    let limits = getrlimit(resource);
    let found = limits.current.map_or_else(|| "unlimited".to_owned(), |limit| limit.to_string());
    if limits.current.is_none_or(|limit| limit >= minimum) {
        return Finding::ok(check, found, meaning);
    }
    Finding::warning(check, format!("{found}, less than {minimum}"), meaning, mend)
}

/// Where do core dumps go?
pub(super) fn core_dumps() -> Finding {
    const CHECK: &str = "Core dumps";
    let pattern = host::read("/proc/sys/kernel/core_pattern").unwrap_or_default();
    let suid_dumpable = host::read_number("/proc/sys/fs/suid_dumpable").unwrap_or(0);
    let found = format!("core_pattern is {pattern:?}");
    if suid_dumpable == 1 {
        return Finding::warning(
            CHECK,
            "fs.suid_dumpable is 1",
            "programs that protect their memory are dumped all the same",
            "sysctl fs.suid_dumpable=2, or 0",
        );
    }
    Finding::ok(CHECK, found, "guest memory is left out of core dumps whatever this says")
}
