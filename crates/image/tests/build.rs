//! Images built from real folders, read back by the `cpio` program and by the image reader.
#![allow(
    clippy::cast_possible_truncation,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a failed assumption in a test is a failed test"
)]

use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use eif::header::SectionKind;
use eif::load::{Placement, Sink, load, measure};
use eif::reader::Section;
use image::builder::{
    BuildPlan, DEFAULT_BUILD_TIME, DEFAULT_COMMAND_LINE, KERNEL_ORIGIN, Report, Step, build, build_time,
    check,
};
use image::error::BuildError;
use image::folder::Builder;
use image::ramdisk::{Application, BootFiles};
use image::root::Root;
use serde_json::{Value, json};
use tempfile::TempDir;

/// A bzImage's first sectors, with a version.
fn kernel() -> Vec<u8> {
    let mut kernel = vec![0x90; 0x1000];
    kernel[0x202..0x206].copy_from_slice(b"HdrS");
    kernel[0x20e..0x210].copy_from_slice(&0x300_u16.to_le_bytes());
    kernel[0x500..0x520].copy_from_slice(b"6.12.63 (builder@host) #1 SMP\0\0\0");
    kernel
}

struct Workshop {
    folder: TempDir,
}

impl Workshop {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("bzImage"), kernel()).unwrap();
        fs::write(folder.path().join("init"), b"#!init").unwrap();
        fs::create_dir(folder.path().join("root")).unwrap();
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn root(&self, name: &str) -> PathBuf {
        self.path("root").join(name)
    }

    fn plan(&self) -> BuildPlan {
        let application = Application {
            arguments: vec!["/bin/app".into(), "--flag".into(), "two words".into()],
            environment: vec!["PATH=/bin".into(), "EMPTY=".into()],
            ..Application::default()
        };
        let boot = BootFiles { init: self.path("init"), ..BootFiles::default() };
        let root = Root::Folder(self.path("root"), Builder::current());
        BuildPlan {
            name: "app".into(),
            version: "1.2".into(),
            build_time: SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000),
            ..BuildPlan::new(self.path("bzImage"), boot, root, application, self.path("app.eif"))
        }
    }

    fn build(&self) -> Report {
        build(&self.plan(), &mut |_| {}).unwrap()
    }

    fn image(&self) -> Vec<u8> {
        fs::read(self.path("app.eif")).unwrap()
    }
}

/// The measured sections of an image.
fn sections(image: &[u8]) -> Vec<(SectionKind, Vec<u8>)> {
    #[derive(Default)]
    struct Collector(Vec<(SectionKind, Vec<u8>)>);
    impl Sink<'_> for Collector {
        type Error = core::convert::Infallible;
        fn place(&mut self, _section: &Section, _ahead: u64) -> Result<Placement<'static>, Self::Error> {
            Ok(Placement::Collect)
        }
        fn collected(&mut self, section: &Section, data: Vec<u8>) -> Result<(), Self::Error> {
            self.0.push((section.kind, data));
            Ok(())
        }
    }
    let mut collector = Collector::default();
    load(image, image.len() as u64, &mut collector).unwrap().checksum.check().unwrap();
    collector.0
}

fn ramdisks(image: &[u8]) -> Vec<Vec<u8>> {
    sections(image)
        .into_iter()
        .filter(|(kind, _)| *kind == SectionKind::Ramdisk)
        .map(|(_, data)| data)
        .collect()
}

/// What `cpio` prints about an archive, run with these options in `folder`.
fn cpio(archive: &[u8], options: &[&str], folder: &Path) -> String {
    let mut program = Command::new("cpio")
        .args(options)
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("cpio (package cpio) is needed");
    program.stdin.take().unwrap().write_all(archive).unwrap();
    let output = program.wait_with_output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

fn names(archive: &[u8]) -> Vec<String> {
    cpio(archive, &["--list", "--quiet"], Path::new("/")).lines().map(str::to_owned).collect()
}

/// Fills a root folder; `backwards` makes everything in the opposite order and at another time.
fn fill(root: &Path, backwards: bool) {
    let mut steps: Vec<Box<dyn Fn()>> = Vec::new();
    for name in ["bin/app", "bin/tool", "etc/config", "a-b", "a/b", "srv/empty"] {
        let path = root.join(name);
        steps.push(Box::new(move || {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, path.file_name().unwrap().as_encoded_bytes()).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        }));
    }
    let path = root.join("link");
    steps.push(Box::new(move || symlink("/etc/passwd", &path).unwrap()));
    if backwards {
        steps.reverse();
    }
    steps.iter().for_each(|step| step());
    fs::hard_link(root.join("bin/tool"), root.join("etc/same")).unwrap();
    for folder in ["bin", "etc", "a", "srv", "."] {
        fs::set_permissions(root.join(folder), Permissions::from_mode(0o755)).unwrap();
    }
    if backwards {
        let then = SystemTime::UNIX_EPOCH + Duration::from_secs(1);
        fs::File::open(root.join("bin/app")).unwrap().set_modified(then).unwrap();
    }
}

#[test]
fn the_same_input_gives_the_same_image() {
    let (one, two) = (Workshop::new(), Workshop::new());
    fill(&one.path("root"), false);
    fill(&two.path("root"), true);
    let (first, second) = (one.build(), two.build());
    assert_eq!(first, second);
    assert_eq!(one.image(), two.image());
    let measured = measure(one.image().as_slice(), one.image().len() as u64).unwrap();
    assert_eq!(measured.measurements, first.measurements);
    assert_eq!(first.image_bytes, one.image().len() as u64);
}

#[test]
fn the_ramdisks_are_what_init_expects() {
    let workshop = Workshop::new();
    fill(&workshop.path("root"), false);
    let mut plan = workshop.plan();
    fs::write(workshop.path("b.ko"), b"B").unwrap();
    fs::write(workshop.path("a.ko.xz"), b"A").unwrap();
    plan.boot.modules = vec![workshop.path("b.ko"), workshop.path("a.ko.xz")];
    plan.boot.nsm_module = Some(workshop.path("b.ko"));
    plan.application.working_directory = Some("/srv".into());
    plan.application.user = Some("nobody:nogroup".into());
    build(&plan, &mut |_| {}).unwrap();
    let sections = sections(&workshop.image());
    let kinds: Vec<_> = sections.iter().map(|(kind, _)| *kind).collect();
    assert_eq!(
        kinds,
        [SectionKind::Kernel, SectionKind::Cmdline, SectionKind::Ramdisk, SectionKind::Ramdisk]
    );
    assert_eq!(sections[0].1, kernel());
    assert_eq!(sections[1].1, DEFAULT_COMMAND_LINE.as_bytes());
    let (boot, application) = (&sections[2].1, &sections[3].1);
    assert_eq!(boot.len() % 4, 0, "another archive can follow");
    assert_eq!(
        names(boot),
        ["dev", "init", "modules", "modules/a.ko.xz", "modules/b.ko", "modules/order", "nsm.ko"]
    );
    let mut expected = vec!["cmd", "env", "rootfs", "user", "workdir"];
    expected.extend([
        "rootfs/a",
        "rootfs/a-b",
        "rootfs/a/b",
        "rootfs/bin",
        "rootfs/bin/app",
        "rootfs/bin/tool",
    ]);
    expected.extend(["rootfs/etc", "rootfs/etc/config", "rootfs/etc/same", "rootfs/link"]);
    expected.extend(["rootfs/srv", "rootfs/srv/empty"]);
    expected.extend(["rootfs/dev", "rootfs/proc", "rootfs/run", "rootfs/sys", "rootfs/tmp", "rootfs/var"]);
    expected.sort_unstable();
    assert_eq!(names(application), expected);
    let unpacked = tempfile::tempdir().unwrap();
    cpio(boot, &["--extract", "--quiet"], unpacked.path());
    cpio(application, &["--extract", "--quiet"], unpacked.path());
    let read = |name: &str| fs::read_to_string(unpacked.path().join(name)).unwrap();
    assert_eq!(read("modules/order"), "b.ko\na.ko.xz\n");
    assert_eq!(read("cmd"), "/bin/app\n--flag\ntwo words\n");
    assert_eq!(read("env"), "PATH=/bin\nEMPTY=\n");
    assert_eq!(read("workdir"), "/srv\n");
    assert_eq!(read("user"), "nobody:nogroup\n");
    assert_eq!(read("rootfs/etc/config"), "config");
    let mode = |name: &str| fs::metadata(unpacked.path().join(name)).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode("init"), 0o755);
    assert_eq!(mode("rootfs/bin/app"), 0o755);
    assert_eq!(fs::read_link(unpacked.path().join("rootfs/link")).unwrap(), Path::new("/etc/passwd"));
}

#[test]
fn every_kind_of_file_survives_the_way_through_an_archive() {
    let workshop = Workshop::new();
    fs::write(workshop.root("setuid"), b"x").unwrap();
    fs::set_permissions(workshop.root("setuid"), Permissions::from_mode(0o4711)).unwrap();
    fs::write(workshop.root("one"), b"same").unwrap();
    fs::hard_link(workshop.root("one"), workshop.root("two")).unwrap();
    fs::write(workshop.path("elsewhere"), b"linked from outside").unwrap();
    fs::hard_link(workshop.path("elsewhere"), workshop.root("outside")).unwrap();
    fs::write(workshop.root("with space\nand line"), vec![7; 600_001]).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, workshop.root("pipe"), rustix::fs::Mode::from(0o600)).unwrap();
    workshop.build();
    let archive = ramdisks(&workshop.image())[1].clone();
    let unpacked = tempfile::tempdir().unwrap();
    cpio(&archive, &["--extract", "--quiet"], unpacked.path());
    let root = unpacked.path().join("rootfs");
    use std::os::unix::fs::{FileTypeExt, MetadataExt};
    let stat = |name: &str| fs::symlink_metadata(root.join(name)).unwrap();
    assert_eq!(stat("setuid").mode() & 0o7777, 0o4711);
    assert_eq!(stat("one").ino(), stat("two").ino());
    assert_eq!(fs::read(root.join("two")).unwrap(), b"same");
    assert_eq!(fs::read(root.join("outside")).unwrap(), b"linked from outside");
    assert_eq!(stat("outside").nlink(), 1);
    assert_eq!(fs::read(root.join("with space\nand line")).unwrap(), vec![7; 600_001]);
    assert!(stat("pipe").file_type().is_fifo());
}

#[test]
fn the_builders_files_become_roots_and_others_keep_their_owner() {
    let workshop = Workshop::new();
    fs::write(workshop.root("mine"), b"").unwrap();
    fs::write(workshop.root("theirs"), b"").unwrap();
    let me = Builder::current();
    let mut plan = workshop.plan();
    // Whoever runs this: files of the builder that the plan names become root's.
    let other_owner = if me.uid == 0 {
        chown(workshop.root("theirs"), Some(999), Some(998)).unwrap();
        (999, 998)
    } else {
        (0, 0)
    };
    build(&plan, &mut |_| {}).unwrap();
    let owners = |image: &[u8]| {
        let listing = cpio(
            &ramdisks(image)[1],
            &["--list", "--verbose", "--numeric-uid-gid", "--quiet"],
            Path::new("/"),
        );
        let line = |name: &str| {
            let line = listing.lines().find(|line| line.ends_with(name)).unwrap();
            let fields: Vec<&str> = line.split_whitespace().collect();
            (fields[2].parse::<u32>().unwrap(), fields[3].parse::<u32>().unwrap())
        };
        (line("rootfs/mine"), line("rootfs/theirs"))
    };
    assert_eq!(owners(&workshop.image()), ((0, 0), other_owner));
    plan.root = Root::Folder(workshop.path("root"), Builder { uid: 12_345, gid: 12_345 });
    build(&plan, &mut |_| {}).unwrap();
    assert_eq!(owners(&workshop.image()).0, (me.uid, me.gid));
}

#[test]
fn links_out_of_the_folder_are_archived_and_never_followed() {
    let workshop = Workshop::new();
    fs::create_dir(workshop.path("secret")).unwrap();
    fs::write(workshop.path("secret/key"), b"the secret").unwrap();
    symlink(workshop.path("secret"), workshop.root("folder")).unwrap();
    symlink("../secret/key", workshop.root("file")).unwrap();
    workshop.build();
    let image = workshop.image();
    assert!(!image.windows(10).any(|window| window == b"the secret"));
    let listed = names(&ramdisks(&image)[1]);
    assert!(listed.contains(&"rootfs/folder".into()) && !listed.iter().any(|name| name.contains("folder/")));
}

#[test]
fn the_metadata_says_what_was_built_with_what() {
    let workshop = Workshop::new();
    let mut plan = workshop.plan();
    plan.custom_metadata = json!({"team": "a"});
    plan.notes.push((KERNEL_ORIGIN, json!({"source": "linux-source-6.12", "sha256": "00"})));
    let report = build(&plan, &mut |_| {}).unwrap();
    let loaded = measure(workshop.image().as_slice(), report.image_bytes).unwrap();
    let metadata: Value = serde_json::from_slice(loaded.metadata.as_deref().unwrap()).unwrap();
    assert_eq!(
        metadata,
        json!({
            "ImageName": "app", "ImageVersion": "1.2",
            "BuildMetadata": {
                "BuildTime": "2023-11-14T22:13:20Z", "BuildTool": "enclave",
                "BuildToolVersion": env!("CARGO_PKG_VERSION"), "OperatingSystem": "Linux", "KernelVersion": "6.12.63"
            },
            "DockerInfo": null,
            "CustomMetadata": {"team": "a", "Kernel": {"source": "linux-source-6.12", "sha256": "00"}}
        })
    );
    plan.custom_metadata = json!([1]);
    assert!(matches!(build(&plan, &mut |_| {}), Err(BuildError::CustomMetadata)));
}

#[test]
fn the_build_time_is_source_date_epoch_or_the_same_for_every_build() {
    assert_eq!(build_time(None).unwrap(), DEFAULT_BUILD_TIME);
    let then = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    assert_eq!(build_time(Some("1700000000")).unwrap(), then);
    for text in ["", "-1", "yesterday", "1.5", "99999999999999999999"] {
        assert!(matches!(build_time(Some(text)), Err(BuildError::BuildTime(_))), "{text:?}");
    }
}

#[test]
fn what_cannot_be_built_is_refused_by_name_and_leaves_nothing_behind() {
    let workshop = Workshop::new();
    fs::write(workshop.path("app.eif"), b"the image before").unwrap();
    let refused = |change: &dyn Fn(&mut BuildPlan)| {
        let mut plan = workshop.plan();
        change(&mut plan);
        build(&plan, &mut |_| {}).unwrap_err()
    };
    assert!(matches!(refused(&|plan| plan.application.arguments.clear()), BuildError::NoCommand));
    assert!(matches!(refused(&|plan| plan.application.arguments[0].clear()), BuildError::NoCommand));
    let setting = |error: BuildError| matches!(error, BuildError::Setting { .. });
    assert!(setting(refused(&|plan| plan.application.arguments.push("a\nb".into()))));
    assert!(setting(refused(&|plan| plan.application.environment.push("A\0=b".into()))));
    assert!(setting(refused(&|plan| plan.application.environment.push("novalue".into()))));
    assert!(setting(refused(&|plan| plan.application.environment.push("=x".into()))));
    assert!(setting(refused(&|plan| plan.application.working_directory = Some("srv".into()))));
    assert!(setting(refused(&|plan| plan.application.user = Some(String::new()))));
    assert!(setting(refused(&|plan| plan.output = PathBuf::from("/dev/null"))));
    assert!(matches!(refused(&|plan| plan.output = workshop.root("x.eif")), BuildError::OutputInRoot(_)));
    let kernel = |plan: &mut BuildPlan| plan.kernel = workshop.path("init");
    assert!(matches!(refused(&kernel), BuildError::NotAKernel(_)));
    let missing = |plan: &mut BuildPlan| plan.kernel = workshop.path("absent");
    assert!(refused(&missing).to_string().contains("absent"));
    let missing = |plan: &mut BuildPlan| plan.boot.init = workshop.path("absent");
    assert!(refused(&missing).to_string().contains("absent"));
    let missing =
        |plan: &mut BuildPlan| plan.root = Root::Folder(workshop.path("absent"), Builder::current());
    assert!(refused(&missing).to_string().contains("absent"));
    let long = |plan: &mut BuildPlan| plan.command_line = "x".repeat((64 << 10) + 1);
    assert!(matches!(refused(&long), BuildError::Write(_)));
    assert_eq!(workshop.image(), b"the image before");
    let left: Vec<_> =
        fs::read_dir(workshop.folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 4, "{left:?}");
}

/// Attributes of a folder's files as `setfattr` sets them, and the line that init reads.
#[test]
fn attributes_of_a_folder_are_kept_and_unknown_ones_refused() {
    let workshop = Workshop::new();
    fs::write(workshop.root("ping"), b"x").unwrap();
    let set = |name: &str, value: &[u8]| {
        rustix::fs::setxattr(workshop.root("ping"), name, value, rustix::fs::XattrFlags::empty())
    };
    if let Err(rustix::io::Errno::OPNOTSUPP) = set("user.note", b"\x01\x02") {
        println!(
            "SKIPPED attributes_of_a_folder_are_kept_and_unknown_ones_refused: no extended attributes here"
        );
        return;
    }
    let report = workshop.build();
    assert!(report.has_attributes);
    let unpacked = tempfile::tempdir().unwrap();
    cpio(&ramdisks(&workshop.image())[1], &["--extract", "--quiet"], unpacked.path());
    let line = fs::read_to_string(unpacked.path().join("xattrs")).unwrap();
    assert_eq!(line, "user.note 0102 ping\n");
    // Only root may set others.
    if set("trusted.other", b"x").is_ok() {
        let mut plan = workshop.plan();
        let error = build(&plan, &mut |_| {}).unwrap_err();
        assert!(matches!(&error, BuildError::Attribute { name, .. } if name == "trusted.other"), "{error}");
        plan.reading.others = image::attributes::Others::Drop;
        assert!(build(&plan, &mut |_| {}).unwrap().has_attributes);
    }
}

#[test]
fn a_second_build_that_differs_is_told_by_its_section() {
    let workshop = Workshop::new();
    workshop.build();
    let again = || check(&workshop.plan(), &mut |_| {}).unwrap().map(|difference| difference.to_string());
    assert_eq!(again(), None);
    fs::write(workshop.path("init"), b"#!another").unwrap();
    let told = again().unwrap();
    assert!(told.contains("in section 4 (ramdisk)"), "{told}");
    fs::write(workshop.path("init"), b"#!init").unwrap();
    assert_eq!(again(), None);
    let mut kernel = kernel();
    kernel[0x600] ^= 1;
    fs::write(workshop.path("bzImage"), kernel).unwrap();
    // Header and section header stand before the kernel's data: 548 and 12 bytes.
    assert_eq!(again().unwrap(), format!("from byte {}, in section 1 (kernel)", 548 + 12 + 0x600));
    assert_eq!(fs::read_dir(workshop.folder.path()).unwrap().count(), 4, "nothing is left of second builds");
}

#[test]
fn a_socket_is_left_out() {
    let workshop = Workshop::new();
    let _listener = std::os::unix::net::UnixListener::bind(workshop.root("socket")).unwrap();
    workshop.build();
    assert!(!names(&ramdisks(&workshop.image())[1]).contains(&"rootfs/socket".to_owned()));
}

#[test]
fn a_file_that_changes_meanwhile_is_noticed() {
    let workshop = Workshop::new();
    for change in [b"longer than it was".as_slice(), b""] {
        fs::write(workshop.root("log"), b"as it was").unwrap();
        let error = build(&workshop.plan(), &mut |step| {
            if step == Step::Application {
                fs::write(workshop.root("log"), change).unwrap();
            }
        });
        assert!(matches!(error, Err(BuildError::Changed(path)) if path == workshop.root("log")));
    }
    assert!(!workshop.path("app.eif").exists());
}

#[test]
fn a_file_replaced_by_a_link_out_of_the_folder_is_not_read() {
    let workshop = Workshop::new();
    fs::write(workshop.path("secret"), b"the secret").unwrap();
    fs::create_dir(workshop.root("etc")).unwrap();
    fs::write(workshop.root("etc/config"), b"as it was.").unwrap();
    let error = build(&workshop.plan(), &mut |step| {
        if step == Step::Application {
            fs::remove_file(workshop.root("etc/config")).unwrap();
            symlink("../../secret", workshop.root("etc/config")).unwrap();
        }
    });
    assert!(matches!(error, Err(BuildError::File(_))), "{error:?}");
}

#[test]
fn a_mount_in_the_folder_is_refused() {
    let mut plan = Workshop::new().plan();
    // Every Linux machine has a folder with other file systems mounted in it.
    plan.root = Root::Folder(PathBuf::from("/sys"), Builder::current());
    let workshop = Workshop::new();
    plan.kernel = workshop.path("bzImage");
    plan.boot.init = workshop.path("init");
    plan.output = workshop.path("x.eif");
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    if mounts.lines().any(|line| line.split(' ').nth(1).is_some_and(|path| path.starts_with("/sys/"))) {
        let error = build(&plan, &mut |_| {}).unwrap_err();
        assert!(matches!(error, BuildError::MountPoint(_) | BuildError::File(_)), "{error}");
    }
}
