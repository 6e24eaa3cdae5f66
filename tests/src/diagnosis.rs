//! What the kernel and the supervisor tell about an enclave's processes.

use std::fmt::Write;
use std::fs;

use crate::enclave::Enclave;
use crate::processes;

/// What an enclave's processes are doing, as far as the kernel tells, and what the supervisor says: for a failure that may not come
/// again.
#[must_use]
pub fn diagnosis(enclave: &Enclave<'_>) -> String {
    let mut text = format!("{:#}\n", enclave.describe());
    let supervisor = enclave.supervisor();
    for pid in [vec![supervisor], processes::children(supervisor)].concat() {
        for task in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
            let read =
                |name: &str| fs::read_to_string(task.path().join(name)).unwrap_or_default().trim().to_owned();
            let stat = read("stat");
            let _ = writeln!(
                text,
                "{pid}: {stat}\n    waits in {}, system call {}",
                read("wchan"),
                read("syscall")
            );
        }
    }
    for name in ["supervisor.log", "console.log"] {
        let path = enclave.run_dir().join(name);
        let _ = writeln!(text, "{name}: {}", fs::read_to_string(path).unwrap_or_default());
    }
    text
}

/// Private memory of an enclave's three processes in KiB, which guest memory is not part of.
#[must_use]
pub fn private_memory_kib(supervisor: u32) -> u64 {
    let processes = [vec![supervisor], processes::children(supervisor)].concat();
    processes.into_iter().map(|pid| status_kib(pid, "RssAnon")).sum()
}

fn status_kib(pid: u32, name: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or_default()
}
