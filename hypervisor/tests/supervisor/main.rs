//! The supervisor with stand-ins for the virtual machine process: well-behaved ones to walk through an enclave's life,
//! hostile ones to show that a process taken over by its guest gains nothing.
//!
//! The supervisor and the security module are the real ones, as processes of their own; so are files, sockets, locks
//! and signals. This program is all three processes and the test driver at once: it is started under the name of the
//! stand-in that is to play the machine. No KVM is needed.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a failed assumption of a test is a failed test"
)]

mod harness;
mod hostile;
mod lifecycle;
mod processes;
mod stand_in;
mod world;

use std::process::ExitCode;

use enclave_hypervisor::child::{Options, give_up};
use enclave_hypervisor::inherited::take_socket;
use enclave_hypervisor::messages::{SECURITY_MODULE_FD, SUPERVISOR_FD};
use enclave_hypervisor::{security_module, supervisor};

fn main() -> ExitCode {
    let supervisor_socket = || take_socket(SUPERVISOR_FD).unwrap();
    match std::env::args().nth(1).as_deref() {
        Some("supervisor") => {
            rustix::process::setsid().unwrap();
            supervisor::run(supervisor_socket(), &stand_in::Spawner).unwrap();
        }
        Some("security-module") => {
            let (supervisor, machine) = (supervisor_socket(), take_socket(SECURITY_MODULE_FD).unwrap());
            let missing = give_up(&Options::of_this_process().unwrap(), 5, false).unwrap();
            security_module::serve(supervisor, machine, missing).unwrap();
        }
        Some("vm") => {
            let (supervisor, security_module) =
                (supervisor_socket(), take_socket(SECURITY_MODULE_FD).unwrap());
            stand_in::play(supervisor, security_module, Options::of_this_process().unwrap().user);
        }
        Some("stranger") => return processes::stranger(supervisor_socket()),
        _ => return harness::run(&[lifecycle::TESTS, processes::TESTS, hostile::TESTS]),
    }
    ExitCode::SUCCESS
}
