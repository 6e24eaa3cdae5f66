//! The control socket's connections: who may ask, what they asked, and answers that wait for them.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{SocketFlags, SocketType};

use crate::control::{Envelope, Reply, Request};
use crate::description::Description;
use crate::launch::LaunchEvent;
use crate::run_dir::{CONTROL_SOCKET, EnclaveFolder};
use crate::supervisor::link::{Heard, Link};
use crate::supervisor::poller::{Interest, Poller, Source};
use crate::unix_socket;

/// Commands that may be connected at once.
const MAX_CONVERSATIONS: usize = 64;

/// Replies that wait for a slow command.
const MAX_WAITING: usize = 16;

/// The control socket and its connections.
#[derive(Debug)]
pub(super) struct ControlServer {
    listener: OwnedFd,
    conversations: BTreeMap<u32, Conversation>,
    next: u32,
}

#[derive(Debug)]
struct Conversation {
    link: Link<Reply, Envelope>,
    /// What was asked for, once it was.
    request: Option<Request>,
    /// The last reply is on its way: the connection ends with it.
    over: bool,
}

impl ControlServer {
    /// Listens on `control.sock`.
    pub(super) fn listen(folder: &EnclaveFolder) -> io::Result<Self> {
        let listener =
            unix_socket::listen(folder.as_fd(), folder.path(), CONTROL_SOCKET, SocketType::SEQPACKET)?;
        Ok(Self { listener, conversations: BTreeMap::new(), next: 0 })
    }

    /// Takes a new connection. Others than this process's user and root are turned away.
    pub(super) fn accept(&mut self, poller: &Poller) -> io::Result<()> {
        let socket = match rustix::net::accept_with(&self.listener, SocketFlags::CLOEXEC) {
            Ok(socket) => socket,
            Err(Errno::AGAIN | Errno::INTR | Errno::CONNABORTED) => return Ok(()),
            Err(errno) => return Err(errno.into()),
        };
        let user = unix_socket::peer_user(socket.as_fd())?;
        if user != 0 && user != rustix::process::geteuid().as_raw() {
            return Ok(());
        }
        let mut link = Link::new(socket, MAX_WAITING)?;
        if self.conversations.len() >= MAX_CONVERSATIONS {
            let refusal = format!("{MAX_CONVERSATIONS} commands talk to this enclave already; end some");
            // It hears this or, if it cannot, the end of the connection.
            let _ = link.send(Reply::Refused(refusal), Vec::new());
            return Ok(());
        }
        let number = self.next;
        self.next = self.next.wrapping_add(1);
        poller.add(&link, Source::Conversation(number), Interest::READ)?;
        self.conversations.insert(number, Conversation { link, request: None, over: false });
        Ok(())
    }

    /// Hears a connection: its request, if it has just made it.
    pub(super) fn hear(&mut self, number: u32) -> Option<Request> {
        let conversation = self.conversations.get_mut(&number)?;
        if conversation.link.flush().is_err() {
            self.conversations.remove(&number);
            return None;
        }
        let envelope = match conversation.link.receive() {
            Ok(Heard::Nothing) => return None,
            Ok(Heard::Message(received)) if conversation.request.is_none() => received.message,
            // A second request, something that is none, or the end.
            _ => {
                self.conversations.remove(&number);
                return None;
            }
        };
        match envelope.open() {
            Ok(request) => {
                conversation.request = Some(request);
                Some(request)
            }
            Err(refusal) => {
                self.reply(number, Reply::Refused(refusal), None);
                None
            }
        }
    }

    /// Sends the last reply of a conversation.
    pub(super) fn reply(&mut self, number: u32, reply: Reply, descriptor: Option<OwnedFd>) {
        if let Some(conversation) = self.conversations.get_mut(&number) {
            conversation.over = true;
            if conversation.link.send(reply, descriptor.into_iter().collect()).is_err() {
                self.conversations.remove(&number);
            }
        }
    }

    /// Tells those who asked for the start how it goes.
    pub(super) fn tell_starters(&mut self, event: &LaunchEvent) {
        let last = matches!(event, LaunchEvent::Running(_) | LaunchEvent::Failed(_));
        for conversation in self.conversations.values_mut() {
            if conversation.request == Some(Request::Start) && !conversation.over {
                conversation.over = last;
                // A failure shows at the next flush.
                let _ = conversation.link.send(Reply::Launch(event.clone()), Vec::new());
            }
        }
    }

    /// Tells those who wait for it, or asked for it, that the enclave has ended.
    pub(super) fn tell_ended(&mut self, description: &Description) {
        for conversation in self.conversations.values_mut() {
            if matches!(conversation.request, Some(Request::Wait | Request::Terminate)) && !conversation.over
            {
                conversation.over = true;
                let _ = conversation.link.send(Reply::Ended(Box::new(description.clone())), Vec::new());
            }
        }
    }

    /// Ends the connections that have had their last reply, and asks `poller` for what the others need.
    pub(super) fn settle(&mut self, poller: &Poller) {
        self.conversations.retain(|number, conversation| {
            let write = conversation.link.is_waiting();
            let ended = conversation.over && !write;
            let interest = Interest { read: true, write };
            !ended && poller.change(&conversation.link, Source::Conversation(*number), interest).is_ok()
        });
    }

    /// Whether replies still wait to be taken.
    pub(super) fn is_waiting(&self) -> bool {
        self.conversations.values().any(|conversation| conversation.link.is_waiting())
    }
}

impl AsFd for ControlServer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}
