//! The programs, run outside an enclave, where they must not go far.

use std::fs::File;
use std::process::{Command, Output};

fn run(program: &str, words: &[&str], variables: &[(&str, &str)]) -> Output {
    Command::new(program).args(words).env_clear().envs(variables.iter().copied()).output().unwrap()
}

#[track_caller]
fn failed(output: &Output, status: i32, words: &[&str]) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{said}");
    assert!(output.stdout.is_empty());
    for word in words {
        assert!(said.contains(word), "{said}");
    }
}

const PROXY: &str = env!("CARGO_BIN_EXE_enclave-kms-proxy");
const KMSTOOL: &str = env!("CARGO_BIN_EXE_kmstool-enclave-cli");
const KEYS: [(&str, &str); 2] = [("AWS_ACCESS_KEY_ID", "A"), ("AWS_SECRET_ACCESS_KEY", "s")];

#[test]
fn without_a_command_the_helper_starts_nothing() {
    failed(&run(PROXY, &["--endpoint", "https://kms.test"], &KEYS), 125, &["CMD"]);
}

#[test]
fn without_credentials_the_helper_starts_nothing() {
    let words = ["--endpoint", "https://kms.test", "--", "/bin/echo", "started"];
    failed(&run(PROXY, &words, &[]), 125, &["--credentials-port", "AWS_ACCESS_KEY_ID"]);
}

#[test]
fn with_two_kinds_of_credentials_the_helper_starts_nothing() {
    let words = ["--endpoint", "https://kms.test", "--credentials-port", "9", "--", "/bin/echo", "started"];
    failed(&run(PROXY, &words, &KEYS), 125, &["leave out one"]);
}

#[test]
fn without_tls_the_helper_starts_nothing() {
    let words = ["--endpoint", "http://kms.test", "--", "/bin/echo", "started"];
    failed(&run(PROXY, &words, &KEYS), 125, &["not https"]);
}

#[test]
fn outside_an_enclave_the_helper_starts_nothing() {
    let words = ["--endpoint", "https://kms.test", "--", "/bin/echo", "started"];
    failed(&run(PROXY, &words, &KEYS), 125, &["/dev/nsm", "is this an enclave"]);
}

#[test]
fn a_console_that_takes_nothing_does_not_change_how_the_programs_fail() {
    let keys = ["--aws-access-key-id", "A", "--aws-secret-access-key", "s", "--aws-session-token", "t"];
    let helper = ["--endpoint", "https://kms.test", "--", "/bin/echo", "started"].as_slice();
    let tool = [["genrandom", "--length", "8"].as_slice(), &keys].concat();
    for (program, words, status) in [(PROXY, helper, 125), (KMSTOOL, &tool, 1)] {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let ended = Command::new(program).args(words).env_clear().envs(KEYS).stderr(full).status().unwrap();
        assert_eq!(ended.code(), Some(status), "{program}");
    }
}

#[test]
fn kmstool_insists_on_awss_mandatory_options() {
    let all = ["--aws-access-key-id", "A", "--aws-secret-access-key", "s", "--aws-session-token", "t"];
    for option in 0..3 {
        let mut words = vec!["genrandom", "--length", "8"];
        words.extend(
            all.chunks(2).enumerate().filter(|(index, _)| *index != option).flat_map(|(_, pair)| pair),
        );
        failed(&run(KMSTOOL, &words, &[]), 2, &[all[2 * option]]);
    }
}

#[test]
fn kmstool_takes_no_more_random_bytes_than_kms_gives() {
    let words = |length: &'static str| {
        [
            "genrandom",
            "--length",
            length,
            "--aws-access-key-id",
            "A",
            "--aws-secret-access-key",
            "s",
            "--aws-session-token",
            "t",
        ]
    };
    for length in ["0", "1025"] {
        failed(&run(KMSTOOL, &words(length), &[]), 2, &["--length"]);
    }
    // The last one that is taken gets as far as there being no security module.
    failed(&run(KMSTOOL, &words("1024"), &[]), 1, &["/dev/nsm"]);
}
