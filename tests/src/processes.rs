//! The processes of an enclave as /proc shows them.

use std::fs;

/// Children of a process, by /proc/PID/stat's fourth field.
#[must_use]
pub fn children(parent: u32) -> Vec<u32> {
    all().into_iter().filter(|pid| parent_of(*pid) == Some(parent)).collect()
}

/// The session of a process: 0 if it began outside what is visible here, as in a container.
#[must_use]
pub fn session(pid: u32) -> Option<u32> {
    stat_field(pid, 3)
}

/// The first child whose command line holds `word` as an argument.
#[must_use]
pub fn child_with_argument(parent: u32, word: &str) -> Option<u32> {
    children(parent).into_iter().find(|pid| arguments(*pid).iter().any(|argument| argument == word))
}

/// Every process whose executable is named `enclave-hypervisor`, zombies included.
#[must_use]
pub fn hypervisors() -> Vec<u32> {
    all()
        .into_iter()
        .filter(|pid| {
            // The kernel keeps 15 bytes of the name.
            fs::read_to_string(format!("/proc/{pid}/comm"))
                .is_ok_and(|name| name.starts_with("enclave-hyperv"))
        })
        .collect()
}

/// Waits, for a bounded time, for the end of a process that need not be a child of ours.
#[must_use]
pub fn ended(pid: u32) -> bool {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    let Ok(process) = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()) else {
        return true;
    };
    let mut watched = [rustix::event::PollFd::new(&process, rustix::event::PollFlags::IN)];
    let patience = rustix::event::Timespec { tv_sec: 10, tv_nsec: 0 };
    rustix::event::poll(&mut watched, Some(&patience)).unwrap() == 1
}

/// Sends a signal to one process.
pub fn signal(pid: u32, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, signal).expect("the process lives");
}

fn all() -> Vec<u32> {
    fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect()
}

fn arguments(pid: u32) -> Vec<String> {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    bytes.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect()
}

fn parent_of(pid: u32) -> Option<u32> {
    stat_field(pid, 1)
}

/// A field of /proc/PID/stat, counted from the one after the name.
fn stat_field(pid: u32, index: usize) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold spaces; the fields after it do not.
    stat.rsplit_once(')')?.1.split_whitespace().nth(index)?.parse().ok()
}
