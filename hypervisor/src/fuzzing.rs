//! The bodies of this crate's fuzz targets: everything that one of the three processes, or a command, reads and somebody
//! else wrote. The same bodies replay the corpora in ordinary tests.
//!
//! - [`messages()`]: the channels between the processes, each direction as if its sender were hostile.
//! - [`control()`]: what commands and supervisors say to each other, and the state file.
//! - [`nsm_shim`]: the NSM device between a guest's queue and the security module's answers.
//! - [`kernel`]: the kernel in an image, which the supervisor parses.
//!
//! What needs private parts of a process stands beside them, in a `fuzzing` module of their own.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    clippy::panic,
    reason = "test code: a failed assumption is a failed test"
)]

mod control;
mod messages;
#[cfg(test)]
mod tests;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::channel::decode;

pub use crate::arch::boot::fuzzing::kernel;
pub use crate::vm::fuzzing::nsm_shim;
pub use control::control;
pub use messages::messages;

/// Messages of one input that are heard.
pub(crate) const MOST_MESSAGES: usize = 64;

/// Reads a packet as its receiver does. What it accepts must read back as the same when it is sent on.
pub(crate) fn read<T: Serialize + DeserializeOwned>(packet: &[u8]) -> Option<T> {
    let message: T = match decode(packet) {
        Ok(message) => message,
        Err(error) => {
            let text = error.to_string();
            let shown = text.len() < 1000 && !text.chars().any(char::is_control);
            assert!(shown, "an error quotes its sender: {text:?}");
            return None;
        }
    };
    let sent = encode(&message);
    let again: T = decode(&sent).expect("what was sent can be read");
    assert_eq!(encode(&again), sent, "it reads back as something else");
    Some(message)
}

/// A message as its sender writes it.
fn encode(message: &impl Serialize) -> Vec<u8> {
    let mut packet = Vec::new();
    ciborium::into_writer(message, &mut packet).expect("it can be sent");
    packet
}
