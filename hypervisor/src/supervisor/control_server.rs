//! The control socket's connections: who may ask, what they asked, and answers that wait for them.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use rustix::net::{SocketFlags, SocketType};

use crate::control::{Envelope, Reply, Request};
use crate::description::Description;
use crate::launch::LaunchEvent;
use crate::run_dir::CONTROL_SOCKET;
use crate::supervisor::link::{Heard, Link};
use crate::supervisor::listener::Listener;
use crate::supervisor::poller::{Interest, Poller, Source};
use crate::unix_socket;

/// Commands that may be connected at once.
const MAX_CONVERSATIONS: usize = 64;

/// Replies that wait for a slow command.
const MAX_WAITING: usize = 16;

/// The control socket and its connections.
#[derive(Debug)]
pub(super) struct ControlServer {
    listener: Listener,
    owner: Owner,
    conversations: BTreeMap<u32, Conversation>,
    next: u32,
}

/// Who may give commands, beside root.
#[derive(Debug, Clone, Copy)]
pub(super) struct Owner {
    /// The user who started the enclave.
    user: u32,
    /// Root's number as this process sees it: in a user namespace without root, that of all users outside it. Those who are not
    /// root do not get as far: only root and the owner can enter the folder.
    root: u32,
}

impl Owner {
    /// The number of all users who have none in a user namespace, unless the host chose another (user_namespaces(7)).
    const OVERFLOW: u32 = 65534;

    /// This process's user, before the process becomes another and enters namespaces.
    pub(super) fn current() -> Self {
        let overflow = std::fs::read_to_string("/proc/sys/kernel/overflowuid");
        let overflow = overflow.ok().and_then(|number| number.trim().parse().ok());
        let user = rustix::process::geteuid();
        Self {
            user: user.as_raw(),
            root: if user.is_root() { 0 } else { overflow.unwrap_or(Self::OVERFLOW) },
        }
    }

    const fn admits(self, user: u32) -> bool {
        user == 0 || user == self.user || user == self.root
    }
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
    /// Listens on `control.sock` in the working directory, which is the enclave's folder, for `owner` and root.
    pub(super) fn listen(owner: Owner) -> io::Result<Self> {
        let listener = Listener::new(unix_socket::listen_here(CONTROL_SOCKET, SocketType::SEQPACKET)?);
        Ok(Self { listener, owner, conversations: BTreeMap::new(), next: 0 })
    }

    /// Takes a new connection. Others than the enclave's owner and root are turned away.
    pub(super) fn accept(&mut self, poller: &Poller) -> io::Result<()> {
        let Some(socket) = self.listener.accept(SocketFlags::empty())? else { return Ok(()) };
        if !self.owner.admits(unix_socket::peer_user(socket.as_fd())?) {
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

    /// When the listener is to be looked at again, if it cannot accept for now.
    pub(super) fn rests_until(&mut self) -> Option<Instant> {
        self.listener.rests_until()
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
