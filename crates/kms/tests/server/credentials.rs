//! What gives an enclave its credentials: a file, to whoever connects, as long as the enclave's supervisor lives.

use std::fs::{self, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::thread::JoinHandle;

use kms::server::credentials::{CredentialsFile, CredentialsFileError, End, GiveError, Giver};
use tempfile::TempDir;

use crate::enclaves::{enclave, supervisor};
use crate::support::LONG;

/// What `enclave kms principal add -o json` prints.
const FIRST: &str = r#"{"Arn":"a","AccessKeyId":"FIRST","SecretAccessKey":"s"}"#;
const SECOND: &str =
    r#"{"AccessKeyId":"SECOND","SecretAccessKey":"s","Token":"t","Expiration":"2100-01-01T00:00:00Z"}"#;

/// Writes a file of this mode.
fn write(path: &Path, text: impl AsRef<[u8]>, mode: u32) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// What gives the file `app.json` of a folder to an enclave, which ends when this is dropped.
struct World {
    folder: TempDir,
    supervisor: Child,
    giver: Option<JoinHandle<End>>,
}

impl World {
    fn new() -> Self {
        let (folder, supervisor) = (tempfile::tempdir().unwrap(), supervisor());
        let path = folder.path().join("app.json");
        write(&path, FIRST, 0o600);
        let endpoint = enclave(folder.path(), 8001, &supervisor);
        let giver = Giver::start(endpoint, CredentialsFile::open(&path).unwrap()).unwrap();
        Self { folder, supervisor, giver: Some(std::thread::spawn(|| giver.run())) }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What a connection gets, to its end.
    fn got(&self) -> String {
        let mut stream = UnixStream::connect(self.path("vsock.sock_8001")).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    }

    fn end_enclave(&mut self) -> End {
        drop(self.supervisor.stdin.take());
        self.supervisor.wait().unwrap();
        self.giver.take().unwrap().join().unwrap()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if self.giver.is_some() {
            self.end_enclave();
        }
    }
}

fn refusal(path: &Path) -> CredentialsFileError {
    CredentialsFile::open(path).unwrap_err()
}

#[test]
fn each_connection_gets_what_the_file_says_then() {
    let world = World::new();
    assert_eq!((world.got(), world.got()), (FIRST.to_owned(), FIRST.to_owned()));
    // As credentials are renewed: in one step, by another file.
    write(&world.path("new.json"), SECOND, 0o600);
    fs::rename(world.path("new.json"), world.path("app.json")).unwrap();
    assert_eq!(world.got(), SECOND);
}

#[test]
fn what_must_not_be_given_is_not_given_and_what_follows_is() {
    let world = World::new();
    let path = world.path("app.json");
    for (text, mode) in [
        (FIRST, 0o640),
        (FIRST, 0o604),
        ("the key of something else", 0o600),
        ("", 0o600),
        (r#"{"AccessKeyId":"A","SecretAccessKey":"s","Expiration":"2020-01-01T00:00:00Z"}"#, 0o600),
    ] {
        write(&path, text, mode);
        assert_eq!(world.got(), "", "{text} {mode:o}");
    }
    fs::remove_file(&path).unwrap();
    assert_eq!(world.got(), "");
    write(&path, SECOND, 0o600);
    assert_eq!(world.got(), SECOND);
}

#[test]
fn it_ends_with_the_enclave_and_its_socket_too() {
    let mut world = World::new();
    let socket = world.path("vsock.sock_8001");
    assert_eq!(socket.metadata().unwrap().permissions().mode() & 0o7777, 0o600);
    assert_eq!(world.end_enclave(), End::Enclave);
    assert!(!socket.exists());
}

#[test]
fn a_port_is_given_to_by_one_at_a_time() {
    let world = World::new();
    let again = enclave(world.folder.path(), 8001, &world.supervisor);
    let file = CredentialsFile::open(&world.path("app.json")).unwrap();
    let refused = Giver::start(again, file).unwrap_err();
    assert!(matches!(refused, GiveError::Listen(_)), "{refused}");
    assert_eq!(world.got(), FIRST);
}

#[test]
fn a_file_that_others_can_use_is_refused_with_what_mends_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.json");
    for mode in [0o644, 0o640, 0o620, 0o601] {
        write(&path, FIRST, mode);
        let why = refusal(&path).to_string();
        assert!(why.contains("app.json") && why.contains("used by others") && why.contains("0600"), "{why}");
    }
    write(&path, FIRST, 0o400);
    CredentialsFile::open(&path).unwrap();
}

#[test]
fn what_is_no_ordinary_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    write(&path("real"), FIRST, 0o600);
    symlink("real", path("link")).unwrap();
    assert!(refusal(&path("link")).to_string().contains("symbolic link"));
    let fifo = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, path("fifo"), rustix::fs::FileType::Fifo, fifo, 0).unwrap();
    assert!(refusal(&path("fifo")).to_string().contains("no ordinary file"));
    let missing = refusal(&path("missing"));
    let CredentialsFileError::File(kms::store::FileError::Io { source, .. }) = missing else {
        panic!("{missing}")
    };
    assert_eq!(source.kind(), io::ErrorKind::NotFound);
}

#[test]
fn what_holds_no_credentials_is_refused_without_repeating_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.json");
    for text in ["5550155", "-----BEGIN PRIVATE KEY-----\n5550155", r#"{"SecretAccessKey":"5550155"}"#] {
        write(&path, text, 0o600);
        let why = refusal(&path).to_string();
        assert!(why.contains("app.json") && why.contains("principal add"), "{why}");
        assert!(!why.contains("5550155"), "{why}");
    }
    write(&path, r#"{"AccessKeyId":"A","SecretAccessKey":"s","Expiration":"2020-01-01T00:00:00Z"}"#, 0o600);
    assert!(refusal(&path).to_string().contains("have expired"));
}

#[test]
fn the_longest_file_is_given_and_one_byte_more_refused() {
    let world = World::new();
    let mut text = FIRST.to_owned();
    text.push_str(&" ".repeat(65_536 - text.len()));
    write(&world.path("app.json"), &text, 0o600);
    assert_eq!(world.got(), text);
    text.push(' ');
    write(&world.path("app.json"), &text, 0o600);
    assert_eq!(world.got(), "");
    assert!(refusal(&world.path("app.json")).to_string().contains("longer than 65536 bytes"));
}
