//! Every way an enclave can end, caused for real, each with its own ExitReason.

use std::fs;
use std::path::Path;

use rustix::process::Signal;
use tests::enclave::{Enclave, Start};
use tests::product::User;
use tests::{demo, image, processes};

/// Starts the demo, does something to it, and insists on how it ended.
fn ends(name: &str, reason: &str, status: i32, act: impl FnOnce(&Enclave<'_>)) {
    let user = User::new();
    let enclave = Start::new(&image::demo(), name).run(&user);
    act(&enclave);
    let waited = enclave.wait();
    assert_eq!(waited.status, Some(status), "{waited:#?}");
    assert!(waited.stdout.contains(reason), "{waited:#?}");
    let described = enclave.describe();
    assert_eq!(described["State"], "EXITED", "{described}");
    assert_eq!(described["ExitReason"], reason, "{described}");
    let _ = enclave.terminate().success();
    assert!(!enclave.run_dir().exists());
}

#[test]
#[ignore = "needs a KVM that can run a kernel"]
fn the_application_exits() {
    ends("exits", "ApplicationExited", 7, |enclave| demo::tell(enclave, "exit 7"));
}

#[test]
#[ignore = "needs a KVM that can run a kernel"]
fn the_application_is_killed_by_a_signal() {
    ends("aborts", "ApplicationExited", 128 + 6, |enclave| demo::tell(enclave, "abort"));
}

#[test]
#[ignore = "needs a KVM that can run a kernel"]
fn the_guest_restarts() {
    ends("restarts", "GuestReset", 255, |enclave| demo::tell(enclave, "reboot"));
}

#[test]
#[ignore = "needs a KVM that can run a kernel"]
fn the_guest_panics() {
    ends("panics", "GuestReset", 255, |enclave| demo::tell(enclave, "panic"));
}

#[test]
#[ignore = "needs a KVM that can run a kernel"]
fn the_guest_powers_off() {
    ends("powers-off", "AcpiPowerOff", 255, |enclave| demo::tell(enclave, "poweroff"));
}

#[test]
#[ignore = "needs a KVM that can run a kernel"]
fn the_guest_restarts_through_acpi() {
    ends("acpi-reset", "AcpiReset", 255, |enclave| demo::tell(enclave, "reboot acpi"));
}

#[test]
#[ignore = "needs a KVM that can run a kernel"]
fn the_guest_restarts_by_a_triple_fault() {
    ends("triple", "TripleFault", 255, |enclave| demo::tell(enclave, "triple-fault"));
}

#[test]
#[ignore = "needs a KVM that can run a kernel"]
fn the_supervisor_gets_sigterm() {
    ends("sigterm", "Signalled", 255, |enclave| processes::signal(enclave.supervisor(), Signal::TERM));
}

#[test]
#[ignore = "needs a KVM that can run a kernel"]
fn the_vm_process_is_killed() {
    ends("vm-killed", "VmProcessKilled", 255, |enclave| {
        let vm =
            processes::child_with_argument(enclave.supervisor(), "vm").expect("a virtual machine process");
        processes::signal(vm, Signal::KILL);
    });
}

#[test]
#[ignore = "needs a KVM that can run a kernel"]
fn the_security_module_is_killed() {
    ends("module-killed", "SecurityModuleKilled", 255, |enclave| {
        let module =
            processes::child_with_argument(enclave.supervisor(), "security-module").expect("a module");
        processes::signal(module, Signal::KILL);
    });
}

#[test]
#[ignore = "needs a KVM that can run a kernel"]
fn the_supervisor_is_killed_and_the_next_command_cleans_up() {
    let user = User::new();
    let enclave = Start::new(&image::demo(), "orphaned").run(&user);
    let family = processes::children(enclave.supervisor());
    processes::signal(enclave.supervisor(), Signal::KILL);
    let waited = enclave.wait();
    assert_eq!(waited.status, Some(255), "{waited:#?}");
    assert!(waited.stdout.contains("SupervisorKilled"), "{waited:#?}");
    assert_eq!(enclave.describe()["ExitReason"], "SupervisorKilled");
    for pid in family {
        assert!(processes::ended(pid), "process {pid} outlives its supervisor");
    }
    let _ = enclave.terminate().success();
    assert!(!enclave.run_dir().exists());
}

#[test]
#[ignore = "needs a KVM that can run a kernel"]
fn a_terminated_enclave_is_gone() {
    let user = User::new();
    let enclave = Start::new(&image::demo(), "terminated").run(&user);
    let waiting = user.command(&["wait", "terminated"]).stdout(std::process::Stdio::piped()).spawn().unwrap();
    let _ = enclave.terminate().success();
    let waited = waiting.wait_with_output().unwrap();
    assert_eq!(waited.status.code(), Some(255));
    let printed = String::from_utf8_lossy(&waited.stdout).into_owned();
    assert!(printed.contains("Terminated"), "{printed}");
    let _ = user.enclave(&["describe", "terminated"]).failure(&["terminated"]);
    assert!(!enclave.run_dir().exists());
}

/// `run` fails, says the reason, and leaves an enclave that is EXITED with it.
fn fails_to_run(image: &Path, name: &str, settings: &str, reason: &str) -> String {
    let user = User::new();
    fs::write(user.path("enclave.toml"), settings).unwrap();
    let printed = Start::new(image, name).attempt(&user, "run").failure(&[reason]);
    assert!(printed.stdout.is_empty(), "{printed:#?}");
    printed.stderr
}

/// A kernel file of our own making: a bzImage header whose 64-bit entry holds these bytes.
fn kernel_of(name: &str, code: &[u8]) -> std::path::PathBuf {
    let mut file = vec![0u8; 0x400 + 0x400];
    file[0x1f1] = 1; // setup_sects: one sector of setup code follows the boot sector
    file[0x1fe..0x200].copy_from_slice(&0xaa55u16.to_le_bytes());
    file[0x201] = 0x6a; // the jump: the header ends at 0x202 + 0x6a
    file[0x202..0x206].copy_from_slice(b"HdrS");
    file[0x206..0x208].copy_from_slice(&0x020fu16.to_le_bytes());
    file[0x211] = 1; // LOADED_HIGH
    file[0x22c..0x230].copy_from_slice(&0x7fff_ffffu32.to_le_bytes()); // initrd_addr_max
    file[0x230..0x234].copy_from_slice(&0x20_0000u32.to_le_bytes()); // kernel_alignment
    file[0x234] = 1; // relocatable
    file[0x236..0x238].copy_from_slice(&3u16.to_le_bytes()); // 64-bit entry, may be loaded above 4 GiB
    file[0x238..0x23c].copy_from_slice(&2047u32.to_le_bytes()); // cmdline_size
    file[0x258..0x260].copy_from_slice(&0x100_0000u64.to_le_bytes()); // pref_address
    file[0x260..0x264].copy_from_slice(&0x1_0000u32.to_le_bytes()); // init_size
    file[0x1f4..0x1f8].copy_from_slice(&(0x400u32 / 16).to_le_bytes()); // syssize
    file[0x400 + 0x200..][..code.len()].copy_from_slice(code);
    let path = std::env::temp_dir().join(format!("enclave-kernel-{name}-{}", std::process::id()));
    fs::write(&path, file).unwrap();
    path
}

/// An image whose kernel is these instructions.
pub(crate) fn bare_image(name: &str, code: &[u8]) -> std::path::PathBuf {
    let kernel = kernel_of(name, code);
    let image = image::build(name, &["--kernel", kernel.to_str().unwrap(), "--", "/bin/enclave-demo"]);
    fs::remove_file(kernel).unwrap();
    image
}

#[test]
#[ignore = "needs a KVM that can run a kernel"]
fn no_heartbeat_in_time() {
    // sti; hlt; jmp to hlt: a guest that lives and says nothing.
    let image = bare_image("silent", &[0xfa, 0xf4, 0xeb, 0xfc]);
    let printed = fails_to_run(&image, "silent", "heartbeat_timeout_ms = 2000", "HeartbeatTimeout");
    assert!(printed.contains("heartbeat"), "{printed}");
}

#[test]
#[ignore = "needs a KVM that can run a kernel"]
fn a_triple_fault() {
    // lidt with a limit of zero, then an invalid instruction.
    let code =
        [0x48, 0x83, 0xec, 0x10, 0x48, 0xc7, 0x04, 0x24, 0, 0, 0, 0, 0x0f, 0x01, 0x1c, 0x24, 0x0f, 0x0b];
    let _ = fails_to_run(&bare_image("triple-fault", &code), "triple-fault", "", "TripleFault");
}

#[test]
#[ignore = "needs a KVM that can run a kernel"]
fn a_reset_through_the_keyboard_controller_before_the_heartbeat() {
    // mov al, 0xfe; out 0x64, al; hlt
    let _ = fails_to_run(&bare_image("reset", &[0xb0, 0xfe, 0xe6, 0x64, 0xf4]), "reset", "", "GuestReset");
}

#[test]
#[ignore = "needs a KVM that can run a kernel"]
fn a_kernel_that_panics_in_debug_mode_shows_its_last_lines() {
    // An init that cannot be executed.
    let init = std::env::temp_dir().join(format!("enclave-no-init-{}", std::process::id()));
    fs::write(&init, "not a program").unwrap();
    let image = image::build("no-init", &["--init", init.to_str().unwrap(), "--", "/bin/enclave-demo"]);
    fs::remove_file(init).unwrap();
    let user = User::new();
    let printed =
        Start::new(&image, "no-init").with(&["--debug"]).attempt(&user, "run").failure(&["GuestReset"]);
    assert!(printed.stderr.contains("Kernel panic"), "{printed:#?}");
    let logs = user.enclave(&["logs", "no-init"]).success();
    assert!(logs.stdout.contains("Kernel panic"), "{logs:#?}");
}
