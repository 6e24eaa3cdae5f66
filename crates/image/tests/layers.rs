//! Layers applied one after the other, honest ones and hostile ones.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a failed assumption in a test is a failed test"
)]

mod support;

use image::archive::Archive;
use image::attributes::Others;
use image::layer::LayerError;
use image::layer::apply::{Layers, Whiteouts};
use image::layer::members::Reader;
use image::limits::Limits;
use support::{Tar, extent, listing, read};
use tar::EntryType;

fn apply_with(
    layers: &[Vec<u8>],
    limits: &Limits,
    whiteouts: Whiteouts,
    others: Others,
) -> Result<Archive, LayerError> {
    let mut archive = Archive::default();
    archive.directory("root").unwrap();
    let mut tree = Layers::new(&mut archive, "root", limits, whiteouts);
    for (number, layer) in (1..).zip(layers) {
        let (name, bytes) = (format!("layer {number}"), extent(layer));
        tree.apply(&Reader { name: &name, archive: &bytes, limits, others, must_end: true })?;
    }
    Ok(archive)
}

fn try_apply(layers: &[Vec<u8>]) -> Result<Archive, LayerError> {
    apply_with(layers, &Limits::default(), Whiteouts::Apply, Others::Refuse)
}

/// What layers make, without the root folder itself.
fn apply(layers: &[Vec<u8>]) -> Vec<String> {
    let lines = listing(&try_apply(layers).unwrap());
    lines
        .iter()
        .filter_map(|line| line.strip_prefix("root/"))
        .filter(|line| !line.starts_with(' '))
        .map(str::to_owned)
        .collect()
}

#[track_caller]
fn refused(layer: Vec<u8>, words: &[&str]) {
    let message = try_apply(&[layer]).unwrap_err().to_string();
    assert!(message.starts_with("layer 1"), "{message}");
    for word in words {
        assert!(message.contains(word), "{word:?} is missing: {message}");
    }
}

#[test]
fn owners_modes_and_kinds_are_those_of_the_archive() {
    let layer = Tar::new()
        .member(b"./", EntryType::Directory, b"", |header| header.set_mode(0o700))
        .member(b"bin/", EntryType::Directory, b"", |header| {
            header.set_uid(4_000_000_000);
            header.set_gid(7);
        })
        .member(b"bin/su", EntryType::Regular, b"x", |header| header.set_mode(0o4711))
        .symlink("sh", "/bin/su")
        .member(b"null", EntryType::Char, b"", |header| {
            header.set_device_major(1).unwrap();
            header.set_device_minor(3).unwrap();
        })
        .member(b"pipe", EntryType::Fifo, b"", |_| {})
        .member(b"old-style-folder/", EntryType::Regular, b"", |_| {})
        .end();
    assert_eq!(
        listing(&try_apply(&[layer]).unwrap()),
        [
            "root/ 700 0:0",
            "root/bin/ 755 4000000000:7",
            "root/bin/su \"x\" 4711 0:0",
            "root/null special 20000 1,3 644 0:0",
            "root/old-style-folder/ 644 0:0",
            "root/pipe special 10000 0,0 644 0:0",
            "root/sh -> /bin/su",
        ]
    );
}

#[test]
fn empty_fields_are_zero_as_every_reader_takes_them() {
    let layer = Tar::new()
        .member(b"a", EntryType::Regular, b"x", |header| {
            let fields = header.as_old_mut();
            (fields.uid, fields.gid, fields.mode) = ([0; 8], [b' '; 8], [0; 8]);
        })
        .end();
    assert_eq!(apply(&[layer]), ["a \"x\" 0 0:0"]);
}

#[test]
fn whiteouts_hide_lower_layers_and_never_their_own() {
    let lower =
        Tar::new().folder("a").file("a/old", "1").folder("a/b").file("a/b/old", "2").file("gone", "3").end();
    // Its own file stands before and behind the whiteouts: their order in a layer says nothing.
    let upper = Tar::new()
        .file("a/new", "4")
        .file("a/.wh..wh..opq", "")
        .file("a/b/newer", "5")
        .file(".wh.gone", "")
        .file(".wh.never-was", "")
        .file("missing/.wh.x", "")
        .file(".wh..wh.plnk", "")
        .end();
    assert_eq!(
        apply(&[lower, upper]),
        ["a/ 755 0:0", "a/b/ 755 0:0", "a/b/newer \"5\" 644 0:0", "a/new \"4\" 644 0:0"]
    );
}

#[test]
fn a_whiteout_beside_a_new_entry_of_its_name_hides_only_what_was_below_it() {
    let lower = Tar::new().folder("a").file("a/old", "1").end();
    for upper in [
        Tar::new().file(".wh.a", "").folder("a").file("a/new", "2").end(),
        Tar::new().folder("a").file("a/new", "2").file(".wh.a", "").end(),
    ] {
        assert_eq!(apply(&[lower.clone(), upper]), ["a/ 755 0:0", "a/new \"2\" 644 0:0"]);
    }
}

#[test]
fn names_like_whiteouts_are_ordinary_in_a_root_file_system() {
    let archive = Tar::new().file("a", "1").file(".wh.a", "2").file(".wh..wh..opq", "3").end();
    let limits = Limits::default();
    let archive = apply_with(&[archive], &limits, Whiteouts::Ordinary, Others::Refuse).unwrap();
    assert_eq!(read(&archive, "root/a"), "1");
    assert_eq!(read(&archive, "root/.wh.a"), "2");
    assert_eq!(read(&archive, "root/.wh..wh..opq"), "3");
}

#[test]
fn files_and_folders_replace_each_other() {
    let lower = Tar::new().folder("a").file("a/x", "1").file("b", "2").symlink("c", "a").end();
    let upper = Tar::new().file("a", "3").folder("b").file("b/y", "4").folder("c").file("c/z", "5").end();
    assert_eq!(
        apply(&[lower, upper]),
        ["a \"3\" 644 0:0", "b/ 755 0:0", "b/y \"4\" 644 0:0", "c/ 755 0:0", "c/z \"5\" 644 0:0"]
    );
}

#[test]
fn a_folder_of_two_layers_has_the_contents_of_both_and_the_properties_of_the_upper() {
    let lower = Tar::new().folder("a").file("a/x", "1").end();
    let upper = Tar::new()
        .member(b"a", EntryType::Directory, b"", |header| {
            header.set_mode(0o700);
            header.set_uid(5);
        })
        .file("a/y", "2")
        .end();
    assert_eq!(apply(&[lower, upper]), ["a/ 700 5:0", "a/x \"1\" 644 0:0", "a/y \"2\" 644 0:0"]);
}

#[test]
fn the_last_of_several_members_of_a_name_counts() {
    let layer = Tar::new().file("a", "1").file("a", "2").folder("b").file("b", "3").end();
    assert_eq!(apply(&[layer]), ["a \"2\" 644 0:0", "b \"3\" 644 0:0"]);
}

#[test]
fn missing_parents_belong_to_root() {
    assert_eq!(
        apply(&[Tar::new().file("a/b/c", "1").end()]),
        ["a/ 755 0:0", "a/b/ 755 0:0", "a/b/c \"1\" 644 0:0"]
    );
}

#[test]
fn a_link_where_a_folder_should_be_is_resolved_inside_the_root() {
    let lower = Tar::new()
        .folder("usr/bin")
        .symlink("bin", "usr/bin")
        .symlink("escape", "../../../../../../etc")
        .symlink("absolute", "/usr/bin")
        .end();
    let upper = Tar::new()
        .file("bin/app", "1")
        .file("escape/passwd", "2")
        .file("absolute/tool", "3")
        .file("bin/.wh.gone", "")
        .end();
    assert_eq!(
        apply(&[lower, upper]),
        [
            "absolute -> /usr/bin",
            "bin -> usr/bin",
            "escape -> ../../../../../../etc",
            "etc/ 755 0:0",
            "etc/passwd \"2\" 644 0:0",
            "usr/ 755 0:0",
            "usr/bin/ 755 0:0",
            "usr/bin/app \"1\" 644 0:0",
            "usr/bin/tool \"3\" 644 0:0"
        ]
    );
}

#[test]
fn hard_links_share_a_file_across_layers() {
    let lower = Tar::new().folder("usr/bin").symlink("bin", "usr/bin").file("usr/bin/perl", "perl").end();
    let upper = Tar::new().hard_link("usr/bin/perl5", "bin/perl").hard_link("third", "./usr/bin/perl5").end();
    let archive = try_apply(&[lower, upper]).unwrap();
    let link = |path: &str| archive.get(path.as_bytes()).unwrap().link.unwrap();
    assert_eq!(link("root/usr/bin/perl"), link("root/usr/bin/perl5"));
    assert_eq!(link("root/usr/bin/perl"), link("root/third"));
    assert_eq!(read(&archive, "root/third"), "perl");
}

#[test]
fn a_hard_link_to_a_symbolic_link_is_that_link_and_follows_nothing() {
    let layer = Tar::new().symlink("a", "/etc/shadow").hard_link("b", "a").end();
    assert_eq!(apply(&[layer]), ["a -> /etc/shadow", "b -> /etc/shadow"]);
}

#[test]
fn long_names_of_both_formats_are_kept() {
    let long = format!("{}/{}", "d".repeat(200), "f".repeat(200));
    let gnu = Tar::new()
        .member(b"././@LongLink", EntryType::GNULongName, format!("{long}\0").as_bytes(), |_| {})
        .file("short", "1")
        .member(b"././@LongLink", EntryType::GNULongLink, format!("{long}\0").as_bytes(), |_| {})
        .symlink("link", "short")
        .end();
    let pax = Tar::new()
        .pax(&[("path", long.as_bytes()), ("uid", b"70000000"), ("mtime", b"1.5"), ("comment", b"x")])
        .file("short", "1")
        .pax(&[("linkpath", long.as_bytes())])
        .symlink("link", "short")
        .end();
    for (layer, uid) in [(gnu, 0), (pax, 70_000_000)] {
        let folder = "d".repeat(200);
        let expected =
            [format!("{folder}/ 755 0:0"), format!("{long} \"1\" 644 {uid}:0"), format!("link -> {long}")];
        assert_eq!(apply(&[layer]), expected);
    }
}

#[test]
fn attributes_with_any_bytes_are_kept_and_unknown_ones_refused_or_dropped() {
    let capability = b"\x01\x00\x00\x02\n\x20\x00\x00\n\n=\x00";
    let layer = |name: &str| {
        Tar::new()
            .pax(&[("SCHILY.xattr.security.capability", capability), (name, b"v")])
            .file("ping", "x")
            .end()
    };
    let archive = try_apply(&[layer("SCHILY.xattr.user.note")]).unwrap();
    let attributes = &archive.get(b"root/ping").unwrap().attributes;
    assert_eq!(attributes["security.capability"], capability);
    assert_eq!(attributes["user.note"], b"v");
    for (key, name) in [
        ("SCHILY.xattr.trusted.overlay.opaque", "trusted.overlay.opaque"),
        ("SCHILY.acl.access", "system.posix_acl_access"),
    ] {
        refused(layer(key), &["ping", name, "--drop-xattrs"]);
        let dropped = apply_with(&[layer(key)], &Limits::default(), Whiteouts::Apply, Others::Drop).unwrap();
        let attributes = &dropped.get(b"root/ping").unwrap().attributes;
        assert_eq!(attributes.keys().collect::<Vec<_>>(), ["security.capability"]);
    }
}

#[test]
fn paths_and_links_out_of_the_archive_are_refused_by_name() {
    for name in ["../outside", "a/../../outside", "..", "/etc/outside"] {
        refused(
            Tar::new().file(name, "x").end(),
            &[name, "outside the archive"]
                .map(|word| if name.starts_with('/') || word == name { word } else { "out of the archive" }),
        );
        let linked = Tar::new().file("a", "x").hard_link("innocent", name).end();
        refused(linked, &["innocent", name]);
    }
    let pax = Tar::new().pax(&[("path", b"../../outside")]).file("innocent", "x").end();
    refused(pax, &["../../outside"]);
    let pax = Tar::new().pax(&[("path", b"a\0b")]).file("innocent", "x").end();
    refused(pax, &["zero byte"]);
}

#[test]
fn links_that_lead_nowhere_are_refused_by_name() {
    refused(Tar::new().hard_link("a", "missing").end(), &["a:", "missing", "does not have"]);
    refused(Tar::new().hard_link("a", "missing/deep").end(), &["missing/deep", "does not have"]);
    refused(Tar::new().folder("d").hard_link("a", "d").end(), &["which is a folder"]);
    refused(Tar::new().symlink("loop", "loop").file("loop/x", "").end(), &["loop/x", "symbolic links"]);
    refused(Tar::new().symlink("a", "b").symlink("b", "a").file("a/x", "").end(), &["symbolic links"]);
}

#[test]
fn a_file_where_a_folder_should_be_is_refused_by_name() {
    refused(Tar::new().file("a", "1").file("a/b", "2").end(), &["a/b", "not a folder"]);
    refused(Tar::new().file(".", "1").end(), &["the root must be a folder"]);
    refused(Tar::new().symlink(".", "x").end(), &["the root must be a folder"]);
}

#[test]
fn files_over_4_gib_and_sparse_files_are_refused_by_name() {
    let huge = |size: u64| {
        Tar::new().member(b"huge", EntryType::Regular, b"", move |header| header.set_size(size)).open()
    };
    refused(huge(1 << 32), &["huge", "4294967296", "4 GiB"]);
    refused(huge((1 << 32) - 1), &["middle of a file"]);
    refused(huge(u64::MAX >> 1), &["huge", "4 GiB"]);
    let pax = Tar::new().pax(&[("size", b"8589934593")]).file("huge", "").end();
    refused(pax, &["huge", "8589934593"]);
    let sparse = Tar::new().member(b"holes", EntryType::GNUSparse, b"", |_| {}).end();
    refused(sparse, &["holes", "sparse"]);
    let sparse =
        Tar::new().pax(&[("GNU.sparse.major", b"1"), ("GNU.sparse.realsize", b"9")]).file("holes", "x").end();
    refused(sparse, &["holes", "sparse"]);
}

#[test]
fn what_two_readers_could_take_for_two_things_is_refused() {
    let two_sizes = Tar::new().pax(&[("size", b"1")]).file("a", "longer").end();
    refused(two_sizes, &["a:", "disagree"]);
    let full_link = Tar::new().file("a", "x").member(b"b", EntryType::Link, b"content", |header| {
        header.set_link_name("a").unwrap();
    });
    refused(full_link.end(), &["b:", "only files may"]);
    let full_folder = Tar::new().member(b"d", EntryType::Directory, b"content", |_| {}).end();
    refused(full_folder, &["d:", "only files may"]);
    let volume = Tar::new().member(b"label", EntryType::new(b'V'), b"", |_| {}).end();
    refused(volume, &["label"]);
    refused(Tar::new().pax(&[("path", b"a")]).end(), &["after an extended header"]);
    refused(Tar::new().pax(&[("uid", b"none")]).file("a", "").end(), &["malformed number"]);
    refused(
        Tar::new().member(b"x", EntryType::XHeader, b"not a record", |_| {}).file("a", "").end(),
        &["malformed"],
    );
    refused(Tar::new().pax(&[("uid", b"4294967296")]).file("a", "").end(), &["32 bits"]);
    refused(Tar::new().file(".wh.", "").end(), &["whiteout of no name"]);
    refused(Tar::new().file("a/.wh...", "").end(), &["whiteout of no name"]);
}

#[test]
fn damaged_and_truncated_archives_are_refused() {
    let good = Tar::new().file("a", "content").file("b", "content").end();
    assert!(try_apply(std::slice::from_ref(&good)).is_ok());
    for length in [0, 1, 511, 512, 600, 1024, 1030, 1536, 2000, 2048] {
        let message = try_apply(&[good[..length].to_vec()]).unwrap_err().to_string();
        assert!(message.starts_with("layer 1 is not a complete tar archive"), "{length}: {message}");
    }
    let mut damaged = good;
    damaged[3] ^= 1;
    refused(damaged, &["checksum"]);
    refused(b"not an archive at all".repeat(100), &["not a complete tar archive"]);
}

#[test]
fn names_have_the_kernels_limits_and_one_byte_more_is_refused() {
    let layer = |path: &str| Tar::new().pax(&[("path", path.as_bytes())]).file("short", "x").end();
    assert!(try_apply(&[layer(&"n".repeat(255))]).is_ok());
    refused(layer(&"n".repeat(256)), &["255"]);
    // "root/" stands before it: 4095 bytes in all.
    let folders = |length: usize| format!("{}{}", "d/".repeat(1000), "a/".repeat((length - 2000) / 2)) + "f";
    assert!(try_apply(&[layer(&folders(4089))]).is_ok());
    refused(layer(&folders(4093)), &["4095"]);
    let long = Tar::new().member(b"l", EntryType::GNULongName, &[b'x'; 4097], |_| {}).file("a", "");
    refused(long.end(), &["4096 bytes of a path"]);
}

#[test]
fn every_limit_is_kept_and_one_more_refused() {
    let layers = [Tar::new().file("a/b", "1").end(), Tar::new().file("c", "2").end()];
    let attempt = |limits: Limits| apply_with(&layers, &limits, Whiteouts::Apply, Others::Refuse);
    // The folder that was made for the file counts as well.
    assert!(attempt(Limits { entries: 3, ..Limits::default() }).is_ok());
    let error = attempt(Limits { entries: 2, ..Limits::default() }).unwrap_err();
    assert!(error.to_string().contains("layer 2: more than 2 entries"), "{error}");
    assert!(attempt(Limits { names: 5, ..Limits::default() }).is_ok());
    let error = attempt(Limits { names: 4, ..Limits::default() }).unwrap_err();
    assert!(error.to_string().contains("more than 4 bytes of paths"), "{error}");
    let layer = [Tar::new().pax(&[("SCHILY.xattr.user.a", b"12345")]).file("a", "").end()];
    let attempt = |attributes| {
        let limits = Limits { attributes, ..Limits::default() };
        apply_with(&layer, &limits, Whiteouts::Apply, Others::Refuse)
    };
    assert!(attempt(11).is_ok());
    assert!(attempt(10).unwrap_err().to_string().contains("more than 10 bytes of extended attributes"));
    let header = Tar::new().pax(&[("comment", &[b'x'; 1 << 20])]).file("a", "").end();
    refused(header, &["1048576 bytes of a path or extended header"]);
}

#[test]
fn every_format_of_gnu_tar_reads_the_same() {
    use std::process::Command;
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    std::fs::create_dir_all(root.join("a/b")).unwrap();
    std::fs::write(root.join("a/b").join("n".repeat(200)), "long").unwrap();
    std::fs::write(root.join("a/file"), "content").unwrap();
    std::fs::hard_link(root.join("a/file"), root.join("z")).unwrap();
    std::os::unix::fs::symlink("a/file", root.join("link")).unwrap();
    let mut listings = Vec::new();
    for format in ["gnu", "pax", "oldgnu"] {
        let path = folder.path().join(format);
        let tar = Command::new("tar")
            .args(["--create", "--owner=12", "--group=34", "--mode=a=rX", "--format", format, "--file"])
            .arg(&path)
            .arg("--directory")
            .arg(&root)
            .arg(".")
            .status()
            .unwrap();
        assert!(tar.success());
        listings.push(apply(&[std::fs::read(path).unwrap()]));
    }
    assert_eq!(listings[0].len(), 6);
    assert!(listings[0].iter().any(|line| line.contains("content") && line.contains("12:34")));
    assert_eq!(listings[0], listings[1]);
    assert_eq!(listings[0], listings[2]);
}
