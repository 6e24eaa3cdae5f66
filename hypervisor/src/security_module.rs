//! The security module's process: NSM requests in, responses out, with the enclave's key and PCRs in its memory alone.
//!
//! It hears two others. The supervisor, on descriptor 3, says once who the enclave is and once what was booted; a second
//! time is refused. The virtual machine process, on descriptor 4, may be taken over by its guest: a packet from it is
//! a request of the NSM protocol and nothing else, and none is read before the measurements are locked. The process ends
//! when the supervisor's end closes.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::SystemTime;

use attestation::pki::{EnclaveAuthority, PkiError};
use nsm_device::protocol::MAX_REQUEST_LEN;
use nsm_device::{Identity, SecurityModule};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use thiserror::Error;

use crate::channel::{Channel, ChannelError};
use crate::messages::{FromSecurityModule, SecurityIdentity, ToSecurityModule};

/// Why the process ended before its supervisor.
#[derive(Debug, Error)]
pub enum SecurityModuleError {
    /// The supervisor's channel failed.
    #[error(transparent)]
    Channel(#[from] ChannelError),
    /// The virtual machine process's packets failed.
    #[error("the channel to the virtual machine process failed: {0}")]
    Packets(#[from] Errno),
}

/// Why an identity was not accepted.
#[derive(Debug, Error)]
enum IdentityError {
    #[error("the enclave's identity was given before")]
    Again,
    #[error(transparent)]
    Name(#[from] attestation::identity::IdentityError),
    #[error("the enclave's identifier belongs to another host than {0}")]
    OtherHost(String),
    #[error(transparent)]
    Authority(#[from] PkiError),
}

/// Serves until the supervisor closes `supervisor`. `machine` is the socketpair to the virtual machine process, `missing` what
/// this host did not allow of the process's containment.
///
/// # Errors
/// [`SecurityModuleError`] if a channel fails in a way that cannot be served on.
pub fn serve(supervisor: OwnedFd, machine: OwnedFd, missing: Vec<String>) -> Result<(), SecurityModuleError> {
    let mut process = Process {
        supervisor: Channel::new(supervisor),
        machine: Some(machine),
        module: None,
        measured: false,
        response: None,
    };
    if !missing.is_empty() {
        process.supervisor.send(&FromSecurityModule::Contained { missing }, &[])?;
    }
    while process.step()? {}
    Ok(())
}

struct Process {
    supervisor: Channel<FromSecurityModule, ToSecurityModule>,
    /// `None` once the virtual machine process has closed its end.
    machine: Option<OwnedFd>,
    /// Present once the identity was accepted.
    module: Option<SecurityModule>,
    /// The measurements are locked: requests may be read.
    measured: bool,
    /// An answer that the virtual machine process has not taken yet. The next request is read after it.
    response: Option<Vec<u8>>,
}

impl Process {
    /// Waits for one of the two and serves it. False once the supervisor is gone.
    fn step(&mut self) -> Result<bool, SecurityModuleError> {
        let (from_supervisor, from_machine) = self.wait()?;
        if from_supervisor {
            match self.supervisor.receive() {
                Ok(Some(received)) => self.hear(received.message)?,
                Ok(None) => return Ok(false),
                // Gone without reading an answer.
                Err(ChannelError::Io(error)) if error.kind() == io::ErrorKind::ConnectionReset => {
                    return Ok(false);
                }
                Err(error) => return Err(error.into()),
            }
        }
        if from_machine {
            self.serve_machine()?;
        }
        Ok(true)
    }

    /// Blocks until something can be done: for the supervisor, for the virtual machine process.
    fn wait(&self) -> Result<(bool, bool), Errno> {
        let mut sources = vec![PollFd::new(&self.supervisor, PollFlags::IN)];
        if let Some(machine) = self.machine.as_ref().filter(|_| self.measured) {
            let wanted = if self.response.is_some() { PollFlags::OUT } else { PollFlags::IN };
            sources.push(PollFd::new(machine, wanted));
        }
        rustix::io::retry_on_intr(|| poll(&mut sources, None))?;
        let ready =
            |index: usize| sources.get(index).is_some_and(|source: &PollFd<'_>| !source.revents().is_empty());
        Ok((ready(0), ready(1)))
    }

    /// Obeys the supervisor, or says why not.
    fn hear(&mut self, message: ToSecurityModule) -> Result<(), ChannelError> {
        let answer = match message {
            ToSecurityModule::Identity(identity) => match self.accept(&identity) {
                Ok(()) => FromSecurityModule::Ready,
                Err(error) => FromSecurityModule::Refused(error.to_string()),
            },
            ToSecurityModule::Measured(measurements) => match &mut self.module {
                None => FromSecurityModule::Refused("the measurements came before the identity".to_owned()),
                Some(module) => match module.set_measurements(measurements.as_ref()) {
                    Ok(()) => {
                        self.measured = true;
                        FromSecurityModule::Locked
                    }
                    Err(error) => FromSecurityModule::Refused(error.to_string()),
                },
            },
        };
        self.supervisor.send(&answer, &[])
    }

    fn accept(&mut self, given: &SecurityIdentity) -> Result<(), IdentityError> {
        if self.module.is_some() {
            return Err(IdentityError::Again);
        }
        let enclave: attestation::identity::EnclaveId = given.module_id.parse()?;
        if enclave.instance().as_str() != given.instance_id {
            return Err(IdentityError::OtherHost(given.instance_id.clone()));
        }
        let role = if given.role.is_empty() { None } else { Some(given.role.parse()?) };
        let authority = EnclaveAuthority::from_der(&given.ca_key, &given.ca_chain)?;
        self.module = Some(SecurityModule::new(Identity { enclave, role, authority }));
        Ok(())
    }

    /// Takes a request from the virtual machine process, or gives it the answer it had no room for.
    fn serve_machine(&mut self) -> Result<(), Errno> {
        let (Some(machine), Some(module)) = (&self.machine, &mut self.module) else {
            return Ok(());
        };
        let response = match self.response.take() {
            Some(response) => response,
            None => match receive(machine) {
                Ok(Some(request)) => module.handle(&request, SystemTime::now()),
                Ok(None) | Err(Errno::CONNRESET) => {
                    self.machine = None;
                    return Ok(());
                }
                Err(Errno::AGAIN | Errno::INTR) => return Ok(()),
                Err(errno) => return Err(errno),
            },
        };
        match rustix::net::send(machine, &response, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
            Ok(_) => {}
            Err(Errno::AGAIN | Errno::INTR) => self.response = Some(response),
            Err(_) => self.machine = None,
        }
        Ok(())
    }
}

/// One packet, or `None` at the end. A longer one than any request is cut behind the limit, where it is refused.
fn receive(machine: impl AsFd) -> Result<Option<Vec<u8>>, Errno> {
    let mut packet = vec![0; MAX_REQUEST_LEN.saturating_add(1)];
    let (length, _) = rustix::net::recv(machine, &mut packet, RecvFlags::DONTWAIT)?;
    packet.truncate(length);
    Ok(if packet.is_empty() { None } else { Some(packet) })
}

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
#[cfg(test)]
mod tests;
