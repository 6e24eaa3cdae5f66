//! An enclave's life: loading, loaded, booting, running. [`super::ending`] is the rest of it.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use zeroize::Zeroize;

use crate::channel::pair;
use crate::console_log::printable;
use crate::description::{MAX_CONTAINMENT_LINE, MAX_CONTAINMENT_MISSING, PhaseTiming, State};
use crate::exit_reason::ExitReason;
use crate::launch::{LaunchEvent, LaunchSpec};
use crate::messages::{FromSecurityModule, FromVm, MachineSpec, ToSecurityModule, ToVm};
use crate::state::Record;
use crate::supervisor::budget::Budget;
use crate::supervisor::children::{ChildProcess, ChildSpawner, KVM, Role};
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
    pub(super) process: ChildProcess,
    pub(super) link: Link<ToVm, FromVm>,
    pub(super) protocol: MachineProtocol,
    pub(super) budget: Budget,
}

/// The security module as the supervisor knows it.
#[derive(Debug)]
pub(super) struct Security {
    pub(super) process: ChildProcess,
    pub(super) link: Link<ToSecurityModule, FromSecurityModule>,
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
    pub(super) starter: Option<Link<LaunchEvent, LaunchSpec>>,
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
        starter: OwnedFd,
        signals: OwnedFd,
    ) -> Result<Self, SupervisorError> {
        let poller = Poller::new()?;
        let starter = Link::new(starter, SMALL_QUEUE)?;
        poller.add(&signals, Source::Signal, Interest::READ)?;
        poller.add(&starter, Source::Starter, Interest::READ)?;
        poller.add(&place.control, Source::Control, Interest::READ)?;
        poller.add(&place.sockets, Source::Vsock, Interest::END)?;
        let loader = Loader::start(&spec, image)?;
        poller.add(&loader, Source::Loader, Interest::READ)?;
        Ok(Self {
            start_wanted: spec.start,
            spec,
            place,
            poller,
            signals,
            starter: Some(starter),
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

    /// Starts the other two processes and gives them what they can begin with.
    pub(super) fn start_children(&mut self, spawner: &dyn ChildSpawner) -> Result<(), String> {
        let kvm = spawner.open_kvm().map_err(|error| without_kvm(&error))?;
        let failed = |what: &str| {
            let what = what.to_owned();
            move |error: io::Error| format!("{what} could not be started: {error}")
        };
        let (machine_packets, security_packets) = pair().map_err(failed("the security module"))?;
        self.security = Some(
            start_security(spawner, &security_packets, &self.poller)
                .map_err(failed("the security module"))?,
        );
        drop(security_packets);
        self.machine = Some(
            start_machine(spawner, &machine_packets, &self.poller)
                .map_err(failed("the virtual machine process"))?,
        );
        drop(machine_packets);
        let mut descriptors = vec![kvm];
        if self.spec.debug {
            let (console, machine_end) =
                Console::create(&self.place.folder).map_err(failed("the console"))?;
            self.poller
                .add(console.pipe(), Source::Console, Interest::READ)
                .map_err(failed("the console"))?;
            self.console = Some(console);
            descriptors.push(machine_end);
        }
        let machine = MachineSpec {
            cpus: self.spec.cpus.clone(),
            guest_cid: self.place.cid.cid(),
            debug: self.spec.debug,
        };
        self.tell_machine(ToVm::Prepare(machine), descriptors);
        self.tell_security(ToSecurityModule::Identity(self.spec.identity.clone()));
        // From here on the key is the security module's alone.
        self.spec.identity.ca_key.zeroize();
        Ok(())
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

    /// Keeps for `describe` what this host did not allow of a child's containment. `describe` has room for a few lines.
    pub(super) fn containment_lacks(&mut self, role: Role, missing: Vec<String>) {
        let room = MAX_CONTAINMENT_MISSING.saturating_sub(self.place.description.containment_missing.len());
        let lines = missing.into_iter().take(room).map(|line| {
            let line: String = printable(line.as_bytes()).chars().take(MAX_CONTAINMENT_LINE).collect();
            format!("{}: {line}", role.argument())
        });
        self.place.description.containment_missing.extend(lines);
        self.save();
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
                "the virtual machine process or the security module did not get ready in time".to_owned(),
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

fn start_security(spawner: &dyn ChildSpawner, packets: &OwnedFd, poller: &Poller) -> io::Result<Security> {
    let (ours, theirs) = pair()?;
    let process = ChildProcess::start(spawner, Role::SecurityModule, &[theirs.as_fd(), packets.as_fd()])?;
    let link = Link::new(ours, SMALL_QUEUE)?;
    poller.add(&link, Source::Security, Interest::READ)?;
    poller.add(process.exit(), Source::SecurityExit, Interest::READ)?;
    poller.add(process.words(), Source::SecurityWords, Interest::READ)?;
    Ok(Security { process, link, ready: false, locked: false })
}

fn start_machine(spawner: &dyn ChildSpawner, packets: &OwnedFd, poller: &Poller) -> io::Result<Machine> {
    let (ours, theirs) = pair()?;
    let process = ChildProcess::start(spawner, Role::Machine, &[theirs.as_fd(), packets.as_fd()])?;
    let link = Link::new(ours, MACHINE_QUEUE)?;
    poller.add(&link, Source::Machine, Interest::READ)?;
    poller.add(process.exit(), Source::MachineExit, Interest::READ)?;
    poller.add(process.words(), Source::MachineWords, Interest::READ)?;
    Ok(Machine { process, link, protocol: MachineProtocol::new(), budget: Budget::new(Instant::now()) })
}

/// What keeps this user from /dev/kvm, and what to do.
fn without_kvm(error: &io::Error) -> String {
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::NOENT | Errno::NXIO | Errno::NODEV) => format!(
            "{KVM} is not there: the CPU's virtualisation is off in the firmware, its kernel module is not loaded \
             (modprobe kvm_intel or kvm_amd), or this is a virtual machine without nested virtualisation; \
             `enclave doctor` looks closer, and `make lab` runs enclaves without it, slowly"
        ),
        Some(Errno::ACCESS | Errno::PERM) => format!(
            "{KVM} may not be opened by this user; add the user to the group kvm (usermod -aG kvm USER, then log in \
             again) or run as root"
        ),
        _ => format!("{KVM} could not be opened: {error}; `enclave doctor` looks closer"),
    }
}
