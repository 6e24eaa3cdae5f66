//! Every way in which a guest, or a supervisor, ends a machine has its own reason.

use enclave_hypervisor::exit_reason::ExitReason;
use enclave_hypervisor::messages::{FromVm, ToVm};

use crate::code::Code;
use crate::guest::{self, SMALL, can_run, load, run, start};
use crate::vm_support::{Memory, Vm};

#[test]
fn a_guest_says_hello_and_resets_through_the_keyboard_controller() {
    if !can_run() {
        return;
    }
    let ended = run(&Code::new().print("Hello from the guest\n").reset());
    assert_eq!((ended.reason, ended.text()), (ExitReason::GuestReset, "Hello from the guest\n".to_owned()));
}

#[test]
fn the_keyboard_controller_takes_commands_and_has_no_data() {
    if !can_run() {
        return;
    }
    let status = Code::new().input(0x64).print_al().input(0x60).print_al();
    // Any other command does nothing.
    let ended = run(&status.out(0x64, 0xAA).print("!").reset());
    assert_eq!((ended.reason, ended.console), (ExitReason::GuestReset, vec![0, 0, b'!']));
}

#[test]
fn the_acpi_sleep_register_powers_off() {
    if !can_run() {
        return;
    }
    // Sleep type 5 in bits 2 to 4, enable in bit 5. Another type, or no enable bit, does nothing.
    let ignored = Code::new().out(0x600, 5 << 2).out(0x600, 3 << 2 | 1 << 5).print("on");
    let ended = run(&ignored.out(0x600, 5 << 2 | 1 << 5).halt());
    assert_eq!((ended.reason, ended.text()), (ExitReason::AcpiPowerOff, "on".to_owned()));
}

#[test]
fn the_acpi_reset_register_resets() {
    if !can_run() {
        return;
    }
    let ended = run(&Code::new().out(0x602, 0).print("on").out(0x602, 1).halt());
    assert_eq!((ended.reason, ended.text()), (ExitReason::AcpiReset, "on".to_owned()));
}

#[test]
fn an_exception_without_a_handler_is_a_triple_fault() {
    if !can_run() {
        return;
    }
    // ud2, with no interrupt descriptor table.
    let ended = run(&Code::new().raw(&[0x0F, 0x0B]));
    assert_eq!(ended.reason, ExitReason::TripleFault);
    // With the registers, which AMD's processors have reset by then.
    assert!(ended.detail.contains("virtual CPU 0") && ended.detail.contains("rip 0x"), "{}", ended.detail);
}

#[test]
fn an_instruction_where_there_is_no_memory_is_a_kvm_error() {
    if !can_run() {
        return;
    }
    // mov rdi, the NSM device's registers; jmp rdi: KVM has no bytes to execute or to emulate.
    let ended = run(&Code::new().rdi(0xD000_1000).raw(&[0xFF, 0xE7]));
    assert_eq!(ended.reason, ExitReason::KvmError, "{}", ended.detail);
    assert!(ended.detail.contains("rip 0xd0001000"), "{}", ended.detail);
}

#[test]
fn a_guest_that_halts_stays_until_it_is_stopped() {
    if !can_run() {
        return;
    }
    let memory = Memory::new(SMALL);
    let entry = load(&memory, &Code::new().halt());
    let vm = start(&memory, entry, 1, true);
    vm.channel.send(&ToVm::Stop, &[]).unwrap();
    assert_eq!(vm.wait().reason, ExitReason::Terminated);
}

#[test]
fn a_guest_that_spins_is_stopped_on_every_virtual_cpu() {
    if !can_run() {
        return;
    }
    let memory = Memory::new(SMALL);
    let entry = load(&memory, &Code::new().raw(&[0xEB, 0xFE]));
    let vm = start(&memory, entry, 4, false);
    vm.channel.send(&ToVm::Stop, &[]).unwrap();
    assert_eq!(vm.wait().reason, ExitReason::Terminated);
}

#[test]
fn a_full_console_stops_the_guest_and_a_stop_ends_both() {
    if !can_run() {
        return;
    }
    let memory = Memory::new(SMALL);
    // mov dx, 0x3F8; again: out dx, al; jmp again
    let entry = load(&memory, &Code::new().edx(0x3F8).raw(&[0xEE, 0xEB, 0xFD]));
    let vm = Vm::prepare_without_reader(guest::program(), &[0], true);
    vm.boot(&memory, entry);
    vm.wait_until_console_is_full();
    vm.channel.send(&ToVm::Stop, &[]).unwrap();
    assert_eq!(vm.wait().reason, ExitReason::Terminated);
}

#[test]
fn outside_debug_mode_nothing_leaves_through_the_console() {
    if !can_run() {
        return;
    }
    let memory = Memory::new(SMALL);
    let entry = load(&memory, &Code::new().print("secret").reset());
    let ended = start(&memory, entry, 1, false).wait();
    assert_eq!((ended.reason, ended.console), (ExitReason::GuestReset, Vec::new()));
}

#[test]
fn no_virtual_cpu_runs_before_it_is_told_to() {
    if !can_run() {
        return;
    }
    let vm = Vm::prepare(guest::program(), &[0, 0], true, false);
    assert_eq!(vm.next(), FromVm::Prepared);
    vm.channel.send(&ToVm::Stop, &[]).unwrap();
    let ended = vm.wait();
    assert_eq!((ended.reason, ended.console), (ExitReason::Terminated, Vec::new()));
}

#[test]
fn a_cpu_that_does_not_exist_is_refused_by_name() {
    if !can_run() {
        return;
    }
    let ended = Vm::prepare(guest::program(), &[1023], true, false).wait();
    assert_eq!(ended.reason, ExitReason::StartFailed);
    assert!(ended.detail.contains("CPU 1023"), "{}", ended.detail);
}

#[test]
fn sixty_four_virtual_cpus_are_possible() {
    if !can_run() {
        return;
    }
    let memory = Memory::new(SMALL);
    let entry = load(&memory, &Code::new().cpuid(1, 0).raw(&[0x89, 0xD8]).print_eax().reset());
    let ended = start(&memory, entry, 64, true).wait();
    assert_eq!((ended.reason, ended.console[2]), (ExitReason::GuestReset, 64));
}

#[test]
fn no_virtual_cpus_and_too_many_are_refused() {
    if !can_run() {
        return;
    }
    for count in [0, 65] {
        let ended = Vm::prepare(guest::program(), &vec![0; count], true, false).wait();
        assert_eq!(ended.reason, ExitReason::StartFailed);
        assert!(ended.detail.contains("1 to 64"), "{}", ended.detail);
    }
}

#[test]
fn memory_that_the_descriptor_does_not_have_is_refused() {
    if !can_run() {
        return;
    }
    let mut memory = Memory::new(SMALL);
    let entry = load(&memory, &Code::new().reset());
    memory.regions[0].length += 4096;
    let vm = Vm::prepare(guest::program(), &[0], true, false);
    vm.send_boot(&memory, entry);
    let ended = vm.wait();
    assert_eq!(ended.reason, ExitReason::StartFailed);
    assert!(ended.detail.contains("past the end of the descriptor"), "{}", ended.detail);
}

#[test]
fn the_process_ends_with_its_supervisor() {
    if !can_run() {
        return;
    }
    let memory = Memory::new(SMALL);
    let entry = load(&memory, &Code::new().halt());
    let vm = start(&memory, entry, 2, false);
    vm.hang_up();
}
