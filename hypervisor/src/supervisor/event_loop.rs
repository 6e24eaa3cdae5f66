//! The supervisor's one loop: what happened, and who deals with it.

use std::io;
use std::os::fd::AsFd;
use std::time::Instant;

use rustix::io::Errno;

use crate::channel::ChannelError;
use crate::console_log::printable;
use crate::control::{Reply, Request};
use crate::description::Flags;
use crate::exit_reason::ExitReason;
use crate::launch::LaunchEvent;
use crate::messages::ToVm;
use crate::supervisor::SupervisorError;
use crate::supervisor::children::{Children, Role};
use crate::supervisor::host_sockets::{self, HostSockets};
use crate::supervisor::image::LoaderNews;
use crate::supervisor::lifecycle::{Stage, Supervisor};
use crate::supervisor::link::Heard;
use crate::supervisor::machine_protocol::{MachineEvent, Violation};
use crate::supervisor::poller::Source;

/// Messages of the virtual machine process that are read after its end: what a socket can hold, and more.
const LAST_MESSAGES: usize = 4096;

/// Messages taken from it before the other sources have their turn.
const MESSAGES_AT_ONCE: usize = 64;

/// Connections of host programs taken at once.
const ACCEPTS_AT_ONCE: usize = 16;

impl Supervisor {
    /// Runs the enclave to its end, with its children, or ends it with what kept them from starting.
    pub(super) fn run(mut self, children: Result<Children, String>) -> Result<(), SupervisorError> {
        if let Err(why) = children.and_then(|children| self.take_on(children)) {
            self.begin_end(ExitReason::StartFailed, why);
        }
        self.insist_on_containment();
        loop {
            self.settle_end();
            if self.is_over() {
                return Ok(());
            }
            self.watch_links()?;
            self.place.control.settle(&self.poller);
            let resume = self.machine.as_ref().and_then(|machine| machine.budget.paused_until());
            let rested = [self.place.control.rests_until(), self.place.sockets.rests_until()];
            let wake = [self.deadline, resume].into_iter().chain(rested).flatten().min();
            for source in self.poller.wait(wake)? {
                self.handle(source);
            }
            let now = Instant::now();
            if let Some(machine) = &mut self.machine {
                machine.budget.refresh(now);
            }
            if self.deadline.is_some_and(|deadline| now >= deadline) {
                self.deadline_passed();
            }
        }
    }

    fn handle(&mut self, source: Source) {
        match source {
            Source::Signal => self.signalled(),
            Source::Starter => self.hear_starter(),
            Source::Machine => self.hear_machine(MESSAGES_AT_ONCE),
            Source::MachineExit => self.machine_exited(),
            Source::MachineWords => {
                if let Some(machine) = &mut self.machine
                    && !machine.process.hear_words()
                {
                    self.poller.remove(machine.process.words());
                }
            }
            Source::Security => self.hear_security(),
            Source::SecurityExit => self.security_exited(),
            Source::SecurityWords => {
                if let Some(security) = &mut self.security
                    && !security.process.hear_words()
                {
                    self.poller.remove(security.process.words());
                }
            }
            Source::Loader => self.hear_loader(),
            Source::Console => self.take_console(),
            Source::Vsock => self.accept_vsock(),
            Source::Control => {
                if let Err(error) = self.place.control.accept(&self.poller) {
                    self.place.log.line(&format!("control socket: {error}"));
                }
            }
            Source::Conversation(number) => {
                if let Some(request) = self.place.control.hear(number) {
                    self.obey(number, request);
                }
            }
            Source::Follower(number) => {
                if let Some(console) = &mut self.console {
                    console.serve(number, &self.poller);
                }
            }
        }
    }

    fn signalled(&mut self) {
        // One struct signalfd_siginfo (signalfd(2)), whose first field is the signal's number.
        let mut info = [0_u8; 128];
        match rustix::io::read(&self.signals, &mut info) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            _ => {
                let [number, ..] = info;
                self.begin_end(ExitReason::Signalled, format!("signal {number}"));
            }
        }
    }

    /// The starting command gives the identity and says nothing more; if it goes before it has heard the outcome, nobody wants the
    /// enclave.
    fn hear_starter(&mut self) {
        let Some(starter) = &mut self.starter else {
            return;
        };
        let flushed = starter.flush();
        match starter.receive() {
            Ok(Heard::Nothing) if flushed.is_ok() => {}
            Ok(Heard::Message(received)) if flushed.is_ok() && !self.identified => {
                self.identify(received.message)
            }
            _ => {
                self.poller.remove(starter.as_fd());
                self.starter = None;
                if matches!(self.stage, Stage::Loading | Stage::Sealing)
                    || (self.stage == Stage::Booting && self.spec.start)
                {
                    let why = "the command that started it went away before it was up";
                    self.begin_end(ExitReason::Terminated, why.to_owned());
                }
            }
        }
    }

    fn hear_machine(&mut self, at_most: usize) {
        for _ in 0..at_most {
            let Some(machine) = &mut self.machine else {
                return;
            };
            match machine.link.flush() {
                Ok(()) => {}
                // It has ended: what it said last is read, then its end shows.
                Err(ChannelError::Io(error))
                    if matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) => {
                }
                // Nothing could be told to it any more, and nobody would notice.
                Err(error) => {
                    self.place.log.line(&format!("virtual machine process: {error}"));
                    return self.machine_broke_rules(&Violation("nothing can be sent to it"));
                }
            }
            if !machine.link.has_room() || !machine.budget.take() {
                return;
            }
            match machine.link.receive() {
                Ok(Heard::Nothing) => return,
                Ok(Heard::Message(received)) => match machine.protocol.hear(received.message) {
                    Ok(event) => self.machine_said(event),
                    Err(violation) => return self.machine_broke_rules(&violation),
                },
                Ok(Heard::End) => {
                    self.poller.remove(machine.link.as_fd());
                    // It is ending, or it has closed its channel without: neither gets it any further.
                    if self.end.is_none() {
                        machine.process.kill();
                    }
                    return;
                }
                Err(error) => {
                    self.place.log.line(&format!("virtual machine process: {error}"));
                    return self.machine_broke_rules(&Violation("it sent what is no message"));
                }
            }
        }
    }

    fn machine_said(&mut self, event: MachineEvent) {
        match event {
            MachineEvent::Contained { missing } => self.containment_lacks(Role::Machine, missing),
            MachineEvent::Prepared => self.proceed(),
            MachineEvent::Started => self.machine_started(),
            MachineEvent::Heartbeat => self.heartbeat(),
            MachineEvent::Connect { request, port } => self.connect(request, port),
            MachineEvent::Ended { reason, detail } => self.begin_end(reason, detail),
            MachineEvent::Repeated => {}
        }
    }

    /// A process that breaks the rules has been taken over: it gets no time to end itself.
    fn machine_broke_rules(&mut self, violation: &Violation) {
        let why = format!("the virtual machine process was ended because {}", violation.0);
        self.begin_end(ExitReason::VmProcessKilled, why);
        if let Some(machine) = &mut self.machine {
            machine.process.kill();
        }
    }

    /// Connects the guest to a host program. Nothing here blocks.
    fn connect(&mut self, request: u64, port: u32) {
        if self.end.is_some() {
            return;
        }
        match HostSockets::connect(&self.place.folder, port) {
            Ok(stream) => self.tell_machine(ToVm::Connected { request }, vec![stream]),
            Err(problem) => {
                let line = format!("vsock port {port}: {}: {}", problem.path.display(), problem.problem);
                if host_sockets::note(&mut self.place.description.vsock_problems, problem) {
                    self.place.log.line(&line);
                    self.save();
                }
                self.tell_machine(ToVm::Refused { request }, Vec::new());
            }
        }
    }

    fn machine_exited(&mut self) {
        // What it had sent is still to be read: above all, why it ended.
        for _ in 0..LAST_MESSAGES {
            let Some(machine) = &mut self.machine else {
                break;
            };
            match machine.link.receive() {
                Ok(Heard::Message(received)) => {
                    if let Ok(MachineEvent::Ended { reason, detail }) =
                        machine.protocol.hear(received.message)
                    {
                        self.begin_end(reason, detail);
                    }
                }
                _ => break,
            }
        }
        self.machine_gone();
    }

    fn hear_security(&mut self) {
        let Some(security) = &mut self.security else {
            return;
        };
        // An error shows as the process's end.
        let _ = security.link.flush();
        match security.link.receive() {
            Ok(Heard::Nothing) => {}
            Ok(Heard::Message(received)) => self.security_said(received.message),
            Ok(Heard::End) => self.poller.remove(security.link.as_fd()),
            Err(error) => self.begin_end(ExitReason::SecurityModuleKilled, error.to_string()),
        }
    }

    fn security_exited(&mut self) {
        if let Some(security) = self.security.take() {
            self.poller.remove(security.process.exit());
            self.poller.remove(security.process.words());
            self.poller.remove(&security.link);
            let how = security.process.reap();
            self.begin_end(ExitReason::SecurityModuleKilled, how);
        }
    }

    fn hear_loader(&mut self) {
        let Some(loader) = &mut self.loader else {
            return;
        };
        match loader.news() {
            LoaderNews::Progress { done, total } => {
                // Only the newest matters, so none is kept for a command that does not read.
                if let Some(starter) = self.starter.as_ref()
                    && !starter.is_waiting()
                {
                    self.tell_starter(LaunchEvent::Loading { done, total });
                }
            }
            LoaderNews::Finished(outcome) => {
                if let Some(loader) = self.loader.take() {
                    self.poller.remove(&loader);
                }
                match *outcome {
                    Ok(image) if self.end.is_none() => self.image_loaded(image),
                    // Held until it is overwritten.
                    Ok(image) => self.image = Some(image),
                    Err(failure) => self.begin_end(failure.reason, failure.message),
                }
            }
        }
    }

    fn take_console(&mut self) {
        let Some(console) = &mut self.console else {
            return;
        };
        match console.take(&self.place.folder, &self.poller) {
            Ok(true) => {}
            Ok(false) => self.poller.remove(console.pipe()),
            Err(error) => {
                let text = printable(error.to_string().as_bytes());
                self.place.log.line(&format!("the console cannot be kept: {text}"));
            }
        }
    }

    fn accept_vsock(&mut self) {
        for _ in 0..ACCEPTS_AT_ONCE {
            if !self.machine.as_ref().is_some_and(|machine| machine.link.has_room()) {
                return;
            }
            match self.place.sockets.accept() {
                Ok(Some(stream)) => self.tell_machine(ToVm::Incoming, vec![stream]),
                Ok(None) => return,
                Err(error) => return self.place.log.line(&format!("vsock.sock: {error}")),
            }
        }
    }

    fn obey(&mut self, number: u32, request: Request) {
        let name = self.place.description.name.clone();
        match request {
            Request::Wait => {}
            Request::Terminate => self.begin_end(ExitReason::Terminated, String::new()),
            Request::Start => match self.stage {
                Stage::Loading | Stage::Sealing | Stage::Loaded => {
                    self.start_wanted = true;
                    self.proceed();
                }
                Stage::Booting => {}
                Stage::Running => self.refuse(number, format!("the enclave {name} runs already")),
                Stage::Ending => self.refuse(number, format!("the enclave {name} is being ended")),
            },
            Request::Console if self.place.description.flags == Flags::None => {
                self.refuse(number, format!("the enclave {name} runs in production mode: it has no console"));
            }
            Request::Console => match &mut self.console {
                None => self.refuse(number, format!("the enclave {name} has no console yet")),
                Some(console) => match console.follow(&self.place.folder, &self.poller) {
                    Ok(stream) => self.place.control.reply(number, Reply::Console, Some(stream)),
                    Err(error) => self.refuse(number, format!("the console cannot be followed: {error}")),
                },
            },
        }
    }

    fn refuse(&mut self, number: u32, why: String) {
        self.place.control.reply(number, Reply::Refused(why), None);
    }
}
