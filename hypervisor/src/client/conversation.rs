//! Requests to the supervisor of an enclave.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};

use ciborium::Value;
use rustix::net::{SocketFlags, SocketType};

use crate::channel::{Channel, ChannelError, Received};
use crate::client::clean::remove;
use crate::client::error::{ClientError, LaunchError};
use crate::client::find::find;
use crate::client::launch::follow;
use crate::console_log::LogReader;
use crate::control::{Envelope, Reply, Request};
use crate::description::{Description, Flags, State};
use crate::launch::{LaunchEvent, PROTOCOL_VERSION};
use crate::run_dir::{CONTROL_SOCKET, EnclaveFolder, RunDirError, RunRoot};
use crate::{state, unix_socket};

/// Runs an enclave that was created but not started, and returns once its heartbeat has come.
///
/// # Errors
/// [`LaunchError::Failed`] if it ended instead, else why the request could not be made.
pub fn start(
    root: &RunRoot,
    enclave: &Description,
    on_event: &mut dyn FnMut(&LaunchEvent),
) -> Result<Description, LaunchError> {
    let folder = living_folder(root, enclave)?;
    let conversation = match Conversation::begin(&folder, Request::Start) {
        Err(error) if is_at_its_end(&error) => {
            wait_for_supervisor(&folder)?;
            living_folder(root, enclave)?;
            return Err(error.into());
        }
        other => other?,
    };
    let next = || match conversation.next()? {
        None => Ok(None),
        Some(Received { message: Reply::Launch(event), .. }) => Ok(Some(event)),
        Some(other) => Err(unexpected(other)),
    };
    follow(next, on_event)
}

/// Ends an enclave, waits until it has ended, and removes its folder. What has ended already is only removed, so it can
/// be asked for any number of times.
///
/// # Errors
/// If the supervisor cannot be reached although it lives, or the folder cannot be removed.
pub fn terminate(root: &RunRoot, enclave: &Description) -> Result<Description, ClientError> {
    let mut last = enclave.clone();
    if let Some(folder) = root.open(&enclave.enclave_id)? {
        last = request_end(root, enclave, &folder, Request::Terminate)?;
    }
    let lock = root.lock()?;
    if let Some(folder) = root.open(&enclave.enclave_id)? {
        remove(folder, &lock, last.cgroup.as_deref())?;
    }
    Ok(last)
}

/// Waits until an enclave has ended and returns its last description. Returns at once if it already has.
///
/// # Errors
/// If the supervisor cannot be reached although it lives.
pub fn wait(root: &RunRoot, enclave: &Description) -> Result<Description, ClientError> {
    match root.open(&enclave.enclave_id)? {
        Some(folder) => request_end(root, enclave, &folder, Request::Wait),
        None => find(root, &enclave.enclave_id),
    }
}

/// The console from its first byte: live until the enclave ends, kept after that.
///
/// # Errors
/// [`ClientError::NotDebug`] in production mode.
pub fn console(root: &RunRoot, enclave: &Description) -> Result<Box<dyn Read + Send>, ClientError> {
    if enclave.flags != Flags::DebugMode {
        return Err(ClientError::NotDebug(enclave.name.clone()));
    }
    let folder = match living_folder(root, enclave) {
        Err(ClientError::Ended { .. }) => return Ok(Box::new(logs(root, enclave)?)),
        other => other?,
    };
    let answer = Conversation::begin(&folder, Request::Console).and_then(|conversation| conversation.next());
    match answer {
        Ok(Some(Received { message: Reply::Console, mut descriptors })) => match descriptors.pop() {
            Some(stream) => Ok(Box::new(File::from(stream))),
            None => Err(ClientError::SupervisorGone),
        },
        // It ended in this moment.
        Ok(None) => Ok(Box::new(logs(root, enclave)?)),
        Err(error) if is_at_its_end(&error) => Ok(Box::new(logs(root, enclave)?)),
        Ok(Some(other)) => Err(unexpected(other)),
        Err(error) => Err(error),
    }
}

/// The console as far as it is kept now, from its first byte.
///
/// # Errors
/// [`ClientError::NotDebug`] in production mode.
pub fn logs(root: &RunRoot, enclave: &Description) -> Result<LogReader, ClientError> {
    if enclave.flags != Flags::DebugMode {
        return Err(ClientError::NotDebug(enclave.name.clone()));
    }
    let folder = root.open(&enclave.enclave_id)?.ok_or_else(|| gone(enclave))?;
    let opened = LogReader::open(&folder);
    opened.map_err(|error| RunDirError::Folder { path: folder.path().to_owned(), error }.into())
}

/// The folder of an enclave whose supervisor lives.
pub(super) fn living_folder(root: &RunRoot, enclave: &Description) -> Result<EnclaveFolder, ClientError> {
    let folder = root.open(&enclave.enclave_id)?.ok_or_else(|| gone(enclave))?;
    match folder.read_state()? {
        Some((record, true)) if record.description.state != State::Exited => Ok(folder),
        Some((record, _)) => Err(ClientError::Ended {
            name: enclave.name.clone(),
            reason: record.description.exit_reason.map_or_else(String::new, |reason| reason.to_string()),
        }),
        None => Err(gone(enclave)),
    }
}

/// Asks for or awaits the end, then the end of the supervisor, and returns what is recorded.
fn request_end(
    root: &RunRoot,
    enclave: &Description,
    folder: &EnclaveFolder,
    request: Request,
) -> Result<Description, ClientError> {
    let ended = match Conversation::begin(folder, request).and_then(|conversation| conversation.next()) {
        Ok(Some(Received { message: Reply::Ended(description), .. })) => Some(*description),
        Ok(Some(other)) => return Err(unexpected(other)),
        // The supervisor ended first; the state tells how.
        Ok(None) | Err(ClientError::Conversation(_)) => None,
        Err(error) if is_at_its_end(&error) => None,
        Err(error) => return Err(error),
    };
    wait_for_supervisor(folder)?;
    match ended {
        Some(description) => Ok(description),
        None => match folder.read_state()? {
            Some((record, _)) => Ok(record.description),
            None => find(root, &enclave.enclave_id),
        },
    }
}

/// Whether the control socket is gone. It is there from before an enclave is listed until its supervisor has nothing
/// left to do but end itself.
fn is_at_its_end(error: &ClientError) -> bool {
    let gone = [io::ErrorKind::NotFound, io::ErrorKind::ConnectionRefused];
    matches!(error, ClientError::Unreachable { error, .. } if gone.contains(&error.kind()))
}

fn wait_for_supervisor(folder: &EnclaveFolder) -> Result<(), RunDirError> {
    state::wait_until_free(folder.as_fd())
        .map_err(|error| RunDirError::State { path: folder.path().to_owned(), error })
}

/// One request and its replies.
struct Conversation {
    channel: Channel<Envelope, Reply>,
}

impl Conversation {
    fn begin(folder: &EnclaveFolder, request: Request) -> Result<Self, ClientError> {
        let socket: OwnedFd =
            unix_socket::connect(folder.as_fd(), CONTROL_SOCKET, SocketType::SEQPACKET, SocketFlags::empty())
                .map_err(|error| ClientError::Unreachable {
                    path: folder.path().join(CONTROL_SOCKET),
                    error,
                })?;
        let request = Value::serialized(&request).map_err(|error| ChannelError::Encode(error.to_string()))?;
        let channel = Channel::new(socket);
        channel.send(&Envelope { version: PROTOCOL_VERSION, request }, &[])?;
        Ok(Self { channel })
    }

    fn next(&self) -> Result<Option<Received<Reply>>, ClientError> {
        Ok(self.channel.receive()?)
    }
}

fn unexpected(received: Received<Reply>) -> ClientError {
    match received.message {
        Reply::Refused(why) => ClientError::Refused(why),
        other => ClientError::Refused(format!("the supervisor answered out of order: {other:?}")),
    }
}

fn gone(enclave: &Description) -> ClientError {
    ClientError::NoSuchEnclave {
        name: enclave.name.clone(),
        known: "it was removed in the meantime".to_owned(),
    }
}
