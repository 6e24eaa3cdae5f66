//! An enclave's life: loading, loaded, booting, running. [`super::ending`] is the rest of it.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use crate::description::{PhaseTiming, State};
use crate::exit_reason::ExitReason;
use crate::launch::{ContainmentMode, LaunchEvent, LaunchSpec};
use crate::memory::Descriptor;
use crate::messages::{FromSecurityModule, FromVm, MachineSpec, SecurityIdentity, ToSecurityModule, ToVm};
use crate::state::Record;
use crate::supervisor::budget::Budget;
use crate::supervisor::children::{ChildProcess, Children, Connected, Role};
use crate::supervisor::console::Console;
use crate::supervisor::ending::End;
use crate::supervisor::image::{ImageInMemory, Loader};
use crate::supervisor::link::Link;
use crate::supervisor::machine_protocol::MachineProtocol;
use crate::supervisor::poller::{Interest, Poller, Source};
use crate::supervisor::setup::{Place, attested};
use crate::supervisor::{SupervisorError, heartbeat, security_protocol};

/// Messages that wait for the virtual machine process: one for each connection that it has not taken yet.
const MACHINE_QUEUE: usize = 256;

/// Messages that wait for the security module or the starting command.
const SMALL_QUEUE: usize = 16;

/// How long the other processes may take to get ready once the image is loaded.
const READY_TIMEOUT: Duration = Duration::from_secs(60);

/// Where the enclave is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    /// The image is read; the other processes get ready meanwhile.
    Loading,
    /// The image is loaded; the other processes are not all ready.
    Sealing,
    /// Everything is ready for the first instruction.
    Loaded,
    /// The virtual CPUs were told to run; the heartbeat is awaited.
    Booting,
    /// The heartbeat has come.
    Running,
    /// It is being ended.
    Ending,
}

/// The virtual machine process as the supervisor knows it.
#[derive(Debug)]
pub(super) struct Machine {
    pub(super) link: Link<ToVm, FromVm>,
    pub(super) process: ChildProcess,
    pub(super) protocol: MachineProtocol,
    pub(super) budget: Budget,
}

/// The security module as the supervisor knows it.
#[derive(Debug)]
pub(super) struct Security {
    /// Before the process: its end is what ends the process, and dropping that waits for it.
    pub(super) link: Link<ToSecurityModule, FromSecurityModule>,
    pub(super) process: ChildProcess,
    /// It has told what its containment lacks.
    contained: bool,
    /// It has accepted its identity.
    ready: bool,
    /// It has accepted the measurements.
    locked: bool,
}

/// One enclave's supervisor.
#[derive(Debug)]
pub(super) struct Supervisor {
    pub(super) spec: LaunchSpec,
    pub(super) place: Place,
    pub(super) poller: Poller,
    pub(super) signals: OwnedFd,
    /// The starting command, until it has heard the outcome.
    pub(super) starter: Option<Link<LaunchEvent, SecurityIdentity>>,
    /// The identity has come.
    pub(super) identified: bool,
    pub(super) console: Option<Console>,
    pub(super) loader: Option<Loader>,
    /// Guest memory with the image in it, to the very end.
    pub(super) image: Option<ImageInMemory>,
    pub(super) machine: Option<Machine>,
    pub(super) security: Option<Security>,
    pub(super) stage: Stage,
    /// When something must have happened that this stage waits for.
    pub(super) deadline: Option<Instant>,
    /// Run as soon as everything is ready.
    pub(super) start_wanted: bool,
    pub(super) end: Option<End>,
    phase_began: Instant,
    image_bytes: u64,
    measuring: Duration,
}

impl Supervisor {
    /// A supervisor in its place: the sockets listen, the image begins to load.
    pub(super) fn new(
        spec: LaunchSpec,
        place: Place,
        image: File,
        memory: Descriptor,
        starter: OwnedFd,
        signals: OwnedFd,
    ) -> Result<Self, SupervisorError> {
        let poller = Poller::new()?;
        let starter = Link::new(starter, SMALL_QUEUE)?;
        poller.add(&signals, Source::Signal, Interest::READ)?;
        poller.add(&starter, Source::Starter, Interest::READ)?;
        poller.add(&place.control, Source::Control, Interest::READ)?;
        poller.add(&place.sockets, Source::Vsock, Interest::END)?;
        let loader = Loader::start(&spec, image, memory)?;
        poller.add(&loader, Source::Loader, Interest::READ)?;
        Ok(Self {
            start_wanted: spec.start,
            spec,
            place,
            poller,
            signals,
            starter: Some(starter),
            identified: false,
            console: None,
            loader: Some(loader),
            image: None,
            machine: None,
            security: None,
            stage: Stage::Loading,
            deadline: None,
            end: None,
            phase_began: Instant::now(),
            image_bytes: 0,
            measuring: Duration::ZERO,
        })
    }

    /// Takes on the children and gives them what they can begin with.
    pub(super) fn take_on(&mut self, children: Children) -> Result<(), String> {
        let failed = |error: io::Error| format!("the other processes could not be watched: {error}");
        let Children { kvm, machine, security } = children;
        self.security = Some(watch_security(security, &self.poller).map_err(failed)?);
        self.machine = Some(watch_machine(machine, &self.poller).map_err(failed)?);
        let mut descriptors = vec![kvm];
        if self.spec.debug {
            let failed = |error: io::Error| format!("the console could not be made: {error}");
            let (console, machine_end) = Console::create(&self.place.folder).map_err(failed)?;
            self.poller.add(console.pipe(), Source::Console, Interest::READ).map_err(failed)?;
            self.console = Some(console);
            descriptors.push(machine_end);
        }
        let machine = MachineSpec {
            cpus: self.spec.cpus.clone(),
            guest_cid: self.place.cid.cid(),
            debug: self.spec.debug,
        };
        self.tell_machine(ToVm::Prepare(machine), descriptors);
        Ok(())
    }

    /// Hands the enclave's identity on to the security module, which alone has its key from then on.
    pub(super) fn identify(&mut self, identity: SecurityIdentity) {
        self.identified = true;
        if identity.module_id == self.spec.module_id && identity.role == self.spec.role {
            self.tell_security(ToSecurityModule::Identity(identity));
        } else {
            let why = "the identity that came is another enclave's than the request's";
            self.begin_end(ExitReason::StartFailed, why.to_owned());
        }
    }

    /// The image is in guest memory and passed every check.
    pub(super) fn image_loaded(&mut self, loaded: ImageInMemory) {
        self.time("load and measure");
        let measurements = loaded.image.measurements.clone();
        self.measuring = loaded.image.timings.measuring;
        self.image_bytes = loaded.image.image.bytes;
        self.image = Some(loaded);
        match attested(&self.spec, &measurements) {
            Ok(attested) => self.place.description.attested_pcrs = Some(attested),
            Err(error) => return self.begin_end(ExitReason::StartFailed, error.to_string()),
        }
        self.place.description.measurements = Some(measurements.clone().into());
        self.tell_starter(LaunchEvent::Measured(measurements));
        self.stage = Stage::Sealing;
        self.deadline = Some(Instant::now() + READY_TIMEOUT);
        self.save();
        self.seal();
    }

    /// Tells the security module what was measured, once there is both.
    fn seal(&mut self) {
        let (Some(loaded), Some(security)) = (&self.image, &self.security) else {
            return;
        };
        if security.ready && !security.locked && self.stage == Stage::Sealing {
            let measurements = (!self.spec.debug).then(|| loaded.image.measurements.clone());
            self.tell_security(ToSecurityModule::Measured(measurements));
        }
    }

    /// Hears the security module.
    pub(super) fn security_said(&mut self, message: FromSecurityModule) {
        let Some(security) = &mut self.security else {
            return;
        };
        let so_far = security_protocol::Progress {
            contained: security.contained,
            ready: security.ready,
            told: self.stage >= Stage::Sealing,
            locked: security.locked,
        };
        let message = match security_protocol::admit(message, so_far) {
            Ok(message) => message,
            Err(violation) => {
                let why = format!("the security module was ended because {}", violation.0);
                return self.begin_end(ExitReason::SecurityModuleKilled, why);
            }
        };
        match message {
            FromSecurityModule::Contained { missing } => {
                security.contained = true;
                self.containment_lacks(Role::SecurityModule, missing);
            }
            FromSecurityModule::Ready => {
                security.ready = true;
                self.seal();
            }
            FromSecurityModule::Locked => {
                security.locked = true;
                self.proceed();
            }
            FromSecurityModule::Refused(why) => {
                self.begin_end(ExitReason::StartFailed, format!("the security module refused: {why}"));
            }
        }
    }

    /// Keeps for `describe` what this host did not allow of a child's containment.
    pub(super) fn containment_lacks(&mut self, role: Role, missing: Vec<String>) {
        self.place.description.lacks(role.argument(), missing);
        self.save();
        self.insist_on_containment();
    }

    /// Ends the enclave before it begins if all of the containment is required and some of it is missing.
    pub(super) fn insist_on_containment(&mut self) {
        let missing = &self.place.description.containment_missing;
        if self.spec.containment == ContainmentMode::Require && !missing.is_empty() {
            let why = format!(
                "this host does not allow all of the containment, which --containment require insists on: {}; `enclave doctor` \
                 says what would mend it",
                missing.join("; ")
            );
            self.begin_end(ExitReason::StartFailed, why);
        }
    }

    /// Goes on if everything is there that this stage waits for.
    pub(super) fn proceed(&mut self) {
        let prepared = self.machine.as_ref().is_some_and(|machine| machine.protocol.is_prepared());
        let locked = self.security.as_ref().is_some_and(|security| security.locked);
        if self.stage == Stage::Sealing && prepared && locked {
            self.stage = Stage::Loaded;
            self.deadline = None;
            self.time("seal");
            self.save();
        }
        if self.stage != Stage::Loaded {
            return;
        }
        if self.start_wanted {
            self.boot();
        } else {
            let created = LaunchEvent::Created(Box::new(self.place.description.clone()));
            self.tell_starter(created);
        }
    }

    /// Hands guest memory and the entry point over: from here on the guest's code runs.
    fn boot(&mut self) {
        let (Some(loaded), Some(machine)) = (&self.image, &mut self.machine) else {
            return;
        };
        let memory = match loaded.descriptor().try_clone_to_owned() {
            Ok(memory) => memory,
            Err(error) => return self.begin_end(ExitReason::StartFailed, error.to_string()),
        };
        let boot = loaded.image.boot.clone();
        machine.protocol.boot();
        self.stage = Stage::Booting;
        self.phase_began = Instant::now();
        let timeout = self.spec.heartbeat_timeout_ms.map_or_else(
            || heartbeat::timeout(self.image_bytes, self.spec.memory_mib, self.measuring),
            Duration::from_millis,
        );
        self.deadline = Instant::now().checked_add(timeout);
        self.tell_machine(ToVm::Boot(boot), vec![memory]);
        self.tell_starters(&LaunchEvent::Booting);
    }

    /// The virtual CPUs run.
    pub(super) fn machine_started(&mut self) {
        self.time("start virtual CPUs");
        self.place.description.state = State::Running;
        self.save();
    }

    /// The guest's init has reported: the enclave is up.
    pub(super) fn heartbeat(&mut self) {
        if self.stage != Stage::Booting {
            return;
        }
        self.time("boot to heartbeat");
        self.stage = Stage::Running;
        self.deadline = None;
        self.place.description.state = State::Running;
        self.place.description.heartbeat = true;
        self.save();
        self.place.log.line("the heartbeat has come");
        let running = LaunchEvent::Running(Box::new(self.place.description.clone()));
        self.tell_starters(&running);
    }

    /// What the passed deadline means.
    pub(super) fn deadline_passed(&mut self) {
        self.deadline = None;
        match self.stage {
            Stage::Booting => self.begin_end(
                ExitReason::HeartbeatTimeout,
                "the guest's init did not connect to vsock port 9000; --debug shows the guest's console, and \
                 heartbeat_timeout_ms in the configuration file allows it more time"
                    .to_owned(),
            ),
            Stage::Ending => self.end_overdue(),
            Stage::Sealing => self.begin_end(
                ExitReason::StartFailed,
                "the virtual machine process, the security module or the enclave's certificates were not ready in time"
                    .to_owned(),
            ),
            Stage::Loading | Stage::Loaded | Stage::Running => {}
        }
    }

    /// Ends a phase of the start and begins the next.
    fn time(&mut self, phase: &str) {
        let now = Instant::now();
        let elapsed = now.saturating_duration_since(self.phase_began).as_micros();
        self.place.description.timings.push(PhaseTiming {
            phase: phase.to_owned(),
            microseconds: u64::try_from(elapsed).unwrap_or(u64::MAX),
        });
        self.phase_began = now;
    }

    /// Writes the state file. A failure does not end the enclave: the next change tries again.
    pub(super) fn save(&mut self) {
        let record = Record::new(self.place.description.clone(), None);
        if let Err(error) = self.place.state.replace(&record) {
            self.place.log.line(&error.to_string());
        }
    }

    /// Tells the starting command; after the last event it is let go.
    pub(super) fn tell_starter(&mut self, event: LaunchEvent) {
        if let Some(starter) = &mut self.starter
            && starter.send(event, Vec::new()).is_err()
        {
            self.starter = None;
        }
    }

    /// Tells everybody who asked for the start.
    pub(super) fn tell_starters(&mut self, event: &LaunchEvent) {
        self.tell_starter(event.clone());
        self.place.control.tell_starters(event);
    }

    /// Sends to the virtual machine process. One that cannot be sent to has ended or is about to be ended.
    pub(super) fn tell_machine(&mut self, message: ToVm, descriptors: Vec<OwnedFd>) {
        let Some(machine) = &mut self.machine else {
            return;
        };
        if let Err(error) = machine.link.send(message, descriptors) {
            self.place.log.line(&format!("virtual machine process: {error}"));
        }
    }

    fn tell_security(&mut self, message: ToSecurityModule) {
        let Some(security) = &mut self.security else {
            return;
        };
        if let Err(error) = security.link.send(message, Vec::new()) {
            self.place.log.line(&format!("security module: {error}"));
        }
    }
}

fn watch_security(child: Connected, poller: &Poller) -> io::Result<Security> {
    let Connected { process, channel } = child;
    let link = Link::new(channel, SMALL_QUEUE)?;
    poller.add(&link, Source::Security, Interest::READ)?;
    poller.add(process.exit(), Source::SecurityExit, Interest::READ)?;
    poller.add(process.words(), Source::SecurityWords, Interest::READ)?;
    Ok(Security { link, process, contained: false, ready: false, locked: false })
}

fn watch_machine(child: Connected, poller: &Poller) -> io::Result<Machine> {
    let Connected { process, channel } = child;
    let link = Link::new(channel, MACHINE_QUEUE)?;
    poller.add(&link, Source::Machine, Interest::READ)?;
    poller.add(process.exit(), Source::MachineExit, Interest::READ)?;
    poller.add(process.words(), Source::MachineWords, Interest::READ)?;
    Ok(Machine { link, process, protocol: MachineProtocol::new(), budget: Budget::new(Instant::now()) })
}
