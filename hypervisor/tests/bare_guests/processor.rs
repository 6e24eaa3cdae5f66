//! What a guest sees and may touch of its processor, read back from inside.

use std::collections::HashMap;

use enclave_hypervisor::arch::platform;
use enclave_hypervisor::arch::x86_64::allow_list::CPUID;
use enclave_hypervisor::arch::x86_64::cpuid::CpuidTemplate;
use enclave_hypervisor::exit_reason::ExitReason;
use vm_memory::{Bytes, GuestAddress};

use crate::code::Code;
use crate::guest::{SMALL, can_run, load, run, start};
use crate::vm_support::Memory;

/// What CPUID returns in EAX, EBX, ECX, EDX.
type Registers = [u32; 4];

/// Executes CPUID in a guest with this many virtual CPUs, on the first one.
fn cpuid(leaves: &[(u32, u32)], vcpus: usize) -> Vec<Registers> {
    let code =
        leaves.iter().fold(Code::new(), |code, (leaf, subleaf)| code.cpuid(*leaf, *subleaf).print_cpuid());
    let memory = Memory::new(SMALL);
    let entry = load(&memory, &code.reset());
    let ended = start(&memory, entry, vcpus, true).wait();
    assert_eq!(ended.reason, ExitReason::GuestReset, "{}", ended.detail);
    let words: Vec<u32> =
        ended.console.chunks(4).map(|word| u32::from_le_bytes(word.try_into().unwrap())).collect();
    let read: Vec<Registers> = words.chunks(4).map(|registers| registers.try_into().unwrap()).collect();
    assert_eq!(read.len(), leaves.len());
    read
}

/// Bits that this machine's topology, or KVM at run time, writes over the list.
fn written_over(leaf: u32) -> Registers {
    match leaf {
        // APIC id and count; OSXSAVE follows CR4.
        1 => [0, u32::MAX, 1 << 27, 0],
        // OSPKE follows CR4.
        7 => [0, 0, 1 << 4, 0],
        0x8000_0008 => [0, 0, u32::MAX, 0],
        _ => [0; 4],
    }
}

/// Bits that this host's KVM sets although it was told not to. None on real hardware; a paravirtual KVM that runs
/// guest code as it is shows guests the host's leaf 1, and nobody behind it can change that.
fn forced_by_kvm() -> impl Fn(u32, u32) -> Registers {
    let kvm = kvm_ioctls::Kvm::new().unwrap();
    let told = CpuidTemplate::new(&kvm, 1).unwrap().for_vcpu(0).unwrap();
    let vm = kvm.create_vm().unwrap();
    platform::prepare(&vm).unwrap();
    let vcpu = vm.create_vcpu(0).unwrap();
    vcpu.set_cpuid2(&told).unwrap();
    let kept = vcpu.get_cpuid2(kvm_bindings::KVM_MAX_CPUID_ENTRIES).unwrap();
    let forced: HashMap<(u32, u32), Registers> = kept
        .as_slice()
        .iter()
        .zip(told.as_slice())
        .filter(|(kept, told)| (kept.function, kept.index) == (told.function, told.index))
        // The size of the XSAVE area follows XCR0.
        .filter(|(kept, _)| kept.function != 0xD)
        .map(|(kept, told)| {
            let bits =
                [kept.eax & !told.eax, kept.ebx & !told.ebx, kept.ecx & !told.ecx, kept.edx & !told.edx];
            ((kept.function, kept.index), bits)
        })
        .filter(|(_, bits)| *bits != [0; 4])
        .collect();
    if !forced.is_empty() {
        eprintln!("this host's KVM sets CPUID bits that it was told not to: {forced:x?}");
    }
    move |leaf, subleaf| forced.get(&(leaf, subleaf)).copied().unwrap_or_default()
}

#[test]
fn every_leaf_shows_no_more_than_the_list_allows() {
    if !can_run() {
        return;
    }
    let basic = (0..=0x1F).flat_map(|leaf| (0..3).map(move |subleaf| (leaf, subleaf)));
    let hypervisor = (0x4000_0000..=0x4000_0002).map(|leaf| (leaf, 0));
    let extended = (0x8000_0000..=0x8000_0022).map(|leaf| (leaf, 0));
    let leaves: Vec<(u32, u32)> = basic.chain(hypervisor).chain(extended).collect();
    let read = cpuid(&leaves, 1);
    let forced = forced_by_kvm();
    let max_basic = read[0][0];
    for ((leaf, subleaf), registers) in leaves.into_iter().zip(read) {
        // Past the end Intel's processors repeat the last leaf.
        if leaf < 0x4000_0000 && leaf > max_basic {
            continue;
        }
        let indexed = matches!(leaf, 4 | 7 | 0xB | 0xD | 0x1F | 0x8000_001D);
        let wanted = if indexed { subleaf } else { 0 };
        let allowed = CPUID
            .iter()
            .find(|rule| rule.leaf == leaf && rule.subleaves.contains(&wanted))
            .map_or([0; 4], |rule| rule.bits);
        let topology = written_over(leaf);
        let forced = forced(leaf, wanted);
        for (index, register) in registers.into_iter().enumerate() {
            let beyond = register & !allowed[index] & !topology[index] & !forced[index];
            // An invalid subleaf of a topology leaf returns its number and the APIC id.
            if matches!(leaf, 0xB | 0x1F) && subleaf > 2 {
                continue;
            }
            assert_eq!(beyond, 0, "leaf {leaf:#x}.{subleaf} register {index}: {register:#x}");
        }
    }
}

#[test]
fn what_every_guest_relies_on_is_there() {
    if !can_run() {
        return;
    }
    let read = cpuid(&[(1, 0), (0x4000_0000, 0), (0x4000_0001, 0), (0xA, 0), (0x8000_0001, 0)], 1);
    let features = read[0][2];
    assert_ne!(features & 1 << 31, 0, "a hypervisor is present");
    assert_ne!(features & 1 << 21, 0, "x2APIC");
    assert_ne!(features & 1 << 24, 0, "TSC deadline");
    assert_eq!(features & 1 << 5, 0, "no VMX");
    let signature: Vec<u8> = read[1][1..].iter().flat_map(|word| word.to_le_bytes()).collect();
    assert_eq!(signature, b"KVMKVMKVM\0\0\0");
    assert_eq!(read[1][0], 0x4000_0001);
    assert_ne!(read[2][0] & 1 << 3, 0, "kvm-clock");
    assert_eq!(read[3], [0; 4], "no performance counters");
    assert_eq!(read[4][2] & 1 << 2, 0, "no SVM");
}

#[test]
fn the_topology_has_a_core_for_each_virtual_cpu() {
    if !can_run() {
        return;
    }
    let forced = forced_by_kvm();
    for (vcpus, bits) in [(1u32, 0), (2, 1), (3, 2), (4, 2)] {
        let read = cpuid(&[(0, 0), (1, 0), (0xB, 0), (0xB, 1), (0xB, 2)], usize::try_from(vcpus).unwrap());
        assert_eq!(read[1][1] >> 16, vcpus, "APIC id 0, and how many");
        let htt = read[1][3] >> 28 & 1;
        assert!(htt == u32::from(vcpus > 1) || forced(1, 0)[3] >> 28 & 1 == 1, "HTT");
        if read[0][0] >= 0xB {
            assert_eq!(read[2], [0, 1, 1 << 8, 0]);
            assert_eq!(read[3], [bits, vcpus, 2 << 8 | 1, 0]);
            assert_eq!(read[4], [0, 0, 2, 0]);
        }
    }
}

#[test]
fn every_virtual_cpu_starts_and_knows_its_number() {
    if !can_run() {
        return;
    }
    // At 0x8000 in real mode: wait for the turn (the byte at 0x4000 is our number), print it, pass the turn on.
    //   mov eax, 1; cpuid; shr ebx, 24; again: cmp [0x4000], bl; jne again;
    //   mov al, bl; mov dx, 0x3F8; out dx, al; inc byte [0x4000]; hlt
    let real_mode = [
        0x66, 0xB8, 1, 0, 0, 0, 0x0F, 0xA2, 0x66, 0xC1, 0xEB, 24, 0x38, 0x1E, 0x00, 0x40, 0x75, 0xFA, 0x88,
        0xD8, 0xBA, 0xF8, 0x03, 0xEE, 0xFE, 0x06, 0x00, 0x40, 0xF4,
    ];
    // INIT, then start-up at 0x8000, to all others, by the interrupt command register.
    let code = Code::new()
        .store(0x4000, 1)
        .store(0xFEE0_00F0, 0x1FF)
        .store(0xFEE0_0300, 0xC_4500)
        .store(0xFEE0_0300, 0xC_4608)
        .wait_for(0x4000, 4)
        .reset();
    let memory = Memory::new(SMALL);
    let entry = load(&memory, &code);
    memory.mapped.write_slice(&real_mode, GuestAddress(0x8000)).unwrap();
    let ended = start(&memory, entry, 4, true).wait();
    assert_eq!((ended.reason, ended.console), (ExitReason::GuestReset, vec![1, 2, 3]));
}

#[test]
fn a_listed_msr_can_be_read() {
    if !can_run() {
        return;
    }
    // EFER: long mode is active.
    let ended = run(&Code::new().read_msr(0xC000_0080).print_eax().reset());
    assert_eq!(ended.reason, ExitReason::GuestReset, "{}", ended.detail);
    let efer = u32::from_le_bytes(ended.console.try_into().unwrap());
    assert_eq!(efer & 0x500, 0x500);
}

#[test]
fn an_msr_outside_the_list_faults() {
    if !can_run() {
        return;
    }
    // A performance counter; the first form of kvm-clock; SVM's switch; a number that means nothing.
    for number in [0xC1, 0x12, 0xC001_0114, 0x9999_9999] {
        let read = run(&Code::new().read_msr(number).print("read").reset());
        assert_eq!((read.reason, read.text()), (ExitReason::TripleFault, String::new()), "rdmsr {number:#x}");
        let written = run(&Code::new().write_msr_zero(number).print("written").reset());
        assert_eq!(
            (written.reason, written.text()),
            (ExitReason::TripleFault, String::new()),
            "wrmsr {number:#x}"
        );
    }
}
