//! Starting and reaping for real, as far as that needs no process 1: programs run, and how they end is seen.
//!
//! The process of these tests adopts orphans as process 1 does (`PR_SET_CHILD_SUBREAPER`). Reaping takes any child,
//! so the tests take turns.

#![expect(clippy::unwrap_used, reason = "helpers of tests, which clippy takes for ordinary functions")]

use std::ffi::CString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

use enclave_init::application::Application;
use enclave_init::report::Ending;
use enclave_init::{launch, reaper};

static TURN: Mutex<()> = Mutex::new(());

fn my_turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn application(words: &[&str]) -> Application {
    let mut words = words.iter().map(|word| CString::new(*word).unwrap());
    Application {
        program: words.next().unwrap(),
        arguments: words.collect(),
        environment: vec![c"PATH=/usr/sbin:/usr/bin:/sbin:/bin".into(), c"GREETING=two words".into()],
        workdir: "/".to_owned(),
        user: None,
        hostname: "unused".to_owned(),
    }
}

fn run(application: &Application) -> Ending {
    reaper::wait_for(launch::launch(application).unwrap()).unwrap()
}

fn run_shell(script: &str) -> Ending {
    run(&application(&["sh", "-c", script]))
}

fn failure(application: &Application) -> String {
    let failure = launch::launch(application).unwrap_err().to_string();
    // The child that could not become the application is still to be collected.
    let _ = rustix::process::wait(rustix::process::WaitOptions::empty()).unwrap();
    failure
}

fn executable(path: &Path, content: &str) {
    fs::write(path, content).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn every_way_to_end_is_told_apart() {
    let _turn = my_turn();
    assert_eq!(run_shell("exit 0"), Ending::Exited(0));
    assert_eq!(run_shell("exit 255"), Ending::Exited(255));
    assert_eq!(run_shell("kill -KILL $$"), Ending::Signalled(9));
    assert_eq!(run_shell("kill -ABRT $$"), Ending::Signalled(6));
    assert_eq!(run_shell("kill -64 $$"), Ending::Signalled(64));
}

#[test]
fn a_stopped_application_has_not_ended() {
    let _turn = my_turn();
    let script = "me=$$; (while ! grep -q '^State:.T' /proc/$me/status; do :; done; kill -CONT $me) & kill -STOP $me; exit 3";
    assert_eq!(run_shell(script), Ending::Exited(3));
}

#[test]
fn orphans_are_collected_while_the_application_runs() {
    let _turn = my_turn();
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).unwrap();
    // Each inner shell leaves a child behind; the outer one waits until nothing of them is left, not even zombies.
    let script = "for n in 1 2 3 4 5 6 7 8 9 10; do orphans=\"$orphans $(sh -c 'true >&- & echo $!')\"; done
        for orphan in $orphans; do
            tries=0
            while [ -e /proc/$orphan ]; do tries=$((tries + 1)); [ $tries -lt 100000 ] || exit 1; done
        done
        exit 42";
    assert_eq!(run_shell(script), Ending::Exited(42));
}

#[test]
fn the_application_gets_its_environment_session_folder_and_signals() {
    let _turn = my_turn();
    let folder = tempfile::tempdir().unwrap();
    let (workdir, output) = (folder.path().join("made/for/it"), folder.path().join("output"));
    let script = format!(
        "{{ pwd; echo \"$GREETING\"; echo \"$1\"; cut -d' ' -f1,6 /proc/$$/stat
            grep -E '^Sig(Blk|Ign)' /proc/self/status; }} > {}",
        output.display()
    );
    let mut application = application(&["sh", "-c", &script, "name", "an 'argument'"]);
    application.workdir = workdir.display().to_string();
    // Init blocks everything; none of it may reach the application.
    enclave_init::signals::block_all();
    assert_eq!(run(&application), Ending::Exited(0));

    let output = fs::read_to_string(output).unwrap();
    let lines: Vec<&str> = output.lines().collect();
    assert_eq!(lines[..3], [workdir.to_str().unwrap(), "two words", "an 'argument'"]);
    let (process, session) = lines[3].split_once(' ').unwrap();
    assert_eq!(process, session, "it leads a session of its own");
    assert_eq!(lines[4], "SigBlk:\t0000000000000000");
    let ignored = u64::from_str_radix(lines[5].trim_start_matches("SigIgn:").trim(), 16).unwrap();
    assert_eq!(ignored & (1 << 12), 0, "SIGPIPE is not ignored");
}

#[test]
fn home_is_the_users_unless_the_image_sets_it() {
    let _turn = my_turn();
    let home = |extra: Option<&str>| {
        let output = tempfile::NamedTempFile::new().unwrap();
        let mut application =
            application(&["sh", "-c", &format!("echo $HOME > {}", output.path().display())]);
        application.environment.extend(extra.map(|entry| CString::new(entry).unwrap()));
        assert_eq!(run(&application), Ending::Exited(0));
        fs::read_to_string(output.path()).unwrap().trim_end().to_owned()
    };
    assert_eq!(home(None), "/root");
    assert_eq!(home(Some("HOME=/elsewhere")), "/elsewhere");
}

#[test]
fn path_is_searched_as_execvp_does() {
    let _turn = my_turn();
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (folder.path().join("first"), folder.path().join("second"));
    fs::create_dir(&first).unwrap();
    fs::create_dir(&second).unwrap();
    fs::write(first.join("program"), "not executable").unwrap();
    executable(&second.join("program"), "#!/bin/sh\nexit 2\n");
    let mut application = application(&["program"]);
    application.environment =
        vec![CString::new(format!("PATH=/missing:{}:{}", first.display(), second.display())).unwrap()];
    assert_eq!(run(&application), Ending::Exited(2));

    fs::remove_file(second.join("program")).unwrap();
    let message = failure(&application);
    assert!(message.contains("is it executable"), "{message}");
}

#[test]
fn a_script_without_an_interpreter_line_is_run_by_the_shell() {
    let _turn = my_turn();
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("script");
    executable(&script, "exit $1\n");
    assert_eq!(run(&application(&[script.to_str().unwrap(), "9"])), Ending::Exited(9));
}

#[test]
fn what_cannot_be_run_is_named_with_the_reason() {
    let _turn = my_turn();
    let message = failure(&application(&["no-such-program"]));
    assert!(
        message.starts_with("cannot run \"no-such-program\" (looked for in PATH): No such file"),
        "{message}"
    );
    let message = failure(&application(&["/no/such/program"]));
    assert!(message.starts_with("cannot run \"/no/such/program\": No such file"), "{message}");

    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("program");
    executable(&program, "#!/no/such/interpreter\n");
    let message = failure(&application(&[program.to_str().unwrap()]));
    assert!(message.contains("interpreter or dynamic loader"), "{message}");

    let mut application = application(&["true"]);
    application.workdir = "/dev/null/below".to_owned();
    let message = launch::launch(&application).unwrap_err().to_string();
    assert!(message.starts_with("cannot make the working directory /dev/null/below"), "{message}");
    application.workdir = "/".to_owned();
    application.user = Some("no-such-user".to_owned());
    let message = launch::launch(&application).unwrap_err().to_string();
    assert_eq!(message, "the image's /etc/passwd has no user \"no-such-user\"");
}

#[test]
fn the_application_runs_as_the_images_user() {
    let _turn = my_turn();
    if !rustix::process::geteuid().is_root() {
        println!("SKIPPED the_application_runs_as_the_images_user: only root can become somebody else");
        return;
    }
    // Init gives the console to the user: here that shall not be the terminal of whoever runs the tests.
    let console = tempfile::tempfile().unwrap();
    let stderr = rustix::io::dup(rustix::stdio::stderr()).unwrap();
    rustix::stdio::dup2_stderr(&console).unwrap();
    let mut application = application(&[
        "sh",
        "-c",
        "[ \"$(id -u):$(id -g):$(id -G)\" = 1234:55:55 ] && echo allowed > /dev/stderr",
    ]);
    application.user = Some("1234:55".to_owned());
    let ending = run(&application);
    rustix::stdio::dup2_stderr(&stderr).unwrap();
    assert_eq!(ending, Ending::Exited(0));
}

#[test]
fn outside_an_enclave_it_says_what_it_is() {
    let _turn = my_turn();
    let output = Command::new(env!("CARGO_BIN_EXE_enclave-init")).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(
        String::from_utf8_lossy(&output.stderr),
        "enclave-init: this program is the first process of an enclave and does nothing else\n"
    );
}
