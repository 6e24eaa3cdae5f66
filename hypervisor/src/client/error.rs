//! What can go wrong when a command talks to enclaves.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::channel::ChannelError;
use crate::launch::LaunchFailure;
use crate::run_dir::RunDirError;

/// Why a command about enclaves failed.
#[derive(Debug, Error)]
pub enum ClientError {
    /// The folder of run-time state.
    #[error(transparent)]
    RunDir(#[from] RunDirError),
    /// No enclave has that name or EnclaveID.
    #[error("there is no enclave {name:?}; {known}")]
    NoSuchEnclave {
        /// What was asked for.
        name: String,
        /// What there is, in words.
        known: String,
    },
    /// The enclave has ended.
    #[error("the enclave {name} has ended ({reason}); `enclave describe {name}` says more")]
    Ended {
        /// Its name.
        name: String,
        /// Why it ended.
        reason: String,
    },
    /// The console of an enclave in production mode.
    #[error(
        "the enclave {0} runs in production mode, where nothing of its console is shown or kept; run it with --debug to \
         see the console"
    )]
    NotDebug(String),
    /// The supervisor refused the request.
    #[error("{0}")]
    Refused(String),
    /// The supervisor could not be talked to.
    #[error("the enclave's supervisor cannot be reached at {path}: {error}")]
    Unreachable {
        /// The control socket.
        path: PathBuf,
        /// The system's error.
        error: io::Error,
    },
    /// The supervisor said something unexpected.
    #[error("the conversation with the enclave's supervisor failed: {0}")]
    Conversation(#[from] ChannelError),
    /// The supervisor ended in the middle of a conversation.
    #[error("the enclave's supervisor ended before it answered; `enclave describe` says what is left")]
    SupervisorGone,
    /// The program could not be started.
    #[error("{program} could not be started: {error}; `make build` puts it beside `enclave`")]
    Spawn {
        /// The program.
        program: PathBuf,
        /// The system's error.
        error: io::Error,
    },
    /// Nothing in the guest answers on that vsock port.
    #[error(
        "nothing in the enclave {name} accepts connections on vsock port {port}; the application must listen there on \
         VMADDR_CID_ANY"
    )]
    PortRefused {
        /// The enclave's name.
        name: String,
        /// The vsock port.
        port: u32,
    },
    /// The connection to the guest failed.
    #[error("the connection to vsock port {port} failed: {error}")]
    Connect {
        /// The vsock port.
        port: u32,
        /// The system's error.
        error: io::Error,
    },
}

/// Why an enclave did not start.
#[derive(Debug, Error)]
pub enum LaunchError {
    /// It never came to starting it.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The supervisor tried.
    #[error("{}: {}", .0.reason, .0.message)]
    Failed(LaunchFailure),
    /// The caller had no identity for it.
    #[error("the enclave was given no identity")]
    NoIdentity,
}

impl From<RunDirError> for LaunchError {
    fn from(error: RunDirError) -> Self {
        Self::Client(error.into())
    }
}

impl From<ChannelError> for LaunchError {
    fn from(error: ChannelError) -> Self {
        Self::Client(error.into())
    }
}
