//! What the processes of a running enclave hold, as the kernel shows it to the host.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;
use tests::demo;
use tests::enclave::Start;
use tests::image;
use tests::processes::child_with_argument;
use tests::product::{User, bin_dir};

/// An ordinary user's number that nobody has.
const ORDINARY: u32 = 4242;

/// The namespaces that a contained process has to itself.
const NAMESPACES: [&str; 5] = ["mnt", "net", "ipc", "uts", "cgroup"];

fn children(supervisor: u32) -> [u32; 2] {
    ["vm", "security-module"].map(|role| child_with_argument(supervisor, role).expect("it runs"))
}

/// The status of every thread of a process.
fn threads(pid: u32) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    tasks.map(|task| fs::read_to_string(task.unwrap().path().join("status")).unwrap()).collect()
}

fn field<'a>(status: &'a str, name: &str) -> &'a str {
    status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap_or_default().trim()
}

fn namespace(pid: &str, name: &str) -> PathBuf {
    fs::read_link(format!("/proc/{pid}/ns/{name}")).unwrap()
}

/// What holds for both children, whoever started the enclave.
fn assert_contained(pid: u32, bounding_set_is_empty: bool) {
    for status in threads(pid) {
        for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
            assert_eq!(u64::from_str_radix(field(&status, set), 16), Ok(0), "{set}: {status}");
        }
        if bounding_set_is_empty {
            assert_eq!(u64::from_str_radix(field(&status, "CapBnd"), 16), Ok(0), "{status}");
        }
        assert_eq!(field(&status, "NoNewPrivs"), "1", "{status}");
        assert_eq!(field(&status, "Seccomp"), "2", "{status}");
    }
    for name in NAMESPACES {
        assert_ne!(namespace(&pid.to_string(), name), namespace("self", name));
    }
    assert_eq!(fs::read_dir(format!("/proc/{pid}/root/")).unwrap().count(), 0, "the root folder is empty");
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    for limit in ["Max core file size", "Max file size"] {
        let line = limits.lines().find(|line| line.starts_with(limit)).unwrap();
        assert_eq!(line[limit.len()..].split_whitespace().take(2).collect::<Vec<_>>(), ["0", "0"], "{line}");
    }
}

/// What lies behind the descriptors of a process, in their order, without numbers of inodes.
fn descriptors(pid: u32) -> Vec<String> {
    let mut numbers: Vec<u32> = fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_str().unwrap().parse().unwrap())
        .collect();
    numbers.sort_unstable();
    let kind = |number: &u32| {
        let target = fs::read_link(format!("/proc/{pid}/fd/{number}")).unwrap();
        target.to_str().unwrap().split(":[").next().unwrap().to_owned()
    };
    numbers.iter().map(kind).collect()
}

#[test]
#[ignore = "needs a KVM that can run a kernel"]
fn the_children_hold_nothing_but_what_they_were_given() {
    let user = User::new();
    let enclave = Start::new(&image::demo(), "contained").cpus(2).run(&user);
    let [machine, security_module] = children(enclave.supervisor());
    for pid in [machine, security_module] {
        assert_contained(pid, true);
    }
    assert_eq!(descriptors(security_module), ["/dev/null", "/dev/null", "pipe", "socket", "socket"]);
    let held: BTreeSet<String> = descriptors(machine).into_iter().collect();
    let expected = [
        "/dev/null",
        "/memfd:enclave-memory (deleted)",
        "anon_inode",
        "anon_inode:kvm-vcpu:0",
        "anon_inode:kvm-vcpu:1",
        "anon_inode:kvm-vm",
        "pipe",
        "socket",
    ];
    assert_eq!(held, expected.map(str::to_owned).into(), "/dev/kvm itself is closed");
    // Each thread that hears the guest has lists of its own beside its process's.
    let filters = |status: &String| field(status, "Seccomp_filters").parse::<u32>().unwrap();
    let [processes, narrowest] =
        [security_module, machine].map(|pid| threads(pid).iter().map(filters).min().unwrap());
    assert!(narrowest > processes, "{narrowest} filters beside {processes}");
    assert!(!demo::attest(&enclave, b"contained").is_empty());
}

#[test]
#[ignore = "needs a KVM that can run a kernel"]
fn the_doctor_says_what_describe_says() {
    let user = User::new();
    let enclave = Start::new(&image::demo(), "patient").run(&user);
    let described = enclave.describe();
    let findings = user.enclave(&["doctor", "-o", "json"]).json();
    let finding =
        findings.as_array().unwrap().iter().find(|finding| finding["Check"] == "Containment").unwrap();
    let nothing_is_missing = described.get("ContainmentMissing").is_none();
    assert_eq!(finding["Verdict"] == "OK", nothing_is_missing, "{finding} and {described}");
}

/// The same, started by an ordinary user: user namespaces take the place of privileges.
#[test]
#[ignore = "needs a KVM that can run a kernel"]
fn an_ordinary_user_s_enclave_is_contained_as_well() {
    let user = User::new();
    // Neither the image nor the programs need lie where another user can go. It is cp that copies: a program that this process
    // had open for writing could not be run while another scenario's child holds it.
    let image = image::demo();
    let programs = ["enclave", "enclave-hypervisor"].map(|name| bin_dir().join(name));
    let copied = Command::new("cp").args(&programs).arg(&image).arg(user.path("")).status().unwrap();
    assert!(copied.success());
    chown(user.path(""), Some(ORDINARY), Some(ORDINARY)).unwrap();
    let image = user.path("").join(image.file_name().unwrap());
    chown(&image, Some(ORDINARY), Some(ORDINARY)).unwrap();
    let group = fs::metadata("/dev/kvm").unwrap().gid();
    let enclave = |arguments: &[&str]| {
        let mut command = user.command_of(&user.path("enclave"), arguments);
        let output = command.uid(ORDINARY).gid(group).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let arguments = Start::new(&image, "ordinary").arguments("run");
    let started = enclave(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    let started: Value = serde_json::from_str(&started).unwrap();
    let supervisor = u32::try_from(started["ProcessID"].as_u64().unwrap()).unwrap();
    for pid in children(supervisor) {
        assert_contained(pid, false);
        assert_ne!(namespace(&pid.to_string(), "user"), namespace("self", "user"));
        assert!(threads(pid).iter().all(|status| field(status, "Uid").starts_with(&ORDINARY.to_string())));
    }
    enclave(&["terminate", "ordinary"]);
}
