//! The sign of life that the host waits for: one byte to (CID 3, port 9000), echoed.
//!
//! AWS's protocol. It comes before anything of the application is looked at, so `run` succeeds even if the
//! application then fails at once; what became of that is told by [`crate::report`].

use std::time::Duration;

use rustix::io::Errno;

use crate::failure::Failure;
use crate::vsock::Stream;

/// The parent instance's context id.
const PARENT_CID: u32 = 3;
/// Port of the heartbeat service.
const PORT: u32 = 9000;
/// The byte that goes both ways.
const BEAT: u8 = 0xb7;
/// How long to wait for the host: long, since a busy host is no fault, and its own watchdog is nearer.
const LIMIT: Duration = Duration::from_secs(120);

/// Tells the host that the enclave is up.
pub fn send() -> Result<(), Failure> {
    let stream = Stream::connect(PARENT_CID, PORT, LIMIT).map_err(|error| {
        Failure::system(
            format!("cannot connect to the host (vsock CID {PARENT_CID}, port {PORT}){}", hint(error)),
            error,
        )
    })?;
    stream.send(&[BEAT]).map_err(|error| Failure::system("cannot send the heartbeat", error))?;
    let mut answer = [0];
    let received =
        stream.receive(&mut answer).map_err(|error| Failure::system("no answer to the heartbeat", error))?;
    match (received, answer) {
        (1, [BEAT]) => Ok(()),
        (1, [other]) => Err(Failure::new(format!(
            "the host answered the heartbeat with {other:#04x} instead of {BEAT:#04x}"
        ))),
        _ => Err(Failure::new("the host closed the heartbeat connection without an answer")),
    }
}

/// What the usual errors of connect(2) mean here.
fn hint(error: Errno) -> &'static str {
    match error {
        Errno::AFNOSUPPORT => {
            "; the kernel has no vsock: build it in, or list the modules in the image's modules/order"
        }
        Errno::NODEV | Errno::NETUNREACH | Errno::ADDRNOTAVAIL => "; the kernel found no virtio-vsock device",
        Errno::CONNRESET | Errno::CONNREFUSED => "; nobody listens there",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_way_to_have_no_vsock_has_its_own_advice() {
        assert!(hint(Errno::AFNOSUPPORT).contains("modules/order"));
        assert!(hint(Errno::NODEV).contains("no virtio-vsock device"));
        assert!(hint(Errno::CONNRESET).contains("nobody listens"));
        assert_eq!(hint(Errno::TIMEDOUT), "");
    }
}
