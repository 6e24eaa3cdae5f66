//! What can be typed, and what is refused before anything is done.

use std::fs::File;
use std::process::Stdio;

use crate::support::{Ran, User};

/// A command line that is wrong exits with 2 and names the mistake.
#[track_caller]
fn refused(arguments: &[&str], word: &str) {
    let ran = User::new().run(arguments);
    assert_eq!((ran.status, ran.stdout.as_str()), (2, ""), "{ran:#?}");
    assert!(ran.stderr.contains(word), "{word:?} is missing: {ran:#?}");
}

#[test]
fn wrong_command_lines_are_refused_with_the_mistake_named() {
    refused(&["frobnicate"], "frobnicate");
    refused(&["run", "--cpus", "1", "--memory", "64"], "--eif");
    refused(&["run", "--eif", "a", "--cpus", "0"], "--cpus");
    refused(&["run", "--eif", "a", "--cpus", "65"], "--cpus");
    refused(&["run", "--eif", "a", "--memory", "1G"], "--memory");
    refused(&["run", "--eif", "a", "--cpus", "1", "--cpu-ids", "1"], "--cpu-ids");
    refused(&["run", "--eif", "a", "--cpu-ids", "1-2"], "--cpu-ids");
    for reserved in ["0", "1", "2", "3", "4294967295", "4294967296"] {
        refused(&["run", "--eif", "a", "--cid", reserved], "CID");
    }
    refused(&["terminate"], "--all");
    refused(&["terminate", "a", "--all"], "--all");
    refused(&["logs", "a", "-o", "json"], "-o");
    refused(&["describe", "-o", "yaml"], "yaml");
    refused(&["attest", "verify", "doc"], "--root");
    refused(&["attest", "verify", "doc", "--root", "r", "--pcr", "0=00"], "96 hexadecimal digits");
    refused(&["attest", "verify", "doc", "--root", "r", "--nonce", "xyz"], "hexadecimal");
    refused(&["attest", "verify", "doc", "--root", "r", "--at", "noon"], "RFC 3339");
    refused(&["pki", "init", "--instance-id", "i-1"], "instance id");
}

#[test]
fn every_command_has_a_help_text() {
    let user = User::new();
    for command in [
        "run",
        "create",
        "start",
        "describe",
        "terminate",
        "wait",
        "console",
        "logs",
        "connect",
        "build",
        "eif",
        "attest",
        "pki",
        "doctor",
        "completions",
        "man",
    ] {
        let help = user.run(&[command, "--help"]).succeeded();
        assert!(help.stdout.contains("Usage: enclave"), "{help:#?}");
        assert!(user.run(&["--help"]).stdout.contains(&format!("\n  {command} ")), "{command} is not listed");
    }
}

#[test]
fn without_arguments_the_help_says_where_files_are() {
    let ran = User::new().run::<&str>(&[]);
    assert_eq!(ran.status, 2);
    for word in ["ENCLAVE_RUN_DIR", "ENCLAVE_STATE_DIR", "ENCLAVE_CACHE_DIR", "ENCLAVE_CONFIG", "Exit status"]
    {
        assert!(ran.stderr.contains(word), "{word}");
    }
}

#[test]
fn completions_and_manual_pages_know_every_command() {
    let user = User::new();
    for shell in ["bash", "zsh", "fish"] {
        let script = user.run(&["completions", shell]).succeeded().stdout;
        assert!(script.contains("terminate") && script.contains("export-root"), "{shell}");
    }
    let folder = user.path("man");
    let _ = user.run(&["man", folder.to_str().unwrap()]).succeeded();
    let page = std::fs::read_to_string(folder.join("enclave-run.1")).unwrap();
    assert!(page.contains("memory"), "{page}");
    assert!(folder.join("enclave-attest-verify.1").exists());
}

#[test]
fn a_closed_standard_output_ends_the_command_quietly() {
    let user = User::new();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let ran = Ran::of(user.command(&["describe", "-o", "json"]).stdout(writer));
    assert_eq!((ran.status, ran.stderr.as_str()), (141, ""));
}

#[test]
fn a_full_disk_behind_standard_output_is_an_error() {
    let full = File::options().write(true).open("/dev/full").unwrap();
    let ran = Ran::of(User::new().command(&["describe"]).stdout(Stdio::from(full)));
    assert_eq!(ran.status, 1);
    let _ = ran.says(&["standard output"]);
}

#[test]
fn a_closed_standard_error_changes_nothing() {
    let user = User::new();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let ran = Ran::of(user.command(&["pki", "init", "-o", "json"]).stderr(writer));
    assert_eq!(ran.succeeded().json()["Role"], "arn:enclave:iam::000000000000:role/enclave-host");
}
