//! What commands say to the supervisor of an enclave over `control.sock`, and what they hear.
//!
//! A connection (SOCK_SEQPACKET, [`crate::channel`]) carries one request, then its replies. The supervisor answers only
//! the user who started it, and root.

use ciborium::Value;
use serde::{Deserialize, Serialize};

use crate::description::Description;
use crate::launch::{LaunchEvent, PROTOCOL_VERSION};

/// A request as it travels: the version can be read whatever the rest looks like.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Envelope {
    /// [`PROTOCOL_VERSION`] of the command.
    pub version: u32,
    /// A [`Request`].
    pub request: Value,
}

impl Envelope {
    /// The request, if it is one of this version; else the refusal, in words for the command's user.
    pub(crate) fn open(&self) -> Result<Request, String> {
        if self.version != PROTOCOL_VERSION {
            return Err(format!(
                "the enclave's supervisor speaks version {PROTOCOL_VERSION} of the protocol and this command version {}; \
                 use the version of `enclave` that started the enclave",
                self.version
            ));
        }
        self.request.deserialized().map_err(|_| "this is no request".to_owned())
    }
}

/// What a command wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Run a loaded enclave. Replies: [`Reply::Launch`], the last being `Running` or `Failed`.
    Start,
    /// End the enclave. Reply: [`Reply::Ended`] once it has.
    Terminate,
    /// Reply: [`Reply::Ended`] once the enclave has ended.
    Wait,
    /// Reply: [`Reply::Console`] with a descriptor.
    Console,
}

/// What the supervisor answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// Progress of a start, then its outcome.
    Launch(LaunchEvent),
    /// The enclave has ended; its memory is overwritten.
    Ended(Box<Description>),
    /// The descriptor is a stream of the console from its first byte, to the end of the enclave.
    Console,
    /// The request was refused; what is wrong and what to do.
    Refused(String),
}
