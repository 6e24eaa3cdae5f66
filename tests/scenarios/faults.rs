//! Bad input and faults: a clear error, nothing lost.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use tests::enclave::Start;
use tests::product::User;
use tests::{demo, image, processes};

/// The demo image, changed by `change`, as a new file.
fn damaged(user: &User, name: &str, change: impl FnOnce(&mut Vec<u8>)) -> PathBuf {
    let mut bytes = fs::read(image::demo()).unwrap();
    change(&mut bytes);
    let path = user.path(name);
    fs::write(&path, bytes).unwrap();
    path
}

/// `run` refuses an image; nothing of the attempt runs on.
fn refused(user: &User, image: &Path, words: &[&str]) {
    let _ = Start::new(image, "refused").attempt(user, "run").failure(words);
    assert!(
        user.describe_all().iter().all(|enclave| enclave["State"] == "EXITED"),
        "something lives: {:#?}",
        user.describe_all()
    );
    let _ = user.enclave(&["terminate", "--all"]).success();
}

#[test]
#[ignore = "needs a KVM that can run a kernel"]
fn damaged_images_are_refused_with_the_cause() {
    let user = User::new();
    refused(&user, &damaged(&user, "truncated", |bytes| bytes.truncate(bytes.len() - 100)), &["truncated"]);
    refused(&user, &damaged(&user, "mis-summed", |bytes| *bytes.last_mut().unwrap() ^= 1), &["checksum"]);
    refused(&user, &damaged(&user, "flags", |bytes| bytes[7] |= 0x40), &["flag"]);
    refused(&user, &damaged(&user, "magic", |bytes| bytes[0] = b'x'), &["not an enclave image"]);
    refused(&user, &damaged(&user, "oversized", |bytes| bytes[0x11c] = 0x7f), &["section"]);
    refused(&user, &damaged(&user, "empty", Vec::clear), &["truncated"]);
    let _ = Start::new(&user.path("missing.eif"), "missing").attempt(&user, "run").failure(&["missing.eif"]);
}

#[test]
#[ignore = "needs a KVM that can run a kernel"]
fn an_unsigned_image_is_refused_where_a_signature_is_required() {
    let user = User::new();
    let certificate = user.path("signer.pem");
    fs::write(&certificate, user.enclave(&["pki", "export-root"]).success().stdout).unwrap();
    let required = ["--require-signature", certificate.to_str().unwrap()];
    let _ = Start::new(&image::demo(), "unsigned")
        .with(&required)
        .attempt(&user, "run")
        .failure(&["ImageRefused", "signed"]);
}

#[test]
#[ignore = "needs a KVM that can run a kernel"]
fn impossible_wishes_are_refused_with_what_is_possible() {
    let user = User::new();
    let image = image::demo();
    let mut tiny = Start::new(&image, "tiny");
    tiny.memory = 8;
    let _ = tiny.attempt(&user, "run").failure(&["MiB"]);
    let mut huge = Start::new(&image, "huge");
    huge.memory = 1 << 30;
    let _ = huge.attempt(&user, "run").failure(&["MiB"]);
    let _ = Start::new(&image, "cpus").cpus(64).attempt(&user, "run").failure(&["CPU"]);
    let _ = Start::new(&image, "none").cpus(0).attempt(&user, "run").failure(&["cpus"]);
}

#[test]
#[ignore = "needs a KVM that can run a kernel"]
fn a_cid_or_a_name_in_use_is_refused() {
    let (user, other) = (User::new(), User::new());
    let image = image::demo();
    let _enclave = Start::new(&image, "holder").with(&["--cid", "77"]).run(&user);
    let _ = Start::new(&image, "other").with(&["--cid", "77"]).attempt(&user, "run").failure(&["77"]);
    let _ = Start::new(&image, "other").with(&["--cid", "77"]).attempt(&other, "run").failure(&["77"]);
    let _ = Start::new(&image, "holder").attempt(&user, "run").failure(&["holder"]);
    for reserved in ["0", "1", "2", "3", "4294967295"] {
        let _ =
            Start::new(&image, "reserved").with(&["--cid", reserved]).attempt(&user, "run").failure(&["CID"]);
    }
}

#[test]
#[ignore = "needs a KVM that can run a kernel"]
fn an_image_may_be_deleted_once_it_runs() {
    let user = User::new();
    let copy = damaged(&user, "copy.eif", |_| {});
    let enclave = Start::new(&copy, "deleted").run(&user);
    fs::remove_file(copy).unwrap();
    assert!(!demo::attest(&enclave, b"from memory").is_empty());
}

#[test]
#[ignore = "needs a KVM that can run a kernel"]
fn a_flooded_console_is_bounded_and_stops_nobody() {
    // More than a pipe holds: a supervisor that does not read would stop the guest.
    const FLOOD: u64 = 100_000;
    let user = User::new();
    let enclave = Start::new(&image::demo(), "console").with(&["--debug"]).run(&user);
    let mut follower =
        user.command(&["console", "console"]).stdout(std::process::Stdio::piped()).spawn().unwrap();
    let printed = demo::ask(&enclave, &format!("console {FLOOD}"));
    assert!(printed.is_ok(), "{printed:?}");
    // The answer may come before the guest's terminal has let go of the last bytes.
    let mut stream = follower.stdout.take().unwrap();
    let seen = std::io::copy(&mut stream.by_ref().take(FLOOD), &mut std::io::sink()).unwrap();
    assert_eq!(seen, FLOOD, "the console ended early");
    follower.kill().unwrap();
    let _ = follower.wait().unwrap();
    let kept: u64 = fs::read_dir(enclave.run_dir())
        .unwrap()
        .filter_map(|entry| entry.unwrap().metadata().ok())
        .filter(fs::Metadata::is_file)
        .map(|facts| facts.len())
        .sum();
    assert!(kept < 2 * FLOOD, "{kept} bytes are kept of the console");
    let logs = user.enclave(&["logs", "console"]).success();
    assert!(logs.stdout.len() as u64 >= FLOOD, "{} bytes are kept", logs.stdout.len());
}

#[test]
#[ignore = "needs a KVM that can run a kernel"]
fn production_keeps_no_console() {
    let user = User::new();
    let enclave = Start::new(&image::demo(), "quiet").run(&user);
    let _ = user.enclave(&["logs", "quiet"]).failure(&["debug"]);
    let _ = user.enclave(&["console", "quiet"]).failure(&["debug"]);
    assert!(!enclave.run_dir().join("console.log").exists());
}

#[test]
#[ignore = "needs a KVM that can run a kernel"]
fn the_console_follows_from_the_first_byte_to_the_end() {
    let user = User::new();
    let enclave = Start::new(&image::demo(), "follow").with(&["--debug"]).run(&user);
    let mut follower =
        user.command(&["console", "follow"]).stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut stream = follower.stdout.take().unwrap();
    let mut first = [0; 64];
    stream.read_exact(&mut first).unwrap();
    demo::tell(&enclave, "exit 0");
    let mut text = first.to_vec();
    stream.read_to_end(&mut text).unwrap();
    assert_eq!(follower.wait().unwrap().code(), Some(0));
    let logs = user.enclave(&["logs", "follow"]).success();
    assert_eq!(String::from_utf8_lossy(&text), logs.stdout);
}

#[test]
#[ignore = "needs a KVM that can run a kernel"]
fn two_commands_on_one_enclave_at_once() {
    let user = User::new();
    let enclave = Start::new(&image::demo(), "contested").run(&user);
    let spawn = |words: &[&str]| {
        user.command(words)
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap()
    };
    let commands: Vec<_> = (0..6)
        .map(|number| match number % 3 {
            0 => spawn(&["terminate", "contested"]),
            1 => spawn(&["describe", "-o", "json"]),
            _ => spawn(&["wait", "contested"]),
        })
        .collect();
    for command in commands {
        let output = command.wait_with_output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code().is_some(), "a command was killed: {stderr}");
        assert!(!stderr.contains("panicked"), "{stderr}");
    }
    assert!(!enclave.run_dir().exists());
    assert!(user.describe_all().is_empty());
}

#[test]
#[ignore = "needs a KVM that can run a kernel"]
fn memory_of_a_killed_vm_process_is_given_back() {
    let user = User::new();
    let enclave = Start::new(&image::demo(), "given-back").run(&user);
    let vm = processes::child_with_argument(enclave.supervisor(), "vm").unwrap();
    processes::signal(vm, rustix::process::Signal::KILL);
    let _ = enclave.wait();
    assert_eq!(processes::children(enclave.supervisor()), Vec::<u32>::new());
}
