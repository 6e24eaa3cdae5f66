//! A first process that does what AWS's init does and nothing more.
//!
//! Written from the description of that program's behaviour (docs/compatibility.md), for the test that images
//! which bring AWS's own init boot: a fatal heartbeat, no report of the application's end, no loopback, no
//! working directory, no user. It shares no code with our init on purpose. Any failure ends it, which makes the
//! kernel panic. One thing is added for benchmarks beside other hypervisors: `HEARTBEAT_CID` in the environment (so, on the
//! kernel's command line) says where the heartbeat goes instead of CID 3.
#![expect(
    unsafe_code,
    reason = "a session of its own for the application has no safe way in the standard library"
)]

use std::error::Error;
use std::ffi::CString;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::symlink;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::Command;

use guest::vsock::{Address, CID_PARENT, Stream};
use rustix::io::Errno;
use rustix::mount::{MountFlags, mount, mount_bind, mount_move};
use rustix::process::{WaitOptions, wait};
use rustix::system::RebootCommand;

const HEARTBEAT_PORT: u32 = 9000;
const HEARTBEAT: u8 = 0xb7;
const DEFAULT_ENVIRONMENT: &str = "PATH=/sbin:/usr/sbin:/bin:/usr/bin";

type Outcome = Result<(), Box<dyn Error>>;

fn main() -> Outcome {
    mount_devices()?;
    open_console()?;
    load_nsm_driver()?;
    beat()?;
    let environment = take_lines("/env").unwrap_or_else(|| vec![DEFAULT_ENVIRONMENT.to_owned()]);
    let arguments = take_lines("/cmd").unwrap_or_else(|| vec!["sh".to_owned()]);
    enter_root()?;
    mount_rest()?;
    run(&arguments, &environment)?;
    rustix::system::reboot(RebootCommand::Restart)?;
    Ok(())
}

fn mount_devices() -> Outcome {
    match mount("dev", "/dev", "devtmpfs", MountFlags::NOSUID | MountFlags::NOEXEC, None) {
        Ok(()) | Err(Errno::BUSY) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn open_console() -> Outcome {
    let console = fs::OpenOptions::new().read(true).write(true).open("/dev/console")?;
    rustix::stdio::dup2_stdin(&console)?;
    rustix::stdio::dup2_stdout(&console)?;
    rustix::stdio::dup2_stderr(&console)?;
    Ok(())
}

fn load_nsm_driver() -> Outcome {
    let Ok(module) = fs::File::open("nsm.ko") else { return Ok(()) };
    rustix::system::finit_module(&module, c"", 0)?;
    fs::remove_file("nsm.ko")?;
    Ok(())
}

fn beat() -> Outcome {
    let cid = std::env::var("HEARTBEAT_CID").map_or(Ok(CID_PARENT), |text| text.parse())?;
    let mut stream = &Stream::connect(Address { cid, port: HEARTBEAT_PORT })?;
    stream.write_all(&[HEARTBEAT])?;
    let mut answer = [0];
    stream.read_exact(&mut answer)?;
    if answer == [HEARTBEAT] { Ok(()) } else { Err("wrong answer to the heartbeat".into()) }
}

fn take_lines(path: &str) -> Option<Vec<String>> {
    let content = fs::read_to_string(path).ok()?;
    fs::remove_file(path).ok()?;
    Some(content.lines().map(str::to_owned).collect())
}

fn enter_root() -> Outcome {
    mount_bind("/rootfs", "/rootfs")?;
    rustix::process::chdir("/rootfs")?;
    mount_move(".", "/")?;
    rustix::process::chroot(".")?;
    rustix::process::chdir("/")?;
    Ok(())
}

fn mount_rest() -> Outcome {
    let usual = MountFlags::NODEV | MountFlags::NOSUID | MountFlags::NOEXEC;
    mount("dev", "/dev", "devtmpfs", MountFlags::NOSUID | MountFlags::NOEXEC, None)?;
    mount("proc", "/proc", "proc", usual, None)?;
    symlink("/proc/self/fd", "/dev/fd")?;
    symlink("/proc/self/fd/0", "/dev/stdin")?;
    symlink("/proc/self/fd/1", "/dev/stdout")?;
    symlink("/proc/self/fd/2", "/dev/stderr")?;
    mount("tmpfs", "/run", "tmpfs", usual, c"mode=0755")?;
    mount("tmpfs", "/tmp", "tmpfs", usual, None)?;
    fs::create_dir("/dev/shm")?;
    mount("shm", "/dev/shm", "tmpfs", usual, None)?;
    fs::create_dir("/dev/pts")?;
    mount("devpts", "/dev/pts", "devpts", MountFlags::NOSUID | MountFlags::NOEXEC, None)?;
    mount("sysfs", "/sys", "sysfs", usual, None)?;
    mount("cgroup_root", "/sys/fs/cgroup", "tmpfs", usual, c"mode=0755")?;
    mount_control_groups(usual)
}

fn mount_control_groups(flags: MountFlags) -> Outcome {
    let table = fs::read_to_string("/proc/cgroups")?;
    for line in table.lines().filter(|line| !line.starts_with('#')) {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let [name, _, _, "1"] = columns.as_slice() else { continue };
        let folder = format!("/sys/fs/cgroup/{name}");
        fs::create_dir(&folder)?;
        // A controller that newer kernels have in version 2 only is not there for AWS's init either.
        let _ = mount(*name, &folder, "cgroup", flags, CString::new(*name)?.as_c_str());
    }
    Ok(())
}

fn run(arguments: &[String], environment: &[String]) -> Outcome {
    let [program, rest @ ..] = arguments else { return Err("no program to run".into()) };
    let mut command = Command::new(program);
    command.args(rest).env_clear().envs(environment.iter().filter_map(|entry| entry.split_once('=')));
    // SAFETY: setsid(2) is a system call and nothing else.
    unsafe { command.pre_exec(|| Ok(rustix::process::setsid().map(|_| ())?)) };
    let child = command.spawn()?;
    let child = i32::try_from(child.id())?;
    loop {
        let Some((pid, status)) = wait(WaitOptions::empty())? else { continue };
        if pid.as_raw_nonzero().get() == child {
            let status = std::process::ExitStatus::from_raw(status.as_raw());
            if !status.success() {
                println!("init: the application ended with {status}");
            }
            return Ok(());
        }
    }
}
