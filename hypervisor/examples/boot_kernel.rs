//! Boots a kernel with a ramdisk in a virtual machine process, with no enclave around it: for people who debug a kernel.
//!
//! `boot_kernel ENCLAVE-HYPERVISOR KERNEL RAMDISK VCPUS MIB COMMAND-LINE`
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a tool for debugging"
)]

use std::path::Path;

#[path = "../tests/vm_support/mod.rs"]
#[allow(missing_docs)]
mod vm_support;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let vcpus: u32 = arguments[4].parse().unwrap();
    let mib: u64 = arguments[5].parse().unwrap();
    let cpus = vec![0; usize::try_from(vcpus).unwrap()];
    let started = std::time::Instant::now();
    let vm = vm_support::Vm::prepare(Path::new(&arguments[1]), &cpus, true, true);
    let memory = vm_support::Memory::new(mib << 20);
    let ramdisk = std::fs::read(&arguments[3]).unwrap();
    let entry = memory.place(Path::new(&arguments[2]), &ramdisk, arguments[6].as_bytes(), vcpus);
    vm.boot(&memory, entry);
    eprintln!("started after {:?}", started.elapsed());
    let ended = vm.wait();
    eprintln!("{:?} after {:?}: {} {:?}", ended.reason, started.elapsed(), ended.detail, ended.reports);
}
