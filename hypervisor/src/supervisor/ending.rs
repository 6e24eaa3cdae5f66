//! An enclave's end: one cause, then the machine, then its memory, and only then is it told.

use std::os::fd::AsFd;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::console_log;
use crate::description::State;
use crate::exit_reason::ExitReason;
use crate::launch::{LaunchEvent, LaunchFailure};
use crate::messages::ToVm;
use crate::run_dir::{CONTROL_SOCKET, VSOCK_SOCKET};
use crate::state::Record;
use crate::supervisor::lifecycle::{Stage, Supervisor};

/// How long the virtual machine process may take to end itself before it is killed.
const STOP_TIMEOUT: Duration = Duration::from_millis(500);

/// How long commands may take to read the last that they are told.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(2);

/// Characters of the longest text about an end.
const MAX_DETAIL: usize = 4096;

/// Lines of the console that a failed start shows.
const TAIL_LINES: usize = 30;

/// Why and how far the enclave is at its end.
#[derive(Debug)]
pub(super) struct End {
    reason: ExitReason,
    detail: String,
    /// A virtual CPU had run.
    had_booted: bool,
    /// It had come up and the starting command knows.
    had_started: bool,
    /// Everything is done but the farewell.
    pub(super) settled: bool,
    /// The farewell is over.
    pub(super) over: bool,
}

impl Supervisor {
    /// Begins the end. The first cause counts.
    pub(super) fn begin_end(&mut self, reason: ExitReason, detail: String) {
        if self.end.is_some() {
            return;
        }
        // Whoever caused it may have had a hand in the text: a message of the protocol has room for it.
        let detail: String = detail.chars().take(MAX_DETAIL).collect();
        self.place.log.line(&format!("ending: {reason} {detail}"));
        self.end = Some(End {
            reason,
            detail,
            had_booted: self.stage >= Stage::Booting,
            had_started: self.stage >= Stage::Running,
            settled: false,
            over: false,
        });
        self.stage = Stage::Ending;
        self.place.description.state = State::Terminating;
        self.save();
        if let Some(loader) = &self.loader {
            loader.cancel();
        }
        if let Some(machine) = &mut self.machine {
            machine.link.clear();
        }
        self.tell_machine(ToVm::Stop, Vec::new());
        self.deadline = Some(Instant::now() + STOP_TIMEOUT);
    }

    /// The virtual machine process has had its time to end, or the farewell has.
    pub(super) fn end_overdue(&mut self) {
        if let Some(machine) = &mut self.machine {
            machine.process.kill();
        }
        if let Some(end) = &mut self.end {
            end.over = end.settled;
        }
    }

    /// The virtual machine process has ended. What it said last has been heard.
    pub(super) fn machine_gone(&mut self) {
        let Some(machine) = self.machine.take() else {
            return;
        };
        self.poller.remove(machine.process.exit());
        self.poller.remove(machine.process.words());
        self.poller.remove(&machine.link);
        let application = machine.protocol.application().cloned();
        let how = machine.process.reap();
        self.begin_end(ExitReason::VmProcessKilled, how);
        let Some(end) = &mut self.end else {
            return;
        };
        let by_itself =
            matches!(end.reason, ExitReason::GuestReset | ExitReason::AcpiPowerOff | ExitReason::AcpiReset);
        if let Some(application) = application.filter(|_| by_itself) {
            end.reason = ExitReason::ApplicationExited;
            end.detail = match &application {
                crate::messages::ApplicationEnd::Exited(status) => format!("exit status {status}"),
                crate::messages::ApplicationEnd::Signalled(signal) => format!("signal {signal}"),
                crate::messages::ApplicationEnd::Failed(text) => format!("it could not be started: {text}"),
            };
            self.place.description.exit_status = Some(application.status());
        }
    }

    /// Does the rest once nothing runs any more: memory is overwritten before anybody hears that it is free.
    pub(super) fn settle_end(&mut self) {
        if self.machine.is_some() || self.loader.is_some() {
            return;
        }
        let Some(end) = self.end.as_mut().filter(|end| !end.settled) else {
            return;
        };
        end.settled = true;
        let (reason, detail, had_booted, had_started) =
            (end.reason, end.detail.clone(), end.had_booted, end.had_started);
        // Dropped, it is killed and reaped.
        self.security = None;
        if let Some(image) = self.image.take()
            && let Err(error) = image.scrub()
        {
            self.place.log.line(&format!("guest memory could not be overwritten: {error}"));
        }
        if let Some(console) = &mut self.console
            && let Err(error) = console.take_rest(&self.place.folder, &self.poller)
        {
            self.place.log.line(&format!("console: {error}"));
        }
        self.record_end(reason, &detail);
        self.deadline = Some(Instant::now() + FAREWELL_TIMEOUT);
        let failure = LaunchEvent::Failed(LaunchFailure {
            reason,
            message: match detail.as_str() {
                "" => reason.explanation().to_owned(),
                detail => format!("{}: {detail}", reason.explanation()),
            },
            console_tail: self.console_tail(),
        });
        // What never ran, and whose end the starting command hears, leaves nothing to look at.
        if self.starter.is_some() && !had_booted {
            self.clear_folder();
        }
        if !had_started {
            self.tell_starters(&failure);
        }
        let description = self.place.description.clone();
        self.place.control.tell_ended(&description);
    }

    /// Whether everybody has heard the end, or has had the time to.
    pub(super) fn is_over(&mut self) -> bool {
        let Some(end) = self.end.as_ref().filter(|end| end.settled) else {
            return false;
        };
        let followed = self.console.as_mut().is_none_or(super::console::Console::release);
        let starter_waits = self.starter.as_ref().is_some_and(|starter| starter.is_waiting());
        end.over || (followed && !starter_waits && !self.place.control.is_waiting())
    }

    fn record_end(&mut self, reason: ExitReason, detail: &str) {
        let description = &mut self.place.description;
        description.state = State::Exited;
        description.exit_reason = Some(reason);
        description.exit_detail = (!detail.is_empty()).then(|| detail.to_owned());
        let ended_at = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs());
        // Nobody who comes from here on finds a supervisor to talk to.
        for name in [CONTROL_SOCKET, VSOCK_SOCKET] {
            if let Err(error) = self.place.folder.remove_file(name) {
                self.place.log.line(&error.to_string());
            }
        }
        let record = Record::new(self.place.description.clone(), Some(ended_at));
        if let Err(error) = self.place.state.replace(&record) {
            self.place.log.line(&error.to_string());
        }
    }

    fn console_tail(&self) -> Option<String> {
        self.console.as_ref()?;
        console_log::tail(&self.place.folder, TAIL_LINES).ok()
    }

    /// Leaves an empty folder, which the starting command removes: it is in the run root, and nothing there is this process's.
    fn clear_folder(&mut self) {
        if let Err(error) = self.place.folder.clear() {
            self.place.log.line(&error.to_string());
        }
    }

    /// Asks the poller for what the links need now.
    pub(super) fn watch_links(&mut self) -> std::io::Result<()> {
        use crate::supervisor::poller::{Interest, Source};
        let commands = Interest { read: self.place.control.rests_until().is_none(), write: false };
        self.poller.change(&self.place.control, Source::Control, commands)?;
        let rests = self.place.sockets.rests_until().is_some();
        if let Some(machine) = self.machine.as_ref().filter(|machine| !machine.link.has_ended()) {
            let read = machine.budget.paused_until().is_none() && machine.link.has_room();
            let interest = Interest { read, write: machine.link.is_waiting() };
            self.poller.change(&machine.link, Source::Machine, interest)?;
            let accept =
                machine.protocol.has_started() && self.end.is_none() && machine.link.has_room() && !rests;
            self.poller.change(
                &self.place.sockets,
                Source::Vsock,
                Interest { read: accept, write: false },
            )?;
        } else {
            self.poller.change(&self.place.sockets, Source::Vsock, Interest::END)?;
        }
        if let Some(security) = self.security.as_ref().filter(|security| !security.link.has_ended()) {
            let interest = Interest { read: true, write: security.link.is_waiting() };
            self.poller.change(security.link.as_fd(), Source::Security, interest)?;
        }
        if let Some(starter) = &self.starter {
            let interest = Interest { read: true, write: starter.is_waiting() };
            self.poller.change(starter, Source::Starter, interest)?;
        }
        Ok(())
    }
}
