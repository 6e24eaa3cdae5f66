//! Starting the application: fork, new session, identity, working directory, exec.
//!
//! Everything is prepared before the fork; the child only makes system calls. What stops it there comes back
//! through a pipe that a successful exec closes.
#![expect(unsafe_code, reason = "fork and exec have no safe wrapper")]

use std::ffi::{CStr, CString, c_char};
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::ptr;

use rustix::fs::{Gid, Uid};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::Pid;

use crate::application::{Application, DEFAULT_PATH};
use crate::console::say;
use crate::failure::Failure;
use crate::files;
use crate::signals;
use crate::user::{self, Identity};

/// Shell that runs a script without an interpreter line, as execvp(3) does.
const SHELL: &CStr = c"/bin/sh";

/// Exit status of a child that could not become the application and could not say why.
const NOT_STARTED: i32 = 127;

/// Steps of the child that can fail, as the first byte on the pipe.
const STEP_SESSION: u8 = 0;
const STEP_FOLDER: u8 = 1;
const STEP_IDENTITY: u8 = 2;
const STEP_EXEC: u8 = 3;

/// Starts the application in the present root and returns its process id.
pub fn launch(application: &Application) -> Result<Pid, Failure> {
    let specification = application.user.as_deref();
    let identity = look_up(specification.unwrap_or_default())?;
    make_workdir(&application.workdir)?;
    let plan = Plan::new(application, &identity)?;
    // Without a user in the image nothing changes: the application runs as init does.
    let identity = specification.map(|_| Credentials::from(&identity));
    if let Some(identity) = &identity {
        give_streams_to(identity.uid);
    }
    let vectors = plan.vectors();
    let (from_child, to_parent) =
        pipe_with(PipeFlags::CLOEXEC).map_err(|error| Failure::system("cannot make a pipe", error))?;
    // SAFETY: the child makes only system calls until it execs or exits (`become_application`).
    match unsafe { libc::fork() } {
        0 => {
            let (step, error) = become_application(&plan, &vectors, identity.as_ref());
            let [a, b, c, d] = error.raw_os_error().to_ne_bytes();
            // If this fails too, the parent sees an application that exits with 127.
            let _ = rustix::io::write(&to_parent, &[step, a, b, c, d]);
            // SAFETY: _exit(2) ends the process at once and runs nothing of it.
            unsafe { libc::_exit(NOT_STARTED) }
        }
        raw => {
            drop(to_parent);
            let pid =
                Pid::from_raw(raw.max(0)).ok_or_else(|| Failure::system("cannot fork", last_error()))?;
            plan.check(&from_child)?;
            Ok(pid)
        }
    }
}

/// What the application becomes, in the form that system calls take.
struct Plan {
    program: CString,
    /// Where the program may be, in the order of PATH.
    candidates: Vec<CString>,
    arguments: Vec<CString>,
    environment: Vec<CString>,
    workdir: CString,
    user: String,
}

/// Null-terminated pointer lists into a [`Plan`], made before the fork so that the child need not allocate.
struct Vectors {
    arguments: Vec<*const c_char>,
    environment: Vec<*const c_char>,
    /// For each candidate: the arguments of a shell that runs it as a script.
    script_arguments: Vec<Vec<*const c_char>>,
}

/// Ids to assume.
struct Credentials {
    uid: Uid,
    gid: Gid,
    groups: Vec<Gid>,
}

impl From<&Identity> for Credentials {
    fn from(identity: &Identity) -> Self {
        Self {
            uid: Uid::from_raw(identity.uid),
            gid: Gid::from_raw(identity.gid),
            groups: identity.groups.iter().map(|&gid| Gid::from_raw(gid)).collect(),
        }
    }
}

impl Plan {
    fn new(application: &Application, identity: &Identity) -> Result<Self, Failure> {
        let mut environment = application.environment.clone();
        if application.variable("HOME").is_none() {
            let home = identity.home.as_deref().unwrap_or("/");
            environment.extend(CString::new(format!("HOME={home}")));
        }
        let path = application.variable("PATH").unwrap_or(DEFAULT_PATH.as_bytes());
        Ok(Self {
            program: application.program.clone(),
            candidates: candidates(&application.program, path),
            arguments: application.arguments.clone(),
            environment,
            workdir: CString::new(application.workdir.as_str())
                .map_err(|_| Failure::new("the working directory holds a zero byte"))?,
            user: application.user.clone().unwrap_or_default(),
        })
    }

    fn vectors(&self) -> Vectors {
        let arguments = || self.arguments.iter().map(|argument| argument.as_ptr());
        let end = || std::iter::once(ptr::null());
        let script = |path: &CString| {
            [SHELL.as_ptr(), path.as_ptr()].into_iter().chain(arguments()).chain(end()).collect()
        };
        Vectors {
            arguments: std::iter::once(self.program.as_ptr()).chain(arguments()).chain(end()).collect(),
            environment: self.environment.iter().map(|entry| entry.as_ptr()).chain(end()).collect(),
            script_arguments: self.candidates.iter().map(script).collect(),
        }
    }

    /// Waits until the child has become the application, or says why it could not.
    fn check(&self, from_child: &OwnedFd) -> Result<(), Failure> {
        let mut message = [0; 5];
        let received = loop {
            match rustix::io::read(from_child.as_fd(), &mut message) {
                Err(Errno::INTR) => {}
                other => {
                    break other.map_err(|error| Failure::system("cannot read from the child", error))?;
                }
            }
        };
        let [step, a, b, c, d] = message;
        if received < message.len() {
            return Ok(());
        }
        Err(self.describe(step, Errno::from_raw_os_error(i32::from_ne_bytes([a, b, c, d]))))
    }

    fn describe(&self, step: u8, error: Errno) -> Failure {
        let program = self.program.to_string_lossy();
        match step {
            STEP_SESSION => Failure::system("cannot start a session", error),
            STEP_FOLDER => {
                Failure::system(format!("cannot enter the working directory {:?}", self.workdir), error)
            }
            STEP_IDENTITY => Failure::system(format!("cannot become user {:?}", self.user), error),
            _ => Failure::system(format!("cannot run {program:?}{}", self.hint(error)), error),
        }
    }

    /// "No such file" about a file that exists is the commonest riddle of small images.
    fn hint(&self, error: Errno) -> &'static str {
        let exists = |path: &CString| Path::new(std::ffi::OsStr::from_bytes(path.to_bytes())).exists();
        match error {
            Errno::NOENT if self.candidates.iter().any(exists) => {
                " (the file exists, but the interpreter or dynamic loader that it asks for is not in the image)"
            }
            Errno::NOENT if !self.program.to_bytes().contains(&b'/') => " (looked for in PATH)",
            Errno::ACCESS => " (is it executable, for this user?)",
            _ => "",
        }
    }
}

/// Turns the calling process into the application; returns only if that fails, with the step.
fn become_application(plan: &Plan, vectors: &Vectors, identity: Option<&Credentials>) -> (u8, Errno) {
    signals::restore_defaults();
    if let Err(error) = rustix::process::setsid() {
        return (STEP_SESSION, error);
    }
    // Before the identity changes: a folder that the user may not enter can still be its working directory.
    if let Err(error) = rustix::process::chdir(plan.workdir.as_c_str()) {
        return (STEP_FOLDER, error);
    }
    if let Some(identity) = identity
        && let Err(error) = assume(identity)
    {
        return (STEP_IDENTITY, error);
    }
    (STEP_EXEC, exec(plan, vectors))
}

/// Groups first: after the user id has changed they cannot be changed any more.
fn assume(identity: &Credentials) -> Result<(), Errno> {
    rustix::thread::set_thread_groups(&identity.groups)?;
    rustix::thread::set_thread_gid(identity.gid)?;
    rustix::thread::set_thread_uid(identity.uid)
}

/// Tries each candidate as execvp(3) does; the error is that of the whole search.
fn exec(plan: &Plan, vectors: &Vectors) -> Errno {
    let mut result = Errno::NOENT;
    for (candidate, script_arguments) in plan.candidates.iter().zip(&vectors.script_arguments) {
        match execve(candidate, &vectors.arguments, &vectors.environment) {
            Errno::NOEXEC => {
                execve(SHELL, script_arguments, &vectors.environment);
                return Errno::NOEXEC;
            }
            Errno::ACCESS => result = Errno::ACCESS,
            Errno::NOENT | Errno::NOTDIR => {}
            other => return other,
        }
    }
    result
}

fn execve(path: &CStr, arguments: &[*const c_char], environment: &[*const c_char]) -> Errno {
    // SAFETY: both lists end with a null pointer, and the strings that they point to live in the `Plan`.
    unsafe { libc::execve(path.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
    last_error()
}

/// Where a program may be: as given if its name holds a slash, else in each folder of `path`.
fn candidates(program: &CStr, path: &[u8]) -> Vec<CString> {
    let name = program.to_bytes();
    if name.contains(&b'/') {
        return vec![program.into()];
    }
    path.split(|&byte| byte == b':')
        .filter_map(|folder| {
            // An empty entry in PATH means the working directory.
            let folder = if folder.is_empty() { b"." } else { folder };
            CString::new([folder, b"/", name].concat()).ok()
        })
        .collect()
}

fn look_up(specification: &str) -> Result<Identity, Failure> {
    let passwd = files::read(Path::new("/etc/passwd"))?.unwrap_or_default();
    let group = files::read(Path::new("/etc/group"))?.unwrap_or_default();
    user::resolve(specification, &passwd, &group).map_err(|error| Failure::new(error.to_string()))
}

/// Container engines make a working directory that the image lacks; so do we.
fn make_workdir(path: &str) -> Result<(), Failure> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(path)
        .map_err(|error| files::failed("cannot make the working directory", Path::new(path), &error))
}

/// Lets the user open /dev/stdout and /dev/stderr anew, which shells do for `>/dev/stderr`.
fn give_streams_to(uid: Uid) {
    if let Err(error) = rustix::fs::fchown(rustix::stdio::stderr(), Some(uid), None) {
        say(format_args!("cannot give the console to user {}: {error}", uid.as_raw()));
    }
}

fn last_error() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_looked_for_in_every_folder_of_path() {
        let found = candidates(c"app", b"/a:/b/::c");
        assert_eq!(found, [c"/a/app", c"/b//app", c"./app", c"c/app"].map(CString::from));
    }

    #[test]
    fn a_path_is_taken_as_it_is() {
        assert_eq!(candidates(c"./app", b"/a:/b"), [CString::from(c"./app")]);
        assert_eq!(candidates(c"/bin/app", b""), [CString::from(c"/bin/app")]);
    }
}
