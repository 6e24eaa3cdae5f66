//! vsock from the guest's first packet to what the supervisor hears.

use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use enclave_hypervisor::exit_reason::ExitReason;
use enclave_hypervisor::messages::{ApplicationEnd, FromVm, ToVm};
use rustix::process::{Pid, Resource, Rlimit};
use vm_memory::{Bytes, GuestAddress};

use crate::code::Code;
use crate::driver::{Rings, drive};
use crate::guest::{SMALL, can_run, load, start};
use crate::vm_support::{Memory, Vm};

/// Registers of the vsock device, and its queues.
const VSOCK: u64 = 0xD000_0000;
const QUEUES: u32 = 3;
const RECEIVE: u64 = 0;
const TRANSMIT: u64 = 1;
/// Queues to notify: buffers to receive into first.
const BOTH: [u32; 2] = [0, 1];

/// Operations (VIRTIO 1.2 section 5.10.6).
const REQUEST: u16 = 1;
const RESET: u16 = 3;
const DATA: u16 = 5;

/// Guest memory for buffers.
const RECEIVED: u64 = 0x30_0000;
const SENT: u64 = 0x31_0000;

/// A packet from our port 1024.
fn packet(cid: u64, port: u32, operation: u16, data: &[u8]) -> Vec<u8> {
    let mut packet = Vec::new();
    packet.extend_from_slice(&16u64.to_le_bytes());
    packet.extend_from_slice(&cid.to_le_bytes());
    packet.extend_from_slice(&1024u32.to_le_bytes());
    packet.extend_from_slice(&port.to_le_bytes());
    packet.extend_from_slice(&u32::try_from(data.len()).unwrap().to_le_bytes());
    packet.extend_from_slice(&1u16.to_le_bytes());
    packet.extend_from_slice(&operation.to_le_bytes());
    for field in [0, 0x1_0000, 0u32] {
        packet.extend_from_slice(&field.to_le_bytes()); // flags, buffer, forwarded
    }
    packet.extend_from_slice(data);
    packet
}

/// Puts packets into the transmit queue and two buffers into the receive queue.
fn prepare(memory: &Memory, packets: &[Vec<u8>]) {
    let receive = Rings::of(RECEIVE);
    receive.describe(memory, &[(RECEIVED, 0x1000, true), (RECEIVED + 0x1000, 0x1000, true)]);
    receive.offer(memory, &[0, 1]);
    let transmit = Rings::of(TRANSMIT);
    let mut buffers = Vec::new();
    for (packet, address) in packets.iter().zip((SENT..).step_by(0x1000)) {
        memory.mapped.write_slice(packet, GuestAddress(address)).unwrap();
        buffers.push((address, u32::try_from(packet.len()).unwrap(), false));
    }
    transmit.describe(memory, &buffers);
    transmit.offer(memory, &[0, 1][..packets.len()]);
}

#[test]
fn how_the_application_ended_is_known_before_the_machine_ended() {
    if !can_run() {
        return;
    }
    // The guest says it and resets the machine at once, waiting for nothing.
    for _ in 0..10 {
        let memory = Memory::new(SMALL);
        prepare(&memory, &[packet(2, 9001, REQUEST, b""), packet(2, 9001, DATA, b"exited 3\n")]);
        let entry = load(&memory, &drive(VSOCK, QUEUES, &BOTH).reset());
        let ended = start(&memory, entry, 1, true).wait();
        assert_eq!(ended.reason, ExitReason::GuestReset);
        assert_eq!(ended.reports, [FromVm::ApplicationEnded(ApplicationEnd::Exited(3))]);
    }
}

#[test]
fn the_heartbeat_is_reported_once() {
    if !can_run() {
        return;
    }
    let memory = Memory::new(SMALL);
    prepare(&memory, &[packet(3, 9000, REQUEST, b""), packet(3, 9000, DATA, &[0xB7])]);
    let entry = load(&memory, &drive(VSOCK, QUEUES, &BOTH).reset());
    assert_eq!(start(&memory, entry, 1, true).wait().reports, [FromVm::Heartbeat]);
}

/// A guest that asks for port 4711 of the host and resets the machine once it is answered.
fn asks_for_a_port(memory: &Memory) -> Code {
    prepare(memory, &[packet(3, 4711, REQUEST, b"")]);
    // Until the device has used one receive buffer, the first: index 1, and the entry's descriptor 0 after it. The flags
    // before it may ask for silence.
    drive(VSOCK, QUEUES, &BOTH).wait_for(Rings::of(RECEIVE).used + 2, 1).reset()
}

#[test]
fn a_port_that_the_supervisor_cannot_reach_is_refused_to_the_guest() {
    if !can_run() {
        return;
    }
    let memory = Memory::new(SMALL);
    let entry = load(&memory, &asks_for_a_port(&memory));
    let ended = start(&memory, entry, 1, true).wait();
    assert!(matches!(ended.reports[..], [FromVm::Connect { port: 4711, .. }]), "{:?}", ended.reports);
    assert_eq!(Rings::of(RECEIVE).used_entry(&memory, 0), (0, 44));
    let mut header = [0; 44];
    memory.mapped.read_slice(&mut header, GuestAddress(RECEIVED)).unwrap();
    assert_eq!(header[30..32], RESET.to_le_bytes());
    assert_eq!((header[0], header[8]), (3, 16), "from the address that the guest used");
}

/// From now on the process can receive no descriptor: those below the limit are its standard streams. It can still wait for two at a
/// time, which poll(2) has the same limit for.
fn leave_no_room(vm: &Vm) {
    let limit = Rlimit { current: Some(3), maximum: Some(3) };
    rustix::process::prlimit(Pid::from_raw(vm.process.id().cast_signed()), Resource::Nofile, limit).unwrap();
}

#[test]
fn a_process_without_room_for_descriptors_closes_what_it_cannot_take_and_goes_on() {
    if !can_run() {
        return;
    }
    let memory = Memory::new(SMALL);
    let entry = load(&memory, &Code::new().halt());
    let vm = start(&memory, entry, 1, true);
    leave_no_room(&vm);
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    vm.channel.send(&ToVm::Incoming, &[theirs.as_fd()]).unwrap();
    drop(theirs);
    assert_eq!(ours.read(&mut [0]).unwrap(), 0);
    vm.channel.send(&ToVm::Stop, &[]).unwrap();
    assert_eq!(vm.wait().reason, ExitReason::Terminated);
}

#[test]
fn a_connection_for_which_there_is_no_room_is_refused_to_the_guest() {
    if !can_run() {
        return;
    }
    let memory = Memory::new(SMALL);
    let entry = load(&memory, &asks_for_a_port(&memory));
    let vm = start(&memory, entry, 1, true);
    let FromVm::Connect { request, .. } = vm.next() else { panic!("no connection was asked for") };
    leave_no_room(&vm);
    let (_ours, theirs) = UnixStream::pair().unwrap();
    vm.channel.send(&ToVm::Connected { request }, &[theirs.as_fd()]).unwrap();
    assert_eq!(vm.wait().reason, ExitReason::GuestReset);
    assert_eq!(memory.mapped.read_obj::<u16>(GuestAddress(RECEIVED + 30)).unwrap(), RESET);
}
