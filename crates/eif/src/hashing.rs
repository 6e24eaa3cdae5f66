//! The two threads that hash an image while another one reads or writes it: one for PCR 0 and 1, one for PCR 2.
//!
//! With both beside the thread that moves the bytes, the wall time of a pass is about that of one SHA-384 over the image.
//! Whoever describes an image also wants each section's own digest: the second thread makes them, where it has nothing
//! else to do.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle, Scope, ScopedJoinHandle};

use attestation::pcr::{Measurements, PCR_LEN, Pcr};
use sha2::{Digest as _, Sha384};

use crate::measure::{BootHasher, Part, register};

/// Bytes moved, and hashed, at a time: small enough to be still in the cache when the other threads take it up.
pub(crate) const CHUNK: usize = 256 << 10;

/// Chunks that may wait for a hashing thread; moving pauses when it is that far behind. Moving is faster than hashing: a
/// longer queue would only hold more memory.
const QUEUE: usize = 4;

/// A SHA-384.
pub(crate) type Digest = [u8; PCR_LEN];

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
    application: SyncSender<Step<'d>>,
    /// Each section's own digest is wanted.
    digests: bool,
}

/// What the second thread is told.
#[derive(Debug)]
enum Step<'d> {
    /// A section begins; told only if digests are wanted.
    Section(Part),
    Data(Part, Chunk<'d>),
}

impl<'d> Queues<'d> {
    /// Both queues, and the ends that the threads take from.
    fn new(digests: bool) -> (Self, Receiver<(Part, Chunk<'d>)>, Receiver<Step<'d>>) {
        let (boot, boot_end) = sync_channel(QUEUE);
        let (application, application_end) = sync_channel(QUEUE);
        (Self { boot, application, digests }, boot_end, application_end)
    }

    /// A measured section begins.
    pub(crate) fn begin(&self, part: Part) {
        if self.digests {
            let _ = self.application.send(Step::Section(part));
        }
    }

    /// A thread that no longer takes chunks has panicked; joining it passes that on.
    pub(crate) fn hash(&self, part: Part, chunk: Chunk<'d>) {
        if part == Part::Application || self.digests {
            let _ = self.application.send(Step::Data(part, chunk.clone()));
        }
        let _ = self.boot.send((part, chunk));
    }
}

/// Threads that end when their queues close, well or not.
#[derive(Debug)]
pub(crate) struct ScopedThreads<'scope> {
    boot: ScopedJoinHandle<'scope, (Pcr, Pcr)>,
    application: ScopedJoinHandle<'scope, (Pcr, Vec<Digest>)>,
}

/// Starts both threads for chunks that outlive `scope`. `digests`: each measured section's own is wanted.
pub(crate) fn scoped<'scope, 'd: 'scope>(
    scope: &'scope Scope<'scope, '_>,
    digests: bool,
) -> io::Result<(Queues<'d>, ScopedThreads<'scope>)> {
    let (queues, boot_end, application_end) = Queues::new(digests);
    let boot = builder(BOOT).spawn_scoped(scope, move || hash_boot(&boot_end))?;
    let application = builder(APPLICATION).spawn_scoped(scope, move || hash_application(&application_end))?;
    Ok((queues, ScopedThreads { boot, application }))
}

impl ScopedThreads<'_> {
    /// The registers, and the digests of the measured sections if wanted, once the queues are closed.
    pub(crate) fn finish(self) -> (Measurements, Vec<Digest>) {
        measurements(self.boot.join(), self.application.join())
    }
}

/// The same for chunks that belong to nobody else. Dropped unfinished, the threads end by themselves.
#[derive(Debug)]
pub(crate) struct Threads {
    queues: Queues<'static>,
    boot: JoinHandle<(Pcr, Pcr)>,
    application: JoinHandle<(Pcr, Vec<Digest>)>,
    buffers: Pool,
}

impl Threads {
    pub(crate) fn start() -> io::Result<Self> {
        let (queues, boot_end, application_end) = Queues::new(false);
        Ok(Self {
            boot: builder(BOOT).spawn(move || hash_boot(&boot_end))?,
            application: builder(APPLICATION).spawn(move || hash_application(&application_end))?,
            queues,
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
        measurements(self.boot.join(), self.application.join()).0
    }
}

const BOOT: &str = "measure-boot";
const APPLICATION: &str = "measure-app";

fn builder(name: &str) -> thread::Builder {
    thread::Builder::new().name(name.to_owned())
}

fn measurements(
    boot: thread::Result<(Pcr, Pcr)>,
    application: thread::Result<(Pcr, Vec<Digest>)>,
) -> (Measurements, Vec<Digest>) {
    let (pcr0, pcr1) = boot.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    let (pcr2, digests) = application.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    (Measurements { pcr0, pcr1, pcr2, pcr8: None }, digests)
}

fn hash_boot(queue: &Receiver<(Part, Chunk<'_>)>) -> (Pcr, Pcr) {
    let mut hasher = BootHasher::default();
    queue.iter().for_each(|(part, chunk)| hasher.update(part, chunk.as_ref()));
    hasher.finish()
}

fn hash_application(queue: &Receiver<Step<'_>>) -> (Pcr, Vec<Digest>) {
    let mut hasher = ApplicationHasher::default();
    for step in queue {
        match step {
            Step::Section(part) => hasher.begin(part),
            Step::Data(part, chunk) => hasher.update(part, chunk.as_ref()),
        }
    }
    hasher.finish()
}

/// PCR 2, and the digests of the sections that were announced. So that an image of two ramdisks is hashed no more often than
/// without digests, the first application ramdisk shares its hash with the register.
#[derive(Debug, Default)]
struct ApplicationHasher {
    application: Sha384,
    had_application: bool,
    section: Option<SectionHash>,
    digests: Vec<Digest>,
}

/// Where the hash of the section at hand is.
#[derive(Debug)]
enum SectionHash {
    Own(Box<Sha384>),
    /// It is all that PCR 2 measures so far.
    Register,
}

impl ApplicationHasher {
    fn begin(&mut self, part: Part) {
        self.end_section();
        let first = part == Part::Application && !core::mem::replace(&mut self.had_application, true);
        self.section = Some(if first { SectionHash::Register } else { SectionHash::Own(Box::default()) });
    }

    fn update(&mut self, part: Part, data: &[u8]) {
        if part == Part::Application {
            self.application.update(data);
        }
        if let Some(SectionHash::Own(own)) = &mut self.section {
            own.update(data);
        }
    }

    fn end_section(&mut self) {
        let hasher = match self.section.take() {
            Some(SectionHash::Own(own)) => *own,
            Some(SectionHash::Register) => self.application.clone(),
            None => return,
        };
        self.digests.push(hasher.finalize().into());
    }

    fn finish(mut self) -> (Pcr, Vec<Digest>) {
        self.end_section();
        (register(self.application), self.digests)
    }
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
