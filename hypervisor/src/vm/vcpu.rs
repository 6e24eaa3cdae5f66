//! Virtual CPUs: one thread each, on the host CPU it was given, running guest code until the machine ends.
#![expect(unsafe_code, reason = "a signal handler interrupts KVM_RUN, and KVM's run structure is a union")]

use core::cell::Cell;
use core::ptr;
use std::io;
use std::os::unix::thread::JoinHandleExt;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{Builder, JoinHandle};

use kvm_ioctls::{VcpuExit, VcpuFd};
use rustix::thread::{CpuSet, sched_setaffinity};

use super::error::VmError;
use super::machine::Machine;
use super::stop::{Ending, Stop};
use super::worker::STACK;
use crate::arch::processor;
use crate::exit_reason::ExitReason;
use crate::messages::EntryPoint;
use crate::system_calls;

/// The threads of all virtual CPUs. Dropping this without [`Vcpus::start`] ends them before they ran anything.
#[derive(Debug)]
pub(super) struct Vcpus {
    threads: Vec<Thread>,
    stop: Arc<Stop>,
}

#[derive(Debug)]
struct Thread {
    handle: JoinHandle<()>,
    start: Sender<Start>,
}

/// What a virtual CPU gets when the machine starts.
struct Start {
    machine: Arc<Machine>,
    /// For the first one; the guest starts the others.
    entry: Option<EntryPoint>,
}

impl Vcpus {
    /// Starts a thread for each virtual CPU, on the host CPUs of the same position. They wait for [`Self::start`].
    pub(super) fn prepare(vcpus: Vec<VcpuFd>, cpus: &[u32], stop: &Arc<Stop>) -> Result<Self, VmError> {
        install_signal_handler()?;
        let (ready, readiness) = channel();
        let threads = (0u32..)
            .zip(vcpus)
            .zip(cpus)
            .map(|((index, vcpu), &cpu)| spawn(index, vcpu, cpu, Arc::clone(stop), ready.clone()))
            .collect::<Result<Vec<_>, _>>()?;
        // With this and the threads' own copies gone, a thread that dies ends the wait.
        drop(ready);
        for _ in &threads {
            readiness.recv().map_err(|_| VmError::Protocol("a virtual CPU's thread died"))??;
        }
        Ok(Self { threads, stop: Arc::clone(stop) })
    }

    /// Lets the guest run.
    pub(super) fn start(&self, machine: &Arc<Machine>, entry: EntryPoint) {
        let mut entry = Some(entry);
        for thread in &self.threads {
            // A thread that is gone has ended the machine.
            let _gone =
                thread.start.send(Start { machine: Arc::clone(machine), entry: entry.take() }).is_err();
        }
    }

    /// Ends the machine, wherever its virtual CPUs are, and waits for their threads.
    pub(super) fn end(self) {
        self.stop.request();
        for thread in &self.threads {
            // SAFETY: the thread has not been joined, so its number is valid even if it has ended.
            let _ended = unsafe { libc::pthread_kill(thread.handle.as_pthread_t(), kick_signal()) };
        }
        for thread in self.threads {
            drop(thread.start);
            if thread.handle.join().is_err() {
                tracing::error!("a virtual CPU's thread panicked");
            }
        }
    }
}

fn spawn(
    index: u32,
    vcpu: VcpuFd,
    cpu: u32,
    stop: Arc<Stop>,
    ready: Sender<Result<(), VmError>>,
) -> Result<Thread, VmError> {
    let (start, started) = channel();
    let handle = Builder::new()
        .name(format!("vcpu{index}"))
        .stack_size(STACK)
        .spawn(move || {
            let pinned = pin(index, cpu);
            let failed = pinned.is_err();
            // Whoever waited for this is gone: so will be the other channel.
            let _gone = ready.send(pinned).is_err();
            drop(ready);
            if !failed {
                live(index, vcpu, &started, &stop);
            }
        })
        .map_err(VmError::system("starting a virtual CPU's thread"))?;
    Ok(Thread { handle, start })
}

/// Binds this thread to one host CPU.
fn pin(vcpu: u32, cpu: u32) -> Result<(), VmError> {
    let refused = |source| VmError::Affinity { vcpu, cpu, source };
    let number = usize::try_from(cpu)
        .ok()
        .filter(|number| *number < CpuSet::MAX_CPU)
        .ok_or_else(|| refused(io::ErrorKind::InvalidInput.into()))?;
    let mut set = CpuSet::new();
    set.set(number);
    sched_setaffinity(None, &set).map_err(|errno| refused(errno.into()))
}

/// The life of a virtual CPU's thread once it is where it belongs.
fn live(index: u32, mut vcpu: VcpuFd, started: &Receiver<Start>, stop: &Stop) {
    let Ok(Start { machine, entry }) = started.recv() else {
        return;
    };
    // From here on this thread hears the guest.
    if let Err(error) = system_calls::virtual_cpu().narrow() {
        stop.end(Ending::new(ExitReason::StartFailed, error.to_string()));
        return;
    }
    if let Some(entry) = entry
        && let Err(error) = processor::enter(&vcpu, entry)
    {
        stop.end(Ending::new(ExitReason::StartFailed, error.to_string()));
        return;
    }
    let _interruptible = Interruptible::new(&mut vcpu);
    if let Some(ending) = run(&mut vcpu, &machine, stop) {
        let detail = match ending.reason {
            ExitReason::KvmError | ExitReason::TripleFault => {
                format!("virtual CPU {index}: {}; {}", ending.detail, processor::describe(&vcpu))
            }
            _ => ending.detail,
        };
        stop.end(Ending { detail, ..ending });
    }
}

/// Runs guest code until the machine ends, and says why if it is this virtual CPU that ends it.
fn run(vcpu: &mut VcpuFd, machine: &Machine, stop: &Stop) -> Option<Ending> {
    while !stop.is_requested() {
        let ending = match vcpu.run() {
            Ok(VcpuExit::InternalError) => Some(describe_internal_error(vcpu)),
            Ok(exit) => handle(exit, machine),
            // A signal, or a virtual CPU that the guest has not started yet.
            Err(error) if matches!(error.errno(), libc::EINTR | libc::EAGAIN) => None,
            Err(error) => Some(kvm_error(format!("KVM_RUN failed: {}", io::Error::from(error)))),
        };
        if ending.is_some() {
            return ending;
        }
    }
    None
}

/// Serves one exit from the guest.
fn handle(exit: VcpuExit<'_>, machine: &Machine) -> Option<Ending> {
    match exit {
        VcpuExit::IoIn(port, data) => machine.read_port(port, data),
        VcpuExit::IoOut(port, data) => {
            let reason = machine.write_port(port, data)?;
            return Some(Ending::new(reason, String::new()));
        }
        VcpuExit::MmioRead(address, data) => machine.read_memory(address, data),
        VcpuExit::MmioWrite(address, data) => machine.write_memory(address, data),
        // Nothing to do but to look whether the machine has ended.
        VcpuExit::Intr | VcpuExit::Hlt | VcpuExit::IrqWindowOpen => {}
        VcpuExit::Shutdown => {
            return Some(Ending::new(ExitReason::TripleFault, "an exception could not be delivered"));
        }
        VcpuExit::FailEntry(reason, cpu) => {
            return Some(kvm_error(format!(
                "the processor refused to enter the guest: {reason:#x} on CPU {cpu}"
            )));
        }
        other => return Some(kvm_error(format!("an exit that no machine of ours causes: {other:?}"))),
    }
    None
}

fn kvm_error(detail: String) -> Ending {
    Ending::new(ExitReason::KvmError, detail)
}

/// KVM's own words on an internal error. The first one is usually an instruction that it could not emulate.
fn describe_internal_error(vcpu: &mut VcpuFd) -> Ending {
    // SAFETY: this member of the union is valid after KVM_EXIT_INTERNAL_ERROR; all its bit patterns are.
    let error = unsafe { vcpu.get_kvm_run().__bindgen_anon_1.internal };
    let count = usize::try_from(error.ndata).unwrap_or_default().min(error.data.len());
    let data: Vec<String> = error.data.iter().take(count).map(|word| format!("{word:#x}")).collect();
    kvm_error(format!("KVM internal error {} [{}]", error.suberror, data.join(" ")))
}

thread_local! {
    /// `immediate_exit` of the virtual CPU that this thread runs.
    static IMMEDIATE_EXIT: Cell<*mut u8> = const { Cell::new(ptr::null_mut()) };
}

/// While this lives, the kick signal makes the thread's next or current KVM_RUN return.
struct Interruptible;

impl Interruptible {
    fn new(vcpu: &mut VcpuFd) -> Self {
        IMMEDIATE_EXIT.set(&raw mut vcpu.get_kvm_run().immediate_exit);
        Self
    }
}

impl Drop for Interruptible {
    fn drop(&mut self) {
        IMMEDIATE_EXIT.set(ptr::null_mut());
    }
}

fn kick_signal() -> libc::c_int {
    libc::SIGRTMIN()
}

/// A signal that comes between the last look at the switch and KVM_RUN would be lost; this makes it stick. The
/// machine ends with the first kick, so nothing ever resets it.
extern "C" fn on_kick(_signal: libc::c_int) {
    let immediate_exit = IMMEDIATE_EXIT.get();
    if !immediate_exit.is_null() {
        // SAFETY: the pointer is this thread's own, and is removed before the virtual CPU is dropped.
        unsafe { immediate_exit.write_volatile(1) };
    }
}

fn install_signal_handler() -> Result<(), VmError> {
    // SAFETY: the handler only touches its own thread's memory, without allocating. No SA_RESTART: system calls are to
    // be interrupted. A zeroed sigaction is valid.
    let result = unsafe {
        let mut action: libc::sigaction = core::mem::zeroed();
        action.sa_sigaction = on_kick as extern "C" fn(libc::c_int) as usize;
        libc::sigaction(kick_signal(), &raw const action, ptr::null_mut())
    };
    if result == 0 {
        Ok(())
    } else {
        Err(VmError::system("installing the kick signal's handler")(io::Error::last_os_error()))
    }
}
