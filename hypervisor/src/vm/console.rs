//! The serial console: a 16550A whose output leaves the machine in debug mode and is dropped inside it otherwise.

use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::{Mutex, PoisonError};

use rustix::event::PollFlags;
use rustix::fs::OFlags;
use rustix::io::Errno;
use vm_superio::serial::NoEvents;
use vm_superio::{Serial, Trigger};
use vmm_sys_util::eventfd::EventFd;

use super::error::VmError;
use super::stop::Stop;

/// A serial port that several virtual CPUs may use at the same time.
#[derive(Debug)]
pub(crate) struct Console {
    serial: Mutex<Serial<Interrupt, NoEvents, Output>>,
}

impl Console {
    /// A console that raises `interrupt` and, in debug mode, writes to `pipe`.
    pub(super) fn new(interrupt: EventFd, pipe: Option<OwnedFd>, stop: Arc<Stop>) -> Result<Self, VmError> {
        if let Some(pipe) = &pipe {
            let flags = rustix::fs::fcntl_getfl(pipe).map_err(VmError::system("preparing the console"))?;
            rustix::fs::fcntl_setfl(pipe, flags | OFlags::NONBLOCK)
                .map_err(VmError::system("preparing the console"))?;
        }
        let output = pipe.map_or(Output::Discarded, |pipe| Output::Pipe { pipe, stop });
        Ok(Self { serial: Mutex::new(Serial::new(Interrupt(interrupt), output)) })
    }

    /// The guest reads a register.
    pub(crate) fn read(&self, register: u8) -> u8 {
        self.serial.lock().unwrap_or_else(PoisonError::into_inner).read(register)
    }

    /// The guest writes a register. In debug mode this waits while nobody takes the output, until the machine ends.
    pub(crate) fn write(&self, register: u8, value: u8) {
        let mut serial = self.serial.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = serial.write(register, value) {
            tracing::debug!(%error, "console output was lost");
        }
    }
}

/// The console's interrupt line.
#[derive(Debug)]
struct Interrupt(EventFd);

impl Trigger for Interrupt {
    type E = io::Error;

    fn trigger(&self) -> io::Result<()> {
        self.0.write(1)
    }
}

/// Where output goes.
#[derive(Debug)]
enum Output {
    Discarded,
    Pipe { pipe: OwnedFd, stop: Arc<Stop> },
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Discarded => Ok(bytes.len()),
            Self::Pipe { pipe, stop } => loop {
                match rustix::io::write(&*pipe, bytes) {
                    Err(Errno::AGAIN | Errno::INTR) => {
                        if !stop.wait_for(pipe.as_fd(), PollFlags::OUT) {
                            return Ok(bytes.len());
                        }
                    }
                    // Nobody reads the console any more: the machine goes on without.
                    Err(Errno::PIPE) => {
                        *self = Self::Discarded;
                        return Ok(bytes.len());
                    }
                    written => return Ok(written?),
                }
            },
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
