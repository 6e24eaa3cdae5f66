//! Runs the tests as the standard harness would, as far as `cargo test` needs it: this program cannot have that harness,
//! because it also runs as the enclave's processes.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::Instant;

/// A test and its name.
pub(crate) type Test = (&'static str, fn());

/// Runs all tests whose names contain one of the program's arguments, or all.
pub(crate) fn run(groups: &[&[Test]]) -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let filters: Vec<&String> = arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
    let tests: Vec<Test> = groups
        .iter()
        .flat_map(|group| group.iter().copied())
        .filter(|(name, _)| filters.is_empty() || filters.iter().any(|filter| name.contains(filter.as_str())))
        .collect();
    if arguments.iter().any(|argument| argument == "--list") {
        for (name, _) in tests {
            println!("{name}: test");
        }
        return ExitCode::SUCCESS;
    }
    println!("running {} tests", tests.len());
    let mut failed = Vec::new();
    for (name, test) in &tests {
        let began = Instant::now();
        let outcome = catch_unwind(AssertUnwindSafe(test));
        let word = if outcome.is_ok() { "ok" } else { "FAILED" };
        println!("test {name} ... {word} ({} ms)", began.elapsed().as_millis());
        if outcome.is_err() {
            failed.push(*name);
        }
    }
    println!("\ntest result: {} passed; {} failed: {failed:?}", tests.len() - failed.len(), failed.len());
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
