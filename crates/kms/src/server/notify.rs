//! What the service manager is told of the service: systemd's notifications, by sd_notify(3) and systemd.service(5), `Type=notify`.
//!
//! A datagram of `NAME=VALUE` lines to the socket that `$NOTIFY_SOCKET` names. Nothing in them comes from outside of this file.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// The variable in which the manager names its socket.
pub(super) const SOCKET: &str = "NOTIFY_SOCKET";

/// How it is with the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// It answers requests.
    Serving,
    /// It reads its configuration again.
    Reloading,
    /// It answers requests, by the configuration that it had.
    NotReloaded,
    /// It ends; requests that run are still answered.
    Ending,
}

impl State {
    fn message(self) -> String {
        match self {
            Self::Serving => "READY=1\nSTATUS=serving\n".to_owned(),
            Self::NotReloaded => {
                "READY=1\nSTATUS=serving as before: the configuration has an error, which is in the log\n"
                    .to_owned()
            }
            Self::Reloading => {
                // With the time, by which `Type=notify-reload` tells this answer to its signal from an earlier one.
                let now = Duration::try_from(clock_gettime(ClockId::Monotonic)).unwrap_or_default();
                format!("RELOADING=1\nMONOTONIC_USEC={}\n", now.as_micros())
            }
            Self::Ending => "STOPPING=1\nSTATUS=ending\n".to_owned(),
        }
    }
}

/// The service manager, if one wants to be told.
#[derive(Debug, Default)]
pub(super) struct Manager(Option<UnixDatagram>);

impl Manager {
    /// The one whose socket this is, the value of [`SOCKET`]; nobody without one.
    ///
    /// # Errors
    /// If nobody can be reached there.
    pub(super) fn at(socket: Option<OsString>) -> io::Result<Self> {
        let Some(socket) = socket.filter(|socket| !socket.is_empty()) else { return Ok(Self(None)) };
        let datagrams = UnixDatagram::unbound()?;
        datagrams.connect_addr(&address(&socket)?)?;
        Ok(Self(Some(datagrams)))
    }

    /// # Errors
    /// If the manager does not take it.
    pub(super) fn tell(&self, state: State) -> io::Result<()> {
        match &self.0 {
            Some(socket) => socket.send(state.message().as_bytes()).map(drop),
            None => Ok(()),
        }
    }
}

/// An absolute path, or `@` before a name in the abstract namespace.
fn address(socket: &OsStr) -> io::Result<SocketAddr> {
    match socket.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
        [b'/', ..] => SocketAddr::from_pathname(socket),
        _ => Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "it is neither an absolute path nor an abstract name",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    /// What the manager received.
    fn received(manager: &UnixDatagram) -> String {
        let mut buffer = [0; 4096];
        let length = manager.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    /// A manager's socket in a folder, and what its services are given.
    fn manager() -> (TempDir, UnixDatagram, Manager) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        let told = Manager::at(Some(path.into())).unwrap();
        (folder, socket, told)
    }

    #[test]
    fn the_manager_is_told_each_state_in_a_datagram_of_its_own() {
        let (_folder, socket, manager) = manager();
        manager.tell(State::Serving).unwrap();
        manager.tell(State::NotReloaded).unwrap();
        manager.tell(State::Ending).unwrap();
        assert_eq!(received(&socket), "READY=1\nSTATUS=serving\n");
        let kept = received(&socket);
        assert!(kept.starts_with("READY=1\nSTATUS=serving as before: "), "{kept}");
        assert_eq!(received(&socket), "STOPPING=1\nSTATUS=ending\n");
    }

    #[test]
    fn a_reload_is_told_with_the_monotonic_time() {
        let (_folder, socket, manager) = manager();
        let now = || clock_gettime(ClockId::Monotonic).tv_sec;
        let before = now();
        manager.tell(State::Reloading).unwrap();
        let after = now();
        let text = received(&socket);
        let microseconds = text.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap().trim_end();
        let seconds = microseconds.parse::<i64>().unwrap() / 1_000_000;
        assert!((before..=after).contains(&seconds), "{before} {text} {after}");
    }

    #[test]
    fn an_abstract_socket_is_reached() {
        let name = format!("enclave-kms-notify-{}", std::process::id());
        let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        let manager = Manager::at(Some(format!("@{name}").into())).unwrap();
        manager.tell(State::Ending).unwrap();
        assert_eq!(received(&socket), "STOPPING=1\nSTATUS=ending\n");
    }

    #[test]
    fn without_a_manager_nothing_is_told_and_nothing_fails() {
        for socket in [None, Some(OsString::new())] {
            Manager::at(socket).unwrap().tell(State::Serving).unwrap();
        }
    }

    #[test]
    fn a_socket_of_another_kind_is_refused() {
        for socket in ["vsock:2:1234", "notify", "./notify"] {
            let error = Manager::at(Some(socket.into())).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::Unsupported, "{socket}");
        }
    }

    #[test]
    fn a_manager_that_is_gone_is_an_error() {
        let (folder, socket, manager) = manager();
        drop(socket);
        assert_eq!(manager.tell(State::Serving).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        let nobody = folder.path().join("nobody");
        assert_eq!(Manager::at(Some(nobody.into())).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
