//! The stand-ins: programs that play the virtual machine process, one for each name.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use containment::User;
use enclave_hypervisor::channel::{Channel, Received};
use enclave_hypervisor::exit_reason::ExitReason;
use enclave_hypervisor::messages::{ApplicationEnd, FromVm, ToSecurityModule, ToVm};
use enclave_hypervisor::spawn::{Child, Program, spawn};
use enclave_hypervisor::supervisor::ChildSpawner;
use nsm_device::protocol::Request;
use rustix::net::{RecvFlags, SendFlags};
use rustix::process::Uid;

/// Where the forger delivers what it got.
pub(crate) const FORGER_PORT: u32 = 7;

/// What the talker writes to the console.
pub(crate) const CONSOLE_TEXT: &str = "first line\nlast line\n";

type FromSupervisor = Channel<FromVm, ToVm>;

/// The name under which this program was started.
fn part() -> String {
    let path = std::fs::read_link("/proc/self/exe").unwrap();
    path.file_name().unwrap().to_str().unwrap().to_owned()
}

/// Starts this program again, under the same name.
pub(crate) struct Spawner;

impl ChildSpawner for Spawner {
    fn spawn(
        &self,
        arguments: &[&str],
        descriptors: &[BorrowedFd<'_>],
        standard_error: BorrowedFd<'_>,
    ) -> io::Result<Child> {
        // A descriptor that is left open across exec, as a careless parent would have it.
        let leaked = rustix::io::dup(rustix::stdio::stdin())?;
        let child = spawn(&Program::own()?, arguments, descriptors, standard_error);
        drop(leaked);
        child
    }

    fn open_kvm(&self) -> io::Result<OwnedFd> {
        match part().as_str() {
            "no-kvm" => Err(rustix::io::Errno::NOENT.into()),
            "forbidden-kvm" => Err(rustix::io::Errno::ACCESS.into()),
            _ => Ok(File::open("/dev/null")?.into()),
        }
    }
}

/// Plays the part that the program's name says. It is not contained, but for its user, so that the supervisor can end it.
pub(crate) fn play(supervisor: OwnedFd, security_module: OwnedFd, user: Option<User>) {
    let part = part();
    if let Some(User { id, ended_by }) = user {
        let id = Uid::from_raw(id);
        rustix::thread::set_thread_res_uid(id, id, Uid::from_raw(ended_by)).unwrap();
        // A change of user hides a process's files in /proc from it.
        rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::Dumpable).unwrap();
    }
    let raw = supervisor.try_clone().unwrap();
    let channel = FromSupervisor::new(supervisor);
    let say = |message: &FromVm| channel.send(message, &[]).unwrap();
    let ended = |reason| FromVm::Ended { reason, detail: String::new() };
    match part.as_str() {
        "good" => {
            boot(&channel);
            say(&FromVm::Heartbeat);
            until_stopped(&channel);
        }
        "lacking" => {
            let line = format!("\x1b[2Jlandlock {}", "x".repeat(1000));
            say(&FromVm::Contained { missing: vec![line; 20] });
            boot(&channel);
            say(&FromVm::Heartbeat);
            until_stopped(&channel);
        }
        "talker" => {
            let (console, _memory) = boot(&channel);
            console.unwrap().write_all(CONSOLE_TEXT.as_bytes()).unwrap();
            say(&FromVm::Heartbeat);
            until_stopped(&channel);
        }
        "exits" | "claims" => {
            boot(&channel);
            say(&FromVm::Heartbeat);
            let end = if part == "exits" { ApplicationEnd::Exited(7) } else { ApplicationEnd::Signalled(9) };
            say(&FromVm::ApplicationEnded(end));
            say(&ended(ExitReason::GuestReset));
        }
        "resets" => {
            boot(&channel);
            say(&ended(ExitReason::GuestReset));
        }
        "silent" => {
            let (console, _memory) = boot(&channel);
            if let Some(mut console) = console {
                console.write_all(CONSOLE_TEXT.as_bytes()).unwrap();
            }
            until_stopped(&channel);
        }
        "caller" => {
            boot(&channel);
            say(&FromVm::Connect { request: 5, port: 99 });
            let answer = next(&channel).message;
            assert_eq!(answer, ToVm::Refused { request: 5 });
            say(&FromVm::Heartbeat);
            until_stopped(&channel);
        }
        "lister" => {
            let numbers = std::fs::read_dir("/proc/self/fd").unwrap();
            let mut numbers: Vec<i32> =
                numbers.map(|entry| entry.unwrap().file_name().to_str().unwrap().parse().unwrap()).collect();
            // One is the listing's own, one this part's copy of its channel.
            numbers.retain(|number| *number != raw.as_raw_fd());
            numbers.sort_unstable();
            numbers.pop();
            let environment = std::env::vars_os().count();
            let detail = format!("{numbers:?} {environment}");
            say(&FromVm::Ended { reason: ExitReason::StartFailed, detail });
        }
        "panics" => panic!("the stand-in gives up"),
        "garbage" => send(&raw, b"\xff\xfe no message"),
        "huge" => send(&raw, &[0; 65_537]),
        "early" => {
            next(&channel);
            say(&FromVm::Heartbeat);
            pause();
        }
        "liar" => {
            boot(&channel);
            say(&ended(ExitReason::Terminated));
            pause();
        }
        "closer" => {
            boot(&channel);
            say(&FromVm::Heartbeat);
            drop((channel, raw));
            pause();
        }
        "flood" => {
            boot(&channel);
            say(&FromVm::Heartbeat);
            let flood = |request| channel.send(&FromVm::Connect { request, port: 99 }, &[]);
            (0..).map_while(|request| flood(request).ok()).for_each(drop);
        }
        "deaf" => {
            boot(&channel);
            say(&FromVm::Heartbeat);
            pause();
        }
        "forger" => {
            let (_, _memory) = boot(&channel);
            forge(&channel, &security_module);
            until_stopped(&channel);
        }
        other => panic!("nobody plays {other}"),
    }
}

/// Goes through a start as it should be. Returns the console, in debug mode, and the guest's memory.
fn boot(channel: &FromSupervisor) -> (Option<File>, OwnedFd) {
    let mut prepare = next(channel);
    assert!(matches!(prepare.message, ToVm::Prepare(_)));
    channel.send(&FromVm::Prepared, &[]).unwrap();
    let console = (prepare.descriptors.len() > 1).then(|| File::from(prepare.descriptors.remove(1)));
    let mut boot = next(channel);
    assert!(matches!(boot.message, ToVm::Boot(_)));
    channel.send(&FromVm::Started, &[]).unwrap();
    (console, boot.descriptors.remove(0))
}

fn next(channel: &FromSupervisor) -> Received<ToVm> {
    channel.receive().unwrap().unwrap()
}

fn until_stopped(channel: &FromSupervisor) {
    while let Ok(Some(received)) = channel.receive() {
        if received.message == ToVm::Stop {
            return;
        }
    }
}

/// Does nothing, whatever is asked, and does not go away.
fn pause() -> ! {
    loop {
        std::thread::park();
    }
}

fn send(socket: &OwnedFd, packet: &[u8]) {
    rustix::net::send(socket, packet, SendFlags::NOSIGNAL).unwrap();
    pause();
}

/// Tries everything that a machine can say to the security module to have other registers attested, then delivers
/// the answers to a host program: descriptions of PCR 0 to 15, and a document.
fn forge(channel: &FromSupervisor, security_module: &OwnedFd) {
    let measured = ToSecurityModule::Measured(None);
    let mut message = Vec::new();
    ciborium::into_writer(&measured, &mut message).unwrap();
    ask(security_module, &message);
    for index in 0..16 {
        ask(security_module, &Request::ExtendPcr { index, data: b"forged".to_vec() }.encode());
        ask(security_module, &Request::LockPcr { index }.encode());
    }
    // Nor does the supervisor take it for the security module's word.
    channel.send(&FromVm::Connect { request: 1, port: FORGER_PORT }, &[]).unwrap();
    let mut stream = File::from(next(channel).descriptors.remove(0));
    let mut deliver = |request: Request| {
        let answer = ask(security_module, &request.encode());
        stream.write_all(&u32::try_from(answer.len()).unwrap().to_le_bytes()).unwrap();
        stream.write_all(&answer).unwrap();
    };
    for index in 0..16 {
        deliver(Request::DescribePcr { index });
    }
    deliver(Request::Attestation { user_data: None, nonce: Some(b"nonce".to_vec()), public_key: None });
    drop(stream);
    channel.send(&FromVm::Heartbeat, &[]).unwrap();
}

fn ask(security_module: &OwnedFd, request: &[u8]) -> Vec<u8> {
    rustix::net::send(security_module.as_fd(), request, SendFlags::NOSIGNAL).unwrap();
    let mut answer = vec![0; 0x3000];
    let (length, _) = rustix::net::recv(security_module, &mut answer, RecvFlags::empty()).unwrap();
    answer.truncate(length);
    answer
}
