//! virtio-nsm: moves requests to the security module and its answers back. It understands neither.
//!
//! A request is *two* chains of the one queue: the first holds the request, the second takes the answer. Both of
//! Linux's drivers wait for one interrupt and then expect the two, in this order, in the used ring; so neither is
//! returned before the answer is there. One request is under way at a time. A reset of the device forgets the request, not the
//! security module's state.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nsm_device::protocol::{MAX_REQUEST_LEN, MAX_RESPONSE_LEN};
use rustix::event::epoll;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use virtio::{ActivateError, Activation, Chain, DeviceError, ReadyQueue, VirtioDevice};

/// VIRTIO_ID_NITRO_SEC_MOD.
const DEVICE_ID: u32 = 33;
/// One queue that holds one request, as in QEMU.
const QUEUE_SIZES: &[u16] = &[2];

/// CBOR: {"Error": "BufferTooSmall"}. The driver's buffer has no room for the answer.
const BUFFER_TOO_SMALL: &[u8] = b"\xA1\x65Error\x6EBufferTooSmall";
/// CBOR: {"Error": "InvalidOperation"}. An empty request, which a packet cannot carry.
const INVALID_OPERATION: &[u8] = b"\xA1\x65Error\x70InvalidOperation";
/// CBOR: {"Error": "InternalError"}. There is no security module any more.
const INTERNAL_ERROR: &[u8] = b"\xA1\x65Error\x6DInternalError";

/// Requests served in one call while no answer has to be waited for.
const BATCH: usize = 16;

/// Marks of the two descriptors in the epoll set.
const KICK: epoll::EventData = epoll::EventData::new_u64(0);
const ANSWER: epoll::EventData = epoll::EventData::new_u64(1);

/// The device.
#[derive(Debug)]
pub(super) struct NsmDevice {
    events: OwnedFd,
    security_module: OwnedFd,
    /// The security module's end is closed, and `security_module` no longer in the epoll set.
    module_gone: bool,
    queue: Option<ReadyQueue>,
    /// The first chain of a pair whose second one has not come.
    request: Option<Chain>,
    /// The pair whose answer is awaited.
    waiting: Option<(Chain, Chain)>,
    /// Answers to requests from before a reset, which nobody waits for.
    orphans: u64,
}

impl NsmDevice {
    /// A device in front of the security module behind this packet socket.
    pub(super) fn new(security_module: OwnedFd) -> io::Result<Self> {
        let events = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&events, &security_module, ANSWER, epoll::EventFlags::IN)?;
        Ok(Self {
            events,
            security_module,
            module_gone: false,
            queue: None,
            request: None,
            waiting: None,
            orphans: 0,
        })
    }

    /// Takes an answer, if there is one.
    fn take_answer(&mut self) -> Result<(), DeviceError> {
        let mut buffer = vec![0; MAX_RESPONSE_LEN];
        let answer = match recv(&self.security_module, &mut buffer, RecvFlags::DONTWAIT) {
            Ok((length, _)) if length > 0 => buffer.get(..length).unwrap_or_default(),
            Err(Errno::AGAIN | Errno::INTR) => return Ok(()),
            // Closed. What waits for an answer gets one, and the end is not looked at again.
            _ => {
                if !core::mem::replace(&mut self.module_gone, true) {
                    epoll::delete(&self.events, &self.security_module)
                        .map_err(failed("watching the security module"))?;
                }
                INTERNAL_ERROR
            }
        };
        if self.orphans > 0 && !self.module_gone {
            self.orphans = self.orphans.saturating_sub(1);
            return Ok(());
        }
        if let Some((request, response)) = self.waiting.take() {
            self.complete(&request, &response, answer)?;
        }
        Ok(())
    }

    /// Starts the next requests, until one has to be waited for or there are none.
    fn start_requests(&mut self) -> Result<(), DeviceError> {
        for _ in 0..BATCH {
            if self.waiting.is_some() {
                return Ok(());
            }
            let Some((request, response)) = self.next_pair()? else {
                return Ok(());
            };
            match self.submit(&request)? {
                None => self.waiting = Some((request, response)),
                Some(answer) => self.complete(&request, &response, answer)?,
            }
        }
        // More may be waiting: come back.
        if let Some(queue) = &self.queue {
            rustix::io::write(queue.kick(), &1u64.to_ne_bytes()).map_err(failed("waking the device"))?;
        }
        Ok(())
    }

    /// Sends a request to the security module, or returns the answer if it cannot be sent.
    fn submit(&self, request: &Chain) -> Result<Option<&'static [u8]>, DeviceError> {
        let Some(queue) = &self.queue else { return Ok(None) };
        // One byte more than the longest: the security module refuses it by its own rule.
        let mut bytes = vec![0; request.readable().len().min(MAX_REQUEST_LEN + 1)];
        request
            .readable()
            .read(queue.memory(), 0, &mut bytes)
            .map_err(|_| DeviceError::Protocol("a request lies outside guest memory"))?;
        if bytes.is_empty() {
            return Ok(Some(INVALID_OPERATION));
        }
        // One request is under way at a time, plus orphans, which a guest that resets the device in a loop can
        // pile up: it then gets errors until the security module has caught up.
        let sent = !self.module_gone
            && send(&self.security_module, &bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL).is_ok();
        Ok(if sent { None } else { Some(INTERNAL_ERROR) })
    }

    /// The next request with its buffer for the answer, if both are there.
    fn next_pair(&mut self) -> Result<Option<(Chain, Chain)>, DeviceError> {
        let Some(queue) = &mut self.queue else { return Ok(None) };
        loop {
            let mut chain = Chain::new();
            while queue.pop(&mut chain)? {
                match self.request.take() {
                    None if chain.writable().is_empty() => {
                        self.request = Some(core::mem::take(&mut chain));
                    }
                    Some(request) if chain.readable().is_empty() && !chain.writable().is_empty() => {
                        return Ok(Some((request, chain)));
                    }
                    _ => return Err(DeviceError::Protocol("a request and its buffer do not alternate")),
                }
            }
            if !queue.enable_notification()? {
                return Ok(None);
            }
        }
    }

    /// Gives the pair back, the answer in its second chain.
    fn complete(&mut self, request: &Chain, response: &Chain, answer: &[u8]) -> Result<(), DeviceError> {
        let Some(queue) = &mut self.queue else { return Ok(()) };
        let room = response.writable().len();
        let answer = if answer.len() > room { BUFFER_TOO_SMALL } else { answer };
        let written = response
            .writable()
            .write(queue.memory(), 0, answer.get(..room).unwrap_or(answer))
            .map_err(|_| DeviceError::Protocol("a buffer lies outside guest memory"))?;
        queue.add_used(request.head(), 0)?;
        queue.add_used(response.head(), u32::try_from(written).unwrap_or_default())?;
        queue.signal()?;
        Ok(())
    }
}

fn failed(what: &'static str) -> impl FnOnce(Errno) -> DeviceError {
    move |errno| DeviceError::System { what, source: errno.into() }
}

impl VirtioDevice for NsmDevice {
    fn device_id(&self) -> u32 {
        DEVICE_ID
    }

    fn device_features(&self) -> u64 {
        0
    }

    fn queue_max_sizes(&self) -> &[u16] {
        QUEUE_SIZES
    }

    fn read_config(&self, _offset: u64, data: &mut [u8]) {
        data.fill(0);
    }

    fn activate(&mut self, activation: Activation) -> Result<(), ActivateError> {
        let found = activation.queues.len();
        let mut queues = activation.queues.into_iter();
        let (Some(queue), None) = (queues.next(), queues.next()) else {
            return Err(ActivateError::QueueCount { expected: QUEUE_SIZES.len(), found });
        };
        epoll::add(&self.events, queue.kick(), KICK, epoll::EventFlags::IN)
            .map_err(|errno| ActivateError::System { what: "watching the queue", source: errno.into() })?;
        self.queue = Some(queue);
        Ok(())
    }

    fn reset(&mut self) {
        if let Some(queue) = self.queue.take()
            && let Err(error) = epoll::delete(&self.events, queue.kick())
        {
            tracing::warn!(%error, "the queue's notifications cannot be turned off");
        }
        self.request = None;
        if self.waiting.take().is_some() {
            self.orphans = self.orphans.saturating_add(1);
        }
    }

    fn event_source(&self) -> BorrowedFd<'_> {
        self.events.as_fd()
    }

    fn handle_events(&mut self) -> Result<(), DeviceError> {
        if let Some(queue) = &self.queue {
            queue.drain_kick();
        }
        if !self.module_gone {
            self.take_answer()?;
        }
        self.start_requests()
    }
}
