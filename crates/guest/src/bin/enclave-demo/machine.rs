//! Requests that end the application or the machine, and those that change it.
#![expect(unsafe_code, reason = "signals, fork and the kernel's log have no safe wrapper")]

use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use guest::vsock::Stream;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::system::RebootCommand;

use crate::error::DemoError;
use crate::request::Request;
use crate::service::Answer;

/// Most bytes of a file that are answered.
const MAX_FILE: u64 = 1 << 20;
/// Most orphans at a time.
const MAX_ORPHANS: u32 = 10_000;
/// How long init may take to collect the orphans.
const REAPING_LIMIT: Duration = Duration::from_secs(10);
/// Action of syslog(2) that reads the whole log (`SYSLOG_ACTION_READ_ALL`).
const READ_ALL: libc::c_int = 3;
/// Room for the kernel's log.
const LOG_BYTES: usize = 256 * 1024;

/// Lets a flood of connections meet the kernel's limit and not the process's.
pub(crate) fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    // If it is refused, there are fewer connections.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

/// Says `ok` first, since afterwards nobody is left to say it, and ends the process.
pub(crate) fn end_application(mut stream: &Stream, request: &Request) -> Answer {
    let _ = stream.write_all(b"ok\n");
    match request {
        Request::Exit(status) => std::process::exit(i32::from(*status)),
        Request::Segfault => die_by(libc::SIGSEGV),
        _ => die_by(libc::SIGABRT),
    }
}

/// Dies by a signal, whatever handler the runtime has for it.
fn die_by(signal: libc::c_int) -> ! {
    // SAFETY: both calls take valid signal numbers; the default action of the signals used is to end the process.
    unsafe {
        libc::signal(signal, libc::SIG_DFL);
        libc::raise(signal);
    }
    std::process::exit(128_i32.saturating_add(signal))
}

pub(crate) fn panic() -> Result<Answer, DemoError> {
    fs::write("/proc/sysrq-trigger", "c")
        .map_err(DemoError::system("cannot write to /proc/sysrq-trigger"))?;
    Ok(Answer::ok())
}

pub(crate) fn power_off() -> Result<Answer, DemoError> {
    rustix::system::reboot(RebootCommand::PowerOff).map_err(DemoError::system("cannot switch off"))?;
    Ok(Answer::ok())
}

pub(crate) fn reboot(way: Option<&str>) -> Result<Answer, DemoError> {
    if let Some(way) = way {
        let path = "/sys/kernel/reboot/type";
        fs::write(path, way).map_err(DemoError::system(format!("cannot write to {path}")))?;
    }
    rustix::system::reboot(RebootCommand::Restart).map_err(DemoError::system("cannot restart"))?;
    Ok(Answer::ok())
}

/// Holds the connection and answers nothing.
pub(crate) fn hang() -> ! {
    loop {
        std::thread::park();
    }
}

pub(crate) fn write_file(path: &Path, content: &[u8]) -> Result<Answer, DemoError> {
    fs::write(path, content).map_err(DemoError::system(format!("cannot write {}", path.display())))?;
    Ok(Answer::Text(content.len().to_string()))
}

pub(crate) fn read_file(path: &Path) -> Result<Answer, DemoError> {
    let failed = || format!("cannot read {}", path.display());
    let mut content = Vec::new();
    fs::File::open(path)
        .and_then(|file| file.take(MAX_FILE).read_to_end(&mut content))
        .map_err(DemoError::system(failed()))?;
    Ok(Answer::Text(hex::encode(content)))
}

pub(crate) fn kernel_log() -> Result<Answer, DemoError> {
    let mut buffer = vec![0_u8; LOG_BYTES];
    let room = libc::c_int::try_from(buffer.len()).unwrap_or(0);
    // SAFETY: the kernel writes at most `room` bytes to the buffer, which has that many.
    let written = unsafe { libc::klogctl(READ_ALL, buffer.as_mut_ptr().cast(), room) };
    let Ok(written) = usize::try_from(written) else {
        return Err(DemoError::system("cannot read the kernel's log")(std::io::Error::last_os_error()));
    };
    Ok(Answer::Text(hex::encode(buffer.get(..written).unwrap_or_default())))
}

/// Takes memory and touches every page of it; too much of it brings the kernel's out-of-memory killer.
pub(crate) fn allocate(mebibytes: u32) -> Result<Answer, DemoError> {
    let refused =
        || DemoError::system(format!("cannot take {mebibytes} MiB"))(std::io::ErrorKind::OutOfMemory);
    let bytes = usize::try_from(u64::from(mebibytes) << 20).map_err(|_| refused())?;
    let mut memory: Vec<u8> = Vec::new();
    memory.try_reserve_exact(bytes).map_err(|_| refused())?;
    memory.resize(bytes, 1);
    let touched = std::hint::black_box(&memory).len() >> 20;
    Ok(Answer::Text(touched.to_string()))
}

/// Makes grandchildren that outlive their parents, lets them exit, and counts those that init left behind.
pub(crate) fn fork_orphans(count: u32) -> Result<Answer, DemoError> {
    let count = count.min(MAX_ORPHANS);
    let (reader, writer) = rustix::pipe::pipe().map_err(DemoError::system("cannot make a pipe"))?;
    for _ in 0..count {
        // SAFETY: the child makes only system calls.
        let child = unsafe { libc::fork() };
        if child == 0 {
            drop(writer);
            leave_an_orphan(&reader);
        }
        if child < 0 {
            return Err(DemoError::system("cannot fork")(std::io::Error::last_os_error()));
        }
        let mut status = 0;
        // SAFETY: the kernel writes one int to the address of a live int.
        unsafe { libc::waitpid(child, &raw mut status, 0) };
    }
    // The end of the pipe lets them go.
    drop(writer);
    let deadline = Instant::now() + REAPING_LIMIT;
    while zombies() > 0 && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(Answer::Text(serde_json::json!({"orphans": count, "zombies": zombies()}).to_string()))
}

/// In the child: forks once more and exits; the grandchild waits until the pipe ends. Neither returns.
fn leave_an_orphan(reader: &impl std::os::fd::AsFd) -> ! {
    // SAFETY: as above; _exit(2) runs nothing of this process.
    unsafe {
        if libc::fork() == 0 {
            let _ = rustix::io::read(reader, &mut [0_u8; 1]);
        }
        libc::_exit(0)
    }
}

/// Processes that nobody has collected, by the state in /proc/PID/stat.
fn zombies() -> usize {
    let Ok(processes) = fs::read_dir("/proc") else { return 0 };
    let is_zombie =
        |stat: &str| stat.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with('Z'));
    processes
        .flatten()
        .filter_map(|entry| fs::read_to_string(entry.path().join("stat")).ok())
        .filter(|stat| is_zombie(stat))
        .count()
}

/// Unbinds a virtio driver from its devices and binds it again, which resets them.
pub(crate) fn rebind(driver: &str) -> Result<Answer, DemoError> {
    let folder = Path::new("/sys/bus/virtio/drivers").join(driver);
    let entries =
        fs::read_dir(&folder).map_err(DemoError::system(format!("cannot list {}", folder.display())))?;
    let devices = entries.flatten().map(|entry| entry.file_name()).filter_map(|name| name.into_string().ok());
    let devices: Vec<String> = devices.filter(|name| name.starts_with("virtio")).collect();
    for device in &devices {
        for action in ["unbind", "bind"] {
            fs::write(folder.join(action), device)
                .map_err(DemoError::system(format!("cannot {action} {device}")))?;
        }
    }
    Ok(Answer::Text(devices.len().to_string()))
}
