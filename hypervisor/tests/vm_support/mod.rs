//! Stands in for a supervisor: gives a virtual machine process its memory and answers what it asks.
#![allow(
    dead_code,
    unreachable_pub,
    missing_debug_implementations,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a part of test binaries, each of which uses another part of this"
)]

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use enclave_hypervisor::arch::boot::{Kernel, ram_ranges};
use enclave_hypervisor::channel::{Channel, pair};
use enclave_hypervisor::exit_reason::ExitReason;
use enclave_hypervisor::messages::{BootSpec, EntryPoint, FromVm, MachineSpec, MemoryRegion, ToVm};
use enclave_hypervisor::spawn::{Child, Program, spawn};
use vm_memory::{Bytes, FileOffset, GuestAddress, GuestMemoryMmap, GuestRegionMmap, MmapRegion};

/// Seconds after which a machine that should end by itself counts as hanging.
const PATIENCE_SECONDS: u64 = 60;

/// Guest memory in a memfd, as a supervisor holds it.
pub struct Memory {
    pub descriptor: OwnedFd,
    pub mapped: GuestMemoryMmap,
    pub regions: Vec<MemoryRegion>,
}

impl Memory {
    pub fn new(bytes: u64) -> Self {
        let descriptor = rustix::fs::memfd_create("guest", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        rustix::fs::ftruncate(&descriptor, bytes).unwrap();
        let file = Arc::new(File::from(descriptor.try_clone().unwrap()));
        let mut offset = 0;
        let mut regions = Vec::new();
        let mut mapped = Vec::new();
        for range in ram_ranges(bytes) {
            let mapping = MmapRegion::from_file(
                FileOffset::from_arc(Arc::clone(&file), offset),
                usize::try_from(range.length).unwrap(),
            )
            .unwrap();
            mapped.push(GuestRegionMmap::new(mapping, GuestAddress(range.guest_address)).unwrap());
            regions.push(MemoryRegion { guest_address: range.guest_address, length: range.length, offset });
            offset += range.length;
        }
        Self { descriptor, mapped: GuestMemoryMmap::from_regions(mapped).unwrap(), regions }
    }

    /// Places a kernel with its ramdisk, as the supervisor's loader does.
    pub fn place(&self, kernel: &Path, ramdisk: &[u8], command_line: &[u8], vcpus: u32) -> EntryPoint {
        let kernel = std::fs::read(kernel).unwrap();
        let bytes = self.regions.iter().map(|region| region.length).sum();
        let length = u64::try_from(ramdisk.len()).unwrap();
        let parsed = Kernel::parse(kernel.clone()).unwrap();
        let address = parsed.initrd_address(&ram_ranges(bytes), length).unwrap();
        self.mapped.write_slice(ramdisk, GuestAddress(address)).unwrap();
        self.place_bytes(kernel, command_line, Some((address, length)), vcpus)
    }

    /// Places a kernel whose ramdisk is there already.
    pub fn place_bytes(
        &self,
        kernel: Vec<u8>,
        command_line: &[u8],
        ramdisk: Option<(u64, u64)>,
        vcpus: u32,
    ) -> EntryPoint {
        Kernel::parse(kernel).unwrap().place(&self.mapped, command_line, ramdisk, vcpus).unwrap()
    }
}

/// A virtual machine process and our ends of its channels.
pub struct Vm {
    pub process: Child,
    pub channel: Channel<ToVm, FromVm>,
    pub security_module: OwnedFd,
    console: Option<JoinHandle<Vec<u8>>>,
    /// The console's pipe, where nobody reads it.
    unread: Option<OwnedFd>,
}

/// How a machine ended, and what came before.
#[derive(Debug)]
pub struct Ended {
    pub reason: ExitReason,
    pub detail: String,
    pub reports: Vec<FromVm>,
    pub console: Vec<u8>,
}

impl Ended {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.console).into_owned()
    }
}

impl Vm {
    /// Starts a process and lets it prepare a machine.
    pub fn prepare(program: &Path, cpus: &[u32], debug: bool, echo: bool) -> Self {
        let mut vm = Self::prepare_without_reader(program, cpus, debug);
        vm.console = vm.unread.take().map(|pipe| std::thread::spawn(move || collect(File::from(pipe), echo)));
        vm
    }

    /// The same, with a console that nobody reads.
    pub fn prepare_without_reader(program: &Path, cpus: &[u32], debug: bool) -> Self {
        let (ours, theirs) = pair().unwrap();
        let (security_module, theirs_too) = pair().unwrap();
        let program = Program::open(program).unwrap();
        let descriptors = [theirs.as_fd(), theirs_too.as_fd()];
        let process = spawn(&program, &["vm", "on"], &descriptors, rustix::stdio::stderr()).unwrap();
        let channel = Channel::new(ours);
        let kvm = File::options().read(true).write(true).open("/dev/kvm").unwrap();
        let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
        let spec = MachineSpec { cpus: cpus.to_vec(), guest_cid: 16, debug };
        let descriptors = if debug { vec![kvm.as_fd(), writer.as_fd()] } else { vec![kvm.as_fd()] };
        channel.send(&ToVm::Prepare(spec), &descriptors).unwrap();
        // The smallest pipe is soon full.
        rustix::pipe::fcntl_setpipe_size(&reader, 4096).unwrap();
        Self { process, channel, security_module, console: None, unread: debug.then_some(reader) }
    }

    /// Waits until the console's pipe takes nothing more.
    pub fn wait_until_console_is_full(&self) {
        let pipe = self.unread.as_ref().unwrap();
        let capacity = rustix::pipe::fcntl_getpipe_size(pipe).unwrap();
        while rustix::io::ioctl_fionread(pipe).unwrap() < u64::try_from(capacity).unwrap() {
            std::thread::yield_now();
        }
    }

    /// Closes our end of the security module's socket.
    pub fn drop_security_module(&mut self) {
        let (other, _) = pair().unwrap();
        self.security_module = other;
    }

    /// Closes the channel, as a supervisor does that dies, and waits for the process.
    pub fn hang_up(mut self) {
        let (other, _) = pair().unwrap();
        self.channel = Channel::new(other);
        assert!(self.process.wait().unwrap().success());
    }

    /// Tells the machine to boot.
    pub fn send_boot(&self, memory: &Memory, entry: EntryPoint) {
        assert_eq!(self.next(), FromVm::Prepared);
        let spec = BootSpec { regions: memory.regions.clone(), entry };
        self.channel.send(&ToVm::Boot(spec), &[memory.descriptor.as_fd()]).unwrap();
    }

    /// The next message, which must come.
    pub fn next(&self) -> FromVm {
        self.channel.receive().unwrap().expect("the process ended without a report").message
    }

    /// Lets the machine boot.
    pub fn boot(&self, memory: &Memory, entry: EntryPoint) {
        self.send_boot(memory, entry);
        assert_eq!(self.next(), FromVm::Started);
    }

    /// Refuses every connection until the machine ends.
    pub fn wait(mut self) -> Ended {
        let mut reports = Vec::new();
        loop {
            let message = self.next_in_time(&reports);
            match message {
                FromVm::Ended { reason, detail } => {
                    assert!(self.channel.receive().unwrap().is_none(), "something follows the end");
                    assert!(self.process.wait().unwrap().success() || reason == ExitReason::StartFailed);
                    let console = self.console.take().map(|thread| thread.join().unwrap());
                    return Ended { reason, detail, reports, console: console.unwrap_or_default() };
                }
                FromVm::Connect { request, .. } => {
                    self.channel.send(&ToVm::Refused { request }, &[]).unwrap();
                }
                _ => {}
            }
            reports.push(message);
        }
    }

    fn next_in_time(&mut self, reports: &[FromVm]) -> FromVm {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let patience = std::env::var("VM_TEST_PATIENCE").ok().and_then(|text| text.parse().ok());
        let limit = Timespec { tv_sec: patience.unwrap_or(PATIENCE_SECONDS).cast_signed(), tv_nsec: 0 };
        let mut channel = [PollFd::new(&self.channel, PollFlags::IN)];
        if poll(&mut channel, Some(&limit)).unwrap() == 0 {
            self.process.kill().unwrap();
            let console = self.console.take().map(|thread| thread.join().unwrap()).unwrap_or_default();
            panic!("the machine hangs after {reports:?}:\n{}", String::from_utf8_lossy(&console));
        }
        self.next()
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        let _ended = self.process.kill();
        let _reaped = self.process.wait();
    }
}

fn collect(mut pipe: File, echo: bool) -> Vec<u8> {
    let mut all = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(length @ 1..) = pipe.read(&mut buffer) {
        if echo {
            eprint!("{}", String::from_utf8_lossy(&buffer[..length]));
        }
        all.extend_from_slice(&buffer[..length]);
    }
    all
}
