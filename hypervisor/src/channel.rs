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
use zeroize::{Zeroize, Zeroizing};

use crate::console_log::printable;

/// Bytes in the longest message. Console output and certificates are the largest contents.
pub const MAX_MESSAGE: usize = 64 * 1024;

/// Descriptors that may come with one message.
pub const MAX_DESCRIPTORS: usize = 16;

/// Bytes of byte strings and texts that the decoder holds at a time.
const SCRATCH: usize = 4096;

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
    /// Descriptors in the order they were sent; fewer where this process may hold no more.
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
        // A message may hold a key. With room for the longest one the packet never moves and leaves a part of itself behind.
        let mut packet = Vec::with_capacity(MAX_MESSAGE);
        let sent = match ciborium::into_writer(message, &mut packet) {
            Ok(()) => self.send_packet(&packet, descriptors),
            Err(error) => Err(ChannelError::Encode(error.to_string())),
        };
        packet.as_mut_slice().zeroize();
        sent
    }

    fn send_packet(&self, packet: &[u8], descriptors: &[BorrowedFd<'_>]) -> Result<(), ChannelError> {
        if packet.len() > MAX_MESSAGE || descriptors.len() > MAX_DESCRIPTORS {
            return Err(ChannelError::TooLarge);
        }
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(descriptors)) {
            return Err(ChannelError::TooLarge);
        }
        sendmsg(&self.socket, &[IoSlice::new(packet)], &mut ancillary, SendFlags::NOSIGNAL)?;
        Ok(())
    }

    /// Receives the next message, or `None` once the peer has closed its end. Descriptors for which this process has no number
    /// left are closed, and missing.
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
        // Cut off for want of space: there were more. Cut off earlier: this process has no number left for them, and whoever
        // takes the message sees that a descriptor is missing.
        let too_many = received.flags.contains(ReturnFlags::CTRUNC) && descriptors.len() >= MAX_DESCRIPTORS;
        if received.flags.contains(ReturnFlags::TRUNC) || too_many {
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

/// The message that a packet is, all of it. Nesting ends at 256, where this decoder stops.
pub(crate) fn decode<T: DeserializeOwned>(packet: &[u8]) -> Result<T, ChannelError> {
    let mut rest = packet;
    // What is decoded may be a key.
    let mut scratch = Zeroizing::new([0; SCRATCH]);
    let message = ciborium::de::from_reader_with_buffer(&mut rest, scratch.as_mut_slice())
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
    use std::os::unix::fs::FileExt;

    use super::*;

    /// Whether this is a process with this one test. If not, it has been run in one, and passed.
    fn is_alone(test: &str) -> bool {
        const ALONE: &str = "CHANNEL_TEST_ALONE";
        if std::env::var_os(ALONE).is_some() {
            return true;
        }
        let mut alone = std::process::Command::new(std::env::current_exe().unwrap());
        alone.args(["--exact", &format!("channel::tests::{test}"), "--test-threads=1"]).env(ALONE, "1");
        let output = alone.output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains("1 passed"), "{text}");
        false
    }

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
    fn a_message_comes_without_the_descriptors_that_there_is_no_number_for() {
        // The limit is the whole process's.
        if !is_alone("a_message_comes_without_the_descriptors_that_there_is_no_number_for") {
            return;
        }
        let (left, right, fd) = channels();
        left.send(&"three".to_owned(), &[fd; 3]).unwrap();
        let next = rustix::io::fcntl_dupfd_cloexec(fd, 0).unwrap();
        let limit = Some(u64::try_from(std::os::fd::AsRawFd::as_raw_fd(&next)).unwrap() + 1);
        drop(next);
        let limit = rustix::process::Rlimit { current: limit, maximum: limit };
        rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).unwrap();
        let received = right.receive().unwrap().unwrap();
        assert_eq!((received.message.as_str(), received.descriptors.len()), ("three", 1));
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

    /// A byte of what stands for a key, so that nothing but the key itself has the bytes in a row.
    fn key_byte(index: usize) -> u8 {
        u8::try_from((index * 37 + 11) % 251).unwrap()
    }

    /// Looks for that key in this process's own memory. Allocates nothing while it does, which could overwrite what it looks for.
    struct Search {
        maps: File,
        memory: File,
        list: String,
        part: Vec<u8>,
    }

    impl Search {
        const PART: usize = 1 << 20;
        const KEY_BEGINNING: usize = 24;

        fn new() -> Self {
            let open = |name: &str| File::open(format!("/proc/self/{name}")).unwrap();
            let (list, part) = (String::with_capacity(Self::PART), vec![0; Self::PART]);
            Self { maps: open("maps"), memory: open("mem"), list, part }
        }

        fn finds_the_key(&mut self) -> bool {
            // It would find its last finding.
            self.part.fill(0);
            self.list.clear();
            self.maps.rewind().unwrap();
            self.maps.read_to_string(&mut self.list).unwrap();
            let number = |text: &str| u64::from_str_radix(text, 16).unwrap();
            for line in self.list.lines().filter(|line| line.contains(" rw-p ")) {
                let (start, end) = line.split_once(' ').unwrap().0.split_once('-').unwrap();
                for at in (number(start)..number(end)).step_by(Self::PART - Self::KEY_BEGINNING) {
                    // The last part goes beyond the end; what is there is read.
                    let read = self.memory.read_at(&mut self.part, at).unwrap_or(0);
                    if self.part[..read].windows(Self::KEY_BEGINNING).any(|window| {
                        window[0] == key_byte(0)
                            && window.iter().enumerate().all(|(at, byte)| *byte == key_byte(at))
                    }) {
                        return true;
                    }
                }
            }
            false
        }
    }

    #[test]
    fn a_key_that_was_sent_received_and_dropped_is_nowhere_in_memory() {
        use crate::messages::SecurityIdentity;
        // Other tests would move the memory that is looked through.
        if !is_alone("a_key_that_was_sent_received_and_dropped_is_nowhere_in_memory") {
            return;
        }
        let (left, right) = pair().unwrap();
        let left = Channel::<SecurityIdentity, ()>::new(left);
        let right = Channel::<(), SecurityIdentity>::new(right);
        let identity = SecurityIdentity {
            module_id: String::new(),
            instance_id: String::new(),
            role: String::new(),
            ca_key: (0..185).map(key_byte).collect::<Vec<_>>().into(),
            ca_chain: vec![vec![0; 1000].into(); 3],
        };
        let mut search = Search::new();
        assert!(search.finds_the_key(), "else it finds nothing at all");
        left.send(&identity, &[]).unwrap();
        drop(identity);
        assert!(!search.finds_the_key(), "sending leaves a copy");
        drop(right.receive().unwrap().unwrap());
        assert!(!search.finds_the_key(), "receiving leaves a copy");
    }
}
