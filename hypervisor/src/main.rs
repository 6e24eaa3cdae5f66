//! `enclave-hypervisor`: one binary, three processes, chosen by the first argument.
//!
//! `enclave` starts the supervisor, which starts the other two. Each is given its descriptors by number and gives up
//! everything else before it does anything.

use std::os::fd::AsFd;
use std::path::Path;
use std::process::ExitCode;

use containment::{Containment, Measure};
use enclave_hypervisor::channel::Channel;
use enclave_hypervisor::child::{Options, give_up};
use enclave_hypervisor::inherited::take_socket;
use enclave_hypervisor::messages::{SECURITY_MODULE_FD, SUPERVISOR_FD};
use enclave_hypervisor::spawn::{Program, null, spawn};
use enclave_hypervisor::{containment_trial, security_module, supervisor, system_calls, vm};

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
        Some("containment-trial") => try_in_this_process(),
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
    let options = Options::of_this_process()?;
    // A session of its own: the starting command's terminal sends it no signals.
    rustix::process::setsid()?;
    Containment {
        first_closed_descriptor: after(SUPERVISOR_FD)?,
        dies_with_parent: false,
        writes_files: true,
        locks_memory: false,
        traceable: !options.contained,
        isolation: None,
    }
    .enter()?;
    containment::raise_descriptor_limit()?;
    Ok(supervisor::run(starter, &supervisor::OwnProgram)?)
}

fn run_machine() -> Outcome {
    let (supervisor, security_module) = (take_socket(SUPERVISOR_FD)?, take_socket(SECURITY_MODULE_FD)?);
    let options = Options::of_this_process()?;
    let missing = give_up(&options, after(SECURITY_MODULE_FD)?, false)?;
    if options.contained {
        system_calls::machine().enforce()?;
    }
    Ok(vm::run(supervisor, security_module, missing)?)
}

fn run_security_module() -> Outcome {
    let (supervisor, machine) = (take_socket(SUPERVISOR_FD)?, take_socket(SECURITY_MODULE_FD)?);
    let options = Options::of_this_process()?;
    let missing = give_up(&options, after(SECURITY_MODULE_FD)?, true)?;
    if options.contained {
        system_calls::security_module().enforce()?;
    }
    Ok(security_module::serve(supervisor, machine, missing)?)
}

/// Says on standard output of each measure whether this host allows it: for `enclave doctor`. The arguments are those of
/// [`Options`] and, if one is configured, the cgroup for enclaves.
fn try_containment() -> Outcome {
    let arguments: Vec<String> = std::env::args().skip(2).collect();
    let (user, parent) = match arguments.as_slice() {
        [numbers @ .., parent] if parent.starts_with('/') => (numbers, Some(Path::new(parent))),
        numbers => (numbers, None),
    };
    let mut missing = containment_trial::cgroup(parent);
    let without: Vec<&str> = vec!["containment-trial", "on"];
    let with_user: Vec<&str> = without.iter().copied().chain(user.iter().map(String::as_str)).collect();
    match contained_process(&with_user) {
        Ok(lines) => missing.extend(lines),
        // In a container root may have no other users.
        Err(why) if !user.is_empty() => {
            missing.push(format!("{}: {why}", Measure::User));
            missing.extend(contained_process(&without)?);
        }
        Err(why) => return Err(why.into()),
    }
    containment_trial::report(&missing, !user.is_empty()).iter().for_each(|line| println!("{line}"));
    Ok(())
}

/// Starts a process that takes every measure, and hears what was missing.
fn contained_process(arguments: &[&str]) -> Result<Vec<String>, String> {
    let started = || -> Result<_, Box<dyn std::error::Error>> {
        let (answer, its_answer) = enclave_hypervisor::channel::pair()?;
        // What it may say is said better here.
        let process = spawn(&Program::own()?, arguments, &[its_answer.as_fd()], null()?.as_fd())?;
        drop(its_answer);
        let answered = Channel::<(), Vec<String>>::new(answer).receive()?;
        Ok((answered, process.wait()?))
    };
    match started().map_err(|error| error.to_string())? {
        (Some(answered), ended) if ended.success() => Ok(answered.message),
        (_, ended) => Err(format!("a process contained that way ended with {ended}")),
    }
}

/// Takes every measure as the security module would, tells what was missing, and ends.
fn try_in_this_process() -> Outcome {
    let answer = take_socket(SUPERVISOR_FD)?;
    let options = Options::of_this_process()?;
    let missing = give_up(&options, after(SUPERVISOR_FD)?, true)?;
    system_calls::security_module().enforce()?;
    Ok(Channel::<Vec<String>, ()>::new(answer).send(&missing, &[])?)
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
