//! A machine of its own for services: a real systemd as process 1 of new namespaces, with a journal and a bus, and its own loopback.
//!
//! It takes root, as the lab's commands have it. Nothing of it is left when it is dropped.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::processes;
use crate::product::Printed;

/// Makes the root file system and starts systemd.
const BOOT: &str = include_str!("systemd/boot");
/// Where a program is looked for, in and out of the machine.
const PATH: &str = "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// So long systemd does not take, even on a busy emulated host, whose clock may run ahead.
const PATIENCE: Duration = Duration::from_secs(300);
/// The same for an answer on its bus, as systemd's programs want it.
const BUS_PATIENCE: &str = "300s";
/// Where cgroups are.
const CGROUPS: &str = "/sys/fs/cgroup";

/// A running systemd.
#[derive(Debug)]
pub struct Machine {
    namespaces: Child,
    /// The process that is 1 inside.
    init: u32,
    cgroup: PathBuf,
    _folder: TempDir,
}

impl Machine {
    /// Boots a tree of `tools/debian-tree systemd`, which stays as it is, with these units in it, and comes back when systemd says that it
    /// is ready.
    ///
    /// # Panics
    /// If it does not start.
    #[must_use]
    pub fn boot(tree: &Path, units: &[&Path]) -> Self {
        let folder = tempfile::Builder::new().prefix("enclave-systemd-").tempdir().unwrap();
        let (scratch, host) = (folder.path().join("scratch"), folder.path().join("host"));
        fs::create_dir(&scratch).unwrap();
        fs::create_dir(&host).unwrap();
        let ready = UnixDatagram::bind(host.join("notify")).unwrap();
        // A cgroup of its own is the root of those inside.
        let cgroup = Path::new(CGROUPS).join(folder.path().file_name().unwrap());
        fs::create_dir(&cgroup).unwrap();
        let namespaces = Command::new("sh")
            .args(["-c", "echo $$ >\"$1/cgroup.procs\"; shift; exec \"$@\"", "enter"])
            .arg(&cgroup)
            .args(["unshare", "--pid", "--fork", "--kill-child"])
            .args(["--mount", "--uts", "--ipc", "--net", "--cgroup", "sh", "-c", BOOT, "boot"])
            .args([tree, &scratch, &host])
            .args(units)
            .env_clear()
            .env("PATH", PATH)
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let mut machine = Self { namespaces, init: 0, cgroup, _folder: folder };
        wait_until_ready(&ready);
        machine.init = processes::children(machine.namespaces.id())[0];
        machine
    }

    /// A file or folder of the machine, by its absolute path inside.
    #[must_use]
    pub fn path(&self, inside: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{inside}", self.init))
    }

    /// Copies a file into the machine.
    pub fn install(&self, from: &Path, inside: &str, mode: u32) {
        let to = self.path(inside);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        let _ = fs::copy(from, &to).unwrap();
        fs::set_permissions(&to, fs::Permissions::from_mode(mode)).unwrap();
    }

    /// A shell script that root runs in the machine.
    #[must_use]
    pub fn script(&self, script: &str) -> Command {
        let mut command = self.entering("--all");
        command.args(["sh", "-euc", script]);
        command
    }

    /// A program of this host on the machine's network.
    #[must_use]
    pub fn on_its_network(&self, program: &str) -> Command {
        let mut command = self.entering("--net");
        command.arg(program);
        command
    }

    fn entering(&self, namespaces: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.init.to_string(), namespaces]);
        command.env_clear().env("PATH", PATH).env("SYSTEMD_BUS_TIMEOUT", BUS_PATIENCE).stdin(Stdio::null());
        command
    }

    /// Runs a shell script to its end.
    #[must_use]
    pub fn run(&self, script: &str) -> Printed {
        Printed::of(&mut self.script(script))
    }

    /// The same with something to read.
    #[must_use]
    pub fn feed(&self, script: &str, input: &[u8]) -> Printed {
        let mut command = self.script(script);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        Printed::from(child.wait_with_output().unwrap())
    }

    /// Reads a unit's journal until it has said `words` in so many lines, and returns what it had said by then. It waits as long as it takes: the
    /// session's time is limited.
    #[must_use]
    pub fn journal_until(&self, unit: &str, words: &str, times: usize) -> String {
        let script = format!("exec journalctl --follow --lines=all --output=cat --unit={unit}");
        let mut following = self.script(&script).stdout(Stdio::piped()).spawn().unwrap();
        let (mut said, mut seen) = (String::new(), 0);
        for line in BufReader::new(following.stdout.take().unwrap()).lines() {
            let line = line.unwrap();
            seen += usize::from(line.contains(words));
            said += &(line + "\n");
            if seen == times {
                break;
            }
        }
        following.kill().unwrap();
        let _ = following.wait().unwrap();
        assert_eq!(seen, times, "the journal ended: {said}");
        said
    }

    /// What a unit's journal says at this moment.
    #[must_use]
    pub fn journal(&self, unit: &str) -> String {
        let script = format!("journalctl --sync; journalctl --no-pager --output=cat --unit={unit}");
        self.run(&script).success().stdout
    }

    /// Properties of a unit.
    #[must_use]
    pub fn properties<const N: usize>(&self, unit: &str, names: [&str; N]) -> [String; N] {
        let script = format!("systemctl show --property={} {unit}", names.join(","));
        let shown = self.run(&script).success().stdout;
        let value = |name: &str| {
            shown.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('=')).unwrap().to_owned()
        };
        names.map(value)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // With its process 1 all others of the namespaces end, and the mounts.
        let _ = self.namespaces.kill();
        let _ = self.namespaces.wait();
        // It is 0 if systemd did not start.
        if self.init != 0 {
            let _ = processes::ended(self.init);
        }
        remove_cgroups(&self.cgroup);
    }
}

/// The datagram that process 1 of a container sends when it has started all units (sd_notify(3)).
fn wait_until_ready(socket: &UnixDatagram) {
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut buffer = [0; 4096];
    loop {
        let length = socket.recv(&mut buffer).expect("systemd starts in time");
        if String::from_utf8_lossy(&buffer[..length]).lines().any(|line| line == "READY=1") {
            return;
        }
    }
}

/// Removes empty cgroups, those within first.
fn remove_cgroups(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_cgroups(&entry.path());
        }
    }
    let _ = fs::remove_dir(folder);
}
