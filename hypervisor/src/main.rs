//! `enclave-hypervisor`: one binary, three processes, chosen by the first argument.
//!
//! `enclave` starts the supervisor, which starts the other two. Each is given its descriptors by number and gives up
//! everything else before it does anything.

use std::process::ExitCode;

use containment::Containment;
use enclave_hypervisor::inherited::take_socket;
use enclave_hypervisor::messages::{SECURITY_MODULE_FD, SUPERVISOR_FD};
use enclave_hypervisor::{security_module, supervisor, system_calls, vm};

/// Exit status after a usage error.
const USAGE: u8 = 2;

type Outcome = Result<(), Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    // The children are started through a descriptor, whose name the kernel would show.
    let _only_for_lists_of_processes = rustix::thread::set_name(c"enclave-hypervisor");
    let role = std::env::args().nth(1);
    let outcome = match role.as_deref() {
        Some("supervisor") => run_supervisor(),
        Some("vm") => run_machine(),
        Some("security-module") => run_security_module(),
        Some("containment") => try_containment(),
        _ => return usage(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if is_not_inherited(error.as_ref()) => usage(),
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run_supervisor() -> Outcome {
    let starter = take_socket(SUPERVISOR_FD)?;
    // A session of its own: the starting command's terminal sends it no signals.
    rustix::process::setsid()?;
    Containment {
        first_closed_descriptor: after(SUPERVISOR_FD)?,
        dies_with_parent: false,
        writes_files: true,
        locks_memory: false,
        isolated: false,
    }
    .enter()?;
    containment::raise_descriptor_limit()?;
    Ok(supervisor::run(starter, &supervisor::OwnProgram)?)
}

fn run_machine() -> Outcome {
    let (supervisor, security_module) = (take_socket(SUPERVISOR_FD)?, take_socket(SECURITY_MODULE_FD)?);
    let missing = isolate(false)?;
    system_calls::machine().enforce()?;
    Ok(vm::run(supervisor, security_module, missing)?)
}

fn run_security_module() -> Outcome {
    let (supervisor, machine) = (take_socket(SUPERVISOR_FD)?, take_socket(SECURITY_MODULE_FD)?);
    let missing = isolate(true)?;
    system_calls::security_module().enforce()?;
    Ok(security_module::serve(supervisor, machine, missing)?)
}

/// Takes every measure that this host allows, says on standard output which it does not, and ends: for `enclave doctor`.
fn try_containment() -> Outcome {
    let missing = isolate(false)?;
    system_calls::security_module().enforce()?;
    for measure in missing {
        println!("{measure}");
    }
    Ok(())
}

/// Gives up everything but the two channels and standard error. Tells what this host does not allow.
fn isolate(locks_memory: bool) -> Result<Vec<String>, Box<dyn std::error::Error>> {
    let first_closed_descriptor = after(SECURITY_MODULE_FD)?;
    let missing = Containment {
        first_closed_descriptor,
        dies_with_parent: true,
        writes_files: false,
        locks_memory,
        isolated: true,
    }
    .enter()?;
    Ok(missing.iter().map(ToString::to_string).collect())
}

/// The first descriptor that is not this process's.
fn after(last: i32) -> Result<u32, std::num::TryFromIntError> {
    Ok(u32::try_from(last)?.saturating_add(1))
}

/// Whether the descriptors were missing that `enclave` would have given.
fn is_not_inherited(error: &(dyn std::error::Error + 'static)) -> bool {
    error
        .downcast_ref::<std::io::Error>()
        .is_some_and(|error| error.raw_os_error().is_none() && error.kind() == std::io::ErrorKind::NotFound)
}

fn usage() -> ExitCode {
    eprintln!(
        "enclave-hypervisor runs the processes of an enclave. It is not started by hand: use `enclave run`, or \
         `enclave --help` for everything else."
    );
    ExitCode::from(USAGE)
}
