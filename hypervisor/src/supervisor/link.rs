//! A channel that never blocks the supervisor: what the other end does not take yet is kept, up to a bound.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::channel::{Channel, ChannelError, Received};

/// A non-blocking channel with a bounded queue.
#[derive(Debug)]
pub(super) struct Link<Tx, Rx> {
    channel: Channel<Tx, Rx>,
    queue: VecDeque<(Tx, Vec<OwnedFd>)>,
    capacity: usize,
    ended: bool,
}

/// What a link had to say.
#[derive(Debug)]
pub(super) enum Heard<Rx> {
    /// A message.
    Message(Received<Rx>),
    /// Nothing for now.
    Nothing,
    /// The other end is gone.
    End,
}

impl<Tx: Serialize, Rx: DeserializeOwned> Link<Tx, Rx> {
    /// A link that keeps at most `capacity` messages.
    pub(super) fn new(socket: OwnedFd, capacity: usize) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&socket, true)?;
        Ok(Self { channel: Channel::new(socket), queue: VecDeque::new(), capacity, ended: false })
    }

    /// Takes one message, if there is one.
    pub(super) fn receive(&mut self) -> Result<Heard<Rx>, ChannelError> {
        let heard = match self.channel.receive() {
            Ok(Some(received)) => Heard::Message(received),
            Ok(None) => Heard::End,
            Err(ChannelError::Io(error)) => match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Heard::Nothing,
                io::ErrorKind::ConnectionReset => Heard::End,
                _ => return Err(ChannelError::Io(error)),
            },
            Err(error) => return Err(error),
        };
        self.ended |= matches!(heard, Heard::End);
        Ok(heard)
    }

    /// Whether the other end was found gone.
    pub(super) const fn has_ended(&self) -> bool {
        self.ended
    }

    /// Whether another message can be kept.
    pub(super) fn has_room(&self) -> bool {
        self.queue.len() < self.capacity
    }

    /// Whether messages wait for the other end.
    pub(super) fn is_waiting(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Forgets what waits.
    pub(super) fn clear(&mut self) {
        self.queue.clear();
    }

    /// Sends a message, or keeps it while the other end is slow. False if there was no room for it.
    pub(super) fn send(&mut self, message: Tx, descriptors: Vec<OwnedFd>) -> Result<bool, ChannelError> {
        if !self.has_room() {
            return Ok(false);
        }
        self.queue.push_back((message, descriptors));
        self.flush()?;
        Ok(true)
    }

    /// Sends what waits, as far as the other end takes it.
    pub(super) fn flush(&mut self) -> Result<(), ChannelError> {
        while let Some((message, descriptors)) = self.queue.front() {
            let borrowed: Vec<BorrowedFd<'_>> = descriptors.iter().map(AsFd::as_fd).collect();
            match self.channel.send(message, &borrowed) {
                Ok(()) => {
                    self.queue.pop_front();
                }
                Err(ChannelError::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl<Tx, Rx> AsFd for Link<Tx, Rx> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::pair;

    #[test]
    fn an_end_that_does_not_read_fills_the_queue_and_blocks_nobody() {
        let (ours, theirs) = pair().unwrap();
        let mut link = Link::<String, String>::new(ours, 8).unwrap();
        let mut other = Link::<String, String>::new(theirs, 8).unwrap();
        let mut sent: usize = 0;
        while link.send(format!("{sent}{}", "x".repeat(10_000)), Vec::new()).unwrap() {
            sent += 1;
            assert!(sent < 10_000);
        }
        assert!(link.is_waiting() && !link.has_room());
        let mut received: usize = 0;
        while received < sent {
            link.flush().unwrap();
            match other.receive().unwrap() {
                Heard::Message(message) => {
                    assert!(message.message.starts_with(&received.to_string()));
                    received += 1;
                }
                heard => panic!("{heard:?}"),
            }
        }
        assert!(!link.is_waiting());
        assert!(matches!(other.receive().unwrap(), Heard::Nothing));
        drop(link);
        assert!(matches!(other.receive().unwrap(), Heard::End));
    }
}
