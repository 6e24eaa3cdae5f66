//! What an isolated process can still reach, tried from inside one, and what a forbidden system call does.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed assumption is a failed test")]

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, Output};

use containment::{Argument, Containment, Isolation, Measure, Missing, Root, SystemCalls, User};
use rustix::io::Errno;
use rustix::process::{Uid, getegid, geteuid, getgid, getgroups, getppid, getuid, test_kill_process};
use rustix::thread::{CapabilitySet, capabilities, capability_is_in_bounding_set};

/// Tells this test binary to be the contained process, and where the outer one listens.
const ROLE: &str = "CONTAINMENT_TEST_ROLE";
/// A user who owns nothing.
const NOBODY: u32 = 65534;
const SIGSYS: i32 = 31;

/// This test again, as a process with one thread, prepared by `prepare`.
fn run_alone(name: &str, role: &str, prepare: impl FnOnce(&mut Command)) -> Output {
    // Not by its path: another user may not be able to walk it.
    let mut command = Command::new("/proc/self/exe");
    command.args(["--exact", name, "--nocapture", "--test-threads=1"]).env(ROLE, role).current_dir("/");
    prepare(&mut command);
    command.output().unwrap()
}

#[track_caller]
fn assert_passed(output: &Output) {
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{}: {text}{errors}", output.status);
}

fn role() -> Option<String> {
    std::env::var(ROLE).ok()
}

fn enter() -> Vec<Missing> {
    let containment = Containment {
        first_closed_descriptor: 3,
        dies_with_parent: true,
        writes_files: false,
        locks_memory: false,
        traceable: false,
        isolation: Some(Isolation { root: Root::Empty, user: None }),
    };
    containment.enter().unwrap()
}

/// Why a measure was not taken, if it was not.
fn why_missing(missing: &[Missing], measure: Measure) -> Option<&str> {
    missing.iter().find(|missing| missing.measure == measure).map(|missing| missing.why.as_str())
}

/// A listener in the abstract namespace and one on loopback, and how they are called.
fn listeners() -> (UnixListener, TcpListener, String) {
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = tcp.local_addr().unwrap().port();
    let name = format!("containment-test-{}-{port}", std::process::id());
    let unix = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    (unix, tcp, format!("{name} {port}"))
}

/// Which of the two can be reached.
fn reached(targets: &str) -> [bool; 2] {
    let (name, port) = targets.split_once(' ').unwrap();
    [
        TcpStream::connect(("127.0.0.1", port.parse::<u16>().unwrap())).is_ok(),
        UnixStream::connect_addr(&SocketAddr::from_abstract_name(name).unwrap()).is_ok(),
    ]
}

/// Tries everything that lies outside. Called in the isolated process.
fn reach_nothing(targets: &str, missing: &[Missing]) {
    let sets = capabilities(None).unwrap();
    assert!(sets.effective.is_empty() && sets.permitted.is_empty() && sets.inheritable.is_empty());
    if let Some(why) = why_missing(missing, Measure::Namespaces) {
        // A host that allows no namespaces says why; the scenarios run where they are allowed, and insist.
        assert!(!why.is_empty());
        println!("on this host no namespaces: {why}");
        return;
    }
    for path in ["/etc/passwd", "/proc/self/status", "/dev/null", "/dev/kvm"] {
        assert!(fs::File::open(path).is_err(), "{path}");
    }
    // With landlock the empty folder cannot even be listed.
    assert_eq!(fs::read_dir("/").map_or(0, Iterator::count), 0);
    assert!(fs::create_dir("/new").is_err() && fs::write("/new", "").is_err());
    assert_eq!(reached(targets), [false, false]);
    // The kernel refuses to be asked for numbers that it does not know.
    for capability in (0..64).map(|number| CapabilitySet::from_bits_retain(1 << number)) {
        assert_ne!(capability_is_in_bounding_set(capability), Ok(true), "{capability:?}");
    }
    if why_missing(missing, Measure::Landlock).is_none() {
        assert!(test_kill_process(getppid().unwrap()).is_err(), "the parent can be signalled");
    }
}

#[test]
fn an_isolated_process_reaches_nothing() {
    if let Some(targets) = role() {
        let missing = enter();
        return reach_nothing(&targets, &missing);
    }
    let (_unix, _tcp, targets) = listeners();
    assert_eq!(reached(&targets), [true, true], "from outside: else a refusal inside says nothing");
    assert_passed(&run_alone("an_isolated_process_reaches_nothing", &targets, |_| {}));
}

#[test]
fn an_ordinary_user_s_process_reaches_nothing_either() {
    if let Some(targets) = role() {
        let user = geteuid();
        let missing = enter();
        assert_eq!(geteuid(), user, "it stays who it was");
        return reach_nothing(&targets, &missing);
    }
    let (_unix, _tcp, targets) = listeners();
    let become_ordinary = |command: &mut Command| {
        if geteuid().is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
    };
    let output = run_alone("an_ordinary_user_s_process_reaches_nothing_either", &targets, become_ordinary);
    assert_passed(&output);
}

/// As the supervisor: one folder is left to the process, and nothing beside or above it.
#[test]
fn a_folder_is_all_that_is_left_of_the_host_s_files() {
    if let Some(path) = role() {
        let folder = fs::File::open(&path).unwrap();
        let isolation = Isolation { root: Root::Folder(folder.as_fd()), user: None };
        let missing = isolation.enter().unwrap();
        drop(folder);
        fs::write("new", "written").unwrap();
        assert_eq!(fs::read_to_string("kept").unwrap(), "before");
        let _listener = UnixListener::bind("socket").unwrap();
        fs::rename("new", "renamed").unwrap();
        fs::remove_file("kept").unwrap();
        if why_missing(&missing, Measure::Landlock).is_none() {
            assert!(fs::create_dir("folder").is_err(), "only files are made");
            assert!(std::os::unix::fs::symlink("/etc", "link").is_err());
        }
        if why_missing(&missing, Measure::Namespaces).is_none() {
            for outside in ["/etc/passwd", "../outside", "/proc/self/status", &format!("{path}/renamed")] {
                assert!(fs::read(outside).is_err(), "{outside}");
            }
        }
        return;
    }
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("inside");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("kept"), "before").unwrap();
    fs::write(parent.path().join("outside"), "not its own").unwrap();
    assert_passed(&run_alone(
        "a_folder_is_all_that_is_left_of_the_host_s_files",
        folder.to_str().unwrap(),
        |_| {},
    ));
    assert_eq!(fs::read_to_string(folder.join("renamed")).unwrap(), "written");
    assert!(!folder.join("kept").exists());
}

/// A process that root starts becomes a user and group of its own, whom only the user it was told may end.
#[test]
fn a_user_of_its_own_has_nothing_of_root_s() {
    const ITS_OWN: u32 = 1_999_998_001;
    const ENDS_IT: u32 = 1_999_998_000;
    if !geteuid().is_root() {
        println!("SKIPPED a_user_of_its_own_has_nothing_of_root_s: it takes root");
        return;
    }
    if role().is_some() {
        let user = Some(User { id: ITS_OWN, ended_by: ENDS_IT });
        Isolation { root: Root::Empty, user }.enter().unwrap();
        assert_eq!((geteuid().as_raw(), getuid().as_raw()), (ITS_OWN, ITS_OWN));
        assert_eq!((getegid().as_raw(), getgid().as_raw()), (ITS_OWN, ITS_OWN));
        assert_eq!(getgroups().unwrap(), []);
        let sets = capabilities(None).unwrap();
        assert!(sets.permitted.is_empty() && sets.effective.is_empty());
        // Root is not to be had back.
        assert!(rustix::thread::set_thread_uid(Uid::ROOT).is_err());
        assert!(rustix::thread::set_thread_groups(&[]).is_err());
        return;
    }
    assert_passed(&run_alone("a_user_of_its_own_has_nothing_of_root_s", "contained", |_| {}));
}

/// What the test harness itself needs to end.
fn harness() -> SystemCalls {
    SystemCalls::none()
        .allow(&[libc::SYS_write, libc::SYS_futex, libc::SYS_munmap, libc::SYS_madvise, libc::SYS_brk])
        .allow(&[libc::SYS_exit, libc::SYS_exit_group, libc::SYS_sigaltstack, libc::SYS_rt_sigprocmask])
        .allow(&[libc::SYS_clock_gettime, libc::SYS_getrandom, libc::SYS_gettid, libc::SYS_getpid])
        .allow(&[libc::SYS_tgkill, libc::SYS_rt_sigaction])
}

/// Enforces a list, makes a call, and says whether the process survived it.
fn survives(name: &str, calls: fn() -> SystemCalls, call: fn()) -> bool {
    if role().is_some() {
        calls().enforce().unwrap();
        call();
        std::process::exit(0);
    }
    let output = run_alone(name, "contained", |_| {});
    match (output.status.code(), output.status.signal()) {
        (Some(0), None) => true,
        (None, Some(SIGSYS)) => false,
        _ => panic!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr)),
    }
}

#[test]
fn a_call_that_is_not_listed_ends_the_process() {
    let call = || drop(rustix::fs::open("/", rustix::fs::OFlags::PATH, rustix::fs::Mode::empty()));
    assert!(!survives("a_call_that_is_not_listed_ends_the_process", harness, call));
}

#[test]
fn a_listed_call_is_made() {
    // A debug build looks at a descriptor before it closes it.
    let calls = || harness().allow(&[libc::SYS_openat, libc::SYS_open, libc::SYS_close, libc::SYS_fcntl]);
    let call = || drop(rustix::fs::open("/", rustix::fs::OFlags::PATH, rustix::fs::Mode::empty()).unwrap());
    assert!(survives("a_listed_call_is_made", calls, call));
}

/// The resource limits of one kind may be asked for.
fn core_limit() -> SystemCalls {
    let is_core = Argument::Is(1, libc::RLIMIT_CORE);
    harness().allow_if(libc::SYS_prlimit64, &[is_core])
}

#[test]
fn a_condition_lets_pass_what_meets_it() {
    let call = || {
        let _limit = rustix::process::getrlimit(rustix::process::Resource::Core);
    };
    assert!(survives("a_condition_lets_pass_what_meets_it", core_limit, call));
}

#[test]
fn a_condition_stops_what_does_not_meet_it() {
    let call = || {
        let _limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    };
    assert!(!survives("a_condition_stops_what_does_not_meet_it", core_limit, call));
}

/// Memory may be mapped, but not to be executed.
fn no_executable_maps() -> SystemCalls {
    let clear = Argument::Bits { index: 2, mask: libc::PROT_EXEC.cast_unsigned(), are: 0 };
    harness().allow_if(libc::SYS_mmap, &[clear])
}

fn map(protection: rustix::mm::ProtFlags) {
    let _unused = memory::map_anonymous(protection);
}

/// The one unsafe call of these tests.
mod memory {
    #![expect(unsafe_code, reason = "mmap(2) is unsafe in general")]

    use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};

    pub(super) fn map_anonymous(protection: ProtFlags) -> rustix::io::Result<*mut core::ffi::c_void> {
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory that anybody uses.
        unsafe { mmap_anonymous(core::ptr::null_mut(), 4096, protection, MapFlags::PRIVATE) }
    }
}

#[test]
fn memory_that_is_not_executable_can_be_mapped() {
    let call = || map(rustix::mm::ProtFlags::READ | rustix::mm::ProtFlags::WRITE);
    assert!(survives("memory_that_is_not_executable_can_be_mapped", no_executable_maps, call));
}

#[test]
fn executable_memory_cannot_be_mapped() {
    let call = || map(rustix::mm::ProtFlags::READ | rustix::mm::ProtFlags::EXEC);
    assert!(!survives("executable_memory_cannot_be_mapped", no_executable_maps, call));
}

#[test]
fn a_call_that_is_to_fail_fails() {
    let calls = || harness().fail(libc::SYS_getpriority, Errno::NOSYS).fail(libc::SYS_openat, Errno::ACCESS);
    let call = || {
        let failed = rustix::process::getpriority_process(None).unwrap_err();
        let here = rustix::fs::CWD;
        let file = rustix::fs::openat(here, "/", rustix::fs::OFlags::PATH, rustix::fs::Mode::empty());
        assert_eq!((failed, file.unwrap_err()), (Errno::NOSYS, Errno::ACCESS));
    };
    assert!(survives("a_call_that_is_to_fail_fails", calls, call));
}

#[test]
fn what_one_list_lacks_a_second_does_not_give_back() {
    let calls = || {
        // To install the second one.
        harness().allow(&[libc::SYS_seccomp, libc::SYS_prctl, libc::SYS_mmap]).enforce().unwrap();
        harness().allow(&[libc::SYS_openat])
    };
    let call = || drop(rustix::fs::open("/", rustix::fs::OFlags::PATH, rustix::fs::Mode::empty()));
    assert!(!survives("what_one_list_lacks_a_second_does_not_give_back", calls, call));
}
