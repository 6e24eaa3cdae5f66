//! A guest that does to its devices whatever it can think of: it loses its device or its life, and the process stays as it is.
//!
//! What it does follows from a seed, which is printed; `HOSTILE_SEED` sets it and `HOSTILE_SECONDS` how long each test takes. The
//! host's end takes part: it accepts, refuses and ignores, writes to the guest's rings at the same time, and answers the security
//! module's requests with noise.

use std::collections::{BTreeMap, VecDeque};
use std::io::{ErrorKind, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use enclave_hypervisor::channel::ChannelError;
use enclave_hypervisor::exit_reason::ExitReason;
use enclave_hypervisor::messages::{FromVm, ToVm};
use hostile_guest::random::Random;
use hostile_guest::{AREA, Driver, Place};
use nsm_device::protocol::{MAX_REQUEST_LEN, MAX_RESPONSE_LEN};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{RecvFlags, SendFlags, recv, send};
use rustix::thread::{CpuSet, sched_setaffinity};

use crate::executor::{self, Executor};
use crate::guest::{SMALL, can_run, load, program};
use crate::vm_support::{Memory, Vm};

/// Seconds of each test, if nothing else is said.
const SECONDS: u64 = 8;
/// A guest whose accesses take longer than this hangs.
const HANG: Duration = Duration::from_secs(1);
/// So does a machine that takes longer than this to stop. Taking it apart waits for all of the host's processors (closing KVM's
/// descriptors ends in synchronize_srcu), which on a busy host has taken more than a second; a guest that could hold on to its
/// machine would do so for good.
const STOP: Duration = Duration::from_secs(10);
/// The longest time between two looks that counts as one: what is above it, this thread did not run either.
const LOOK: Duration = Duration::from_millis(20);
/// The life of a guest that may end itself.
const SHORT_LIFE: Duration = Duration::from_millis(300);
/// Guests of which one must have ended itself; about every second one does.
const MOST_LIVES: u64 = 40;
/// Messages of the machine's that are dealt with at once, as by the real supervisor.
const MESSAGES: u32 = 64;
/// Host programs at a time. They do not read, so that each can keep 256 KiB of credit in the process.
const PROGRAMS: usize = 48;
/// What the process may have beside guest memory, in KiB: the host programs' credit is 12 MiB, 4096 connections with their places in
/// queues and tables are 4 MiB, and stacks, buffers and the allocator's arenas for each thread take the rest.
const MOST_MEMORY_KIB: u64 = 32 * 1024;
/// Room for descriptors in the process's table: 4096 connections, and the kernel doubles the table when it grows.
const MOST_DESCRIPTORS: u64 = 8192;
/// The guest's CID, as `vm_support` gives it.
const CID: u64 = 16;

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn duration() -> Duration {
    Duration::from_secs(setting("HOSTILE_SECONDS").unwrap_or(SECONDS))
}

/// A seed that differs from run to run, unless it is set.
fn first_seed() -> u64 {
    let seed = setting("HOSTILE_SEED").unwrap_or_else(|| getrandom::u64().unwrap() >> 32);
    eprintln!("HOSTILE_SEED={seed}");
    seed
}

/// Measures how long a process has got nowhere, as far as it was let run: time in which one of its threads waited for a processor
/// does not count.
struct Standstill {
    process: u32,
    looked: Instant,
    seen: u64,
    starved: Duration,
    lasted: Duration,
    longest: Duration,
}

impl Standstill {
    fn new(process: u32) -> Self {
        let none = Duration::ZERO;
        Self { process, looked: Instant::now(), seen: 0, starved: none, lasted: none, longest: none }
    }

    /// Looks at what counts its progress.
    fn look(&mut self, counter: u64) -> Duration {
        let now = Instant::now();
        if counter == self.seen {
            let starved = starved(self.process);
            // This thread may have had to wait as well.
            let passed = (now - self.looked).min(LOOK);
            self.lasted += passed.saturating_sub(starved.saturating_sub(self.starved));
            self.starved = starved;
        } else {
            self.lasted = Duration::ZERO;
        }
        self.longest = self.longest.max(self.lasted);
        (self.looked, self.seen) = (now, counter);
        self.lasted
    }
}

/// How long the threads of a process have waited for a processor, all together: the second number of /proc/PID/task/TID/schedstat,
/// in nanoseconds.
fn starved(process: u32) -> Duration {
    let tasks = std::fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    let waited = tasks.filter_map(|task| {
        let text = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split_whitespace().nth(1)?.parse::<u64>().ok()
    });
    Duration::from_nanos(waited.sum())
}

/// What the threads of a process are doing, for a failure that may not come again.
fn tasks(process: u32) -> String {
    let tasks = std::fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    let describe = |task: std::fs::DirEntry| {
        let read =
            |name| std::fs::read_to_string(task.path().join(name)).unwrap_or_default().trim().to_owned();
        let [stat, wchan, syscall] = ["stat", "wchan", "syscall"].map(read);
        format!("{stat}\n    waits in {wchan}, system call {syscall}\n")
    };
    tasks.map(describe).collect()
}

/// The host's end of a machine: supervisor, host programs and security module, none of which plays by the rules.
struct Host {
    vm: Vm,
    random: Random,
    programs: VecDeque<UnixStream>,
    /// Requests that the security module has not answered.
    unanswered: u32,
    /// How far the guest has come: connections it wanted, requests to the security module, reports.
    connections: u64,
    requests: u64,
    reports: u64,
}

impl Host {
    fn new(vm: Vm, seed: u64) -> Self {
        Self {
            vm,
            random: Random::new(!seed),
            programs: VecDeque::new(),
            unanswered: 0,
            connections: 0,
            requests: 0,
            reports: 0,
        }
    }

    /// Does what there is to do, waits a little for it. How the machine ended, if it has.
    fn serve(&mut self) -> Option<(ExitReason, String)> {
        let channels = [self.vm.channel.as_fd(), self.vm.security_module.as_fd()];
        let mut sources = channels.map(|channel| PollFd::from_borrowed_fd(channel, PollFlags::IN));
        poll(&mut sources, Some(&Timespec { tv_sec: 0, tv_nsec: 1_000_000 })).unwrap();
        // As fast as a supervisor: the device waits for it.
        for _ in 0..MESSAGES {
            if !is_readable(self.vm.channel.as_fd()) {
                break;
            }
            if let Some(ended) = self.hear() {
                return Some(ended);
            }
        }
        let mut request = [0; 2 * MAX_REQUEST_LEN];
        let received = recv(self.vm.security_module.as_fd(), &mut request, RecvFlags::DONTWAIT);
        if received.is_ok_and(|(length, _)| length > 0) {
            self.unanswered += 1;
            self.requests += 1;
        }
        self.answer_nsm();
        if self.random.once_in(64) {
            self.connect();
        }
        None
    }

    /// One message of the machine's.
    fn hear(&mut self) -> Option<(ExitReason, String)> {
        match self.vm.channel.receive().map(|received| received.map(|received| received.message)) {
            Ok(Some(FromVm::Ended { reason, detail })) => return Some((reason, detail)),
            Ok(Some(FromVm::Connect { request, .. })) => self.answer(request),
            Ok(Some(_)) => self.reports += 1,
            // It has ended without reading everything; what it said itself comes after this.
            Err(ChannelError::Io(error)) if error.kind() == ErrorKind::ConnectionReset => {}
            other => panic!("no report, but {other:?}: {:?}", self.vm.process.wait()),
        }
        None
    }

    fn answer(&mut self, request: u64) {
        self.connections += 1;
        match self.random.below(4) {
            0 => self.tell(&ToVm::Refused { request }, None),
            // Never.
            1 if self.random.once_in(16) => {}
            _ => {
                let theirs = self.program(b"hello");
                self.tell(&ToVm::Connected { request }, Some(&theirs));
            }
        }
    }

    /// A host program that wants something of the guest.
    fn connect(&mut self) {
        let line = format!("CONNECT {}\nhello", 1024 + self.random.below(24));
        let theirs = self.program(line.as_bytes());
        self.tell(&ToVm::Incoming, Some(&theirs));
    }

    /// Tells a machine something that may have ended in the meantime.
    fn tell(&self, message: &ToVm, stream: Option<&UnixStream>) {
        let descriptors: Vec<_> = stream.iter().map(|stream| stream.as_fd()).collect();
        match self.vm.channel.send(message, &descriptors) {
            Err(ChannelError::Io(error))
                if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => {}
            sent => sent.unwrap(),
        }
    }

    /// A new host program's connection; the oldest one goes.
    fn program(&mut self, said: &[u8]) -> UnixStream {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        ours.write_all(said).unwrap();
        self.programs.push_back(ours);
        if self.programs.len() > PROGRAMS {
            self.programs.pop_front();
        }
        theirs
    }

    fn answer_nsm(&mut self) {
        if self.unanswered == 0 || self.random.once_in(4) {
            return;
        }
        let length = match self.random.below(4) {
            0 => MAX_RESPONSE_LEN,
            1 => 1,
            _ => usize::try_from(self.random.below(300)).unwrap() + 1,
        };
        let answer: Vec<u8> = (0..length).map(|_| self.random.bits().to_le_bytes()[0]).collect();
        if send(self.vm.security_module.as_fd(), &answer, SendFlags::DONTWAIT | SendFlags::NOSIGNAL).is_ok() {
            self.unanswered -= 1;
        }
    }

    /// Stops the machine, unless it has ended: how it ended, which it must soon.
    fn stop(mut self) -> (ExitReason, String) {
        self.tell(&ToVm::Stop, None);
        let mut standstill = Standstill::new(self.vm.process.id());
        loop {
            if let Some(ended) = self.serve() {
                return self.reap(ended);
            }
            assert!(standstill.look(0) < STOP, "the machine does not stop:\n{}", tasks(self.vm.process.id()));
        }
    }

    /// The process has told its end: it must end as well, and well.
    fn reap(self, ended: (ExitReason, String)) -> (ExitReason, String) {
        assert!(self.vm.process.wait().unwrap().success(), "{ended:?}");
        ended
    }

    /// A number in /proc/PID/status.
    fn status(&self, name: &str) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.vm.process.id())).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    }
}

fn is_readable(channel: BorrowedFd<'_>) -> bool {
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut [PollFd::from_borrowed_fd(channel, PollFlags::IN)], Some(&at_once)).unwrap() > 0
}

/// Starts a guest that will do what this driver says.
fn start(memory: &Memory, seed: u64, debug: bool) -> Host {
    let vm = Vm::prepare(program(), &[0], debug, false);
    let entry = load(memory, &executor::code());
    vm.boot(memory, entry);
    Host::new(vm, seed)
}

fn place(reckless: bool) -> Place {
    Place { area: SMALL - AREA, reckless }
}

#[test]
fn a_hostile_guest_neither_hangs_nor_crashes_nor_grows_its_process() {
    if !can_run() {
        return;
    }
    let seed = first_seed();
    let memory = Memory::new(SMALL);
    let mut host = start(&memory, seed, false);
    // Beside the virtual CPU: when this machine's own host takes that processor away, nothing is looked at either.
    let mut first = CpuSet::new();
    first.set(0);
    sched_setaffinity(None, &first).unwrap();
    let mut executor = Executor::new(&memory);
    let mut driver = Driver::new(seed, place(false), CID, true);
    let mut other_cpu = Driver::new(seed + 1, place(false), CID, false);
    let mut standstill = Standstill::new(host.vm.process.id());
    let (mut most_memory, mut most_descriptors) = (0, 0);
    let end = Instant::now() + duration();
    let mut looks: u64 = 0;
    while Instant::now() < end {
        executor.feed(&mut driver);
        if looks.is_multiple_of(8) {
            executor.write(&other_cpu.scribble());
        }
        if let Some(ended) = host.serve() {
            panic!("the guest has ended itself: {ended:?}");
        }
        let done = executor.done();
        assert!(
            standstill.look(done) < HANG,
            "the guest hangs after {done} actions of seed {seed}:\n{}",
            tasks(host.vm.process.id())
        );
        looks += 1;
        if looks.is_multiple_of(256) {
            most_memory = most_memory.max(host.status("RssAnon"));
            most_descriptors = most_descriptors.max(host.status("FDSize"));
        }
    }
    let longest = standstill.longest;
    eprintln!(
        "{} actions, {} connections, {} requests, {} reports; the longest took {longest:?}; {most_memory} KiB, {most_descriptors} descriptors",
        executor.done(),
        host.connections,
        host.requests,
        host.reports
    );
    assert!(host.connections > 0 && host.requests > 0, "the guest got nowhere");
    assert!(most_memory < MOST_MEMORY_KIB, "{most_memory} KiB");
    assert!(most_descriptors <= MOST_DESCRIPTORS, "{most_descriptors} descriptors");
    assert_eq!(host.stop().0, ExitReason::Terminated);
}

#[test]
fn a_hostile_guest_that_shoots_itself_has_a_reason_for_its_end() {
    if !can_run() {
        return;
    }
    let first = first_seed();
    let end = Instant::now() + duration();
    let mut reasons = BTreeMap::new();
    let mut seed = first;
    // On a slow machine few guests live in that time: there must be one that ended itself.
    let ended_itself = |reasons: &BTreeMap<String, u32>| reasons.keys().any(|reason| reason != "Terminated");
    while Instant::now() < end || (!ended_itself(&reasons) && seed < first + MOST_LIVES) {
        let memory = Memory::new(SMALL);
        let mut host = start(&memory, seed, seed.is_multiple_of(4));
        let mut executor = Executor::new(&memory);
        let mut driver = Driver::new(seed, place(true), CID, true);
        let death = Instant::now() + SHORT_LIFE;
        let ended = loop {
            executor.feed(&mut driver);
            if let Some(ended) = host.serve() {
                break host.reap(ended);
            }
            if Instant::now() > death {
                break host.stop();
            }
        };
        let (reason, detail) = ended;
        assert!(
            matches!(
                reason,
                ExitReason::GuestReset
                    | ExitReason::AcpiReset
                    | ExitReason::AcpiPowerOff
                    | ExitReason::TripleFault
                    | ExitReason::KvmError
                    | ExitReason::Terminated
            ),
            "seed {seed}: {reason}: {detail}"
        );
        *reasons.entry(reason.to_string()).or_insert(0_u32) += 1;
        seed += 1;
    }
    eprintln!("{reasons:?}");
    assert!(ended_itself(&reasons), "no guest ended itself");
}
