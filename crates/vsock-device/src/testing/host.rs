//! Host programs: real sockets behind a [`HostEnd`] that a test steers.

use std::collections::{HashSet, VecDeque};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard};

use rustix::event::{EventfdFlags, eventfd};

use crate::host::{ConnectRequest, HostEnd, HostEvent};

#[derive(Debug, Default)]
struct State {
    listening: HashSet<u32>,
    silent: HashSet<u32>,
    events: VecDeque<HostEvent>,
    accepted: Vec<UnixStream>,
    asked: Vec<(ConnectRequest, u32)>,
}

/// The host's end, as the device sees it.
#[derive(Debug)]
pub struct TestHost {
    state: Arc<Mutex<State>>,
    signal: OwnedFd,
}

/// The host's end, as a test sees it.
#[derive(Debug)]
pub struct HostPrograms {
    state: Arc<Mutex<State>>,
    signal: OwnedFd,
}

impl TestHost {
    /// A host on which nobody listens.
    pub fn new() -> (Self, HostPrograms) {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK | EventfdFlags::SEMAPHORE;
        let signal = eventfd(0, flags).expect("an eventfd");
        let state = Arc::new(Mutex::new(State::default()));
        let copy = signal.try_clone().expect("a descriptor");
        (Self { state: Arc::clone(&state), signal: copy }, HostPrograms { state, signal })
    }
}

impl HostEnd for TestHost {
    fn connect(&mut self, request: ConnectRequest, port: u32) {
        let mut state = lock(&self.state);
        state.asked.push((request, port));
        if state.silent.contains(&port) {
            return;
        }
        let event = if state.listening.contains(&port) {
            let (program, stream) = pair();
            state.accepted.push(program);
            HostEvent::Connected { request, stream }
        } else {
            HostEvent::Refused { request }
        };
        state.events.push_back(event);
        signal(self.signal.as_fd());
    }

    fn event_source(&self) -> BorrowedFd<'_> {
        self.signal.as_fd()
    }

    fn next_event(&mut self) -> Option<HostEvent> {
        let event = lock(&self.state).events.pop_front()?;
        rustix::io::read(&self.signal, &mut [0; 8]).expect("one signal for each event");
        Some(event)
    }
}

impl HostPrograms {
    /// A program listens on this port.
    pub fn listen(&self, port: u32) {
        lock(&self.state).listening.insert(port);
    }

    /// Connections to this port are not answered until [`Self::tell`].
    pub fn be_silent(&self, port: u32) {
        lock(&self.state).silent.insert(port);
    }

    /// Tells the device something.
    pub fn tell(&self, event: HostEvent) {
        lock(&self.state).events.push_back(event);
        signal(self.signal.as_fd());
    }

    /// What the device has asked for: requests and ports.
    pub fn asked(&self) -> Vec<(ConnectRequest, u32)> {
        lock(&self.state).asked.clone()
    }

    /// The program's end of the connection that was made last.
    pub fn accept(&self) -> UnixStream {
        self.try_accept().expect("a connection was made")
    }

    /// The same, if there is one.
    pub fn try_accept(&self) -> Option<UnixStream> {
        lock(&self.state).accepted.pop()
    }

    /// A program connects to the guest's socket and says `line`.
    pub fn connect(&self, line: &[u8]) -> UnixStream {
        let (program, stream) = pair();
        rustix::io::write(&program, line).expect("an empty socket has room for a line");
        self.tell(HostEvent::Incoming { stream });
        program
    }
}

/// A connection: a program's end, which does not block, and the device's.
fn pair() -> (UnixStream, OwnedFd) {
    let (program, device) = UnixStream::pair().expect("a pair of sockets");
    program.set_nonblocking(true).expect("a flag");
    (program, device.into())
}

fn signal(descriptor: BorrowedFd<'_>) {
    rustix::io::write(descriptor, &1u64.to_ne_bytes()).expect("an eventfd has room");
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().expect("no test panics here")
}
