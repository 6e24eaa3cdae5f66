//! Enclaves whose application attacks its devices (tests/hostile-guest), and host programs at their other end.

use std::collections::VecDeque;
use std::fs;
use std::io::Write;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::diagnosis::diagnosis;
use crate::enclave::{Enclave, PATIENCE, Start};
use crate::image;
use crate::product::User;

/// MiB of a hostile guest.
const MEMORY: u32 = 512;
/// Its virtual CPUs, which attack at the same time.
const VIRTUAL_CPUS: u32 = 2;
/// Where in MiB its application has memory of its own: eight that its kernel leaves alone, in the middle, since ramdisks are at the
/// end. Devices may overrun the application's one by at most one.
const AREA: u32 = 248;
/// Host programs at a time that a hostile guest is connected to: each may keep 256 KiB in the virtual machine process.
const PROGRAMS: usize = 32;
/// What a hostile guest's kernel hears beside the usual: to leave that memory, to let the application map registers that a driver
/// has, and to end with its first fault instead of going on half dead.
const COMMAND_LINE: &str = "reboot=k panic=1 oops=panic pci=off quiet console=ttyS0 random.trust_cpu=on memmap=8M$248M iomem=relaxed";

/// Seconds that hostile guests get in all: `HOSTILE_SECONDS`, or this many.
#[must_use]
pub fn seconds(usually: u64) -> Duration {
    let set = std::env::var("HOSTILE_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(set.unwrap_or(usually))
}

/// A number that differs from run to run, unless `HOSTILE_SEED` says it. Printed, so that a failure can be repeated.
#[must_use]
pub fn seed() -> u64 {
    let set = std::env::var("HOSTILE_SEED").ok().and_then(|text| text.parse().ok());
    let seed = set.unwrap_or_else(|| u64::from(std::process::id()) ^ u64::from(clock_nanoseconds()) << 16);
    println!("HOSTILE_SEED={seed}");
    seed
}

fn clock_nanoseconds() -> u32 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().subsec_nanos()
}

/// An image of Debian's stock kernel, which has /dev/mem, with the hostile program and these arguments.
#[must_use]
pub fn image(name: &str, arguments: &[&str]) -> PathBuf {
    let tool = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tools/stock-kernel");
    let printed = Command::new(tool).output().unwrap();
    assert!(printed.status.success(), "{printed:?}");
    let folder = PathBuf::from(String::from_utf8(printed.stdout).unwrap().trim_end());
    let modules = folder.join("guest-modules");
    let kernel = folder.join("bzImage").to_str().unwrap().to_owned();
    let mut words = vec!["--kernel".to_owned(), kernel, "--cmdline".to_owned(), COMMAND_LINE.to_owned()];
    for module in fs::read_to_string(modules.join("order")).unwrap().lines() {
        words.extend(["--module".to_owned(), modules.join(module).to_str().unwrap().to_owned()]);
    }
    words.extend(["--".to_owned(), "/bin/hostile-guest".to_owned()]);
    words.extend(arguments.iter().map(|argument| (*argument).to_owned()));
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    image::build_from(&image::rootfs("hostile-guest"), name, &words)
}

/// The same with the program in these modes, each for so many seconds and the last for good.
#[must_use]
pub fn attacking(modes: &[&str], each: Duration, seed: u64) -> PathBuf {
    let numbers = [seed, u64::from(AREA), each.as_secs().max(1)].map(|number| number.to_string());
    let arguments: Vec<&str> = numbers.iter().map(String::as_str).chain(modes.iter().copied()).collect();
    image(&format!("hostile-{}", modes.join("-")), &arguments)
}

/// Starts such an image and waits until its program is at work.
#[must_use]
pub fn start<'u>(image: &Path, name: &str, user: &'u User) -> Enclave<'u> {
    // In debug mode: the console is what the program says it on.
    let mut start = Start::new(image, name).cpus(VIRTUAL_CPUS).with(&["--debug"]);
    start.memory = MEMORY;
    let enclave = start.launch(user);
    let deadline = Instant::now() + PATIENCE;
    // Each look is a process of its own, which paces the loop.
    while reports(&enclave, user).is_empty() && enclave.describe()["State"] == "RUNNING" {
        assert!(Instant::now() < deadline, "no report:\n{}", diagnosis(&enclave));
    }
    enclave
}

/// What the program has said about how far it is.
#[must_use]
pub fn reports(enclave: &Enclave<'_>, user: &User) -> Vec<String> {
    let log = user.enclave(&["logs", &enclave.name]).stdout;
    log.lines().filter(|line| line.contains(": at work")).map(str::to_owned).collect()
}

/// Host programs that a hostile guest reaches and that reach it. None of them ever reads.
#[derive(Debug)]
pub struct Programs {
    folder: PathBuf,
    listeners: Vec<UnixListener>,
    held: VecDeque<UnixStream>,
}

impl Programs {
    /// Listens on the ports that hostile guests ask for (tests/hostile-guest/src/message.rs).
    #[must_use]
    pub fn of(enclave: &Enclave<'_>) -> Self {
        let listeners: Vec<UnixListener> = (5000..5004).map(|port| enclave.listen(port)).collect();
        for listener in &listeners {
            listener.set_nonblocking(true).unwrap();
        }
        Self { folder: enclave.run_dir(), listeners, held: VecDeque::new() }
    }

    /// Accepts whoever waits and connects to the guest's ports. The oldest connections are closed.
    pub fn work(&mut self) {
        for listener in &self.listeners {
            while let Ok((stream, _)) = listener.accept() {
                self.held.push_back(stream);
            }
        }
        for port in 1024..1032 {
            // The enclave may have ended.
            if let Ok(mut stream) = UnixStream::connect(self.folder.join("vsock.sock"))
                && stream.write_all(format!("CONNECT {port}\nhello").as_bytes()).is_ok()
            {
                self.held.push_back(stream);
            }
        }
        let over = self.held.len().saturating_sub(PROGRAMS);
        self.held.drain(..over);
    }
}
