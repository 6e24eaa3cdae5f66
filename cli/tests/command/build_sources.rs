//! `enclave build` from container images and archives: what ends up in the image, and that it is always the same.

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::Command;

use containers::tool::{run, skopeo_copy};
use serde_json::json;
use tar::EntryType;

use crate::build::{build, kernel, register, rootfs, sections, unpacked};
use crate::images::{Image, LAYER, Layout, Tar, described, gzip};
use crate::support::{Ran, User};

/// An image of two layers that uses what an image can say.
fn image() -> Image {
    let base = Tar::new()
        .folder("usr/bin")
        .symlink("bin", "usr/bin")
        .file("etc/passwd", "app:x:1000:1000::/srv:/bin/sh\n")
        .file("etc/secret", "removed above")
        .end();
    let capability: &[u8] =
        b"\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00";
    let top = Tar::new()
        .pax(&[("SCHILY.xattr.security.capability", capability)])
        .member(b"bin/app", EntryType::Regular, b"the application", |header| {
            header.set_mode(0o4755);
            header.set_uid(1000);
        })
        .file("etc/.wh.secret", "")
        .end();
    Image {
        layers: vec![base, top],
        config: json!({
            "Entrypoint": ["/bin/app"], "Cmd": ["--serve"], "Env": ["A=1"], "WorkingDir": "/srv/data", "User": "app"
        }),
        ..Image::default()
    }
}

pub(crate) fn layout() -> Layout {
    let mut layout = Layout::new();
    let descriptor = layout.image(&image(), "application/vnd.oci.image.layer.v1.tar+gzip", gzip);
    layout.add(described(descriptor, Some("amd64"), Some("team/app:1.2")));
    layout
}

fn text(path: impl AsRef<std::path::Path>) -> String {
    path.as_ref().to_str().unwrap().to_owned()
}

#[test]
fn a_container_image_becomes_an_image_that_runs_as_it_says() {
    let (user, layout) = (User::new(), layout());
    let path = text(layout.path());
    let built = build(&user, "a.eif", &["--oci", &path, "--arch", "amd64", "-o", "json"]).succeeded();
    let report = built.json();
    let sections = sections(&fs::read(user.path("a.eif")).unwrap());
    assert_eq!(report["Measurements"]["PCR2"], register(&[&sections[4].1]));
    let manifest = layout.manifests[0]["digest"].clone();
    assert_eq!(report["Source"]["Kind"], "OCILayout");
    assert_eq!(report["Source"]["Digest"], manifest);
    assert_eq!(report["Source"]["Reference"], "team/app:1.2");
    let id = report["Source"]["ImageId"].as_str().unwrap().to_owned();

    let files = unpacked(&user, &sections[4].1);
    let read = |name: &str| fs::read_to_string(files.join(name)).unwrap();
    assert_eq!(read("cmd"), "/bin/app\n--serve\n");
    assert_eq!(read("env"), "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\nA=1\n");
    assert_eq!((read("workdir"), read("user")), ("/srv/data\n".to_owned(), "app\n".to_owned()));
    assert_eq!(read("xattrs"), "security.capability 0100000200040000000000000000000000000000 usr/bin/app\n");
    assert_eq!(read("rootfs/usr/bin/app"), "the application");
    assert!(files.join("rootfs/srv/data").is_dir(), "the working directory is made");
    assert!(!files.join("rootfs/etc/secret").exists());
    assert!(built.stderr.contains("AWS's ignores the working directory"), "{built:#?}");

    let described =
        user.run(&["eif", "describe", &text(user.path("a.eif")), "-o", "json"]).succeeded().json();
    assert_eq!(described["ImageName"], "team/app");
    assert_eq!(described["ImageVersion"], id.strip_prefix("sha256:").unwrap());
    assert_eq!(described["Metadata"]["DockerInfo"]["Id"], id.as_str());
    assert_eq!(described["Metadata"]["DockerInfo"]["Config"]["Cmd"], json!(["--serve"]));
}

#[test]
fn the_command_line_goes_before_what_the_image_says() {
    let (user, layout) = (User::new(), layout());
    let options = [
        "--oci",
        &text(layout.path()),
        "--arch",
        "x86_64",
        "--env",
        "A=2",
        "--env",
        "B=3",
        "--workdir",
        "/",
        "--user",
        "0:0",
        "--name",
        "n",
        "--version",
        "v",
        "--",
        "/other",
        "argument",
    ];
    let _ = build(&user, "a.eif", &options).succeeded();
    let files = unpacked(&user, &sections(&fs::read(user.path("a.eif")).unwrap())[4].1);
    let read = |name: &str| fs::read_to_string(files.join(name)).unwrap();
    assert_eq!(read("cmd"), "/other\nargument\n");
    assert!(read("env").ends_with("\nA=2\nB=3\n"));
    assert_eq!((read("workdir"), read("user")), ("/\n".to_owned(), "0:0\n".to_owned()));
}

/// How a layer is stored.
type Stored = fn(&[u8]) -> Vec<u8>;

/// However an image is stored, it is the same image.
#[test]
fn every_form_of_an_image_gives_the_same_measurements() {
    let user = User::new();
    let image = image();
    let mut pcrs = Vec::new();
    let mut measure = |option: &str, path: String| {
        let built = build(&user, "a.eif", &[option, &path, "--arch", "amd64", "--name", "n", "-o", "json"])
            .succeeded();
        pcrs.push(built.json()["Measurements"]["PCR0"].clone());
    };
    let forms: [(&str, Stored); 3] = [
        (LAYER, <[u8]>::to_vec),
        ("application/vnd.docker.image.rootfs.diff.tar.gzip", gzip),
        ("application/vnd.oci.image.layer.v1.tar+zstd", |layer| zstd::encode_all(layer, 1).unwrap()),
    ];
    for (media_type, store) in forms {
        let mut layout = Layout::new();
        layout.add(layout.image(&image, media_type, store));
        measure("--oci", text(layout.path()));
        measure("--oci", user.file("layout.tar", layout.tar()));
    }
    let configuration = String::from_utf8(image.configuration()).unwrap();
    let mut saved = Tar::new().file("config.json", &configuration);
    for (name, layer) in ["1/layer.tar", "2/layer.tar"].into_iter().zip(&image.layers) {
        saved = saved.member(name.as_bytes(), EntryType::Regular, layer, |_| {});
    }
    let manifest =
        json!([{"Config": "config.json", "RepoTags": ["n:1"], "Layers": ["1/layer.tar", "2/layer.tar"]}]);
    measure(
        "--docker-archive",
        user.file("saved.tar", saved.file("manifest.json", &manifest.to_string()).end()),
    );
    assert_eq!(pcrs.len(), 7);
    assert!(pcrs.iter().all(|pcr| *pcr == pcrs[0]), "{pcrs:#?}");
}

/// The same bytes in another folder, with another umask, time zone, locale, temporary folder and user.
#[test]
fn whoever_builds_an_image_wherever_and_whenever_gets_the_same_bytes() {
    let layout = layout();
    let archive = layout.tar();
    let readable = |path: &std::path::Path| {
        let status = Command::new("chmod").args(["-R", "a+rwX"]).arg(path).status().unwrap();
        assert!(status.success());
    };
    readable(layout.path());
    let (one, other) = (User::new(), User::new());
    readable(other.path("").as_path());
    let mut images = Vec::new();
    for (user, zone, umask, epoch) in
        [(&one, "UTC0", 0o022, None), (&other, "Pacific/Kiritimati", 0o077, Some("0"))]
    {
        let path = user.file("layout.tar", &archive);
        let (kernel, init) = (user.file("kernel", kernel()), user.file("init", "init"));
        let output = text(user.path("image.eif"));
        let mut command = user.command(&[
            "build", "--oci", &path, "--arch", "amd64", "--output", &output, "--kernel", &kernel, "--init",
            &init,
        ]);
        command.env("TZ", zone).env("LC_ALL", if umask == 0o077 { "tr_TR.UTF-8" } else { "C" });
        if let Some(epoch) = epoch {
            command.env("SOURCE_DATE_EPOCH", epoch);
        }
        let script = format!("umask {umask:o}; exec \"$0\" \"$@\"");
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(script).arg(command.get_program()).args(command.get_args()).env_clear();
        shell.envs(command.get_envs().filter_map(|(key, value)| Some((key, value?))));
        if umask == 0o077 && rustix::process::geteuid().is_root() {
            shell.uid(65_534).gid(65_534);
        }
        let _ = Ran::of(&mut shell).succeeded();
        images.push(fs::read(&output).unwrap());
    }
    assert!(images[0] == images[1], "the images differ");
    let described =
        one.run(&["eif", "describe", &text(one.path("image.eif")), "-o", "json"]).succeeded().json();
    assert_eq!(described["Metadata"]["BuildTime"], "1970-01-01T00:00:00Z");
}

#[test]
fn check_builds_twice_and_says_that_it_is_the_same() {
    let (user, layout) = (User::new(), layout());
    for compression in ["none", "zstd", "gzip"] {
        let options = [
            "--oci",
            &text(layout.path()),
            "--arch",
            "amd64",
            "--compress",
            compression,
            "--check",
            "-o",
            "json",
        ];
        let report = build(&user, "a.eif", &options).succeeded().json();
        assert_eq!(report["Reproducible"], true, "{compression}");
    }
}

#[test]
fn compressed_ramdisks_are_smaller_and_unpack_to_the_same() {
    let user = User::new();
    let big = Tar::new().file("big", &"compressible ".repeat(100_000)).end();
    let archive = user.file("root.tar", big);
    let mut plain = Vec::new();
    for (compression, program) in [("none", "cat"), ("gzip", "gzip"), ("zstd", "zstd")] {
        let options = ["--rootfs", &archive, "--compress", compression, "-o", "json", "--", "/big"];
        let report = build(&user, "a.eif", &options).succeeded().json();
        let ramdisk = sections(&fs::read(user.path("a.eif")).unwrap()).swap_remove(4).1;
        let path = user.file("ramdisk", &ramdisk);
        if compression == "none" {
            plain = ramdisk;
            continue;
        }
        assert!(ramdisk.len() * 10 < plain.len(), "{compression}");
        assert!(report["UnpackedRamdiskBytes"].as_u64().unwrap() > plain.len() as u64);
        let unpacked = if compression == "zstd" {
            zstd::decode_all(ramdisk.as_slice()).unwrap()
        } else {
            Command::new(program).args(["-dc"]).stdin(fs::File::open(path).unwrap()).output().unwrap().stdout
        };
        assert!(unpacked == plain, "{compression}");
    }
}

#[test]
fn awss_folder_boots_an_image() {
    let user = User::new();
    let (root, blobs) = (rootfs(&user, "root"), user.path("blobs"));
    fs::create_dir(&blobs).unwrap();
    fs::write(blobs.join("bzImage"), kernel()).unwrap();
    fs::write(blobs.join("init"), "aws's init").unwrap();
    fs::write(blobs.join("nsm.ko"), "the driver").unwrap();
    fs::write(blobs.join("cmdline"), "reboot=k panic=30\n").unwrap();
    fs::write(blobs.join("bzImage.config"), "#\n#\n# Linux/x86_64 4.14.256 Kernel Configuration\n").unwrap();
    let (output, folder) = (text(user.path("a.eif")), text(&blobs));
    let words = ["build", "--rootfs", &root, "--output", &output, "--bootstrap", &folder];
    let built = user.run(&[&words[..], &["--workdir", "/etc", "--", "/bin/app"]].concat()).succeeded();
    assert!(built.stderr.contains("AWS's ignores the working directory"), "{built:#?}");
    let sections = sections(&fs::read(&output).unwrap());
    assert_eq!(sections[1].1, b"reboot=k panic=30");
    let files = unpacked(&user, &sections[3].1);
    assert_eq!(fs::read_to_string(files.join("init")).unwrap(), "aws's init");
    assert_eq!(fs::read_to_string(files.join("nsm.ko")).unwrap(), "the driver");
    let metadata = String::from_utf8(sections[2].1.clone()).unwrap();
    assert!(metadata.contains("\"4.14.256\""), "{metadata}");
    let _ = user.run(&[&words[..], &["--cmdline", "mine", "--", "/bin/app"]].concat()).succeeded();
    assert_eq!(crate::build::sections(&fs::read(&output).unwrap())[1].1, b"mine");
    let empty = user.path("empty");
    fs::create_dir(&empty).unwrap();
    let words = ["build", "--rootfs", &root, "--output", &output, "--bootstrap", &text(empty), "--", "/a"];
    let _ = user.run(&words).failed(&["empty", "bzImage or Image"]);
}

#[test]
fn what_is_wrong_with_an_image_is_said_with_a_way_out_and_nothing_is_left() {
    let user = User::new();
    let path = |layout: &Layout| text(layout.path());
    let arm = Layout::of(&Image { architecture: "arm64".to_owned(), ..Image::default() });
    let _ =
        build(&user, "a.eif", &["--oci", &path(&arm), "--arch", "amd64"]).failed(&["linux/arm64", "--arch"]);
    let _ = build(&user, "a.eif", &["--oci", &path(&arm), "--arch", "arm64"])
        .failed(&["aarch64", "x86_64", "--kernel"]);
    let silent = Layout::of(&Image { config: json!({}), ..Image::default() });
    let _ = build(&user, "a.eif", &["--oci", &path(&silent), "--arch", "amd64"])
        .failed(&["ENTRYPOINT", "after --"]);
    let bomb = Layout::of(&Image {
        layers: vec![Tar::new().file("zeros", &"0".repeat(2 << 20)).end()],
        ..Image::default()
    });
    let options = ["--oci", &path(&bomb), "--arch", "amd64"];
    let _ = build(&user, "a.eif", &[&options[..], &["--max-unpacked", "2"]].concat()).failed(&[
        "layer 1",
        "2097152",
        "--max-unpacked",
    ]);
    let _ = build(&user, "a.eif", &[&options[..], &["--max-unpacked", "3"]].concat()).succeeded();
    fs::remove_file(user.path("a.eif")).unwrap();
    let lying = Layout::of(&Image::default());
    let layer =
        lying.path().join("blobs/sha256").join(image::digest::Digest::of(&Image::default().layers[0]).hex());
    let mut bytes = fs::read(&layer).unwrap();
    bytes[600] ^= 1;
    fs::write(&layer, bytes).unwrap();
    let _ =
        build(&user, "a.eif", &["--oci", &path(&lying), "--arch", "amd64"]).failed(&["layer 1", "digest"]);
    let root = rootfs(&user, "root");
    let _ =
        build(&user, "a.eif", &["--rootfs", &root, "--tag", "x", "--", "/a"]).failed(&["--tag", "--rootfs"]);
    let left: Vec<_> = fs::read_dir(user.path("")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 3, "kernel, init and root: {left:?}");
}

/// Devices, owners and modes need no privilege: they only pass through.
#[test]
fn an_archive_of_devices_and_other_owners_is_built_by_anybody() {
    let user = User::new();
    let archive = Tar::new()
        .member(b"dev/null", EntryType::Char, b"", |header| {
            header.set_device_major(1).unwrap();
            header.set_device_minor(3).unwrap();
        })
        .member(b"home/app", EntryType::Directory, b"", |header| header.set_uid(1000))
        .end();
    let archive = user.file("root.tar", archive);
    let _ = build(&user, "a.eif", &["--rootfs", &archive, "--", "/a"]).succeeded();
    let ramdisk = user.file("r", sections(&fs::read(user.path("a.eif")).unwrap())[4].1.as_slice());
    let listed = Command::new("cpio")
        .args(["--list", "--verbose", "--numeric-uid-gid", "--quiet", "--file", &ramdisk])
        .output()
        .unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    let line = |name: &str| listed.lines().find(|line| line.ends_with(name)).unwrap().to_owned();
    assert!(
        line("rootfs/dev/null").starts_with("crw-r--r--") && line("rootfs/dev/null").contains("1,   3"),
        "{listed}"
    );
    assert_eq!(line("rootfs/home/app").split_whitespace().nth(2), Some("1000"));
}

/// A file that may not grow further is what a full disk is.
#[test]
fn a_disk_that_fills_up_leaves_nothing_behind() {
    let user = User::new();
    let archive = user.file("root.tar", Tar::new().file("big", &"x".repeat(3 << 20)).end());
    let compressed = user.file("root.tar.gz", gzip(&fs::read(&archive).unwrap()));
    let (kernel, init, output) =
        (user.file("kernel", kernel()), user.file("init", "i"), text(user.path("a.eif")));
    for (source, words) in [(&archive, "cannot be written"), (&compressed, "temporary file")] {
        fs::write(&output, "the image before").unwrap();
        let script = "trap '' XFSZ; ulimit -f 2048; exec \"$0\" \"$@\"";
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(script).arg(env!("CARGO_BIN_EXE_enclave"));
        shell.args([
            "build", "--rootfs", source, "--output", &output, "--kernel", &kernel, "--init", &init, "--",
            "/a",
        ]);
        let _ = Ran::of(shell.env_remove("TMPDIR")).failed(&[words]);
        assert_eq!(fs::read_to_string(&output).unwrap(), "the image before");
        let left = fs::read_dir(user.path("")).unwrap().count();
        assert_eq!(left, 5, "archives, kernel, init and the image before");
    }
}

/// Layers of this many MiB, stored in each way, built into an image by a process that may have only so much memory of its own.
fn builds_within(memory_mib: u64, layer_mib: usize) {
    let user = User::new();
    // Bytes that do not compress.
    let mut numbers = corpus::Numbers::new(1);
    let mut block: Vec<u8> = Vec::with_capacity(1 << 20);
    while block.len() < 1 << 20 {
        block.extend_from_slice(&numbers.next().to_le_bytes()[..3]);
    }
    let content = |seed: usize| -> Vec<u8> {
        (0..layer_mib)
            .flat_map(|n| block[(n + seed) * 997 % block.len()..].iter().chain(&block).take(1 << 20))
            .copied()
            .collect()
    };
    let mut layout = Layout::new();
    let layers: Vec<Vec<u8>> = (0..3)
        .map(|n| {
            Tar::new().member(format!("file-{n}").as_bytes(), EntryType::Regular, &content(n), |_| {}).end()
        })
        .collect();
    let image = Image { layers, ..Image::default() };
    let config = layout.blob("application/vnd.oci.image.config.v1+json", &image.configuration());
    let zstd = zstd::encode_all(image.layers[2].as_slice(), 1).unwrap();
    let stored = [
        layout.blob(LAYER, &image.layers[0]),
        layout.blob("application/vnd.oci.image.layer.v1.tar+gzip", &gzip(&image.layers[1])),
        layout.blob("application/vnd.oci.image.layer.v1.tar+zstd", &zstd),
    ];
    layout.add(layout.manifest(&json!({"schemaVersion": 2, "config": config, "layers": stored})));
    drop((image, zstd));
    let (kernel, init, output) =
        (user.file("kernel", kernel()), user.file("init", "i"), text(user.path("a.eif")));
    // RLIMIT_DATA: everything that a process writes and that is no file, thread stacks included (getrlimit(2)).
    let script = format!("ulimit -d {}; exec \"$0\" \"$@\"", memory_mib << 10);
    for source in [text(layout.path()), user.file("layout.tar", layout.tar())] {
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(&script).arg(env!("CARGO_BIN_EXE_enclave"));
        shell.args(["build", "--oci", &source, "--arch", "amd64", "--output", &output]);
        let _ = Ran::of(shell.args(["--kernel", &kernel, "--init", &init])).succeeded();
        assert!(fs::metadata(&output).unwrap().len() > (3 * layer_mib as u64) << 20);
    }
}

#[test]
fn memory_does_not_grow_with_the_image() {
    builds_within(32, 14);
}

#[test]
#[ignore = "minutes: part of make soak"]
fn an_image_of_1_gib_is_built_within_150_mib() {
    builds_within(150, 342);
}

/// Layouts and archives as umoci and skopeo write them, of the same image.
#[test]
fn what_umoci_and_skopeo_write_gives_one_image() {
    let user = User::new();
    let (layout, root) = (text(user.path("layout")), rootfs(&user, "root"));
    let image = format!("{layout}:1.2");
    let umoci = |arguments: &[&str]| run(Command::new("umoci").args(arguments));
    umoci(&["init", "--layout", &layout]);
    umoci(&["new", "--image", &image]);
    for folder in ["bin", "etc"] {
        umoci(&[
            "insert",
            "--rootless",
            "--image",
            &image,
            &format!("{root}/{folder}"),
            &format!("/{folder}"),
        ]);
    }
    umoci(&["insert", "--rootless", "--image", &image, "--whiteout", "/etc/motd"]);
    umoci(&[
        "config",
        "--image",
        &image,
        "--config.entrypoint",
        "/bin/app",
        "--config.cmd",
        "--flag",
        "--config.workingdir",
        "/etc",
        "--config.user",
        "1:2",
        "--architecture",
        "amd64",
        "--os",
        "linux",
    ]);
    let (archive, tar, zstd) =
        (text(user.path("docker.tar")), text(user.path("oci.tar")), text(user.path("zstd")));
    let source = format!("oci:{layout}:1.2");
    skopeo_copy(&[], &source, &format!("docker-archive:{archive}:team/app:1.2"));
    skopeo_copy(&[], &source, &format!("oci-archive:{tar}:1.2"));
    skopeo_copy(&["--dest-compress-format", "zstd"], &source, &format!("oci:{zstd}:1.2"));
    let mut pcrs = Vec::new();
    for (option, path) in
        [("--oci", &layout), ("--oci", &tar), ("--oci", &zstd), ("--docker-archive", &archive)]
    {
        let options = [option, path, "--arch", "amd64", "-o", "json"];
        pcrs.push(build(&user, "a.eif", &options).succeeded().json()["Measurements"]["PCR0"].clone());
    }
    assert!(pcrs.iter().all(|pcr| *pcr == pcrs[0]), "{pcrs:#?}");
    let files = unpacked(&user, &sections(&fs::read(user.path("a.eif")).unwrap())[4].1);
    assert_eq!(fs::read_to_string(files.join("cmd")).unwrap(), "/bin/app\n--flag\n");
    assert!(files.join("rootfs/bin/app").exists() && !files.join("rootfs/etc/motd").exists());
    let described =
        user.run(&["eif", "describe", &text(user.path("a.eif")), "-o", "json"]).succeeded().json();
    assert_eq!(described["ImageName"].as_str().unwrap(), "docker.io/team/app");
}
