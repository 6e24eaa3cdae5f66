//! Loads the image on a thread of its own, so that the supervisor hears signals and commands meanwhile.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use rustix::event::EventfdFlags;

use crate::exit_reason::ExitReason;
use crate::launch::LaunchSpec;
use crate::loading::{self, LoadOptions, LoadedImage, LoadingError};
use crate::memory::{Descriptor, GuestMemory, MemoryError};

/// Progress is told at most this often.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(50);

/// Guest memory with the image in it.
#[derive(Debug)]
pub(super) struct ImageInMemory {
    memory: GuestMemory,
    /// What was measured, and how it starts.
    pub(super) image: LoadedImage,
}

impl ImageInMemory {
    /// All of the guest's memory.
    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.memory.descriptor()
    }

    /// Overwrites the guest's memory and gives it back to the host. Nobody else may use it any more.
    pub(super) fn scrub(mut self) -> Result<(), MemoryError> {
        self.memory.scrub().map(|_| ())
    }
}

/// Why an image was not loaded.
#[derive(Debug)]
pub(super) struct LoadFailure {
    pub(super) reason: ExitReason,
    /// What failed and what to do about it.
    pub(super) message: String,
}

/// What the loading thread has to tell.
#[derive(Debug)]
pub(super) enum LoaderNews {
    /// Bytes read so far, and in all.
    Progress { done: u64, total: u64 },
    /// It has ended.
    Finished(Box<Result<ImageInMemory, LoadFailure>>),
}

/// The loading thread.
#[derive(Debug)]
pub(super) struct Loader {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Result<ImageInMemory, LoadFailure>>>,
    total: u64,
}

/// What the thread and the supervisor tell each other.
#[derive(Debug)]
struct Shared {
    /// Readable when there is news.
    wake: OwnedFd,
    done: AtomicU64,
    cancelled: AtomicBool,
    finished: AtomicBool,
}

impl Shared {
    fn tell(&self) {
        // Fails only when 2^64 - 2 news are pending.
        let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
    }
}

impl Loader {
    /// Starts to load.
    pub(super) fn start(spec: &LaunchSpec, image: File, memory: Descriptor) -> io::Result<Self> {
        let total = image.metadata()?.len();
        let shared = Arc::new(Shared {
            wake: rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            done: AtomicU64::new(0),
            cancelled: AtomicBool::new(false),
            finished: AtomicBool::new(false),
        });
        let (spec, theirs) = (Order::of(spec), Arc::clone(&shared));
        let thread = std::thread::Builder::new().name("load-image".to_owned()).spawn(move || {
            let loaded = spec.load(image, total, memory, &theirs);
            theirs.finished.store(true, Ordering::Release);
            theirs.tell();
            loaded
        })?;
        Ok(Self { shared, thread: Some(thread), total })
    }

    /// Makes the thread stop soon. It still tells that it has ended.
    pub(super) fn cancel(&self) {
        self.shared.cancelled.store(true, Ordering::Relaxed);
    }

    /// What there is to tell.
    pub(super) fn news(&mut self) -> LoaderNews {
        // Nothing to read is fine: the news are in the flags.
        let _ = rustix::io::read(&self.shared.wake, &mut [0_u8; 8]);
        let done = self.shared.done.load(Ordering::Relaxed);
        if !self.shared.finished.load(Ordering::Acquire) {
            return LoaderNews::Progress { done, total: self.total };
        }
        let joined = self.thread.take().map(JoinHandle::join);
        let outcome = match joined {
            Some(Ok(outcome)) => outcome,
            Some(Err(_)) | None => Err(LoadFailure {
                reason: ExitReason::StartFailed,
                message: "the thread that loads the image failed".to_owned(),
            }),
        };
        LoaderNews::Finished(Box::new(outcome))
    }
}

impl AsFd for Loader {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.shared.wake.as_fd()
    }
}

/// What the thread needs of the request.
struct Order {
    vcpus: u32,
    required_certificate: Option<Vec<u8>>,
}

impl Order {
    fn of(spec: &LaunchSpec) -> Self {
        Self {
            vcpus: u32::try_from(spec.cpus.len()).unwrap_or(u32::MAX),
            required_certificate: spec.required_certificate.as_ref().map(|der| der.to_vec()),
        }
    }

    fn load(
        &self,
        image: File,
        total: u64,
        memory: Descriptor,
        shared: &Shared,
    ) -> Result<ImageInMemory, LoadFailure> {
        let mut memory = GuestMemory::of(memory).map_err(|error| refusal(&error.into()))?;
        let source = Source { image, shared };
        let options = LoadOptions {
            vcpus: self.vcpus,
            required_certificate: self.required_certificate.as_deref(),
            at: SystemTime::now(),
        };
        let mut told = Instant::now();
        let mut progress = |done| {
            shared.done.store(done, Ordering::Relaxed);
            if told.elapsed() >= PROGRESS_INTERVAL {
                told = Instant::now();
                shared.tell();
            }
        };
        match loading::load(source, total, &mut memory, &options, &mut progress) {
            Ok(image) => Ok(ImageInMemory { memory, image }),
            Err(error) => {
                let mut failure = refusal(&error);
                if let Err(error) = memory.scrub() {
                    failure.message =
                        format!("{}; its memory could not be overwritten: {error}", failure.message);
                }
                Err(failure)
            }
        }
    }
}

/// What an error of loading means for the enclave: the image's fault, or the host's.
fn refusal(error: &LoadingError) -> LoadFailure {
    let reason = match error {
        LoadingError::Memory(_) | LoadingError::RequiredCertificate(_) | LoadingError::Internal(_) => {
            ExitReason::StartFailed
        }
        _ => ExitReason::ImageRefused,
    };
    LoadFailure { reason, message: error.to_string() }
}

/// The image as the loader reads it: it fails once the start is cancelled.
struct Source<'s> {
    image: File,
    shared: &'s Shared,
}

impl Read for Source<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.shared.cancelled.load(Ordering::Relaxed) {
            return Err(io::Error::other("the start was cancelled"));
        }
        self.image.read(buffer)
    }
}
