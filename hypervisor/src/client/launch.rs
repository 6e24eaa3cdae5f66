//! Starting an enclave: a supervisor is spawned and followed until the enclave runs.

use std::fs::File;
use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use crate::channel::{Channel, ChannelError, Received, pair};
use crate::client::clean::remove_unfinished;
use crate::client::error::{ClientError, LaunchError};
use crate::description::Description;
use crate::launch::{ContainmentMode, LaunchEvent, LaunchSpec};
use crate::messages::SecurityIdentity;
use crate::run_dir::RunRoot;
use crate::spawn::{Program, null, spawn};

/// Name of the program that the three processes run.
const PROGRAM: &str = "enclave-hypervisor";

/// `enclave-hypervisor` beside the running program.
///
/// # Errors
/// If the running program has no path.
pub fn supervisor_program() -> Result<PathBuf, ClientError> {
    let here = std::env::current_exe()
        .map_err(|error| ClientError::Spawn { program: PathBuf::from(PROGRAM), error })?;
    Ok(here.with_file_name(PROGRAM))
}

/// A supervisor that has been started and waits to be told what to do. Dropped untold, it ends and leaves nothing behind.
#[derive(Debug)]
pub struct Supervisor {
    channel: Channel<LaunchSpec, LaunchEvent>,
    process_id: u32,
    /// Reaps it: it ends long after a command, but a program may go on.
    reaper: JoinHandle<()>,
}

impl Supervisor {
    /// Starts `program`, which is [`supervisor_program`], to be contained or not. Nothing that is started holds a descriptor of
    /// this process.
    ///
    /// # Errors
    /// If the program cannot be started.
    pub fn spawn(program: &Path, containment: ContainmentMode) -> Result<Self, ClientError> {
        let cannot = |error| ClientError::Spawn { program: program.to_owned(), error };
        let (ours, theirs) = pair().map_err(cannot)?;
        let opened = Program::open(program).map_err(cannot)?;
        let arguments = ["supervisor", containment.argument()];
        let child = spawn(&opened, &arguments, &[theirs.as_fd()], null().map_err(cannot)?.as_fd());
        let child = child.map_err(cannot)?;
        let process_id = child.id();
        // An error of waiting would mean that there is nothing to reap.
        let reaper = std::thread::spawn(move || drop(child.wait()));
        Ok(Self { channel: Channel::new(ours), process_id, reaper })
    }

    /// Starts an enclave from `image` and returns once it runs, or is loaded if it is not to be started.
    ///
    /// `identity` is called while the image already loads, and may take its time: without what it returns the enclave is ended.
    /// `on_event` hears the progress, the outcome included. If this process ends before that, the enclave is ended too.
    ///
    /// # Errors
    /// [`LaunchError::Failed`] with the supervisor's reason, else what kept it from being started.
    pub fn launch(
        self,
        spec: &LaunchSpec,
        image: &File,
        identity: impl FnOnce() -> Option<SecurityIdentity>,
        on_event: &mut dyn FnMut(&LaunchEvent),
    ) -> Result<Description, LaunchError> {
        let root = RunRoot::at(&spec.run_root);
        root.prepare()?;
        let spec = LaunchSpec { process_id: self.process_id, ..spec.clone() };
        self.channel.send(&spec, &[image.as_fd()])?;
        let channel = Channel::<SecurityIdentity, LaunchEvent>::new(self.channel.into_socket());
        let outcome = match identity() {
            Some(identity) => {
                // A supervisor that has failed already does not take it, and has said why.
                let _told = channel.send(&identity, &[]);
                drop(identity);
                follow(|| Ok(receive(&channel)?.map(|received| received.message)), on_event)
            }
            None => Err(LaunchError::NoIdentity),
        };
        drop(channel);
        let given_up = matches!(outcome, Err(LaunchError::NoIdentity));
        if given_up || matches!(outcome, Err(LaunchError::Failed(_))) {
            // What it leaves if it never ran is removed once nothing of it lives.
            let _it_ends_by_itself = self.reaper.join();
            remove_unfinished(&root, &spec.enclave_id, spec.cgroup.as_deref(), given_up)?;
        }
        outcome
    }
}

/// Receives, from a supervisor that may have ended without taking the identity: that is an error, once, and then what it said.
fn receive(
    channel: &Channel<SecurityIdentity, LaunchEvent>,
) -> Result<Option<Received<LaunchEvent>>, ChannelError> {
    match channel.receive() {
        Err(ChannelError::Io(error)) if error.kind() == ErrorKind::ConnectionReset => channel.receive(),
        received => received,
    }
}

/// Passes events on until the last one, which it turns into the outcome.
pub(crate) fn follow(
    mut next: impl FnMut() -> Result<Option<LaunchEvent>, ClientError>,
    on_event: &mut dyn FnMut(&LaunchEvent),
) -> Result<Description, LaunchError> {
    loop {
        let event = next()?.ok_or(ClientError::SupervisorGone)?;
        on_event(&event);
        match event {
            LaunchEvent::Created(description) | LaunchEvent::Running(description) => return Ok(*description),
            LaunchEvent::Failed(failure) => return Err(LaunchError::Failed(failure)),
            LaunchEvent::Loading { .. } | LaunchEvent::Measured(_) | LaunchEvent::Booting => {}
        }
    }
}
