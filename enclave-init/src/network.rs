//! The network that an enclave has: loopback, up, with a name.
#![expect(unsafe_code, reason = "interface flags are set by an ioctl")]

use std::fs;
use std::mem::size_of;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use crate::console::say;
use crate::files;

/// The line endings of /etc/hosts that every container runtime writes, and name resolution relies on.
const HOSTS: &str = "127.0.0.1\tlocalhost\n::1\tlocalhost\n";

/// Brings the loopback interface up; the kernel then adds 127.0.0.1/8 and ::1 by itself.
///
/// A kernel without TCP/IP has nothing to bring up. Any other failure is told, but vsock still works, so the
/// application decides whether it can live with it.
pub fn loopback_up() {
    match set_up(b"lo") {
        Ok(()) | Err(Errno::AFNOSUPPORT) => {}
        Err(error) => say(format_args!("cannot bring the loopback interface up: {error}")),
    }
}

/// Sets the host name.
pub fn set_hostname(name: &str) {
    if let Err(error) = rustix::system::sethostname(name.as_bytes()) {
        say(format_args!("cannot set the host name to {name:?}: {error}"));
    }
}

/// Gives the root file system an /etc/hosts that knows `localhost` if it has none or an empty one (container
/// images ship it empty: the runtime is expected to fill it in).
pub fn provide_hosts_file(root: &Path) {
    let path = root.join("etc/hosts");
    let empty = match fs::metadata(&path) {
        Ok(metadata) => metadata.is_file() && metadata.len() == 0,
        Err(_) => root.join("etc").is_dir(),
    };
    if empty && let Err(error) = fs::write(&path, HOSTS) {
        say(files::failed("cannot write", &path, &error));
    }
}

fn set_up(interface: &[u8]) -> Result<(), Errno> {
    // Any socket of the family carries the ioctl.
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    // SAFETY: ifreq is plain data for which all zeros is a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(interface) {
        *to = libc::c_char::from_ne_bytes([*from]);
    }
    const { assert!(size_of::<libc::ifreq>() == 40, "layout of struct ifreq") };
    ioctl(&socket, libc::SIOCGIFFLAGS, &mut request)?;
    // SAFETY: SIOCGIFFLAGS has just filled in this member of the union.
    let flags = unsafe { request.ifr_ifru.ifru_flags };
    request.ifr_ifru.ifru_flags = flags | libc::c_short::try_from(libc::IFF_UP).map_err(|_| Errno::INVAL)?;
    ioctl(&socket, libc::SIOCSIFFLAGS, &mut request)
}

fn ioctl(socket: &OwnedFd, number: libc::Ioctl, request: &mut libc::ifreq) -> Result<(), Errno> {
    // SAFETY: both requests read and write one struct ifreq at the given address, which is live.
    let status = unsafe { libc::ioctl(socket.as_raw_fd(), number, &raw mut *request) };
    if status == 0 {
        return Ok(());
    }
    Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_interface_is_an_error() {
        assert_eq!(set_up(b"no-such-if0"), Err(Errno::NODEV));
    }

    #[test]
    fn a_hosts_file_is_given_only_where_it_is_missing_or_empty() {
        let root = tempfile::tempdir().unwrap();
        provide_hosts_file(root.path());
        assert!(!root.path().join("etc").exists(), "no folder is invented");
        fs::create_dir(root.path().join("etc")).unwrap();
        let hosts = root.path().join("etc/hosts");
        provide_hosts_file(root.path());
        assert_eq!(fs::read_to_string(&hosts).unwrap(), HOSTS);
        fs::write(&hosts, "").unwrap();
        provide_hosts_file(root.path());
        assert_eq!(fs::read_to_string(&hosts).unwrap(), HOSTS);
        fs::write(&hosts, "10.0.0.1 peer\n").unwrap();
        provide_hosts_file(root.path());
        assert_eq!(fs::read_to_string(&hosts).unwrap(), "10.0.0.1 peer\n");
    }
}
