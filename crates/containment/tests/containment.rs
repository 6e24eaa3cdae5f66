//! What a contained process still holds, seen from inside one.
#![allow(clippy::unwrap_used, reason = "a failed assumption is a failed test")]

use std::os::fd::AsRawFd;
use std::process::Command;

use containment::Containment;

/// Tells this test binary to be the contained process.
const ROLE: &str = "CONTAINMENT_TEST_ROLE";

/// The descriptors of this process, as the kernel lists them.
fn descriptors() -> Vec<i32> {
    let folder = std::fs::read_dir("/proc/self/fd").unwrap();
    let mut numbers: Vec<i32> =
        folder.map(|entry| entry.unwrap().file_name().into_string().unwrap().parse().unwrap()).collect();
    numbers.sort_unstable();
    // The listing itself had one, which is closed by now.
    numbers.retain(|number| std::fs::symlink_metadata(format!("/proc/self/fd/{number}")).is_ok());
    numbers
}

/// A field of this thread's status.
fn status(field: &str) -> String {
    let text = std::fs::read_to_string("/proc/thread-self/status").unwrap();
    text.lines().find_map(|line| line.strip_prefix(field)).unwrap_or_default().trim().to_owned()
}

/// Runs the test `name` of this binary as a process of its own.
fn run_alone(name: &str) {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(ROLE, "contained")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}{errors}");
}

fn is_alone() -> bool {
    std::env::var_os(ROLE).is_some()
}

#[test]
fn only_the_given_descriptors_are_kept() {
    if !is_alone() {
        return run_alone("only_the_given_descriptors_are_kept");
    }
    let inherited = std::fs::File::open("/dev/null").unwrap();
    let leaked = rustix::io::dup(&inherited).unwrap();
    assert!(descriptors().contains(&leaked.as_raw_fd()));
    // Their numbers are closed below, which must be the only close.
    std::mem::forget((inherited, leaked));
    let containment = Containment {
        first_closed_descriptor: 3,
        dies_with_parent: false,
        writes_files: true,
        locks_memory: false,
        traceable: false,
        isolation: None,
    };
    assert!(containment.enter().unwrap().is_empty());
    assert_eq!(descriptors(), [0, 1, 2]);
}

#[test]
fn dumps_tracing_privileges_and_files_are_given_up() {
    if !is_alone() {
        return run_alone("dumps_tracing_privileges_and_files_are_given_up");
    }
    let temporary = tempfile::tempdir().unwrap();
    let path = temporary.path().join("file");
    let containment = Containment {
        first_closed_descriptor: 3,
        dies_with_parent: true,
        writes_files: false,
        locks_memory: true,
        traceable: false,
        isolation: None,
    };
    assert!(containment.enter().unwrap().is_empty());
    assert_eq!(rustix::process::dumpable_behavior().unwrap(), rustix::process::DumpableBehavior::NotDumpable);
    assert_eq!(status("NoNewPrivs:"), "1");
    assert_eq!(rustix::process::getrlimit(rustix::process::Resource::Core).maximum, Some(0));
    assert_eq!(rustix::process::parent_process_death_signal().unwrap(), Some(rustix::process::Signal::KILL));
    assert_eq!(rustix::process::umask(rustix::fs::Mode::empty()).as_raw_mode(), 0o077);
    // An empty file is allowed; at the first byte the kernel would end the process with SIGXFSZ.
    std::fs::write(&path, "").unwrap();
    assert_eq!(rustix::process::getrlimit(rustix::process::Resource::Fsize).maximum, Some(0));
}
