//! Linux guests that boot: virtual CPUs, modes, kernels, inits, several at once.

use std::collections::BTreeSet;
use std::fs;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tests::enclave::{Enclave, Start};
use tests::image_file::ImageFile;
use tests::product::User;
use tests::{demo, image, processes};

fn online_cpus(enclave: &Enclave<'_>) -> u64 {
    let answer: Value = serde_json::from_str(&demo::ask(enclave, "cpus").unwrap()).unwrap();
    answer["online"].as_array().unwrap_or_else(|| panic!("no list of CPUs in {answer}")).len() as u64
}

fn boots_with(cpus: u32, mode: &[&str]) {
    let user = User::new();
    let enclave = Start::new(&image::demo(), "boots").cpus(cpus).with(mode).run(&user);
    assert_eq!(online_cpus(&enclave), u64::from(cpus));
    let described = enclave.describe();
    assert_eq!(described["State"], "RUNNING");
    assert_eq!(described["NumberOfCPUs"], cpus);
    assert_eq!(described["CPUIDs"].as_array().unwrap().len(), cpus as usize);
    assert_eq!(described["Flags"], if mode.is_empty() { "NONE" } else { "DEBUG_MODE" });
    assert_eq!(described["MemoryMiB"], 256);
    let _ = enclave.terminate().success();
}

#[test]
#[ignore = "needs a KVM that can run a kernel"]
fn one_cpu_in_production() {
    boots_with(1, &[]);
}

#[test]
#[ignore = "needs a KVM that can run a kernel"]
fn two_cpus_in_production() {
    boots_with(2, &[]);
}

#[test]
#[ignore = "needs a KVM that can run a kernel"]
fn four_cpus_in_production() {
    boots_with(4, &[]);
}

#[test]
#[ignore = "needs a KVM that can run a kernel"]
fn two_cpus_in_debug_mode() {
    boots_with(2, &["--debug"]);
}

#[test]
#[ignore = "needs a KVM that can run a kernel"]
fn the_guests_command_line_is_the_images_and_its_clock_is_kvms() {
    let user = User::new();
    let enclave = Start::new(&image::demo(), "clock").run(&user);
    let clock: Value = serde_json::from_str(&demo::ask(&enclave, "clock").unwrap()).unwrap();
    assert_eq!(clock["clocksource"], "kvm-clock", "{clock}");
    assert_eq!(demo::ask(&enclave, "cmdline").unwrap(), ImageFile::read(&image::demo()).command_line());
}

#[test]
#[ignore = "needs a KVM that can run a kernel"]
fn an_image_with_the_init_that_aws_describes_boots() {
    let init = tests::product::bin_dir().join("aws-like-init");
    let image = image::build("aws-like", &["--init", init.to_str().unwrap(), "--", "/bin/enclave-demo"]);
    let user = User::new();
    let enclave = Start::new(&image, "aws-like").run(&user);
    assert_eq!(online_cpus(&enclave), 1);
    demo::tell(&enclave, "exit 0");
    // That init tells nobody how the application ended.
    let waited = enclave.wait();
    assert_eq!(waited.status, Some(255), "{waited:#?}");
    assert_eq!(enclave.describe()["ExitReason"], "GuestReset");
}

#[test]
#[ignore = "needs a KVM that can run a kernel"]
fn a_kernel_without_acpi_finds_processors_in_the_mp_table_and_devices_on_its_command_line() {
    let line = "acpi=off reboot=k panic=1 pci=off quiet console=ttyS0 random.trust_cpu=on \
                virtio_mmio.device=4K@0xd0000000:5 virtio_mmio.device=4K@0xd0001000:6";
    let image = image::build("no-acpi", &["--cmdline", line, "--", "/bin/enclave-demo"]);
    let user = User::new();
    let enclave = Start::new(&image, "no-acpi").cpus(4).run(&user);
    assert_eq!(online_cpus(&enclave), 4);
    assert!(!demo::attest(&enclave, b"without ACPI").is_empty());
    demo::tell(&enclave, "exit 3");
    assert_eq!(enclave.wait().status, Some(3));
}

#[test]
#[ignore = "needs a KVM that can run a kernel"]
fn debians_stock_kernel_boots_with_its_modules_loaded_by_our_init() {
    let tool = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tools/stock-kernel");
    let printed = Command::new(tool).output().unwrap();
    assert!(printed.status.success(), "{printed:?}");
    let folder = PathBuf::from(String::from_utf8(printed.stdout).unwrap().trim_end());
    let modules = folder.join("guest-modules");
    let mut words = vec!["--kernel".to_owned(), folder.join("bzImage").to_str().unwrap().to_owned()];
    for name in fs::read_to_string(modules.join("order")).unwrap().lines() {
        words.extend(["--module".to_owned(), modules.join(name).to_str().unwrap().to_owned()]);
    }
    words.extend(["--".to_owned(), "/bin/enclave-demo".to_owned()]);
    let image = image::build("stock", &words.iter().map(String::as_str).collect::<Vec<_>>());
    let user = User::new();
    let mut start = Start::new(&image, "stock").cpus(2);
    start.memory = 512;
    let enclave = start.run(&user);
    assert_eq!(online_cpus(&enclave), 2);
    assert!(!demo::attest(&enclave, b"through a module").is_empty());
}

#[test]
#[ignore = "needs a KVM that can run a kernel"]
fn three_enclaves_run_at_once() {
    let user = User::new();
    let image = image::demo();
    let enclaves: Vec<Enclave<'_>> = std::thread::scope(|scope| {
        let starts: Vec<_> = ["first", "second", "third"]
            .into_iter()
            .map(|name| scope.spawn(|| Start::new(&image, name).run(&user)))
            .collect();
        starts.into_iter().map(|start| start.join().unwrap()).collect()
    });
    let ids: BTreeSet<_> = enclaves.iter().map(|one| one.started["EnclaveID"].as_str().unwrap()).collect();
    let cids: BTreeSet<_> = enclaves.iter().map(|one| one.started["EnclaveCID"].as_u64().unwrap()).collect();
    assert_eq!((ids.len(), cids.len()), (3, 3));
    for enclave in &enclaves {
        assert!(!demo::attest(enclave, b"each has its own").is_empty());
    }
    assert_eq!(user.describe_all().len(), 3);
    let _ = user.enclave(&["terminate", "--all"]).success();
    assert!(user.describe_all().is_empty());
}

#[test]
#[ignore = "needs a KVM that can run a kernel"]
fn a_created_enclave_runs_once_it_is_started() {
    let user = User::new();
    let created = Start::new(&image::demo(), "later").attempt(&user, "create").success().json();
    let described = user.enclave(&["describe", "later", "-o", "json"]).success().json()[0].clone();
    assert_eq!(described["State"], "CREATED");
    assert!(described["Measurements"]["PCR0"].is_string(), "{described}");
    let _ = user.enclave(&["start", "later"]).success();
    let described = user.enclave(&["describe", "later", "-o", "json"]).success().json()[0].clone();
    assert_eq!(described["State"], "RUNNING");
    assert_eq!(described["EnclaveID"], created["EnclaveID"]);
    let _ = user.enclave(&["start", "later"]).failure(&["later"]);
    let _ = user.enclave(&["terminate", "later"]).success();
}

#[test]
#[ignore = "needs a KVM that can run a kernel"]
fn starting_holds_none_of_the_callers_streams() {
    let user = User::new();
    let image = image::demo();
    let enclave = Start::new(&image, "daemon").run(&user);
    let own_session = processes::session(std::process::id()).unwrap();
    let mut family = processes::children(enclave.supervisor());
    family.push(enclave.supervisor());
    let callers: Vec<_> = [std::io::stdout().as_raw_fd(), std::io::stderr().as_raw_fd()]
        .iter()
        .map(|fd| fs::read_link(format!("/proc/self/fd/{fd}")).unwrap())
        .filter(|target| !target.starts_with("/dev/null"))
        .collect();
    for pid in family {
        assert_ne!(processes::session(pid).unwrap(), own_session, "process {pid}");
        for entry in fs::read_dir(format!("/proc/{pid}/fd")).unwrap() {
            // A descriptor that was open for a moment is gone by now.
            let Ok(target) = fs::read_link(entry.unwrap().path()) else { continue };
            assert!(!callers.contains(&target), "process {pid} holds the caller's {}", target.display());
        }
    }
}
