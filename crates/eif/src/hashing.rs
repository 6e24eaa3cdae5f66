//! The two threads that hash an image while another one reads or writes it: one for PCR 0 and 1, one for PCR 2.
//!
//! With both beside the thread that moves the bytes, the wall time of a pass is about that of one SHA-384 over the image.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle, Scope, ScopedJoinHandle};

use attestation::pcr::{Measurements, Pcr};
use sha2::{Digest, Sha384};

use crate::measure::{BootHasher, Part, register};

/// Bytes moved, and hashed, at a time: small enough to be still in the cache when the other threads take it up.
pub(crate) const CHUNK: usize = 256 << 10;

/// Chunks that may wait for a hashing thread; moving pauses when it is that far behind. Moving is faster than hashing: a
/// longer queue would only hold more memory.
const QUEUE: usize = 4;

/// A piece of a section's data, where it lies.
#[derive(Debug, Clone)]
pub(crate) enum Chunk<'d> {
    Placed(&'d [u8]),
    Passing(Arc<Vec<u8>>),
}

impl AsRef<[u8]> for Chunk<'_> {
    fn as_ref(&self) -> &[u8] {
        match self {
            Self::Placed(bytes) => bytes,
            Self::Passing(bytes) => bytes,
        }
    }
}

/// The ends of the queues at which the moving thread puts chunks in.
#[derive(Debug)]
pub(crate) struct Queues<'d> {
    boot: SyncSender<(Part, Chunk<'d>)>,
    application: SyncSender<Chunk<'d>>,
}

impl<'d> Queues<'d> {
    /// A thread that no longer takes chunks has panicked; joining it passes that on.
    pub(crate) fn hash(&self, part: Part, chunk: Chunk<'d>) {
        if part == Part::Application {
            let _ = self.application.send(chunk.clone());
        }
        let _ = self.boot.send((part, chunk));
    }
}

/// Threads that end when their queues close, well or not.
#[derive(Debug)]
pub(crate) struct ScopedThreads<'scope> {
    boot: ScopedJoinHandle<'scope, (Pcr, Pcr)>,
    application: ScopedJoinHandle<'scope, Pcr>,
}

/// Starts both threads for chunks that outlive `scope`.
pub(crate) fn scoped<'scope, 'd: 'scope>(
    scope: &'scope Scope<'scope, '_>,
) -> io::Result<(Queues<'d>, ScopedThreads<'scope>)> {
    let (boot_sender, boot_queue) = sync_channel(QUEUE);
    let (application_sender, application_queue) = sync_channel(QUEUE);
    let boot = builder(BOOT).spawn_scoped(scope, move || hash_boot(&boot_queue))?;
    let application =
        builder(APPLICATION).spawn_scoped(scope, move || hash_application(&application_queue))?;
    let queues = Queues { boot: boot_sender, application: application_sender };
    Ok((queues, ScopedThreads { boot, application }))
}

impl ScopedThreads<'_> {
    /// The registers, once the queues are closed.
    pub(crate) fn finish(self) -> Measurements {
        measurements(self.boot.join(), self.application.join())
    }
}

/// The same for chunks that belong to nobody else. Dropped unfinished, the threads end by themselves.
#[derive(Debug)]
pub(crate) struct Threads {
    queues: Queues<'static>,
    boot: JoinHandle<(Pcr, Pcr)>,
    application: JoinHandle<Pcr>,
    buffers: Pool,
}

impl Threads {
    pub(crate) fn start() -> io::Result<Self> {
        let (boot_sender, boot_queue) = sync_channel(QUEUE);
        let (application_sender, application_queue) = sync_channel(QUEUE);
        Ok(Self {
            boot: builder(BOOT).spawn(move || hash_boot(&boot_queue))?,
            application: builder(APPLICATION).spawn(move || hash_application(&application_queue))?,
            queues: Queues { boot: boot_sender, application: application_sender },
            buffers: Pool::default(),
        })
    }

    /// Takes a copy of the next piece of a section's data.
    pub(crate) fn update(&mut self, part: Part, data: &[u8]) {
        for piece in data.chunks(CHUNK) {
            let mut buffer = self.buffers.take();
            // Nobody else holds it, so this clones nothing.
            let bytes = Arc::make_mut(&mut buffer);
            bytes.clear();
            bytes.extend_from_slice(piece);
            self.queues.hash(part, Chunk::Passing(Arc::clone(&buffer)));
            self.buffers.give(buffer);
        }
    }

    /// The registers, without PCR 8, which the signing certificate decides.
    pub(crate) fn finish(self) -> Measurements {
        drop(self.queues);
        measurements(self.boot.join(), self.application.join())
    }
}

const BOOT: &str = "measure-boot";
const APPLICATION: &str = "measure-app";

fn builder(name: &str) -> thread::Builder {
    thread::Builder::new().name(name.to_owned())
}

fn measurements(boot: thread::Result<(Pcr, Pcr)>, application: thread::Result<Pcr>) -> Measurements {
    let (pcr0, pcr1) = boot.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    let pcr2 = application.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    Measurements { pcr0, pcr1, pcr2, pcr8: None }
}

fn hash_boot(queue: &Receiver<(Part, Chunk<'_>)>) -> (Pcr, Pcr) {
    let mut hasher = BootHasher::default();
    queue.iter().for_each(|(part, chunk)| hasher.update(part, chunk.as_ref()));
    hasher.finish()
}

fn hash_application(queue: &Receiver<Chunk<'_>>) -> Pcr {
    let mut hasher = Sha384::new();
    queue.iter().for_each(|chunk| hasher.update(chunk.as_ref()));
    register(hasher)
}

/// Buffers that are used again once the hashing threads are done with them.
#[derive(Debug, Default)]
pub(crate) struct Pool(std::collections::VecDeque<Arc<Vec<u8>>>);

impl Pool {
    /// A buffer that nobody else holds.
    pub(crate) fn take(&mut self) -> Arc<Vec<u8>> {
        match self.0.front() {
            Some(oldest) if Arc::strong_count(oldest) == 1 => self.0.pop_front().unwrap_or_default(),
            _ => Arc::default(),
        }
    }

    pub(crate) fn give(&mut self, buffer: Arc<Vec<u8>>) {
        self.0.push_back(buffer);
    }
}
