//! The demo application: runs in an enclave and does on request what the end-to-end tests need from a guest.
//!
//! It listens on a vsock port (5005, or the one given as its only argument). A connection carries one request,
//! a line of words, and its answer: `ok <text>` or `error <text>`, one line. The requests are in [`request`].
//! It obeys whoever connects, up to crashing the machine, so it has no place outside tests and demonstrations.

mod attestation;
mod error;
mod facts;
mod machine;
mod network;
mod physical;
mod request;
mod service;
mod transfer;

use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use guest::vsock::{Address, CID_ANY, Listener, Stream};

/// Port to listen on.
const PORT: u32 = 5005;

/// Stack of a connection's thread: small, since tests open thousands of connections.
const STACK_BYTES: usize = 256 * 1024;

/// Pause after a failed accept: descriptors that ran out come back when connections end.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);

fn main() -> ExitCode {
    let port = match std::env::args().nth(1).map(|port| port.parse()) {
        None => PORT,
        Some(Ok(port)) => port,
        Some(Err(_)) => {
            eprintln!("usage: enclave-demo [PORT]");
            return ExitCode::from(2);
        }
    };
    machine::raise_descriptor_limit();
    match Listener::bind(Address { cid: CID_ANY, port }) {
        Ok(listener) => {
            println!("enclave-demo: listening on vsock port {port}");
            serve(&listener)
        }
        Err(error) => {
            eprintln!("enclave-demo: cannot listen on vsock port {port}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(listener: &Listener) -> ! {
    loop {
        match listener.accept() {
            Ok((stream, _)) => handle_in_thread(stream),
            Err(error) => {
                eprintln!("enclave-demo: cannot accept: {error}");
                thread::sleep(ACCEPT_PAUSE);
            }
        }
    }
}

fn handle_in_thread(stream: Stream) {
    let thread = thread::Builder::new().stack_size(STACK_BYTES);
    if let Err(error) = thread.spawn(move || service::handle(&stream)) {
        // The stream is gone with the closure: the peer sees its connection end.
        eprintln!("enclave-demo: no thread for a connection: {error}");
    }
}
