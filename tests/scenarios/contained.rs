//! What the processes of a running enclave hold, as the kernel shows it to the host.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;
use tests::demo;
use tests::enclave::{Enclave, Start};
use tests::image;
use tests::processes::child_with_argument;
use tests::product::{User, bin_dir};

/// An ordinary user's number that nobody has.
const ORDINARY: u32 = 4242;

/// The namespaces that a contained process has to itself.
const NAMESPACES: [&str; 6] = ["mnt", "pid", "net", "ipc", "uts", "cgroup"];

/// What lies in the supervisor's root folder, which is the enclave's.
const FOLDER: [&str; 5] = ["control.sock", "metadata.json", "state.json", "supervisor.log", "vsock.sock"];

/// Supervisor, virtual machine process, security module.
fn processes(supervisor: u32) -> [u32; 3] {
    let child = |role| child_with_argument(supervisor, role).expect("it runs");
    [supervisor, child("vm"), child("security-module")]
}

/// The status of every thread of a process.
fn threads(pid: u32) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    tasks.map(|task| fs::read_to_string(task.unwrap().path().join("status")).unwrap()).collect()
}

fn field<'a>(status: &'a str, name: &str) -> &'a str {
    status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap_or_default().trim()
}

/// The numbers of a line of a process's status: real, effective, saved and file system user, for example.
fn numbers(pid: u32, name: &str) -> Vec<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    field(&status, name).split_whitespace().map(|number| number.parse().unwrap()).collect()
}

fn namespace(pid: &str, name: &str) -> PathBuf {
    fs::read_link(format!("/proc/{pid}/ns/{name}")).unwrap()
}

/// What holds for all three, whoever started the enclave.
fn assert_contained(pid: u32, root: &[&str], bounding_set_is_empty: bool) {
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
        assert_ne!(namespace(&pid.to_string(), name), namespace("self", name), "{name}");
    }
    let entries = fs::read_dir(format!("/proc/{pid}/root/")).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort_unstable();
    assert_eq!(names, root);
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    // The supervisor writes its state and its log.
    let zero: &[&str] =
        if root.is_empty() { &["Max core file size", "Max file size"] } else { &["Max core file size"] };
    for limit in zero {
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
fn the_processes_hold_nothing_but_what_they_need() {
    let user = User::new();
    let enclave =
        Start::new(&image::demo(), "contained").cpus(2).with(&["--containment", "require"]).run(&user);
    let [supervisor, machine, security_module] = processes(enclave.supervisor());
    assert_contained(supervisor, &FOLDER, true);
    for pid in [machine, security_module] {
        assert_contained(pid, &[], true);
    }
    assert_eq!(enclave.describe()["Containment"], "FULL");
    let held: BTreeSet<String> = descriptors(supervisor).into_iter().collect();
    let expected = [
        "/dev/null",
        "/enclave-memory (deleted)",
        "anon_inode",
        "/",
        "/state.json",
        "/supervisor.log",
        "pipe",
        "socket",
    ];
    assert_eq!(held, expected.map(str::to_owned).into(), "neither the image nor anything outside its folder");
    assert_eq!(descriptors(security_module), ["/dev/null", "/dev/null", "pipe", "socket", "socket"]);
    let held: BTreeSet<String> = descriptors(machine).into_iter().collect();
    let expected = [
        "/dev/null",
        "/enclave-memory (deleted)",
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

/// Started by root, each process is a user of its own, whom no account has and no other enclave.
#[test]
#[ignore = "needs a KVM that can run a kernel"]
fn each_process_is_a_user_of_its_own() {
    let user = User::new();
    let image = image::demo();
    let first = Start::new(&image, "first").run(&user);
    let second = Start::new(&image, "second").run(&user);
    let ids = |enclave: &Enclave<'_>| processes(enclave.supervisor()).map(|pid| numbers(pid, "Uid")[1]);
    let (ids_of_first, ids_of_second) = (ids(&first), ids(&second));
    let all: BTreeSet<u32> = ids_of_first.into_iter().chain(ids_of_second).collect();
    assert_eq!(all.len(), 6, "{all:?}");
    assert!(all.iter().all(|id| (2_000_000_000..2_000_030_000).contains(id)), "{all:?}");
    for pid in processes(first.supervisor()) {
        let (users, groups) = (numbers(pid, "Uid"), numbers(pid, "Gid"));
        // The saved one is the supervisor's, so that it may end its children.
        assert_eq!([users[0], users[1], users[3]], [users[1]; 3]);
        assert_eq!(users[2], ids_of_first[0]);
        assert_eq!(groups, [users[1]; 4]);
        assert!(numbers(pid, "Groups").is_empty());
    }
    let folder = fs::metadata(first.run_dir()).unwrap();
    assert_eq!((folder.uid(), folder.mode() & 0o7777), (ids_of_first[0], 0o700));
    // An enclave that has ended keeps its user as long as its folder is there.
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(i32::try_from(first.supervisor()).unwrap()).unwrap(),
        rustix::process::Signal::TERM,
    )
    .unwrap();
    let _reason = first.wait();
    let third = Start::new(&image, "third").run(&user);
    assert!(!ids(&third).iter().any(|id| all.contains(id)));
}

/// All three processes are in one cgroup with bounds, which goes with the enclave.
#[test]
#[ignore = "needs a KVM that can run a kernel"]
fn an_enclave_has_a_cgroup_with_bounds() {
    let user = User::new();
    let enclave = Start::new(&image::demo(), "bounded").run(&user);
    let cgroup = PathBuf::from(enclave.describe()["Cgroup"].as_str().unwrap());
    assert!(cgroup.ends_with(enclave.started["EnclaveID"].as_str().unwrap()));
    let value = |file: &str| fs::read_to_string(cgroup.join(file)).unwrap().trim().to_owned();
    let inside: BTreeSet<u32> = value("cgroup.procs").lines().map(|pid| pid.parse().unwrap()).collect();
    assert_eq!(inside, processes(enclave.supervisor()).into());
    let memory: u64 = value("memory.max").parse().unwrap();
    assert!((256 << 20..640 << 20).contains(&memory), "{memory}");
    assert_eq!(value("memory.swap.max"), "0");
    let (tasks, now): (u64, u64) =
        (value("pids.max").parse().unwrap(), value("pids.current").parse().unwrap());
    assert!(now < tasks && tasks < 64, "{now} of {tasks}");
    let _ended = enclave.terminate().success();
    assert!(!cgroup.exists());
}

/// For debugging: nothing is taken, and that is told.
#[test]
#[ignore = "needs a KVM that can run a kernel"]
fn containment_can_be_switched_off() {
    let user = User::new();
    let image = image::demo();
    let start = Start::new(&image, "open").with(&["--containment", "off"]);
    let printed = start.attempt(&user, "run");
    assert!(printed.stderr.contains("warning: containment is off"), "{}", printed.stderr);
    let started = printed.success().json();
    let described = user.enclave(&["describe", "open", "-o", "json"]).json()[0].clone();
    assert_eq!(described["Containment"], "OFF");
    let supervisor = u32::try_from(started["ProcessID"].as_u64().unwrap()).unwrap();
    for pid in processes(supervisor) {
        assert!(threads(pid).iter().all(|status| field(status, "Seccomp") == "0"));
        assert_eq!(numbers(pid, "Uid"), [0; 4]);
        assert_eq!(namespace(&pid.to_string(), "net"), namespace("self", "net"));
    }
    let _ended = user.enclave(&["terminate", "open"]).success();
}

/// Where something is missing, an enclave that insists on all of it does not start, and leaves nothing.
#[test]
#[ignore = "needs a KVM that can run a kernel"]
fn what_is_required_and_missing_keeps_an_enclave_from_starting() {
    let user = User::new();
    // A cgroup that cannot be one's own: controllers are not passed on below a cgroup with processes.
    let config = user.path("enclave.toml");
    fs::write(&config, "cgroup = \"/sys/fs/cgroup/nobody/made/this\"\ncontainment = \"require\"\n").unwrap();
    let printed = Start::new(&image::demo(), "strict").attempt(&user, "run");
    let _refusal = printed.failure(&["--containment require", "cgroup"]);
    assert!(user.describe_all().is_empty());
    // Without the insistence it runs, and says what is missing.
    fs::write(&config, "cgroup = \"/sys/fs/cgroup/nobody/made/this\"\n").unwrap();
    let lenient = Start::new(&image::demo(), "lenient").run(&user);
    let described = lenient.describe();
    assert_eq!(described["Containment"], "PARTIAL");
    let missing = described["ContainmentMissing"].as_array().unwrap();
    assert!(
        missing.iter().any(|line| line.as_str().unwrap().starts_with("supervisor: cgroup: ")),
        "{missing:?}"
    );
    let _ended = lenient.terminate().success();
}

/// What a reviewer sees.
#[test]
#[ignore = "needs a KVM that can run a kernel"]
fn the_doctor_shows_what_each_process_holds() {
    let user = User::new();
    let enclave = Start::new(&image::demo(), "shown").run(&user);
    let shown = user.enclave(&["doctor", "--enclave", "shown", "-o", "json"]).success().json();
    let roles: BTreeSet<&str> =
        shown.as_array().unwrap().iter().map(|process| process["Role"].as_str().unwrap()).collect();
    assert_eq!(roles, ["security-module", "supervisor", "vm"].into());
    for process in shown.as_array().unwrap() {
        let pid = u32::try_from(process["ProcessID"].as_u64().unwrap()).unwrap();
        assert!(processes(enclave.supervisor()).contains(&pid));
        assert_eq!(process["Status"]["CapEff"], "0000000000000000");
        assert_eq!(process["Status"]["NoNewPrivs"], "1");
        assert!(process["Namespaces"]["net"].as_str().unwrap().starts_with("its own"));
        assert!(process["Cgroup"].as_str().unwrap().contains("-enc"));
    }
    let text = user.enclave(&["doctor", "--enclave", "shown"]).success().stdout;
    for expected in ["supervisor (process", "security-module (process", "Root folder", "empty", "filters"] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
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
    for (pid, root) in processes(supervisor).into_iter().zip([&FOLDER[..], &[], &[]]) {
        assert_contained(pid, root, false);
        assert_ne!(namespace(&pid.to_string(), "user"), namespace("self", "user"));
        assert!(threads(pid).iter().all(|status| field(status, "Uid").starts_with(&ORDINARY.to_string())));
    }
    enclave(&["terminate", "ordinary"]);
}
