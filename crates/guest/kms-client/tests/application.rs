//! How an application ends, and which signals it gets.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed assumption is a failed test")]

use std::ffi::OsString;
use std::sync::{Mutex, PoisonError};

use kms_client::application::Application;
use kms_client::proxy::token::Token;

/// A signal to this process goes to the applications of all tests: one at a time.
static ONE: Mutex<()> = Mutex::new(());

fn ended(words: &[&str]) -> u8 {
    run(application(words))
}

fn application(words: &[&str]) -> Application {
    let words: Vec<OsString> = words.iter().map(OsString::from).collect();
    Application::new(&words)
}

fn run(application: Application) -> u8 {
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(application.run()).unwrap()
}

fn shell(script: &str) -> u8 {
    ended(&["/bin/sh", "-c", script])
}

#[test]
fn the_application_s_exit_status_is_returned() {
    for status in [0, 1, 125, 255] {
        assert_eq!(shell(&format!("exit {status}")), status);
    }
}

#[test]
fn the_application_is_told_where_credentials_are_and_what_to_show_there() {
    let token = Token::new().unwrap();
    let said = "test \"$AWS_CONTAINER_CREDENTIALS_FULL_URI $AWS_CONTAINER_AUTHORIZATION_TOKEN\" = \"$0\"";
    let expected = format!("http://127.0.0.1:9/credentials {}", token.as_str());
    let words = ["/bin/sh", "-c", said, &expected];
    assert_eq!(run(application(&words)), 1);
    let mut told = application(&words);
    told.set_credentials("127.0.0.1:9".parse().unwrap(), &token);
    assert_eq!(run(told), 0);
}

#[test]
fn a_program_that_is_not_there_is_127() {
    assert_eq!(ended(&["/nowhere/program"]), 127);
    assert_eq!(ended(&["no-program-of-this-name"]), 127);
}

#[test]
fn what_cannot_be_run_is_126() {
    let file = tempfile::NamedTempFile::new().unwrap();
    assert_eq!(ended(&[file.path().to_str().unwrap()]), 126);
    assert_eq!(ended(&["/"]), 126);
}

#[test]
fn an_application_that_a_signal_ends_is_128_and_its_number() {
    for (signal, number) in [("KILL", 9), ("TERM", 15), ("ABRT", 6)] {
        assert_eq!(shell(&format!("kill -{signal} $$; exit 1")), 128 + number, "{signal}");
    }
}

/// The application sends the signal to its parent, which is this process, and waits for it to come back.
#[test]
fn each_signal_that_comes_here_reaches_the_application() {
    for signal in ["HUP", "INT", "QUIT", "USR1", "USR2", "TERM", "WINCH"] {
        let script = format!(
            "trap 'exit 42' {signal}; kill -{signal} $PPID; n=0; while [ $n -lt 20000000 ]; do n=$((n+1)); done; exit 1"
        );
        assert_eq!(shell(&script), 42, "{signal}");
    }
}

#[test]
fn a_signal_that_the_application_does_not_catch_ends_both() {
    let script = "kill -TERM $PPID; n=0; while [ $n -lt 20000000 ]; do n=$((n+1)); done; exit 1";
    assert_eq!(shell(script), 128 + 15);
}
