//! `eif extract`: what comes out is what went in, and nothing hostile gets anywhere.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use crate::eif::{METADATA, golden, golden_sections};
use crate::newc::{Member, archive, piped, sound_image};
use crate::signed::{Signer, sha384sum};
use crate::support::{Ran, User, set_mode};

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

#[test]
fn every_section_becomes_a_file() {
    let user = User::new();
    let signer = Signer::new(&user, "signer");
    let image = user.file("app.eif", golden());
    let words = ["eif", "sign", &image, "--sign-key", &signer.key, "--sign-cert", &signer.certificate];
    let _ = user.run(&words).succeeded();
    let folder = user.path("out");
    let _ = user.run(&["eif", "extract", &image, "--output", &text(&folder)]).succeeded();
    let expected = [
        "cmdline",
        "kernel",
        "metadata.json",
        "ramdisk-1.cpio",
        "ramdisk-2.cpio",
        "signature.cbor",
        "signing-certificate.pem",
    ];
    assert_eq!(names(&folder), expected);
    let read = |name: &str| fs::read(folder.join(name)).unwrap();
    for ((_, data), name) in golden_sections().iter().zip([
        "kernel",
        "cmdline",
        "metadata.json",
        "ramdisk-1.cpio",
        "ramdisk-2.cpio",
    ]) {
        assert_eq!(read(name), *data, "{name}");
    }
    assert_eq!(read("signing-certificate.pem"), fs::read(&signer.certificate).unwrap());
    let described = user.run(&["eif", "describe", &image, "-o", "json"]).succeeded().json();
    assert_eq!(described["Sections"][5]["SHA384"], sha384sum(&folder.join("signature.cbor")));
}

#[test]
fn compressed_ramdisks_are_named_so_and_a_folder_is_never_written_into() {
    let user = User::new();
    let content = archive(&[Member::file("init", "x")]);
    let [gzip, zstd] = ["gzip", "zstd"].map(|program| piped(program, &content));
    let sections: [(u16, &[u8]); 5] =
        [(1, b"K"), (2, b"c"), (5, METADATA.as_bytes()), (3, &gzip), (3, &zstd)];
    let image = user.file("app.eif", sound_image(&sections));
    let folder = user.path("out");
    let _ = user.run(&["eif", "extract", &image, "--output", &text(&folder)]).succeeded();
    assert!(folder.join("ramdisk-1.cpio.gz").exists() && folder.join("ramdisk-2.cpio.zst").exists());

    let before = names(&user.path(""));
    for existing in ["out", "app.eif"] {
        let _ = user
            .run(&["eif", "extract", &image, "--output", &text(&user.path(existing))])
            .failed(&["exists", "does not exist yet"]);
    }
    symlink("/nowhere", user.path("dangling")).unwrap();
    let _ =
        user.run(&["eif", "extract", &image, "--output", &text(&user.path("dangling"))]).failed(&["exists"]);
    fs::remove_file(user.path("dangling")).unwrap();
    let cut = user.file("cut.eif", &golden()[..700]);
    let _ = user
        .run(&["eif", "extract", &cut, "--output", &text(&user.path("new"))])
        .failed(&["cut.eif", "truncated"]);
    fs::remove_file(cut).unwrap();
    assert_eq!(names(&user.path("")), before);
    assert_eq!(user.run(&["eif", "extract", &image]).status, 2);
}

/// An image with this second ramdisk.
fn with_application(user: &User, members: &[Member]) -> String {
    let (boot, application) = (archive(&[Member::file("init", "x")]), archive(members));
    let sections: [(u16, &[u8]); 5] =
        [(1, b"K"), (2, b"c"), (5, METADATA.as_bytes()), (3, &boot), (3, &application)];
    user.file("app.eif", sound_image(&sections))
}

fn rootfs(user: &User, image: &str) -> Ran {
    user.run(&["eif", "extract", image, "--rootfs", &text(&user.path("root.tar"))])
}

/// What the `tar` program lists of the archive.
fn listed(user: &User) -> String {
    let output = Command::new("tar")
        .args(["--numeric-owner", "-tvf"])
        .arg(user.path("root.tar"))
        .env("TZ", "UTC")
        .env("LC_ALL", "C")
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_root_folder_comes_out_with_owners_modes_links_and_devices() {
    let user = User::new();
    let long = format!("rootfs/{}/file", "long-name".repeat(25));
    let image = with_application(
        &user,
        &[
            Member::file("cmd", "/app\n"),
            Member::file("rootfs", "").mode(0o040_711),
            Member {
                uid: 3_000_000,
                gid: 8,
                mtime: 1_000_000_000,
                ..Member::file("rootfs/app", "program").mode(0o104_755)
            },
            Member { special: (1, 3), ..Member::file("rootfs/null", "").mode(0o020_666) },
            Member::file("rootfs/pipe", "").mode(0o010_600),
            Member::file("rootfs/socket", "").mode(0o140_600),
            Member::file("rootfs/link", "/etc/../weird//target/").mode(0o120_777),
            Member { inode: 9, links: 2, ..Member::file("rootfs/first", "") },
            Member { inode: 9, links: 2, ..Member::file("rootfs/second", "content") },
            Member { inode: 10, links: 2, ..Member::file("rootfs/empty-1", "") },
            Member { inode: 10, links: 2, ..Member::file("rootfs/empty-2", "") },
            Member::file(&long, "deep"),
        ],
    );
    let ran = rootfs(&user, &image).succeeded();
    assert!(ran.stderr.contains("socket"), "{ran:#?}");
    let list = listed(&user);
    for line in [
        "drwx--x--x 0/0               0 1970-01-01 00:00 ./",
        "-rwsr-xr-x 3000000/8         7 2001-09-09 01:46 app",
        "crw-rw-rw- 0/0             1,3 1970-01-01 00:00 null",
        "prw------- 0/0               0 1970-01-01 00:00 pipe",
        "link -> /etc/../weird//target/",
        "second",
        "first link to second",
        "empty-2 link to empty-1",
        &long["rootfs/".len()..],
    ] {
        assert!(list.contains(line), "{line}:\n{list}");
    }
    assert!(!list.contains("cmd") && !list.contains("socket"), "{list}");
    // The same once more.
    let first = fs::read(user.path("root.tar")).unwrap();
    let _ = rootfs(&user, &image).succeeded();
    assert!(fs::read(user.path("root.tar")).unwrap() == first);
}

#[test]
fn hostile_ramdisks_get_nowhere() {
    let cases: [(&[Member], &str); 9] = [
        (&[Member::file("rootfs/../../etc/passwd", "x")], "leads out"),
        (&[Member::file("../rootfs/x", "x")], "leads out"),
        (
            &[Member::file("rootfs/d", "/etc").mode(0o120_777), Member::file("rootfs/d/passwd", "x")],
            "symbolic link",
        ),
        (
            &[Member::file("rootfs/d", "/etc").mode(0o120_777), Member::file("/rootfs//./d/x", "x")],
            "symbolic link",
        ),
        (&[Member::file("rootfs", "/etc").mode(0o120_777)], "no ramdisk"),
        (&[Member::file("rootfs", "/etc").mode(0o120_777), Member::file("rootfs/passwd", "x")], "no ramdisk"),
        (
            &[
                Member { inode: 1, links: 2, ..Member::file("rootfs/d/f", "x") },
                Member::file("rootfs/d", "/etc").mode(0o120_777),
                Member { inode: 1, links: 2, ..Member::file("rootfs/g", "") },
            ],
            "symbolic link",
        ),
        (
            &[
                Member { inode: 1, links: 2, ..Member::file("rootfs/f", "x") },
                Member { inode: 1, links: 2, ..Member::file("rootfs/g", "y") },
            ],
            "different contents",
        ),
        (&[Member::file("elsewhere", "x")], "no ramdisk"),
    ];
    for (members, words) in cases {
        let user = User::new();
        let image = with_application(&user, members);
        let before = names(&user.path(""));
        let _ = rootfs(&user, &image).failed(&["app.eif", words]);
        assert_eq!(names(&user.path("")), before, "{words}: something was left behind");
    }
}

#[test]
fn a_link_in_one_ramdisk_is_seen_by_the_next() {
    let user = User::new();
    let boot = archive(&[Member::file("rootfs/d", "/etc").mode(0o120_777)]);
    let application = archive(&[Member::file("rootfs/d/passwd", "x")]);
    let sections: [(u16, &[u8]); 5] =
        [(1, b"K"), (2, b"c"), (5, METADATA.as_bytes()), (3, &boot), (3, &application)];
    let image = user.file("app.eif", sound_image(&sections));
    let _ = rootfs(&user, &image).failed(&["symbolic link"]);
}

#[test]
fn what_cannot_be_read_is_refused() {
    let user = User::new();
    let whole = archive(&[Member::file("rootfs/x", "content")]);
    for (ramdisk, words) in [
        (whole[..130].to_vec(), "truncated"),
        (piped("xz", &whole), "xz"),
        (b"text".to_vec(), "neither a cpio archive"),
    ] {
        let sections: [(u16, &[u8]); 4] = [(1, b"K"), (2, b"c"), (5, METADATA.as_bytes()), (3, &ramdisk)];
        let image = user.file("app.eif", sound_image(&sections));
        let _ = rootfs(&user, &image).failed(&["ramdisk 1", words]);
        assert!(!user.path("root.tar").exists());
    }
}

#[test]
fn extended_attributes_that_the_image_keeps_come_out_too() {
    let user = User::new();
    let capability = "0100000200040000000000000000000000000000";
    let image = with_application(
        &user,
        &[
            Member::file("rootfs/ping", "x").mode(0o100_755),
            Member::file("rootfs/a\\b\nc", "y"),
            Member::file(
                "xattrs",
                format!("security.capability {capability} ping\nuser.note 6869 a\\\\b\\nc\nbroken\n"),
            ),
        ],
    );
    let _ = rootfs(&user, &image).succeeded();
    let archive = fs::read(user.path("root.tar")).unwrap();
    let mut reader = tar::Archive::new(archive.as_slice());
    let mut found = Vec::new();
    for entry in reader.entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = String::from_utf8(entry.path_bytes().into_owned()).unwrap();
        for extension in entry.pax_extensions().unwrap().into_iter().flatten() {
            let extension = extension.unwrap();
            found.push((
                path.clone(),
                extension.key().unwrap().to_owned(),
                hex::encode(extension.value_bytes()),
            ));
        }
    }
    let expected = [
        ("ping", "SCHILY.xattr.security.capability", capability),
        ("a\\b\nc", "SCHILY.xattr.user.note", "6869"),
    ];
    assert_eq!(found, expected.map(|(path, key, value)| (path.to_owned(), key.to_owned(), value.to_owned())));
}

#[test]
fn an_image_built_from_the_extracted_root_folder_has_the_same_pcr2() {
    let user = User::new();
    let root = user.path("root");
    fs::create_dir_all(root.join("bin")).unwrap();
    fs::create_dir_all(root.join("var/empty")).unwrap();
    fs::write(root.join("bin/app"), "#!/bin/true\n").unwrap();
    fs::hard_link(root.join("bin/app"), root.join("bin/again")).unwrap();
    fs::write(root.join("note"), "hello\n").unwrap();
    symlink("../bin/app", root.join("var/link")).unwrap();
    for (path, mode) in [
        ("", 0o755),
        ("bin", 0o755),
        ("bin/app", 0o4755),
        ("var", 0o711),
        ("var/empty", 0o1777),
        ("note", 0o640),
    ] {
        set_mode(&root.join(path), mode);
    }
    let mut kernel = vec![0; 0x1000];
    kernel[0x202..0x206].copy_from_slice(b"HdrS");
    let (kernel, init) = (user.file("kernel", kernel), user.file("init", "init"));
    let build = |output: &str, root: &Path| {
        let (output, root) = (text(&user.path(output)), text(root));
        let words = [
            "build", "--rootfs", &root, "--output", &output, "--kernel", &kernel, "--init", &init, "--env",
            "A=b", "-o", "json", "--", "/bin/app",
        ];
        user.run(&words).succeeded().json()["Measurements"].clone()
    };
    let first = build("first.eif", &root);
    let _ = rootfs(&user, &text(&user.path("first.eif"))).succeeded();
    let second = build("second.eif", &user.path("root.tar"));
    for register in ["PCR0", "PCR1", "PCR2"] {
        assert_eq!(first[register], second[register], "{register}");
    }
}

#[test]
fn owners_devices_links_and_attributes_survive_build_and_extract_for_any_user() {
    let user = User::new();
    let strange = with_application(
        &user,
        &[
            Member::file("rootfs", "").mode(0o040_711),
            Member::file("rootfs/dev", "").mode(0o040_755),
            Member { special: (1, 3), ..Member::file("rootfs/dev/null", "").mode(0o020_666) },
            Member { uid: 1000, gid: 50, ..Member::file("rootfs/ping", "program").mode(0o104_755) },
            Member { inode: 9, links: 2, uid: 7, ..Member::file("rootfs/one", "content") },
            Member { inode: 9, links: 2, uid: 7, ..Member::file("rootfs/two", "") },
            Member::file("rootfs/link", "/etc/../weird//target/").mode(0o120_777),
            Member::file(&format!("rootfs/{}", "long-name".repeat(25)), "x"),
            Member::file("xattrs", "user.note 6869 ping\n"),
        ],
    );
    let _ = rootfs(&user, &strange).succeeded();
    let mut kernel = vec![0; 0x1000];
    kernel[0x202..0x206].copy_from_slice(b"HdrS");
    let (kernel, init) = (user.file("kernel", kernel), user.file("init", "init"));
    let build = |output: &str| {
        let (output, root) = (text(&user.path(output)), text(&user.path("root.tar")));
        let words = ["build", "--rootfs", &root, "--output", &output, "--kernel", &kernel, "--init", &init];
        let words = [&words[..], &["-o", "json", "--", "/ping"]].concat();
        user.run(&words).succeeded().json()["Measurements"]["PCR2"].clone()
    };
    let first = build("first.eif");
    let listed_before = listed(&user);
    let _ = rootfs(&user, &text(&user.path("first.eif"))).succeeded();
    assert_eq!(build("second.eif"), first);
    for word in ["1000/50", "dev/null", "two link to one", "link -> /etc/../weird//target/", "-rwsr-xr-x"] {
        assert!(listed_before.contains(word) && listed(&user).contains(word), "{word}:\n{}", listed(&user));
    }
    let archive = fs::read(user.path("root.tar")).unwrap();
    let attribute = b"SCHILY.xattr.user.note=hi\n";
    assert!(archive.windows(attribute.len()).any(|window| window == attribute));
}
