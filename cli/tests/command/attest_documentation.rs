//! The worked example of docs/attestation.md, typed into a shell as it stands there.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use crate::support::{Ran, User};

const DOCUMENTATION: &str = include_str!("../../../docs/attestation.md");
/// The first line of the block that is run.
const BEGINNING: &str = "$ cat > policy.toml <<END";
/// What stands for the rest of a line, or for lines that are left out.
const ELLIPSIS: char = '…';

/// The commands of the block, each with the lines that it is said to print.
fn commands() -> Vec<(String, Vec<&'static str>)> {
    let (_, block) = DOCUMENTATION.split_once(&format!("```console\n{BEGINNING}")).unwrap();
    let (block, _) = block.split_once("```").unwrap();
    let (policy, rest) = block.split_once("\nEND\n").unwrap();
    let write = (format!("{}{policy}\nEND", BEGINNING.trim_start_matches("$ ")), Vec::new());
    let mut commands = vec![write];
    for line in rest.lines() {
        match line.strip_prefix("$ ") {
            Some(command) => commands.push((command.to_owned(), Vec::new())),
            None => commands.last_mut().unwrap().1.push(line),
        }
    }
    commands
}

/// Insists that `printed` is `expected`, but for what the ellipses leave out.
fn compare(expected: &[&str], printed: &str) {
    let mut printed_lines = printed.lines();
    for line in expected {
        if line.trim() == ELLIPSIS.to_string() {
            return;
        }
        let found = printed_lines.next().unwrap_or_default();
        match line.strip_suffix(ELLIPSIS) {
            Some(beginning) => assert!(found.starts_with(beginning), "{line:?}: {printed}"),
            None => assert_eq!(found, *line, "{printed}"),
        }
    }
    assert_eq!(printed_lines.next(), None, "{printed}");
}

#[test]
fn the_worked_example_prints_what_it_says() {
    let user = User::new();
    let program = Path::new(env!("CARGO_BIN_EXE_enclave"));
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    symlink(repository.join("fuzz"), user.path("fuzz")).unwrap();
    let path = format!("{}:/usr/bin:/bin", program.parent().unwrap().display());
    let commands = commands();
    assert_eq!(commands.len(), 3, "{commands:?}");
    for (command, expected) in commands {
        let script = format!("exec 2>&1\n{command}");
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", &script]).current_dir(user.path("")).env_clear().env("PATH", &path);
        compare(&expected, &Ran::of(&mut shell).stdout);
    }
}
