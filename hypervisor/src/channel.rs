//! Typed, bounded messages with descriptors between the processes of one enclave.
//!
//! Each end is one half of a SOCK_SEQPACKET socketpair: one packet, one CBOR message. The receiver treats
//! the sender as hostile: a packet over [`MAX_MESSAGE`] bytes, more than [`MAX_DESCRIPTORS`] descriptors or a
//! message that does not decode is an error, and received descriptors are closed on every error path.

use core::fmt;
use core::marker::PhantomData;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;
use zeroize::Zeroize;

use crate::console_log::printable;

/// Bytes in the longest message. Console output and certificates are the largest contents.
pub const MAX_MESSAGE: usize = 64 * 1024;

/// Descriptors that may come with one message.
pub const MAX_DESCRIPTORS: usize = 16;

/// Nesting that a decoder follows: the deepest of our messages has five levels.
const MAX_DEPTH: usize = 16;

/// Characters of the longest description of bytes that are no message.
const MAX_ERROR_TEXT: usize = 200;

/// What can go wrong on a channel.
#[derive(Debug, Error)]
pub enum ChannelError {
    /// The system call failed; a dead peer shows as a broken pipe.
    #[error("the channel to another process of the enclave failed: {0}")]
    Io(#[from] io::Error),
    /// The message could not be encoded.
    #[error("a message could not be encoded: {0}")]
    Encode(String),
    /// Too long to send, or too long as received.
    #[error(
        "a message is longer than {MAX_MESSAGE} bytes or carries more than {MAX_DESCRIPTORS} descriptors"
    )]
    TooLarge,
    /// The peer sent bytes that are not a message of the expected type.
    #[error("another process of the enclave sent something that is not a message of its protocol: {0}")]
    Malformed(String),
}

impl From<rustix::io::Errno> for ChannelError {
    fn from(errno: rustix::io::Errno) -> Self {
        Self::Io(errno.into())
    }
}

/// One end of a channel that sends `Tx` and receives `Rx`.
#[derive(Debug)]
pub struct Channel<Tx, Rx> {
    socket: OwnedFd,
    types: PhantomData<fn(Tx) -> Rx>,
}

/// A message and the descriptors that came with it.
#[derive(Debug)]
pub struct Received<Rx> {
    /// The message.
    pub message: Rx,
    /// Descriptors in the order they were sent.
    pub descriptors: Vec<OwnedFd>,
}

/// The two ends of a new channel, close-on-exec.
///
/// # Errors
/// The system's, if no sockets can be made.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?)
}

impl<Tx, Rx> Channel<Tx, Rx> {
    /// Takes one end of a SOCK_SEQPACKET socketpair.
    #[must_use]
    pub const fn new(socket: OwnedFd) -> Self {
        Self { socket, types: PhantomData }
    }

    /// The socket, for an owner who uses it in another way.
    #[must_use]
    pub fn into_socket(self) -> OwnedFd {
        self.socket
    }

    /// Makes sending and receiving give `WouldBlock` instead of waiting. The other end is not concerned.
    ///
    /// # Errors
    /// The system's.
    pub fn set_nonblocking(&self) -> io::Result<()> {
        Ok(rustix::io::ioctl_fionbio(&self.socket, true)?)
    }
}

impl<Tx: Serialize, Rx: DeserializeOwned> Channel<Tx, Rx> {
    /// Sends one message with descriptors.
    ///
    /// # Errors
    /// [`ChannelError::TooLarge`] and [`ChannelError::Encode`] before anything is sent; [`ChannelError::Io`]
    /// if the peer is gone or, on a socket in non-blocking mode, does not keep up.
    pub fn send(&self, message: &Tx, descriptors: &[BorrowedFd<'_>]) -> Result<(), ChannelError> {
        let mut packet = Vec::new();
        ciborium::into_writer(message, &mut packet)
            .map_err(|error| ChannelError::Encode(error.to_string()))?;
        if packet.len() > MAX_MESSAGE || descriptors.len() > MAX_DESCRIPTORS {
            return Err(ChannelError::TooLarge);
        }
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(descriptors)) {
            return Err(ChannelError::TooLarge);
        }
        let sent = sendmsg(&self.socket, &[IoSlice::new(&packet)], &mut ancillary, SendFlags::NOSIGNAL);
        // A message may hold a key.
        packet.zeroize();
        sent?;
        Ok(())
    }

    /// Receives the next message, or `None` once the peer has closed its end.
    ///
    /// # Errors
    /// [`ChannelError::Io`] with `WouldBlock` on a socket in non-blocking mode that holds no message.
    pub fn receive(&self) -> Result<Option<Received<Rx>>, ChannelError> {
        let mut packet = vec![0; MAX_MESSAGE];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let received = recvmsg(
            &self.socket,
            &mut [IoSliceMut::new(&mut packet)],
            &mut ancillary,
            RecvFlags::CMSG_CLOEXEC,
        )?;
        // Drained before any check, so that an error closes what came.
        let descriptors: Vec<OwnedFd> = ancillary
            .drain()
            .filter_map(|message| match message {
                RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
                _ => None,
            })
            .flatten()
            .collect();
        if received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
            return Err(ChannelError::TooLarge);
        }
        let Some(bytes) = packet.get_mut(..received.bytes).filter(|bytes| !bytes.is_empty()) else {
            return Ok(None);
        };
        let decoded = decode(bytes);
        // A message may have held a key.
        bytes.zeroize();
        Ok(Some(Received { message: decoded?, descriptors }))
    }
}

/// What a decoder says of bytes that it refuses, fit to be shown: it quotes what it has read.
pub(crate) fn in_few_words(error: impl fmt::Display) -> String {
    printable(error.to_string().as_bytes()).replace('\n', " ").chars().take(MAX_ERROR_TEXT).collect()
}

/// The message that a packet is: all of it, and nested no deeper than ours are.
pub(crate) fn decode<T: DeserializeOwned>(packet: &[u8]) -> Result<T, ChannelError> {
    let mut rest = packet;
    let message = ciborium::de::from_reader_with_recursion_limit(&mut rest, MAX_DEPTH)
        .map_err(|error| ChannelError::Malformed(in_few_words(error)))?;
    if !rest.is_empty() {
        return Err(ChannelError::Malformed(format!("{} bytes follow the message", rest.len())));
    }
    Ok(message)
}

impl<Tx, Rx> AsFd for Channel<Tx, Rx> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read, Seek, Write};

    use super::*;

    fn channels() -> (Channel<String, u32>, Channel<u32, String>, BorrowedFd<'static>) {
        let (one, other) = pair().unwrap();
        (Channel::new(one), Channel::new(other), rustix::stdio::stderr())
    }

    #[test]
    fn a_message_arrives_with_its_descriptors() {
        let (left, right, _) = channels();
        let mut file: File = tempfile::tempfile().unwrap();
        file.write_all(b"shared").unwrap();
        file.rewind().unwrap();
        left.send(&"hello".to_owned(), &[file.as_fd()]).unwrap();
        let mut received = right.receive().unwrap().unwrap();
        assert_eq!(received.message, "hello");
        let mut text = String::new();
        File::from(received.descriptors.remove(0)).read_to_string(&mut text).unwrap();
        assert_eq!(text, "shared");
    }

    #[test]
    fn a_closed_peer_ends_the_channel() {
        let (left, right, _) = channels();
        drop(left);
        assert!(right.receive().unwrap().is_none());
        assert!(matches!(right.send(&1, &[]), Err(ChannelError::Io(_))));
    }

    #[test]
    fn a_message_of_another_type_is_refused() {
        let (left, right) = pair().unwrap();
        let left = Channel::<(u8, u8), ()>::new(left);
        let right = Channel::<(), String>::new(right);
        left.send(&(1, 2), &[]).unwrap();
        assert!(matches!(right.receive(), Err(ChannelError::Malformed(_))));
    }

    #[test]
    fn a_packet_past_the_limit_is_refused_by_both_ends() {
        let (left, right, _) = channels();
        let text = "x".repeat(MAX_MESSAGE);
        assert!(matches!(left.send(&text, &[]), Err(ChannelError::TooLarge)));
        rustix::io::write(left.as_fd(), text.as_bytes()).unwrap();
        rustix::io::write(left.as_fd(), &vec![0x78; MAX_MESSAGE + 1]).unwrap();
        assert!(matches!(right.receive(), Err(ChannelError::Malformed(_))));
        assert!(matches!(right.receive(), Err(ChannelError::TooLarge)));
    }

    #[test]
    fn more_descriptors_than_the_limit_are_refused() {
        let (left, right, fd) = channels();
        assert!(matches!(left.send(&String::new(), &[fd; MAX_DESCRIPTORS + 1]), Err(ChannelError::TooLarge)));
        left.send(&String::new(), &[fd; MAX_DESCRIPTORS]).unwrap();
        assert_eq!(right.receive().unwrap().unwrap().descriptors.len(), MAX_DESCRIPTORS);
    }

    #[test]
    fn an_error_quotes_a_hostile_sender_in_few_printable_words() {
        let (left, right) = pair().unwrap();
        let left = Channel::<String, ()>::new(left);
        let right = Channel::<(), crate::control::Request>::new(right);
        left.send(&format!("\x1b[2J\n{}", "x".repeat(60_000)), &[]).unwrap();
        let Err(error @ ChannelError::Malformed(_)) = right.receive() else { panic!() };
        let text = error.to_string();
        assert!(text.len() < 400 && !text.chars().any(char::is_control), "{text:?}");
    }

    #[test]
    fn deep_nesting_is_refused() {
        let (left, right) = pair().unwrap();
        let right = Channel::<(), Vec<String>>::new(right);
        rustix::io::write(left.as_fd(), &vec![0x81; 1000]).unwrap();
        assert!(matches!(right.receive(), Err(ChannelError::Malformed(_))));
    }
}
