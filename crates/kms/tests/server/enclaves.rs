//! The listener for one enclave: a socket in its folder, as long as its supervisor lives. A child process stands for the supervisor.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use kms::server::{EnclaveEndpoint, Endpoint, Limits};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::support::{LONG, Message, World};
use crate::tls::s_client_to;

/// A process that lives until its standard input ends.
pub(crate) fn supervisor() -> Child {
    Command::new("cat").stdin(Stdio::piped()).spawn().unwrap()
}

/// The port of an enclave with this supervisor.
pub(crate) fn enclave(folder: &Path, port: u32, supervisor: &Child) -> EnclaveEndpoint {
    EnclaveEndpoint {
        name: "a".to_owned(),
        port,
        folder: folder.to_owned(),
        ended: pidfd_open(Pid::from_child(supervisor), PidfdFlags::empty()).unwrap(),
    }
}

fn endpoint(folder: &Path, supervisor: &Child) -> Endpoint {
    Endpoint::Enclave(enclave(folder, 8000, supervisor))
}

#[test]
fn an_enclave_is_served_in_tls_until_it_ends() {
    let folder = tempfile::tempdir().unwrap();
    let mut supervisor = supervisor();
    let world = World::with(Limits::default(), vec![endpoint(folder.path(), &supervisor)]);
    let socket = folder.path().join("vsock.sock_8000");
    assert_eq!(socket.metadata().unwrap().permissions().mode() & 0o7777, 0o600);

    let (fine, text) =
        s_client_to(&world, &["-unix", socket.to_str().unwrap(), "-verify_hostname", "localhost"]);
    assert!(fine && text.contains("Ping 2 enclave"), "{text}");

    drop(supervisor.stdin.take());
    supervisor.wait().unwrap();
    let start = Instant::now();
    while socket.exists() {
        assert!(start.elapsed() < LONG, "the listener outlives the enclave");
        std::thread::yield_now();
    }
    // The others stay.
    assert_eq!(world.connect().ask(&Message::signed("Ping", b"{}")).status, 200);
}

#[test]
fn an_enclave_is_not_answered_without_tls() {
    let folder = tempfile::tempdir().unwrap();
    let mut supervisor = supervisor();
    let _world = World::with(Limits::default(), vec![endpoint(folder.path(), &supervisor)]);
    let mut stream = UnixStream::connect(folder.path().join("vsock.sock_8000")).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    stream.write_all(&Message::signed("Ping", b"{}").bytes()).unwrap();
    let mut answer = Vec::new();
    let _ = std::io::Read::read_to_end(&mut stream, &mut answer);
    assert!(!String::from_utf8_lossy(&answer).contains("HTTP"), "{answer:?}");
    drop(supervisor.stdin.take());
    supervisor.wait().unwrap();
}

#[test]
fn an_enclaves_folder_may_lie_deeper_than_an_address_is_long() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path().join("x".repeat(200));
    std::fs::create_dir(&folder).unwrap();
    let mut supervisor = supervisor();
    let _world = World::with(Limits::default(), vec![endpoint(&folder, &supervisor)]);
    assert!(folder.join("vsock.sock_8000").exists());
    drop(supervisor.stdin.take());
    supervisor.wait().unwrap();
}
