//! Client of the security module: one ioctl on /dev/nsm carries a request and brings back its response.
//!
//! Interface: linux/nsm.h of the kernel; encodings: [`nsm_device::protocol`].
#![expect(unsafe_code, reason = "the driver's interface is an ioctl with two buffers")]

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;

use attestation::pcr::Pcr;
use nsm_device::protocol::{
    DecodeResponseError, Description, ErrorCode, MAX_REQUEST_LEN, MAX_RESPONSE_LEN, Request, Response,
};
use thiserror::Error;

/// The driver's node.
pub const DEVICE: &str = "/dev/nsm";

/// `NSM_IOCTL_RAW`, `_IOWR(0x0A, 0x0, struct nsm_raw)` of linux/nsm.h: 32 bytes, both directions.
const NSM_IOCTL_RAW: libc::Ioctl = 0xc020_0a00;

/// `struct nsm_iovec` of linux/nsm.h.
#[repr(C)]
struct Buffer {
    address: u64,
    length: u64,
}

/// `struct nsm_raw` of linux/nsm.h.
#[repr(C)]
struct Exchange {
    request: Buffer,
    response: Buffer,
}

/// Why the security module gave no answer, or not the one asked for.
#[derive(Debug, Error)]
pub enum NsmError {
    /// There is no driver, or no permission to use it.
    #[error("cannot open {DEVICE}: {0} (is this an enclave, with the nsm driver in its kernel?)")]
    Open(#[source] io::Error),
    /// The kernel would refuse a request of this length.
    #[error("the request has {0} bytes, more than the {MAX_REQUEST_LEN} that the security module takes")]
    RequestTooLong(usize),
    /// The driver could not exchange the request for a response.
    #[error("the nsm driver failed: {0}")]
    Exchange(#[source] io::Error),
    /// The security module refused.
    #[error("the security module refused: {0}")]
    Refused(ErrorCode),
    /// The response is none.
    #[error(transparent)]
    Decode(#[from] DecodeResponseError),
    /// The response belongs to another request.
    #[error("the security module answered something else than it was asked")]
    Unexpected,
}

/// The security module, opened. Threads may share it: the driver lets one request through at a time.
#[derive(Debug)]
pub struct Nsm(File);

impl Nsm {
    /// Opens the driver.
    ///
    /// # Errors
    /// [`NsmError::Open`].
    pub fn open() -> Result<Self, NsmError> {
        OpenOptions::new().read(true).write(true).open(DEVICE).map(Self).map_err(NsmError::Open)
    }

    /// Sends these bytes, whatever they are, and returns the response's.
    ///
    /// # Errors
    /// [`NsmError::RequestTooLong`], [`NsmError::Exchange`].
    pub fn raw_request(&self, request: &[u8]) -> Result<Vec<u8>, NsmError> {
        if request.len() > MAX_REQUEST_LEN {
            return Err(NsmError::RequestTooLong(request.len()));
        }
        let mut response = vec![0_u8; MAX_RESPONSE_LEN];
        let mut exchange = Exchange {
            request: Buffer { address: address(request.as_ptr()), length: length(request) },
            response: Buffer { address: address(response.as_mut_ptr()), length: length(&response) },
        };
        // SAFETY: the driver reads and writes `exchange`, reads the request's bytes and writes at most as many as
        // the response's buffer has; all three outlive the call.
        let status = unsafe { libc::ioctl(self.0.as_raw_fd(), NSM_IOCTL_RAW, &raw mut exchange) };
        if status < 0 {
            return Err(NsmError::Exchange(io::Error::last_os_error()));
        }
        response.truncate(usize::try_from(exchange.response.length).unwrap_or(usize::MAX));
        Ok(response)
    }

    /// Sends a request. A refusal is an error, so the response is never [`Response::Error`].
    ///
    /// # Errors
    /// Any [`NsmError`] but [`NsmError::Open`] and [`NsmError::Unexpected`].
    pub fn request(&self, request: &Request) -> Result<Response, NsmError> {
        match Response::decode(&self.raw_request(&request.encode())?)? {
            Response::Error(code) => Err(NsmError::Refused(code)),
            response => Ok(response),
        }
    }

    /// What the module is, and which PCRs are locked.
    ///
    /// # Errors
    /// As [`Nsm::request`], and [`NsmError::Unexpected`].
    pub fn describe(&self) -> Result<Description, NsmError> {
        match self.request(&Request::DescribeNsm)? {
            Response::DescribeNsm(description) => Ok(description),
            _ => Err(NsmError::Unexpected),
        }
    }

    /// An attestation document (COSE_Sign1) that holds the given fields.
    ///
    /// Verifiers that keep to AWS's published limits refuse documents with more than 512 bytes of `user_data` or
    /// `nonce` or 1024 of `public_key`.
    ///
    /// # Errors
    /// As [`Nsm::request`], and [`NsmError::Unexpected`].
    pub fn attest(
        &self,
        nonce: Option<Vec<u8>>,
        user_data: Option<Vec<u8>>,
        public_key: Option<Vec<u8>>,
    ) -> Result<Vec<u8>, NsmError> {
        match self.request(&Request::Attestation { user_data, nonce, public_key })? {
            Response::Attestation { document } => Ok(document),
            _ => Err(NsmError::Unexpected),
        }
    }

    /// The value of a PCR, and whether it is locked.
    ///
    /// # Errors
    /// As [`Nsm::request`], and [`NsmError::Unexpected`].
    pub fn describe_pcr(&self, index: u16) -> Result<(Pcr, bool), NsmError> {
        match self.request(&Request::DescribePcr { index })? {
            Response::DescribePcr { lock, data } => Ok((data, lock)),
            _ => Err(NsmError::Unexpected),
        }
    }

    /// Extends a PCR (16 to 31 while unlocked) and returns its new value.
    ///
    /// # Errors
    /// As [`Nsm::request`], and [`NsmError::Unexpected`].
    pub fn extend_pcr(&self, index: u16, data: Vec<u8>) -> Result<Pcr, NsmError> {
        match self.request(&Request::ExtendPcr { index, data })? {
            Response::ExtendPcr { data } => Ok(data),
            _ => Err(NsmError::Unexpected),
        }
    }

    /// Locks a PCR for the rest of the enclave's life; only locked ones are in documents.
    ///
    /// # Errors
    /// As [`Nsm::request`], and [`NsmError::Unexpected`].
    pub fn lock_pcr(&self, index: u16) -> Result<(), NsmError> {
        match self.request(&Request::LockPcr { index })? {
            Response::LockPcr => Ok(()),
            _ => Err(NsmError::Unexpected),
        }
    }

    /// Random bytes of the host; how many is up to the module (256 as a rule).
    ///
    /// # Errors
    /// As [`Nsm::request`], and [`NsmError::Unexpected`].
    pub fn random(&self) -> Result<Vec<u8>, NsmError> {
        match self.request(&Request::GetRandom)? {
            Response::GetRandom { random } => Ok(random),
            _ => Err(NsmError::Unexpected),
        }
    }
}

fn address<T>(pointer: *const T) -> u64 {
    u64::try_from(pointer.addr()).unwrap_or(u64::MAX)
}

fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An `Nsm` on a file that is no NSM: every request that is sent fails, one that is refused before does not.
    fn no_module() -> Nsm {
        Nsm(OpenOptions::new().read(true).write(true).open("/dev/null").unwrap())
    }

    #[test]
    fn the_structure_has_the_size_that_the_request_number_says() {
        assert_eq!(size_of::<Exchange>(), 32);
        // _IOWR(type, number, size) = direction << 30 | size << 16 | type << 8 | number; see ioctl(2).
        assert_eq!(u64::from(u32::try_from(NSM_IOCTL_RAW).unwrap()), (3 << 30) | (32 << 16) | (0x0a << 8));
    }

    #[test]
    fn the_longest_request_is_sent_and_a_longer_one_is_not() {
        let sent = no_module().raw_request(&[0; MAX_REQUEST_LEN]);
        assert!(matches!(sent, Err(NsmError::Exchange(_))), "{sent:?}");
        let refused = no_module().raw_request(&[0; MAX_REQUEST_LEN + 1]);
        assert!(matches!(refused, Err(NsmError::RequestTooLong(0x1001))), "{refused:?}");
    }

    #[test]
    fn a_missing_driver_is_explained() {
        if let Err(error) = Nsm::open() {
            assert!(error.to_string().contains("/dev/nsm"), "{error}");
        }
    }
}
