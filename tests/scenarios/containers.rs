//! Applications from container images: what the image says is what runs in the guest.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use containers::{Layout, tool};
use rustix::fs::{XattrFlags, setxattr};
use tests::enclave::{Enclave, PATIENCE, Start};
use tests::image;
use tests::image_file::ImageFile;
use tests::product::{User, bin_dir};

/// The port of the application written in Python.
const PORT: u32 = 5006;

/// CAP_NET_BIND_SERVICE, permitted and effective (`struct vfs_cap_data`, linux/capability.h).
const CAPABILITY: [u8; 20] = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// Answers each line with what the container image is to have brought along.
const SERVER: &str = r#"import os, socket
server = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
server.bind((socket.VMADDR_CID_ANY, 5006))
server.listen()
while True:
    client, _ = server.accept()
    line = client.makefile("rb").readline().decode().strip()
    note = os.getxattr("/srv/noted", "security.capability").hex()
    owner = os.stat("/srv/noted")
    gone = os.path.exists("/srv/removed")
    client.sendall(f"{line} {note} {owner.st_uid}:{owner.st_gid} {gone}\n".encode())
    client.close()
"#;

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn build(user: &User, name: &str, words: &[&str]) -> std::path::PathBuf {
    let output = user.path(name);
    let _ = user.enclave(&[&["build", "--output", text(&output)][..], words].concat()).success();
    output
}

/// Asks until the application listens: the heartbeat says that init runs, not that the application does.
fn ask(enclave: &Enclave<'_>, question: &str) -> String {
    let deadline = std::time::Instant::now() + PATIENCE;
    let mut stream = loop {
        match enclave.connect(PORT) {
            Ok(stream) => break stream,
            Err(error) => assert!(std::time::Instant::now() < deadline, "nobody listens: {error}"),
        }
    };
    writeln!(stream, "{question}").unwrap();
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).unwrap();
    answer
}

#[test]
#[ignore = "needs a KVM that can run a kernel"]
fn a_python_application_from_an_oci_layout_runs() {
    let user = User::new();
    let base = |tree: &Path| {
        let _ = tool::run(
            std::process::Command::new("cp").arg("-a").arg(tool::python_root().join(".")).arg(tree),
        );
        fs::create_dir_all(tree.join("srv")).unwrap();
        fs::write(tree.join("srv/removed"), "in the lower layer alone").unwrap();
    };
    let application = |tree: &Path| {
        fs::remove_file(tree.join("srv/removed")).unwrap();
        fs::write(tree.join("srv/server.py"), SERVER).unwrap();
        let noted = tree.join("srv/noted");
        fs::write(&noted, "").unwrap();
        std::os::unix::fs::chown(&noted, Some(1000), Some(50)).unwrap();
        setxattr(&noted, "security.capability", &CAPABILITY, XattrFlags::empty()).unwrap();
    };
    let config = [
        "--config.entrypoint=/usr/bin/python3",
        "--config.cmd=/srv/server.py",
        "--os=linux",
        "--architecture=amd64",
    ];
    // umoci knows hard links by their inodes, of which the lab's overlay of two file systems gives some twice.
    let folder = tempfile::tempdir_in("/dev/shm").unwrap();
    let layout = Layout::by_umoci_in_steps(&[&base, &application], &config, &folder.path().join("layout"));
    let image = build(&user, "python.eif", &["--oci", text(layout.folder())]);
    let mut start = Start::new(&image, "python");
    start.memory = 512;
    let enclave = start.launch(&user);
    let answer = ask(&enclave, "hello");
    assert_eq!(answer, format!("hello {} 1000:50 False\n", hex::encode(CAPABILITY)));
}

#[test]
#[ignore = "needs a KVM that can run a kernel"]
fn entrypoint_command_workdir_user_and_environment_are_the_container_images() {
    let user = User::new();
    let root = user.path("root");
    fs::create_dir_all(root.join("bin")).unwrap();
    fs::copy("/bin/busybox", root.join("bin/busybox")).unwrap();
    fs::set_permissions(root.join("bin/busybox"), fs::Permissions::from_mode(0o755)).unwrap();
    let script =
        r#"b=/bin/busybox; echo "ran: $0 $1 in $($b pwd) as $($b id -u):$($b id -g) with $GREETING""#;
    let entrypoint = ["/bin/busybox", "sh", "-c", script].map(|word| format!("--config.entrypoint={word}"));
    let mut config: Vec<&str> = entrypoint.iter().map(String::as_str).collect();
    config.extend([
        "--config.cmd=first",
        "--config.cmd=second",
        "--config.workingdir=/srv/data",
        "--config.user=1000:100",
        "--config.env=GREETING=hello",
        "--os=linux",
        "--architecture=amd64",
    ]);
    let layout = Layout::by_umoci(&[&root], &config, &user.path("layout"));
    let archive = user.path("saved.tar");
    layout.save_as_docker_archive("app:1", &archive);
    let image = build(&user, "app.eif", &["--docker-archive", text(&archive), "--compress", "zstd"]);
    let enclave = Start::new(&image, "app").with(&["--debug"]).launch(&user);
    assert_eq!(enclave.wait().status, Some(0));
    let logs = user.enclave(&["logs", "app"]).success().stdout;
    let said = "ran: first second in /srv/data as 1000:100 with hello";
    assert!(logs.contains(said), "{logs}");
}

#[test]
#[ignore = "needs a KVM that can run a kernel"]
fn an_image_laid_out_as_aws_does_boots() {
    let user = User::new();
    let (demo, blobs) = (image::demo(), user.path("blobs"));
    fs::create_dir(&blobs).unwrap();
    fs::write(blobs.join("bzImage"), ImageFile::read(&demo).kernel()).unwrap();
    fs::copy(bin_dir().join("aws-like-init"), blobs.join("init")).unwrap();
    // The command line of AWS's blobs; that file ends with a line break, which is not part of it.
    let line = "reboot=k panic=30 pci=off nomodules console=ttyS0 random.trust_cpu=on";
    fs::write(blobs.join("cmdline"), format!("{line}\n")).unwrap();
    let root = image::demo_rootfs();
    let words = ["--rootfs", text(&root), "--bootstrap", text(&blobs), "--", "/bin/enclave-demo"];
    let built = build(&user, "aws.eif", &words);
    let enclave = Start::new(&built, "aws").run(&user);
    assert_eq!(tests::demo::ask(&enclave, "cmdline").unwrap(), line);
    let pcrs = ImageFile::read(&built).pcrs();
    assert_eq!(enclave.describe()["AttestedPCRs"]["PCR0"], pcrs[0]);
    assert_eq!(enclave.describe()["AttestedPCRs"]["PCR1"], pcrs[1]);
}
