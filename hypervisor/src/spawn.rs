//! Starts one of the enclave's processes so that it holds exactly the descriptors it is meant to, in a PID namespace of its own.
//!
//! The standard library cannot: it starts programs by path, and nothing in a new namespace. A program is opened once, and run
//! from that descriptor, whoever may walk its path later (execveat(2)). A PID namespace is asked for with the new process
//! (clone(2)), because a process cannot change its own; its first process takes all others of it along when it ends.
#![expect(unsafe_code, reason = "clone, and system calls by number between it and exec")]

use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitStatus;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::pipe::PipeFlags;
use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, WaitOptions};
use rustix::thread::{CapabilitySet, capabilities};

/// What the processes are called in lists of processes, whatever path they were started by.
const NAME: &CStr = c"enclave-hypervisor";

/// Number of the first descriptor that is given.
pub const FIRST_DESCRIPTOR: RawFd = 3;

/// Descriptors are copied above this number before they are placed, so that placing one never overwrites another.
const CLEAR_OF_TARGETS: RawFd = 64;

/// A program that can be run, whatever becomes of its path.
#[derive(Debug)]
pub struct Program {
    file: OwnedFd,
}

impl Program {
    /// Opens the program at `path`.
    ///
    /// # Errors
    /// The system's.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { file: rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())? })
    }

    /// The program that this process runs, even if the file was replaced since.
    ///
    /// # Errors
    /// The system's.
    pub fn own() -> io::Result<Self> {
        Self::open(Path::new("/proc/self/exe"))
    }
}

/// A process that was started. Whoever drops it leaves it to run.
#[derive(Debug)]
pub struct Child {
    pid: Pid,
    /// Readable once it has ended.
    ending: OwnedFd,
}

impl Child {
    /// Its number, as this process sees it.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.pid.as_raw_pid().cast_unsigned()
    }

    /// Ends it at once.
    ///
    /// # Errors
    /// The system's: it has been waited for, or belongs to another user.
    pub fn kill(&self) -> io::Result<()> {
        Ok(rustix::process::pidfd_send_signal(&self.ending, Signal::KILL)?)
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// The system's: it has been waited for.
    pub fn wait(&self) -> io::Result<ExitStatus> {
        let child = || rustix::process::waitid(WaitId::PidFd(self.ending.as_fd()), WaitIdOptions::EXITED);
        let ended = rustix::io::retry_on_intr(child)?.ok_or(io::ErrorKind::NotFound)?;
        // As wait(2) has it: the status in the second byte, a signal in the first.
        let raw =
            ended.exit_status().map_or(0, |status| status << 8) | ended.terminating_signal().unwrap_or(0);
        Ok(ExitStatus::from_raw(raw))
    }
}

impl AsFd for Child {
    /// Readable once it has ended.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ending.as_fd()
    }
}

/// Runs `program` with `arguments` and `descriptors` as numbers 3, 4 and so on, standard error as given, standard input and
/// output on /dev/null, and nothing else, whatever this process has inherited. The working directory is `/`, the
/// environment is empty, no signal is blocked.
///
/// The process is the first of a PID namespace where this host allows one: for an ordinary user that takes a user namespace, in
/// which it is still that user. Where it does not, the process runs without.
///
/// # Errors
/// The system's.
pub fn spawn(
    program: &Program,
    arguments: &[&str],
    descriptors: &[BorrowedFd<'_>],
    standard_error: BorrowedFd<'_>,
) -> io::Result<Child> {
    let privileged = capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_ADMIN));
    let namespaces = if privileged { libc::CLONE_NEWPID } else { libc::CLONE_NEWPID | libc::CLONE_NEWUSER };
    let plan = Plan::new(program, arguments, descriptors, standard_error)?;
    plan.start(namespaces).or_else(|_not_allowed| plan.start(0))
}

/// /dev/null, to be given as a stream.
///
/// # Errors
/// The system's.
pub fn null() -> io::Result<OwnedFd> {
    Ok(rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?)
}

/// Everything that the new process needs until it runs its program, made before it exists: from then on it may allocate nothing.
struct Plan {
    program: OwnedFd,
    arguments: Vec<CString>,
    /// Copies, clear of the numbers they are to get, with these numbers: 0, 1, 2, 3 and so on.
    moves: Vec<(OwnedFd, RawFd)>,
    /// Files of /proc and what is written to them in a new user namespace: the same user and group in it, and no others.
    identity: [(&'static CStr, Vec<u8>); 3],
}

impl Plan {
    fn new(
        program: &Program,
        arguments: &[&str],
        descriptors: &[BorrowedFd<'_>],
        standard_error: BorrowedFd<'_>,
    ) -> io::Result<Self> {
        let null = null()?;
        let streams = [null.as_fd(), null.as_fd(), standard_error];
        let copy =
            |descriptor: &BorrowedFd<'_>| rustix::io::fcntl_dupfd_cloexec(descriptor, CLEAR_OF_TARGETS);
        let moves = streams
            .iter()
            .chain(descriptors)
            .zip(0..CLEAR_OF_TARGETS)
            .map(|(descriptor, number)| Ok((copy(descriptor)?, number)))
            .collect::<io::Result<Vec<_>>>()?;
        let argument = |text: &&str| CString::new(OsStr::new(text).as_bytes());
        let mut all = vec![NAME.to_owned()];
        all.extend(arguments.iter().map(argument).collect::<Result<Vec<_>, _>>()?);
        let (user, group) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        Ok(Self {
            program: copy(&program.file.as_fd())?,
            arguments: all,
            moves,
            identity: [
                (c"/proc/self/uid_map", format!("{user} {user} 1").into_bytes()),
                (c"/proc/self/setgroups", b"deny".to_vec()),
                (c"/proc/self/gid_map", format!("{group} {group} 1").into_bytes()),
            ],
        })
    }

    /// Starts the process in these new namespaces, and returns once it runs its program.
    fn start(&self, namespaces: libc::c_int) -> io::Result<Child> {
        // Closed by exec; until then it carries the error that kept the process from it.
        let (report, failed) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        let failed = rustix::io::fcntl_dupfd_cloexec(failed, CLEAR_OF_TARGETS)?;
        let mut pointers: Vec<*const libc::c_char> =
            self.arguments.iter().map(|argument| argument.as_ptr()).collect();
        pointers.push(core::ptr::null());
        let flags = libc::c_long::from(namespaces | libc::SIGCHLD);
        // SAFETY: without CLONE_VM or a stack of its own the call is fork(2): the child has a copy of everything. It goes on in
        // `become_program`, which neither allocates nor takes a lock, as other threads' locks are never released in it.
        let cloned = unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) };
        if cloned == 0 {
            self.become_program(&pointers, namespaces, failed.as_raw_fd());
        }
        drop(failed);
        let pid = i32::try_from(cloned).ok().filter(|pid| *pid > 0).and_then(Pid::from_raw);
        let pid = pid.ok_or_else(io::Error::last_os_error)?;
        let mut errno = [0; 4];
        let told = rustix::io::retry_on_intr(|| rustix::io::read(&report, &mut errno))?;
        let ending = rustix::process::pidfd_open(pid, PidfdFlags::empty());
        match (told, ending) {
            (0, Ok(ending)) => Ok(Child { pid, ending }),
            (0, Err(error)) => {
                let _it_was_just_started = rustix::process::kill_process(pid, Signal::KILL);
                let _ = rustix::process::waitpid(Some(pid), WaitOptions::empty());
                Err(error.into())
            }
            _ => {
                let _ = rustix::process::waitpid(Some(pid), WaitOptions::empty());
                Err(io::Error::from_raw_os_error(i32::from_ne_bytes(errno)))
            }
        }
    }

    /// In the new process: runs the program, or reports why not and ends.
    fn become_program(&self, arguments: &[*const libc::c_char], namespaces: libc::c_int, failed: RawFd) -> ! {
        let errno = match self.try_to_become_program(arguments, namespaces) {
            Ok(never) => match never {},
            Err(errno) => errno.raw_os_error().to_ne_bytes(),
        };
        // SAFETY: the buffer is alive and of that length; _exit runs nothing of the parent's.
        unsafe {
            libc::write(failed, errno.as_ptr().cast(), errno.len());
            libc::_exit(1)
        }
    }

    fn try_to_become_program(
        &self,
        arguments: &[*const libc::c_char],
        namespaces: libc::c_int,
    ) -> Result<core::convert::Infallible, Errno> {
        if namespaces & libc::CLONE_NEWUSER != 0 {
            // The files of an untraceable process, which this is a copy of, belong to root. What it holds goes with exec, and it is
            // its own user's: who could trace it now can read all of that anyway.
            // SAFETY: a number is set in the kernel.
            check(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 1, 0, 0, 0) })?;
            for (file, line) in &self.identity {
                write_file(file, line)?;
            }
        }
        for (from, to) in &self.moves {
            // SAFETY: dup2 touches no memory. The overwritten number is a copy of the parent's, which nothing uses here.
            check(unsafe { libc::dup2(from.as_raw_fd(), *to) })?;
        }
        let first_other = libc::c_uint::try_from(self.moves.len()).map_err(|_| Errno::INVAL)?;
        let on_exec = libc::c_int::try_from(libc::CLOSE_RANGE_CLOEXEC).map_err(|_| Errno::INVAL)?;
        // SAFETY: descriptors are only marked; nothing is closed before exec.
        check(unsafe { libc::close_range(first_other, libc::c_uint::MAX, on_exec) })?;
        // SAFETY: the path is a string that ends in zero.
        check(unsafe { libc::chdir(c"/".as_ptr()) })?;
        // SAFETY: the set is initialised by the first call before the second reads it.
        unsafe {
            let mut none = core::mem::zeroed::<libc::sigset_t>();
            libc::sigemptyset(&raw mut none);
            libc::sigprocmask(libc::SIG_SETMASK, &raw const none, core::ptr::null_mut());
        }
        let environment: [*const libc::c_char; 1] = [core::ptr::null()];
        // SAFETY: the path is empty, the two lists end in null and their strings in zero; all outlive the call.
        let result = unsafe {
            libc::execveat(
                self.program.as_raw_fd(),
                c"".as_ptr(),
                arguments.as_ptr().cast(),
                environment.as_ptr().cast(),
                libc::AT_EMPTY_PATH,
            )
        };
        check(result).and(Err(Errno::INVAL))
    }
}

/// Writes a file that is there, with system calls only.
fn write_file(path: &CStr, bytes: &[u8]) -> Result<(), Errno> {
    // SAFETY: the path ends in zero; nothing else touches the new descriptor, whose number is not negative, and the buffer is
    // alive and of that length.
    unsafe {
        let file = libc::open(path.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
        check(file)?;
        let written = libc::write(file, bytes.as_ptr().cast(), bytes.len());
        let outcome = if written < 0 { Err(last_errno()) } else { Ok(()) };
        libc::close(file);
        outcome
    }
}

fn check(result: libc::c_int) -> Result<(), Errno> {
    if result < 0 { Err(last_errno()) } else { Ok(()) }
}

fn last_errno() -> Errno {
    io::Error::last_os_error().raw_os_error().map_or(Errno::IO, Errno::from_raw_os_error)
}
