use std::io::{Read, Write};
use std::process::{Command, Stdio};

use super::list::{Listing, list};
use super::testing::*;
use super::*;

fn listed(bytes: &[u8]) -> Listing {
    // A source that yields few bytes at a time finds what depends on buffers.
    let small = io::BufReader::with_capacity(7, bytes);
    let listing = list(small, Limits::default());
    assert_eq!(paths(&listing), paths(&list(bytes, Limits::default())));
    listing
}

fn paths(listing: &Listing) -> Vec<String> {
    listing.entries.iter().map(|listed| listed.entry.display()).collect()
}

fn failure(bytes: &[u8]) -> NewcError {
    listed(bytes).failure.expect("it was read to its end")
}

fn one_file(name: &str) -> Vec<u8> {
    archive(&[member(name, 0o100_644, "hello")])
}

/// The program's standard output for this input.
fn piped(program: &str, arguments: &[&str], folder: &std::path::Path, input: &[u8]) -> Vec<u8> {
    let mut child = Command::new(program)
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("{program} is needed: {error}"));
    child.stdin.take().unwrap().write_all(input).unwrap();
    let mut output = Vec::new();
    child.stdout.take().unwrap().read_to_end(&mut output).unwrap();
    assert!(child.wait().unwrap().success(), "{program} {arguments:?}");
    output
}

#[test]
fn what_the_cpio_program_writes_is_read_field_by_field() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    std::fs::create_dir(path("bin")).unwrap();
    std::fs::write(path("bin/app"), "program").unwrap();
    std::fs::set_permissions(path("bin/app"), std::fs::Permissions::from_mode(0o4751)).unwrap();
    std::fs::hard_link(path("bin/app"), path("bin/again")).unwrap();
    symlink("bin/app", path("app")).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, path("pipe"), rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    let input = b"bin\nbin/app\nbin/again\napp\npipe\n";
    for magic in ["newc", "crc"] {
        let archive = piped("cpio", &["-o", "-H", magic, "--quiet"], folder.path(), input);
        let listing = listed(&archive);
        assert!(listing.failure.is_none(), "{:?}", listing.failure);
        // The program moves the links of a file together.
        let mut found = paths(&listing);
        found.sort();
        assert_eq!(found, ["app", "bin", "bin/again", "bin/app", "pipe"]);
        let entry =
            |name: &str| listing.entries.iter().find(|listed| listed.entry.path == name.as_bytes()).unwrap();
        let metadata = std::fs::metadata(path("bin/app")).unwrap();
        let app = &entry("bin/app").entry;
        assert_eq!((app.kind(), app.permissions(), app.links), (Kind::File, 0o4751, 2));
        assert_eq!(
            (app.uid, app.gid, i64::from(app.mtime)),
            (metadata.uid(), metadata.gid(), metadata.mtime())
        );
        assert_eq!(
            (app.inode, app.device),
            (entry("bin/again").entry.inode, entry("bin/again").entry.device)
        );
        let sizes = ["bin/app", "bin/again"].map(|name| entry(name).entry.size);
        assert_eq!(sizes.iter().sum::<u32>(), 7, "the content comes once");
        let with_content = sizes.iter().position(|size| *size == 7).unwrap();
        // `printf program | sha384sum`
        let digest = entry(["bin/app", "bin/again"][with_content]).digest.unwrap();
        let expected = piped("sha384sum", &[], folder.path(), b"program");
        assert_eq!(hex::encode(digest).as_bytes(), &expected[..96]);
        assert_eq!(entry("app").entry.target.as_deref(), Some(&b"bin/app"[..]));
        assert_eq!(entry("bin").entry.kind(), Kind::Folder);
        assert_eq!((entry("pipe").entry.kind(), entry("pipe").digest), (Kind::Fifo, None));
    }
}

#[test]
fn archives_follow_each_other_in_every_form_with_zeros_between_them() {
    let plain = one_file("plain");
    let ramdisk = [
        &plain[..],
        &[0; 512],
        &gzip(&[&one_file("in-gzip")[..], &[0; 8], &one_file("second-in-gzip")].concat()),
        &[0; 3],
        &zstd(&one_file("in-zstd")),
        &gzip(&one_file("right-after-it")),
    ]
    .concat();
    let listing = listed(&ramdisk);
    assert!(listing.failure.is_none(), "{:?}", listing.failure);
    assert_eq!(paths(&listing), ["plain", "in-gzip", "second-in-gzip", "in-zstd", "right-after-it"]);
    assert_eq!(listing.compressions, [Compression::None, Compression::Gzip, Compression::Zstd]);
    let archives: Vec<u64> = listing.entries.iter().map(|listed| listed.entry.archive).collect();
    assert_eq!(archives, [0, 1, 2, 3, 4]);
    assert!(listing.entries.iter().all(|listed| listed.digest == listing.entries[0].digest));
}

#[test]
fn what_the_programs_compress_is_read() {
    let folder = tempfile::tempdir().unwrap();
    for program in ["gzip", "zstd"] {
        let compressed = piped(program, &["-c"], folder.path(), &one_file("file"));
        assert_eq!(paths(&listed(&compressed)), ["file"], "{program}");
    }
    for (program, name) in [("bzip2", "bzip2"), ("xz", "xz")] {
        let compressed = piped(program, &["-c"], folder.path(), &one_file("file"));
        assert!(matches!(failure(&compressed), NewcError::Compression(found) if found == name), "{program}");
    }
}

#[test]
fn nothing_and_zeros_alone_are_empty_ramdisks() {
    for bytes in [&b""[..], &[0; 1000], &archive(&[])] {
        let listing = listed(bytes);
        assert!(listing.failure.is_none() && listing.entries.is_empty());
    }
}

#[test]
fn an_archive_may_lack_its_end_unless_it_is_compressed() {
    let unfinished = entries(&[member("file", 0o100_644, "hello")]);
    assert!(listed(&unfinished).failure.is_none());
    for compressed in [gzip(&unfinished), zstd(&unfinished)] {
        assert!(matches!(failure(&compressed), NewcError::NoTrailer));
    }
}

#[test]
fn every_early_end_is_told() {
    let whole = one_file("a-file");
    // Up to the end of the content (header 110, name 7, padding 3, content 5); then the trailer is what is cut.
    for length in 1..125 {
        assert!(matches!(failure(&whole[..length]), NewcError::Truncated(_)), "{length}");
    }
    for compressed in [gzip(&whole), zstd(&whole)] {
        for length in 1..compressed.len() {
            let found = listed(&compressed[..length]).failure;
            assert!(found.is_some(), "{length} of {}", compressed.len());
        }
    }
}

#[test]
fn what_is_no_archive_is_told_where_it_is() {
    assert!(matches!(failure(b"hello"), NewcError::Unknown { at: 0, .. }));
    let unaligned = [&one_file("x")[..], &[0; 6], &one_file("y")].concat();
    let at = (one_file("x").len() + 6) as u64;
    assert!(matches!(failure(&unaligned), NewcError::Unaligned(found) if found == at));
    let nested = gzip(&[one_file("x"), gzip(&one_file("y"))].concat());
    assert!(matches!(failure(&nested), NewcError::Nested(_)));
    let mut bad_magic = entries(&[member("x", 0o100_644, ""), member("y", 0o100_644, "")]);
    bad_magic[112 + 5] = b'7';
    assert!(matches!(failure(&bad_magic), NewcError::Magic { after } if after == "x"));
    for digits in [b"0000000g", b"+0000001", b"       1"] {
        let mut bad_number = one_file("x");
        bad_number[6..14].copy_from_slice(digits);
        assert!(matches!(failure(&bad_number), NewcError::Number { .. }));
    }
    let mut no_end = one_file("abc");
    no_end[113] = b'x';
    assert!(matches!(failure(&no_end), NewcError::Name { .. }));
    let mut no_name = one_file("abc");
    no_name[94..102].copy_from_slice(b"00000000");
    assert!(matches!(failure(&no_name), NewcError::Name { .. }));
}

#[test]
fn names_and_targets_are_as_long_as_linux_takes_them() {
    let name = |length: usize| listed(&one_file(&"n".repeat(length)));
    assert!(name(MAX_PATH - 1).failure.is_none());
    assert!(matches!(name(MAX_PATH).failure, Some(NewcError::Name { .. })));
    let target = |length: usize| listed(&archive(&[member("l", 0o120_777, "t".repeat(length))]));
    assert_eq!(target(MAX_PATH - 1).entries[0].entry.target.as_ref().map(Vec::len), Some(MAX_PATH - 1));
    assert!(matches!(target(MAX_PATH).failure, Some(NewcError::Target(_))));
}

#[test]
fn each_limit_holds_at_its_edge() {
    let two = archive(&[member("a", 0o100_644, "x".repeat(5000)), member("bb", 0o120_777, "ccc")]);
    let with = |limits: Limits, bytes: &[u8]| list(bytes, limits).failure;
    let unlimited = Limits::default();
    assert!(with(Limits { entries: 2, ..unlimited }, &two).is_none());
    assert!(matches!(
        with(Limits { entries: 1, ..unlimited }, &two),
        Some(NewcError::Limit { limit: 1, .. })
    ));
    assert!(with(Limits { name_bytes: 6, ..unlimited }, &two).is_none());
    assert!(matches!(
        with(Limits { name_bytes: 5, ..unlimited }, &two),
        Some(NewcError::Limit { limit: 5, .. })
    ));
    let length = two.len() as u64;
    for compressed in [gzip(&two), zstd(&two), [gzip(&two[..0]), gzip(&two)].concat()] {
        assert!(with(Limits { unpacked_bytes: length, ..unlimited }, &compressed).is_none());
        let passed = with(Limits { unpacked_bytes: length - 1, ..unlimited }, &compressed);
        assert!(matches!(passed, Some(NewcError::Limit { what: "bytes when unpacked", .. })), "{passed:?}");
    }
    // What is not compressed is as long as it is.
    assert!(with(Limits { unpacked_bytes: 0, ..unlimited }, &two).is_none());
}

#[test]
fn bombs_stop_at_the_limit() {
    let bomb = archive(&[member("zeros", 0o100_644, vec![0; 32 << 20])]);
    let limits = Limits { unpacked_bytes: 1 << 20, ..Limits::default() };
    for compressed in [gzip(&bomb), zstd(&bomb), gzip(&vec![0; 32 << 20])] {
        assert!(compressed.len() < 1 << 20);
        assert!(matches!(list(compressed.as_slice(), limits).failure, Some(NewcError::Limit { .. })));
    }
}

#[test]
fn a_zstd_window_larger_than_allowed_is_refused() {
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 3).unwrap();
    encoder.window_log(24).unwrap();
    encoder.include_contentsize(false).unwrap();
    encoder.write_all(&one_file("x")).unwrap();
    let compressed = encoder.finish().unwrap();
    let with =
        |log| list(compressed.as_slice(), Limits { zstd_window_log: log, ..Limits::default() }).failure;
    assert!(with(24).is_none());
    assert!(matches!(with(23), Some(NewcError::Io(_))));
}
