//! `enclave connect`: standard input and output to a vsock port of the guest.

use std::io::{self, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::thread;

use enclave_hypervisor::client;

use crate::args::ConnectArgs;
use crate::enclaves::{self, client_failure};
use crate::error::{Failure, Result};
use crate::output::stdout_failure;

/// Returns when the guest has closed its side. The end of standard input closes only this side's.
pub(crate) fn connect(args: &ConnectArgs) -> Result<()> {
    let root = enclaves::open_root()?;
    let enclave = enclaves::find(&root, &args.name)?;
    let stream = client::connect(&root, &enclave, args.port).map_err(client_failure)?;
    let sending = stream.try_clone().map_err(|error| broken(&error))?;
    // Not joined: it may wait for standard input when the guest has long closed.
    thread::spawn(move || send(&sending));
    receive(stream)
}

fn send(mut stream: &UnixStream) {
    // A guest that no longer reads is told by the receiving side's end.
    let _ = io::copy(&mut io::stdin().lock(), &mut stream);
    let _ = stream.shutdown(Shutdown::Write);
}

fn receive(mut stream: UnixStream) -> Result<()> {
    let mut chunk = [0; 64 * 1024];
    let mut stdout = io::stdout().lock();
    loop {
        let count = match io::Read::read(&mut stream, &mut chunk) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(broken(&error)),
        };
        let bytes = chunk.get(..count).unwrap_or_default();
        stdout.write_all(bytes).and_then(|()| stdout.flush()).map_err(|error| stdout_failure(&error))?;
    }
}

fn broken(error: &io::Error) -> Failure {
    Failure::new(
        format_args!("the connection to the enclave broke: {error}"),
        "look at the enclave with `enclave describe`, and try again",
    )
}
