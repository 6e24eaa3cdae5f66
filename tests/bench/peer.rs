//! The peer: QEMU's microvm machine with qboot and the kernel's vhost-vsock, on the same kernel, initrd and command line.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use guest::vsock::{Address, CID_ANY, Listener, Stream};
use tempfile::TempDir;
use tests::image_file::ImageFile;

/// AWS's heartbeat port.
const HEARTBEAT_PORT: u32 = 9000;

/// The guest's address under the peer.
const GUEST_CID: u32 = 99;

/// An image taken apart into what QEMU loads.
pub(crate) struct Peer {
    folder: TempDir,
    command_line: String,
    heartbeat: Listener,
}

/// A running guest of the peer; ended when dropped.
pub(crate) struct PeerGuest(Child);

impl Peer {
    /// Takes an image apart. Its init must be `aws-like-init`, which finds the host where it is told to.
    pub(crate) fn new(image: &Path) -> Self {
        let image = ImageFile::read(image);
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("kernel"), image.kernel()).unwrap();
        fs::write(folder.path().join("initrd"), image.ramdisks()).unwrap();
        // Linux hands words that it does not know to init as environment; vhost-vsock answers as CID 2 only.
        let command_line = format!("{} HEARTBEAT_CID=2", image.command_line());
        let heartbeat = Listener::bind(Address { cid: CID_ANY, port: HEARTBEAT_PORT }).unwrap();
        Self { folder, command_line, heartbeat }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Starts a guest and waits for its heartbeat: how long that took from exec.
    pub(crate) fn boot(&self, cpus: u32, memory: u32) -> (PeerGuest, Duration) {
        let began = Instant::now();
        let guest = Command::new("qemu-system-x86_64")
            .args(["-M", "microvm,x-option-roms=off,pit=off,pic=off,rtc=off,isa-serial=on,acpi=on"])
            .args([
                "-accel",
                "kvm",
                "-cpu",
                "host",
                "-nodefaults",
                "-no-user-config",
                "-nographic",
                "-no-reboot",
            ])
            .args(["-serial", "null", "-smp", &cpus.to_string(), "-m", &memory.to_string()])
            .arg("-kernel")
            .arg(self.file("kernel"))
            .arg("-initrd")
            .arg(self.file("initrd"))
            .args(["-append", &self.command_line])
            .args(["-device", &format!("vhost-vsock-device,guest-cid={GUEST_CID}")])
            .stdin(Stdio::null())
            .spawn()
            .expect("QEMU is installed by make bench");
        let (stream, _) = self.heartbeat.accept().unwrap();
        let elapsed = began.elapsed();
        let mut byte = [0];
        std::io::Read::read_exact(&mut &stream, &mut byte).unwrap();
        std::io::Write::write_all(&mut &stream, &byte).unwrap();
        (PeerGuest(guest), elapsed)
    }

    /// Connects to a port of the running guest, once it listens.
    pub(crate) fn connect(port: u32) -> Stream {
        loop {
            if let Ok(stream) = Stream::connect(Address { cid: GUEST_CID, port }) {
                return stream;
            }
            std::thread::yield_now();
        }
    }
}

impl Drop for PeerGuest {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The demo application with the init that both hosts can answer.
pub(crate) fn image() -> PathBuf {
    let init = tests::product::bin_dir().join("aws-like-init");
    tests::image::build("bench", &["--init", init.to_str().unwrap(), "--", "/bin/enclave-demo"])
}
