//! A device for tests: answers each chain with its readable bytes, and remembers what was done to it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::{ActivateError, Activation, Chain, DeviceError, ReadyQueue, VirtioDevice};

/// Copies what a chain's readable part says to its writable part, on both of its queues.
#[derive(Debug)]
pub struct Probe {
    events: OwnedFd,
    /// The queues, while active.
    pub queues: Vec<ReadyQueue>,
    /// The features of the last activation.
    pub features: u64,
    /// How often it was activated.
    pub activations: usize,
    /// How often it was reset.
    pub resets: usize,
    /// Chains it has answered since it was made.
    pub answered: usize,
    /// Whether the next `handle_events` fails.
    pub fails: bool,
    /// Whether the next `activate` fails.
    pub refuses: bool,
}

impl Probe {
    /// Configuration space.
    pub const CONFIG: [u8; 6] = [1, 2, 3, 4, 5, 6];
    /// Sizes of its queues.
    pub const QUEUES: [u16; 2] = [8, 4];
    /// A feature of its own.
    pub const FEATURE: u64 = 1 << 5;

    /// An inactive device.
    ///
    /// # Panics
    /// There are no descriptors left.
    #[must_use]
    pub fn new() -> Self {
        let flags = rustix::event::EventfdFlags::CLOEXEC;
        Self {
            events: rustix::event::eventfd(0, flags).expect("an eventfd"),
            queues: Vec::new(),
            features: 0,
            activations: 0,
            resets: 0,
            answered: 0,
            fails: false,
            refuses: false,
        }
    }
}

impl Default for Probe {
    fn default() -> Self {
        Self::new()
    }
}

impl VirtioDevice for Probe {
    fn device_id(&self) -> u32 {
        0x4242
    }

    fn device_features(&self) -> u64 {
        Self::FEATURE
    }

    fn queue_max_sizes(&self) -> &[u16] {
        &Self::QUEUES
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        for (target, byte) in data.iter_mut().zip(Self::CONFIG.get(from..).unwrap_or_default()) {
            *target = *byte;
        }
    }

    fn activate(&mut self, activation: Activation) -> Result<(), ActivateError> {
        self.activations += 1;
        if self.refuses {
            return Err(ActivateError::QueueCount { expected: 0, found: 0 });
        }
        self.queues = activation.queues;
        self.features = activation.features;
        Ok(())
    }

    fn reset(&mut self) {
        self.resets += 1;
        self.queues.clear();
    }

    fn event_source(&self) -> BorrowedFd<'_> {
        self.events.as_fd()
    }

    fn handle_events(&mut self) -> Result<(), DeviceError> {
        if self.fails {
            return Err(DeviceError::Protocol("the test wants a failure"));
        }
        for queue in &mut self.queues {
            queue.drain_kick();
            let mut chain = Chain::new();
            queue.disable_notification()?;
            while queue.pop(&mut chain)? {
                let written = answer(queue, &chain)?;
                queue.add_used(chain.head(), written)?;
                self.answered += 1;
            }
            queue.enable_notification()?;
            queue.signal()?;
        }
        Ok(())
    }
}

fn answer(queue: &ReadyQueue, chain: &Chain) -> Result<u32, DeviceError> {
    let failed = |error| DeviceError::System { what: "guest memory", source: io::Error::other(error) };
    let mut bytes = vec![0; chain.readable().len()];
    chain.readable().read(queue.memory(), 0, &mut bytes).map_err(failed)?;
    let written = chain.writable().write(queue.memory(), 0, &bytes).map_err(failed)?;
    Ok(u32::try_from(written).unwrap_or(u32::MAX))
}
