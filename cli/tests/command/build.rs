//! `enclave build --rootfs`: the same bytes for the same input, and clear words for everything else.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use sha2::{Digest, Sha384};

use crate::support::{Ran, User, enclave_alone, set_mode};

/// What stands for a kernel: its magic is all that is looked at before a boot.
pub(crate) fn kernel() -> Vec<u8> {
    let mut kernel = vec![0; 0x1000];
    kernel[0x202..0x206].copy_from_slice(b"HdrS");
    kernel
}

/// A root folder with a program, a file, a link and a folder in it.
pub(crate) fn rootfs(user: &User, name: &str) -> String {
    let root = user.path(name);
    fs::create_dir_all(root.join("bin")).unwrap();
    fs::create_dir_all(root.join("etc/empty")).unwrap();
    fs::write(root.join("bin/app"), "#!/bin/true\n").unwrap();
    fs::write(root.join("etc/motd"), "hello\n").unwrap();
    symlink("bin/app", root.join("app")).unwrap();
    for (path, mode) in [
        ("", 0o755),
        ("bin", 0o755),
        ("bin/app", 0o755),
        ("etc", 0o755),
        ("etc/empty", 0o700),
        ("etc/motd", 0o644),
    ] {
        set_mode(&root.join(path), mode);
    }
    root.to_str().unwrap().to_owned()
}

/// Builds with a kernel and an init of this test's own.
pub(crate) fn build(user: &User, output: &str, more: &[&str]) -> Ran {
    let (kernel, init) = (user.file("kernel", kernel()), user.file("init", "init"));
    let output = user.path(output).to_str().unwrap().to_owned();
    let words = ["build", "--output", &output, "--kernel", &kernel, "--init", &init];
    let mut command = user.command(&[&words[..], more].concat());
    Ran::of(command.env("SOURCE_DATE_EPOCH", "1600000000"))
}

/// The contents of an image's sections with their types, by the table alone.
pub(crate) fn sections(image: &[u8]) -> Vec<(u16, Vec<u8>)> {
    let number =
        |at: usize| usize::try_from(u64::from_be_bytes(image[at..at + 8].try_into().unwrap())).unwrap();
    let count = usize::from(u16::from_be_bytes([image[26], image[27]]));
    (0..count)
        .map(|index| {
            let (offset, size) = (number(0x1c + 8 * index), number(0x11c + 8 * index));
            let kind = u16::from_be_bytes([image[offset], image[offset + 1]]);
            (kind, image[offset + 12..][..size].to_vec())
        })
        .collect()
}

pub(crate) fn register(contents: &[&[u8]]) -> String {
    let digest = contents.iter().fold(Sha384::new(), |hash, content| hash.chain_update(content)).finalize();
    hex::encode(Sha384::new().chain_update([0; 48]).chain_update(digest).finalize())
}

#[test]
fn the_registers_are_those_of_the_sections_and_everything_given_is_in_them() {
    let user = User::new();
    let root = rootfs(&user, "root");
    let metadata = user.file("metadata.json", r#"{"Team":"blue"}"#);
    let built = build(
        &user,
        "app.eif",
        &[
            "--rootfs",
            &root,
            "--env",
            "A=1",
            "--env",
            "B=x=y",
            "--cmdline",
            "console=ttyS0 custom",
            "--version",
            "7",
            "--metadata",
            &metadata,
            "-o",
            "json",
            "--",
            "/bin/app",
            "--flag",
        ],
    )
    .succeeded();
    let image = fs::read(user.path("app.eif")).unwrap();
    let sections = sections(&image);
    let kinds: Vec<u16> = sections.iter().map(|(kind, _)| *kind).collect();
    assert_eq!(kinds, [1, 2, 5, 3, 3]);
    let content = |index: usize| sections[index].1.as_slice();
    let report = built.json();
    assert_eq!(report["Measurements"]["PCR0"], register(&[content(0), content(1), content(3), content(4)]));
    assert_eq!(report["Measurements"]["PCR1"], register(&[content(0), content(1), content(3)]));
    assert_eq!(report["Measurements"]["PCR2"], register(&[content(4)]));
    assert_eq!(report["Bytes"], image.len());
    assert_eq!(content(1), b"console=ttyS0 custom");

    let described =
        user.run(&["eif", "describe", user.path("app.eif").to_str().unwrap(), "-o", "json"]).succeeded();
    let described = described.json();
    assert_eq!((&described["ImageName"], &described["ImageVersion"]), (&"app".into(), &"7".into()));
    assert_eq!(described["Metadata"]["Team"], "blue");
    assert_eq!(described["Metadata"]["BuildTime"], "2020-09-13T12:26:40Z");
    assert_eq!(described["CheckCRC"], true);
    let files = unpacked(&user, content(4));
    assert_eq!(fs::read_to_string(files.join("cmd")).unwrap(), "/bin/app\n--flag\n");
    assert_eq!(fs::read_to_string(files.join("env")).unwrap(), "A=1\nB=x=y\n");
    assert_eq!(fs::read_to_string(files.join("rootfs/etc/motd")).unwrap(), "hello\n");
    assert_eq!(fs::read_link(files.join("rootfs/app")).unwrap(), Path::new("bin/app"));
}

/// Unpacks a ramdisk with cpio.
pub(crate) fn unpacked(user: &User, ramdisk: &[u8]) -> std::path::PathBuf {
    let folder = user.path("unpacked");
    fs::create_dir(&folder).unwrap();
    let archive = user.file("ramdisk.cpio", ramdisk);
    let cpio = Command::new("cpio")
        .args(["--extract", "--quiet", "--make-directories", "--file", &archive])
        .current_dir(&folder)
        .status()
        .expect("cpio is installed");
    assert!(cpio.success());
    folder
}

#[test]
fn modules_are_loaded_in_the_order_in_which_they_are_given() {
    let user = User::new();
    let root = rootfs(&user, "root");
    let (second, first) = (user.file("a.ko", "A"), user.file("b.ko.xz", "B"));
    let _ = build(
        &user,
        "a.eif",
        &["--rootfs", &root, "--module", &first, "--module", &second, "--", "/bin/app"],
    )
    .succeeded();
    let sections = sections(&fs::read(user.path("a.eif")).unwrap());
    let files = unpacked(&user, &sections[3].1);
    assert_eq!(fs::read_to_string(files.join("modules/order")).unwrap(), "b.ko.xz\na.ko\n");
    assert_eq!(fs::read_to_string(files.join("modules/b.ko.xz")).unwrap(), "B");
}

#[test]
fn the_same_input_gives_the_same_bytes_wherever_it_lies() {
    let (one, other) = (User::new(), User::new());
    let images = [(&one, "first"), (&other, "second")].map(|(user, name)| {
        let root = rootfs(user, name);
        let _ = build(user, "a.eif", &["--rootfs", &root, "--", "/bin/app"]).succeeded();
        fs::read(user.path("a.eif")).unwrap()
    });
    assert!(images[0] == images[1], "the images differ");
}

#[test]
fn an_archive_gives_the_image_of_its_folder() {
    let user = User::new();
    let root = rootfs(&user, "root");
    let _ = build(&user, "folder/../a.eif", &["--rootfs", &root, "--", "/bin/app"]).failed(&["folder"]);
    let _ = build(&user, "a.eif", &["--rootfs", &root, "--", "/bin/app"]).succeeded();
    for (name, compression) in [("root.tar", "--no-auto-compress"), ("root.tar.gz", "--gzip")] {
        let archive = user.path(name);
        let tar = Command::new("tar")
            .args(["--create", compression, "--owner=0", "--group=0", "--file"])
            .arg(&archive)
            .args(["--directory", &root, "."])
            .status()
            .unwrap();
        assert!(tar.success());
        let _ =
            build(&user, "b.eif", &["--rootfs", archive.to_str().unwrap(), "--name", "a", "--", "/bin/app"])
                .succeeded();
        assert!(
            fs::read(user.path("a.eif")).unwrap() == fs::read(user.path("b.eif")).unwrap(),
            "{name} differs"
        );
    }
}

#[test]
fn an_archive_that_leaves_its_folder_or_is_none_is_refused() {
    let user = User::new();
    let secret = user.path("outside");
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_size(1);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.as_mut_bytes()[..10].copy_from_slice(b"../outside");
    header.set_cksum();
    archive.append(&header, &b"x"[..]).unwrap();
    let escaping = user.file("escaping.tar", archive.into_inner().unwrap());
    let _ = build(&user, "a.eif", &["--rootfs", &escaping, "--", "/bin/app"])
        .failed(&["../outside", "out of the archive"]);
    assert!(!secret.exists());
    let text = user.file("text.tar", "not an archive");
    let _ = build(&user, "a.eif", &["--rootfs", &text, "--", "/bin/app"])
        .failed(&["text.tar", "not a complete tar archive"]);
    let empty = user.file("empty.tar", "");
    let _ = build(&user, "a.eif", &["--rootfs", &empty, "--", "/bin/app"]).failed(&["empty.tar"]);
    assert!(!user.path("a.eif").exists());
}

#[test]
fn what_is_missing_or_wrong_is_named_and_leaves_no_image() {
    let user = User::new();
    let root = rootfs(&user, "root");
    let _ = build(&user, "a.eif", &["--rootfs", &root]).failed(&["no command", "after --"]);
    let _ = build(&user, "a.eif", &["--rootfs", "/nonexistent", "--", "/a"]).failed(&["/nonexistent"]);
    let _ = build(&user, "root/a.eif", &["--rootfs", &root, "--", "/a"]).failed(&["inside the root folder"]);
    let text = user.file("text", "text");
    let _ =
        build(&user, "a.eif", &["--rootfs", &root, "--metadata", &text, "--", "/a"]).failed(&["metadata"]);
    let _ = build(&user, "a.eif", &["--rootfs", &root, "--workdir", "relative", "--", "/a"])
        .failed(&["relative"]);
    let output = user.path("a.eif").to_str().unwrap().to_owned();
    let words = ["build", "--rootfs", &root, "--output", &output];
    let _ = user
        .run(&[&words[..], &["--init", &text, "--", "/a"]].concat())
        .failed(&["guest kernel", "make build"]);
    let _ = user
        .run(&[&words[..], &["--kernel", &text, "--init", &text, "--", "/a"]].concat())
        .failed(&["not a Linux kernel", "--kernel"]);
    let kernel = user.file("kernel", kernel());
    let (program, _folder) = enclave_alone();
    let arguments = [&words[..], &["--kernel", &kernel, "--", "/a"]].concat();
    let _ = Ran::of(Command::new(program).args(arguments).env("HOME", user.path("home")))
        .failed(&["enclave-init", "make build"]);
    assert!(!user.path("a.eif").exists());
}

#[test]
fn a_release_brings_its_own_kernel_and_init() {
    let user = User::new();
    let root = rootfs(&user, "root");
    let (program, folder) = enclave_alone();
    fs::create_dir(folder.path().join("kernel")).unwrap();
    fs::write(folder.path().join("kernel/bzImage"), kernel()).unwrap();
    fs::write(folder.path().join("kernel/info.json"), r#"{"version":"6.12.0-here"}"#).unwrap();
    fs::write(folder.path().join("enclave-init"), "init").unwrap();
    let output = user.path("a.eif").to_str().unwrap().to_owned();
    let arguments = ["build", "--output", &output, "--rootfs", &root, "--", "/a"];
    let built = Ran::of(Command::new(program).args(arguments).env("HOME", user.path("home"))).succeeded();
    assert!(built.stdout.contains("Linux 6.12.0-here"), "{built:#?}");
}

#[test]
fn there_is_one_source_and_a_key_has_a_certificate() {
    let user = User::new();
    let both = user.run(&["build", "--output", "o", "--rootfs", "a", "--oci", "b"]);
    let lonely = user.run(&["build", "--output", "o", "--rootfs", "a", "--sign-key", "b"]);
    let none = user.run(&["build", "--output", "o"]);
    assert_eq!((both.status, lonely.status, none.status), (2, 2, 2));
}

#[test]
fn the_kernel_and_its_origin_come_from_the_cache() {
    let user = User::new();
    let root = rootfs(&user, "root");
    let kernels = user.path("cache/kernels");
    fs::create_dir_all(kernels.join("0123")).unwrap();
    symlink("0123", kernels.join("default")).unwrap();
    fs::write(kernels.join("0123/bzImage"), kernel()).unwrap();
    fs::write(
        kernels.join("0123/info.json"),
        r#"{"version":"6.12.99","source_package":"linux-source","source_sha256":"ab"}"#,
    )
    .unwrap();
    let (init, output) = (user.file("init", "init"), user.path("a.eif").to_str().unwrap().to_owned());
    let words = ["build", "--rootfs", &root, "--output", &output, "--init", &init, "-o", "json", "--", "/a"];
    assert_eq!(user.run(&words).succeeded().json()["KernelVersion"], "6.12.99");
    let described = user.run(&["eif", "describe", &output, "-o", "json"]).succeeded().json();
    assert_eq!(described["Metadata"]["KernelVersion"], "6.12.99");
    assert_eq!(
        described["Metadata"]["Kernel"],
        serde_json::json!({"SourcePackage": "linux-source", "SourceSHA256": "ab"})
    );
}
