//! The life of the process by its supervisor's messages: prepare, boot, run, end.
//!
//! What the guest reported is sent before the machine's end is, since the report's thread is waited for in between.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::thread::JoinHandle;

use rustix::event::PollFlags;
use virtio::VirtioDevice;
use virtio::mmio::{MmioTransport, registers};
use vm_memory::GuestMemoryMmap;
use vsock_device::{ConnectRequest, GuestReport, HostEvent, VsockDevice};

use super::console::Console;
use super::error::VmError;
use super::host_end::{Arrivals, Supervisor, UnixHostEnd};
use super::machine::{Machine, MmioDevice};
use super::nsm::NsmDevice;
use super::partition::Partition;
use super::stop::{Ending, Stop};
use super::vcpu::Vcpus;
use super::worker;
use crate::arch::layout::{COM1_INTERRUPT, virtio_mmio_address, virtio_mmio_interrupt};
use crate::exit_reason::ExitReason;
use crate::memory;
use crate::messages::{ApplicationEnd, BootSpec, FromVm, MachineSpec, ToVm};
use crate::system_calls;

/// Serves one machine. Returns once it has ended and the supervisor was told why, or once the supervisor is gone.
///
/// # Errors
/// What kept the machine from starting; the supervisor was told that as well, if it can be.
pub(super) fn serve(supervisor: Supervisor, security_module: OwnedFd) -> Result<(), VmError> {
    let supervisor = Arc::new(supervisor);
    let result = run(&supervisor, security_module);
    let ending = match &result {
        Ok(None) => return Ok(()),
        Ok(Some(ending)) => ending.clone(),
        Err(error) => Ending::new(ExitReason::StartFailed, error.to_string()),
    };
    let sent = supervisor.send(&FromVm::Ended { reason: ending.reason, detail: ending.detail }, &[]);
    result?;
    Ok(sent?)
}

/// All of it. `None` if the supervisor is gone: then nobody is left to tell.
fn run(supervisor: &Arc<Supervisor>, security_module: OwnedFd) -> Result<Option<Ending>, VmError> {
    let Some(prepared) = prepare(supervisor)? else { return Ok(None) };
    supervisor.send(&FromVm::Prepared, &[])?;
    let Some(received) = supervisor.receive()? else { return Ok(None) };
    let boot = match received.message {
        ToVm::Boot(boot) => boot,
        ToVm::Stop => return Ok(Some(stopped())),
        _ => return Err(VmError::Protocol("the machine was prepared and is not told to boot")),
    };
    let memory = one(received.descriptors)
        .ok_or(VmError::Protocol("it must come with one descriptor, the guest's memory"))?;
    prepared.boot(&boot, memory, security_module, supervisor)?.attend(supervisor)
}

/// A machine that has all but its memory.
struct Prepared {
    stop: Arc<Stop>,
    partition: Partition,
    vcpus: Vcpus,
    console: Console,
    guest_cid: u32,
}

/// Waits for the machine's description and makes everything that needs no memory.
fn prepare(supervisor: &Supervisor) -> Result<Option<Prepared>, VmError> {
    let Some(received) = supervisor.receive()? else { return Ok(None) };
    let ToVm::Prepare(MachineSpec { cpus, guest_cid, debug }) = received.message else {
        return Err(VmError::Protocol("the first message must be the machine's description"));
    };
    let mut descriptors = received.descriptors.into_iter();
    let (kvm, pipe) = match (debug, descriptors.next(), descriptors.next(), descriptors.next()) {
        (false, Some(kvm), None, None) => (kvm, None),
        (true, Some(kvm), Some(pipe), None) => (kvm, Some(pipe)),
        _ => return Err(VmError::Protocol("the machine comes with other descriptors than it needs")),
    };
    let stop = Arc::new(Stop::new()?);
    let (partition, vcpus) = Partition::new(kvm, cpus.len())?;
    let console = Console::new(partition.interrupt(COM1_INTERRUPT)?, pipe, Arc::clone(&stop))?;
    let vcpus = Vcpus::prepare(vcpus, &cpus, &stop)?;
    Ok(Some(Prepared { stop, partition, vcpus, console, guest_cid }))
}

impl Prepared {
    /// Connects memory and devices, and lets the guest run.
    fn boot(
        mut self,
        spec: &BootSpec,
        memory: OwnedFd,
        security_module: OwnedFd,
        supervisor: &Arc<Supervisor>,
    ) -> Result<Running, VmError> {
        let (memory, _protection) = memory::map(memory, &spec.regions)?;
        self.partition.set_memory(memory.clone())?;
        let arrivals = Arrivals::new()?;
        let host_end = UnixHostEnd::new(Arc::clone(supervisor), Arc::clone(&arrivals));
        let vsock = VsockDevice::new(self.guest_cid, host_end, reporter(supervisor))
            .map_err(|error| VmError::Device(error.to_string()))?;
        let nsm = NsmDevice::new(security_module).map_err(VmError::system("making the NSM device"))?;
        // The order decides the addresses: layout.rs.
        let devices: Vec<Arc<dyn MmioDevice>> =
            vec![self.connect(0, vsock, &memory)?, self.connect(1, nsm, &memory)?];
        let workers = ["virtio-vsock", "virtio-nsm"]
            .into_iter()
            .zip(&devices)
            .map(|(name, device)| worker::spawn(name, Arc::clone(device), Arc::clone(&self.stop)))
            .collect::<Result<Vec<_>, _>>()?;
        let machine = Arc::new(Machine::new(self.console, devices));
        // Before the guest can have anything reported.
        supervisor.send(&FromVm::Started, &[])?;
        self.vcpus.start(&machine, spec.entry);
        Ok(Running { stop: self.stop, _partition: self.partition, vcpus: self.vcpus, workers, arrivals })
    }

    /// Puts a device behind the registers number `index`.
    fn connect<D: VirtioDevice + 'static>(
        &self,
        index: u32,
        device: D,
        memory: &GuestMemoryMmap,
    ) -> Result<Arc<dyn MmioDevice>, VmError> {
        let notify = virtio_mmio_address(index).saturating_add(registers::QUEUE_NOTIFY);
        let kicks = (0u32..)
            .zip(device.queue_max_sizes())
            .map(|(queue, _)| self.partition.notification(notify, queue))
            .collect::<Result<Vec<_>, _>>()?;
        let interrupt = self.partition.interrupt(virtio_mmio_interrupt(index))?;
        let transport = MmioTransport::new(device, memory.clone(), interrupt, kicks)
            .map_err(|error| VmError::Device(error.to_string()))?;
        Ok(Arc::new(transport))
    }
}

/// Passes on what the guest's init reports.
fn reporter(supervisor: &Arc<Supervisor>) -> Box<dyn FnMut(GuestReport) + Send> {
    let supervisor = Arc::clone(supervisor);
    Box::new(move |report| {
        let message = match report {
            GuestReport::Heartbeat => FromVm::Heartbeat,
            GuestReport::ApplicationEnded(end) => FromVm::ApplicationEnded(translate(end)),
        };
        if let Err(error) = supervisor.send(&message, &[]) {
            tracing::warn!(%error, "a report of the guest's was lost");
        }
    })
}

fn translate(end: vsock_device::ApplicationEnd) -> ApplicationEnd {
    match end {
        vsock_device::ApplicationEnd::Exited(status) => ApplicationEnd::Exited(status),
        vsock_device::ApplicationEnd::Signalled(signal) => ApplicationEnd::Signalled(signal),
        vsock_device::ApplicationEnd::Failed(text) => ApplicationEnd::Failed(text),
    }
}

/// A machine whose guest runs.
struct Running {
    stop: Arc<Stop>,
    vcpus: Vcpus,
    workers: Vec<JoinHandle<()>>,
    arrivals: Arc<Arrivals>,
    /// Keeps the memory mapped. After the threads, so that it goes last.
    _partition: Partition,
}

impl Running {
    /// Serves the supervisor until the machine ends. `None` if the supervisor is gone.
    fn attend(self, supervisor: &Supervisor) -> Result<Option<Ending>, VmError> {
        let asked =
            system_calls::attendant().enforce().map_err(VmError::from).and_then(|()| self.listen(supervisor));
        self.vcpus.end();
        for worker in self.workers {
            if worker.join().is_err() {
                tracing::error!("a device's thread panicked");
            }
        }
        let asked = asked?;
        // What the guest did in the meantime counts more than what it was told.
        Ok(match (self.stop.ending(), asked) {
            (_, Asked::Gone) => None,
            (Some(ending), _) => Some(ending),
            (None, _) => Some(stopped()),
        })
    }

    fn listen(&self, supervisor: &Supervisor) -> Result<Asked, VmError> {
        while self.stop.wait_for(supervisor.as_fd(), PollFlags::IN) {
            if let Some(asked) = self.take_message(supervisor)? {
                return Ok(asked);
            }
        }
        Ok(Asked::Nothing)
    }

    /// Takes one message. Returns what it asks for, if that concerns the whole machine.
    fn take_message(&self, supervisor: &Supervisor) -> Result<Option<Asked>, VmError> {
        let Some(received) = supervisor.receive()? else { return Ok(Some(Asked::Gone)) };
        let stream = one(received.descriptors);
        match (received.message, stream) {
            (ToVm::Connected { request }, Some(stream)) => {
                self.arrivals.push(HostEvent::Connected { request: ConnectRequest(request), stream });
            }
            // Without its stream, where this process may hold no more descriptors.
            (ToVm::Refused { request } | ToVm::Connected { request }, None) => {
                self.arrivals.push(HostEvent::Refused { request: ConnectRequest(request) });
            }
            (ToVm::Incoming, Some(stream)) => self.arrivals.push(HostEvent::Incoming { stream }),
            // The host program sees it closed.
            (ToVm::Incoming, None) => tracing::warn!("no room for another connection's descriptor"),
            (ToVm::Stop, None) => return Ok(Some(Asked::Stop)),
            _ => return Err(VmError::Protocol("a running machine does not expect it")),
        }
        Ok(None)
    }
}

/// What the supervisor wants of the whole machine.
#[derive(Debug, Clone, Copy)]
enum Asked {
    Nothing,
    Stop,
    Gone,
}

fn stopped() -> Ending {
    Ending::new(ExitReason::Terminated, "the supervisor stopped the machine")
}

/// The only descriptor, if there is exactly one.
fn one(descriptors: Vec<OwnedFd>) -> Option<OwnedFd> {
    let mut descriptors = descriptors.into_iter();
    descriptors.next().filter(|_| descriptors.next().is_none())
}
