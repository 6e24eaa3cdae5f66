//! What the lists of system calls let pass and what they stop, each tried in a process of its own.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed assumption is a failed test")]
#![expect(unsafe_code, reason = "system calls are made by number, with arguments that must not matter")]

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output};

use containment::SystemCalls;
use enclave_hypervisor::system_calls::{
    attendant, device, machine, security_module, supervisor, virtual_cpu,
};

/// Tells this test binary to be the process that makes the call.
const ROLE: &str = "SYSTEM_CALLS_TEST_ROLE";
const SIGABRT: i32 = 6;
const SIGSYS: i32 = 31;

/// No descriptor: a call that passes fails for that reason.
const NONE: libc::c_long = -1;

/// linux/kvm.h
const KVM_CREATE_VM: libc::c_long = 0xae01;
const KVM_RUN: libc::c_long = 0xae80;

type List = (&'static str, fn() -> SystemCalls);
const LISTS: [List; 6] = [
    ("supervisor", supervisor),
    ("security module", security_module),
    ("machine", machine),
    ("attendant", attendant),
    ("virtual CPU", virtual_cpu),
    ("device", device),
];

/// A system call with its arguments.
type Call = (&'static str, libc::c_long, [libc::c_long; 3]);

/// What no thread may do, whatever the arguments.
const NEVER: [Call; 16] = [
    ("an internet socket", libc::SYS_socket, [2, 1, 0]),
    ("a vsock socket", libc::SYS_socket, [40, 1, 0]),
    ("a program", libc::SYS_execve, [0, 0, 0]),
    ("a program by descriptor", libc::SYS_execveat, [NONE, 0, 0]),
    ("a process", libc::SYS_fork, [0, 0, 0]),
    ("a process by clone", libc::SYS_clone, [17, 0, 0]),
    ("a signal to others", libc::SYS_kill, [1, 0, 0]),
    ("a signal to another's thread", libc::SYS_tgkill, [1, 1, 0]),
    ("a debugger", libc::SYS_ptrace, [0, 0, 0]),
    ("others' memory", libc::SYS_process_vm_readv, [1, 0, 0]),
    ("executable memory", libc::SYS_mprotect, [0, 4096, 4]),
    ("a mount", libc::SYS_mount, [0, 0, 0]),
    ("a namespace", libc::SYS_unshare, [0, 0, 0]),
    ("another user", libc::SYS_setuid, [0, 0, 0]),
    ("a ring of requests", libc::SYS_io_uring_setup, [1, 0, 0]),
    ("a program in the kernel", libc::SYS_bpf, [0, 0, 0]),
];

/// What some may do: the call, and who.
const SOMETIMES: [(Call, &[&str]); 8] = [
    // A type that there is not.
    (("a Unix socket", libc::SYS_socket, [1, 99, 0]), &["supervisor"]),
    (("a connection", libc::SYS_connect, [NONE, 0, 0]), &["supervisor"]),
    (("a file's removal", libc::SYS_unlinkat, [NONE, 0, 0]), &["supervisor"]),
    (("a child's end", libc::SYS_pidfd_send_signal, [NONE, 9, 0]), &["supervisor"]),
    (("a virtual machine", libc::SYS_ioctl, [NONE, KVM_CREATE_VM, 0]), &["machine"]),
    (("running a guest", libc::SYS_ioctl, [NONE, KVM_RUN, 0]), &["machine", "virtual CPU"]),
    (("an event", libc::SYS_eventfd2, [0, NONE, 0]), &["supervisor", "machine"]),
    (
        ("reading", libc::SYS_read, [NONE, 0, 0]),
        &["supervisor", "machine", "attendant", "virtual CPU", "device"],
    ),
];

fn make((_, number, [a, b, c]): Call) {
    // SAFETY: no call here touches this process's memory: descriptors are invalid, pointers null and sizes zero.
    let result = unsafe { libc::syscall(number, a, b, c) };
    assert!(result < 0, "the call was to fail");
}

/// This test again, in a process with one thread, to do what `role` says.
fn alone(name: &str, role: &str) -> Output {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(ROLE, role)
        .env("RUST_BACKTRACE", "0")
        .output()
        .unwrap()
}

/// Enforces the list that the role names, and makes the call that it names. Ends the process.
fn act(role: &str) -> ! {
    let (list, call) = role.split_once(": ").unwrap();
    let (_, list) = LISTS.into_iter().find(|(name, _)| *name == list).unwrap();
    let calls = NEVER.into_iter().chain(SOMETIMES.into_iter().map(|(call, _)| call));
    let call = calls.into_iter().find(|(name, ..)| *name == call).unwrap();
    list().enforce().unwrap();
    make(call);
    std::process::exit(0);
}

/// Whether the process survived the call.
fn survives(test: &str, list: &str, call: &str) -> bool {
    let output = alone(test, &format!("{list}: {call}"));
    match (output.status.code(), output.status.signal()) {
        (Some(0), None) => true,
        (None, Some(SIGSYS)) => false,
        _ => panic!("{list}: {call}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr)),
    }
}

#[test]
fn what_no_thread_may_do_ends_the_process() {
    const THIS: &str = "what_no_thread_may_do_ends_the_process";
    if let Ok(role) = std::env::var(ROLE) {
        act(&role);
    }
    for (list, _) in LISTS {
        for (call, ..) in NEVER {
            assert!(!survives(THIS, list, call), "{list}: {call}");
        }
    }
}

#[test]
fn each_thread_may_do_its_own_and_not_the_others() {
    const THIS: &str = "each_thread_may_do_its_own_and_not_the_others";
    if let Ok(role) = std::env::var(ROLE) {
        act(&role);
    }
    for (list, _) in LISTS {
        for ((call, ..), allowed) in SOMETIMES {
            assert_eq!(survives(THIS, list, call), allowed.contains(&list), "{list}: {call}");
        }
    }
}

#[test]
fn a_panic_says_its_words_and_aborts() {
    const THIS: &str = "a_panic_says_its_words_and_aborts";
    if let Ok(role) = std::env::var(ROLE) {
        let (_, list) = LISTS.into_iter().find(|(name, _)| *name == role).unwrap();
        list().enforce().unwrap();
        // The release build aborts once the message is out.
        let _ = std::panic::catch_unwind(|| panic!("these are the last words"));
        std::process::abort();
    }
    for (list, _) in LISTS {
        let output = alone(THIS, list);
        let words = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.signal(), Some(SIGABRT), "{list}: {}: {words}", output.status);
        assert!(words.contains("these are the last words"), "{list}: {words}");
    }
}
