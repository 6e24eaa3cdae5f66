//! What looks at the whole machine: `tools/run-tests` runs these after all others, one at a time.

use std::fs;

use tests::enclave::Start;
use tests::product::User;
use tests::{image, processes};

#[test]
#[ignore = "needs a KVM that can run a kernel"]
fn twenty_enclaves_one_after_the_other_leave_nothing() {
    let user = User::new();
    let image = image::demo();
    let cycle = |number: u32| {
        let enclave = Start::new(&image, &format!("cycle-{number}")).run(&user);
        let family = processes::children(enclave.supervisor());
        assert_eq!(family.len(), 2, "a supervisor has a virtual machine process and a security module");
        let (run_dir, supervisor) = (enclave.run_dir(), enclave.supervisor());
        let _ = enclave.terminate().success();
        assert!(!run_dir.exists(), "{} is left", run_dir.display());
        for pid in family.into_iter().chain([supervisor]) {
            assert!(processes::ended(pid), "process {pid} is left");
        }
    };
    cycle(0);
    let before = shared_memory_kib();
    for number in 1..20 {
        cycle(number);
    }
    let grown = shared_memory_kib().saturating_sub(before);
    assert!(grown < 64 * 1024, "shared memory grew by {grown} KiB over 19 enclaves of 256 MiB");
    let left: Vec<_> =
        fs::read_dir(user.run_root()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    let folders = left.iter().filter(|name| name.to_string_lossy().contains("-enc")).count();
    assert_eq!(folders, 0, "{left:?}");
}

/// Shared memory of the whole machine, which guest memory counts as.
fn shared_memory_kib() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap();
    let line = text.lines().find(|line| line.starts_with("Shmem:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
