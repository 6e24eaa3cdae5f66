//! The application: started with the endpoint in its environment, sent the signals that come here, and ended with.

use std::ffi::OsString;
use std::io;
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use rustix::process::{Pid, Signal, kill_process};
use thiserror::Error;
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::console;
use crate::proxy::CREDENTIALS_PATH;
use crate::proxy::token::Token;

/// Exit status when the helper fails, as of env(1) and docker-run(1); 126 and 127 are theirs too.
pub const FAILED: u8 = 125;
/// Exit status when the application is there and cannot be run.
const CANNOT_RUN: u8 = 126;
/// Exit status when the application is not there.
const NOT_FOUND: u8 = 127;
/// Exit status of an application that a signal ended, beside the signal's number.
const BY_SIGNAL: i32 = 128;

/// Where SDKs ask for credentials ([`crate::proxy::token`] names the specification). Before it they look at [`RELATIVE_URI`].
const FULL_URI: &str = "AWS_CONTAINER_CREDENTIALS_FULL_URI";
/// The same as a path on a machine that enclaves do not reach.
const RELATIVE_URI: &str = "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI";
/// What they show there.
const TOKEN: &str = "AWS_CONTAINER_AUTHORIZATION_TOKEN";
/// The name of a file with the same, which goes before it.
const TOKEN_FILE: &str = "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE";

/// Signals that are the application's, not the helper's.
const FORWARDED: [Signal; 7] =
    [Signal::HUP, Signal::INT, Signal::QUIT, Signal::USR1, Signal::USR2, Signal::TERM, Signal::WINCH];

/// Why the application did not run.
#[derive(Debug, Error)]
pub enum ApplicationError {
    /// It could not be waited for.
    #[error("lost track of the application: {0}")]
    Lost(#[source] io::Error),
    /// Signals cannot be received.
    #[error("cannot receive signals: {0}")]
    Signals(#[source] io::Error),
}

/// The application to be started.
#[derive(Debug)]
pub struct Application {
    program: OsString,
    command: Command,
}

impl Application {
    /// This program with these arguments.
    #[must_use]
    pub fn new(words: &[OsString]) -> Self {
        let program = words.first().cloned().unwrap_or_default();
        let mut command = Command::new(&program);
        command.args(words.iter().skip(1));
        Self { program, command }
    }

    /// Points SDKs to the local endpoint.
    pub fn set_endpoint(&mut self, address: SocketAddr) {
        self.set_unless_set("AWS_ENDPOINT_URL_KMS", &format!("http://{address}"));
    }

    /// Points SDKs there for their credentials too, and gives them the token that they must show; unless they are pointed elsewhere:
    /// whoever is there shall not be shown the token.
    pub fn set_credentials(&mut self, address: SocketAddr, token: &Token) {
        let url = format!("http://{address}{CREDENTIALS_PATH}");
        if is_pointed_elsewhere(&url, |name| std::env::var_os(name)) {
            return;
        }
        self.command.env(FULL_URI, url).env(TOKEN, token.as_str());
        // SDKs would read another token there first.
        self.command.env_remove(TOKEN_FILE);
    }

    /// Says the region to SDKs: they read one of two variables.
    pub fn set_region(&mut self, region: &str) {
        self.set_unless_set("AWS_REGION", region);
        self.set_unless_set("AWS_DEFAULT_REGION", region);
    }

    fn set_unless_set(&mut self, name: &str, value: &str) {
        if std::env::var_os(name).is_none() {
            self.command.env(name, value);
        }
    }

    /// Runs it to its end, sends it the signals that come here meanwhile, and returns the exit status to end with: the application's, 128
    /// and the number of the signal that ended it, 127 if there is no such program, 126 if it cannot be run.
    ///
    /// # Errors
    /// [`ApplicationError`]: then the application is not there, or nothing is known of it any more.
    pub async fn run(mut self) -> Result<u8, ApplicationError> {
        // Before it starts, so that no signal is lost.
        let mut signals = forwarded().map_err(ApplicationError::Signals)?;
        let mut child = match self.command.spawn() {
            Ok(child) => child,
            Err(error) => {
                console::tell(format_args!("cannot run {:?}: {error}", self.program));
                let missing = error.kind() == io::ErrorKind::NotFound;
                return Ok(if missing { NOT_FOUND } else { CANNOT_RUN });
            }
        };
        let pid = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        loop {
            tokio::select! {
                ended = child.wait() => return Ok(code(ended.map_err(ApplicationError::Lost)?)),
                Some(signal) = signals.recv() => {
                    // It may have ended just now: its end is what comes next.
                    let _ = pid.map(|pid| kill_process(pid, signal));
                }
            }
        }
    }
}

/// Whether the image has SDKs ask for credentials at another place than this.
fn is_pointed_elsewhere(url: &str, variable: impl Fn(&str) -> Option<OsString>) -> bool {
    variable(RELATIVE_URI).is_some() || variable(FULL_URI).is_some_and(|set| set != url)
}

/// The signals as they come.
fn forwarded() -> io::Result<mpsc::Receiver<Signal>> {
    let (sender, receiver) = mpsc::channel(FORWARDED.len());
    for kind in FORWARDED {
        let mut arrivals = signal(SignalKind::from_raw(kind.as_raw()))?;
        let sender = sender.clone();
        tokio::spawn(
            async move { while arrivals.recv().await.is_some() && sender.send(kind).await.is_ok() {} },
        );
    }
    Ok(receiver)
}

fn code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal()?.checked_add(BY_SIGNAL));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(FAILED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sdks_that_ask_elsewhere_for_credentials_are_left_alone() {
        let ours = "http://127.0.0.1:8421/credentials";
        let elsewhere = |set: &[(&str, &str)]| {
            is_pointed_elsewhere(ours, |name| {
                set.iter().find(|(other, _)| *other == name).map(|(_, value)| value.into())
            })
        };
        assert!(!elsewhere(&[]) && !elsewhere(&[(FULL_URI, ours)]) && !elsewhere(&[(TOKEN, "t")]));
        assert!(elsewhere(&[(FULL_URI, "http://127.0.0.1:8422/credentials")]));
        assert!(elsewhere(&[(RELATIVE_URI, "/credentials"), (FULL_URI, ours)]));
    }
}
