//! Replays the corpus of the fuzz target `ramdisk` and a few thousand mutations of it. The fuzz target itself is
//! fuzz/fuzz_targets/ramdisk.rs; both run `image::newc::fuzzing::ramdisk`.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a failed assumption in a test is a failed test")]

use std::io::Write;
use std::process::{Command, Stdio};

use image::newc::fuzzing;

/// Mutations of each corpus file.
const MUTATIONS: u64 = 300;

#[test]
fn the_corpus_and_its_mutations_break_nothing() {
    corpus::replay("ramdisk", MUTATIONS, fuzzing::ramdisk);
}

/// An entry of an archive, by hand: hostile ones cannot be had from a program.
fn entry(path: &str, mode: u32, links: u32, inode: u32, content: &str) -> Vec<u8> {
    let (size, name) = (content.len(), path.len() + 1);
    let mut entry = format!(
        "070701{inode:08x}{mode:08x}{:08x}{:08x}{links:08x}{:08x}{size:08x}{:08x}{:08x}{:08x}{:08x}{name:08x}{:08x}{path}\0",
        0, 0, 0, 0, 0, 0, 0, 0
    )
    .into_bytes();
    entry.resize(entry.len().next_multiple_of(4), 0);
    entry.extend(content.bytes());
    entry.resize(entry.len().next_multiple_of(4), 0);
    entry
}

fn archive(entries: &[Vec<u8>]) -> Vec<u8> {
    [entries.concat(), entry("TRAILER!!!", 0, 1, 0, "")].concat()
}

fn compressed(program: &str, input: &[u8]) -> Vec<u8> {
    let mut child =
        Command::new(program).arg("-c").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect(program);
    child.stdin.take().unwrap().write_all(input).unwrap();
    child.wait_with_output().unwrap().stdout
}

#[test]
#[ignore = "writes the seeds of the corpus anew"]
fn write_seeds() {
    let application = archive(&[
        entry("cmd", 0o100_644, 1, 1, "/bin/app\n"),
        entry("rootfs", 0o040_755, 2, 2, ""),
        entry("rootfs/app", 0o100_755, 2, 3, "program"),
        entry("rootfs/again", 0o100_755, 2, 3, ""),
        entry("rootfs/link", 0o120_777, 1, 4, "app"),
        entry("rootfs/null", 0o020_666, 1, 5, ""),
        entry("rootfs/pipe", 0o010_600, 1, 6, ""),
    ]);
    let late_content = archive(&[
        entry("rootfs/one", 0o100_644, 3, 7, ""),
        entry("rootfs/two", 0o100_644, 3, 7, ""),
        entry("rootfs/three", 0o100_644, 3, 7, "content"),
    ]);
    let through_a_link = archive(&[
        entry("rootfs/etc", 0o120_777, 1, 1, "/etc"),
        entry("rootfs/etc/passwd", 0o100_644, 1, 2, "root::0:0"),
    ]);
    let link_put_in_later = archive(&[
        entry("rootfs/d/file", 0o100_644, 2, 1, "x"),
        entry("rootfs/d", 0o120_777, 1, 2, "/etc"),
        entry("rootfs/name", 0o100_644, 2, 1, ""),
    ]);
    let upwards = archive(&[entry("rootfs/../../etc/passwd", 0o100_644, 1, 1, "root::0:0")]);
    let long_names = archive(&[entry(&format!("rootfs/{}", "long/".repeat(60)), 0o040_755, 2, 1, "")]);
    let several =
        [&application[..], &[0; 256], &compressed("gzip", &late_content), &compressed("zstd", &upwards)];
    let seeds: [(&str, Vec<u8>); 10] = [
        ("several", several.concat()),
        ("gzip", compressed("gzip", &application)),
        ("zstd", compressed("zstd", &application)),
        ("truncated", application[..application.len() - 150].to_vec()),
        ("late-content", late_content),
        ("through-a-link", through_a_link),
        ("link-put-in-later", link_put_in_later),
        ("upwards", upwards),
        ("long-names", long_names),
        ("application", application),
    ];
    corpus::write("ramdisk", &seeds);
}
