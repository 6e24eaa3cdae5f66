//! A service on loopback, answered by operations that a test can hold up, and clients that send raw bytes.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use kms::error::KmsError;
use kms::operations::Caller;
use kms::principal::Principal;
use kms::server::{Endpoint, Limits, Operations, Principals, Server, Settings, TlsFiles, certificates};
use kms_protocol::sigv4::{Credentials, Request, Scope, sign};
use tempfile::TempDir;
use zeroize::Zeroizing;

pub const ID: &str = "AKIAAAAAAAAAAAAAAAAA";
pub const SECRET: &str = "a secret of forty characters or a few m";
/// So long nothing in these tests takes unless it hangs.
pub const LONG: Duration = Duration::from_secs(20);
/// A limit that shall elapse.
pub const SHORT: Duration = Duration::from_millis(200);
/// Bytes of the answer to `Huge`: more than the system's buffers take.
const HUGE: usize = 64 * 1024 * 1024;

/// What the service is asked for, after it knows by whom.
pub struct Held {
    entered: Mutex<Sender<()>>,
    leave: Mutex<Receiver<()>>,
}

impl Operations for Held {
    fn handle(
        &self,
        caller: &Caller<'_>,
        operation: &str,
        body: &[u8],
        _now: SystemTime,
    ) -> Result<Zeroizing<Vec<u8>>, KmsError> {
        match operation {
            "Wait" => {
                self.entered.lock().unwrap().send(()).unwrap();
                self.leave.lock().unwrap().recv().unwrap();
            }
            "Huge" => return Ok(Zeroizing::new(vec![b' '; HUGE])),
            _ => {}
        }
        let source = caller.source.split_whitespace().next().unwrap();
        Ok(Zeroizing::new(format!("{operation} {} {source}", body.len()).into_bytes()))
    }

    fn housekeeping(&self, _now: SystemTime) -> Result<(), KmsError> {
        Ok(())
    }
}

/// A service with a listener for HTTP and one for HTTPS.
pub struct World {
    pub server: Option<Server>,
    /// Tells that a `Wait` has begun.
    pub entered: Receiver<()>,
    /// Lets one `Wait` end.
    pub leave: Sender<()>,
    folder: TempDir,
}

impl World {
    pub fn new(limits: Limits) -> Self {
        Self::with(limits, Vec::new())
    }

    /// The same with more listeners.
    pub fn with(limits: Limits, more: Vec<Endpoint>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let made = certificates::make(&[], SystemTime::now()).unwrap();
        let file = |name: &str, text: &str| {
            use std::os::unix::fs::OpenOptionsExt;
            let path = folder.path().join(name);
            let mut file =
                std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).unwrap();
            file.write_all(text.as_bytes()).unwrap();
            path
        };
        file("ca.pem", &made.authority);
        let tls = TlsFiles {
            certificate: file("server.pem", &made.certificate),
            key: file("server.key", &made.key),
        };
        let (entering, entered) = channel();
        let (leave, leaving) = channel();
        let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
        let server = Server::start(Settings {
            endpoints: [
                Endpoint::Http(loopback),
                Endpoint::Https(loopback),
                Endpoint::Unix { path: folder.path().join("socket"), tls: false },
            ]
            .into_iter()
            .chain(more)
            .collect(),
            tls: Some(tls),
            region: "local-1".to_owned(),
            limits,
            principals: Principals::new(vec![principal()]).unwrap(),
            operations: Arc::new(Held { entered: Mutex::new(entering), leave: Mutex::new(leaving) }),
        });
        Self { server: Some(server.unwrap()), entered, leave, folder }
    }

    /// The address of the nth listener: HTTP, HTTPS.
    pub fn address(&self, index: usize) -> SocketAddr {
        self.server.as_ref().unwrap().addresses()[index].address.parse().unwrap()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A connection to the listener for HTTP.
    pub fn connect(&self) -> Client {
        Client::to(self.address(0))
    }

    /// Ends the service and returns when it has ended.
    pub fn end(&mut self) {
        self.server.take().unwrap().end();
    }
}

fn principal() -> Principal {
    Principal {
        arn: "arn:aws:iam::000000000000:user/a".to_owned(),
        access_key_id: ID.to_owned(),
        secret: Zeroizing::new(SECRET.to_owned()),
        session_token: None,
        identity_policy: None,
    }
}

/// One request, which a test may spoil.
pub struct Message {
    pub line: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Message {
    /// A signed request with a body.
    pub fn signed(operation: &str, body: &[u8]) -> Self {
        Self::signed_by(ID, SECRET, SystemTime::now(), operation, body)
    }

    pub fn signed_by(id: &str, secret: &str, time: SystemTime, operation: &str, body: &[u8]) -> Self {
        let target = format!("TrentService.{operation}");
        let own = [
            ("host", "localhost"),
            ("content-type", "application/x-amz-json-1.1"),
            ("x-amz-target", &target),
        ];
        let request = Request { method: "POST", path: "/", query: "", headers: &own, body };
        let credentials = Credentials {
            access_key_id: id.to_owned(),
            secret_access_key: Zeroizing::new(secret.to_owned()),
            session_token: None,
        };
        let scope = Scope { region: "local-1".to_owned(), service: "kms".to_owned() };
        let added = sign(&request, &credentials, &scope, time).unwrap();
        let own = own.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let headers = own.chain(added).collect();
        Self { line: "POST / HTTP/1.1".to_owned(), headers, body: body.to_owned() }
    }

    pub fn line(mut self, line: &str) -> Self {
        self.line = line.to_owned();
        self
    }

    pub fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(other, _)| !other.eq_ignore_ascii_case(name));
        self
    }

    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The head, with these lines before its end.
    pub fn head(&self, lines: &str) -> Vec<u8> {
        let headers: String =
            self.headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        format!("{}\r\n{headers}{lines}\r\n", self.line).into_bytes()
    }

    /// All of it, with its true length.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.head(&format!("content-length: {}\r\n", self.body.len()));
        bytes.extend_from_slice(&self.body);
        bytes
    }
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    /// AWS's name of the error.
    pub fn error(&self) -> String {
        let json: serde_json::Value = serde_json::from_str(&self.body).unwrap_or_default();
        json["__type"].as_str().unwrap_or("no error").to_owned()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}

/// A client that sends what a test says.
pub struct Client(pub TcpStream);

impl Client {
    pub fn to(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        Self(stream)
    }

    /// The service may have closed the connection already, which its answer tells.
    pub fn send(&mut self, bytes: &[u8]) -> &mut Self {
        let _ = self.0.write_all(bytes);
        self
    }

    pub fn ask(&mut self, message: &Message) -> Answer {
        self.send(&message.bytes()).answer()
    }

    /// The next answer.
    #[track_caller]
    pub fn answer(&mut self) -> Answer {
        self.try_answer().expect("an answer")
    }

    /// The next answer; `None` if the connection has ended.
    #[track_caller]
    pub fn try_answer(&mut self) -> Option<Answer> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            if self.read(&mut byte) == 0 {
                assert!(head.is_empty(), "half an answer: {}", String::from_utf8_lossy(&head));
                return None;
            }
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).unwrap();
        let length =
            head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).unwrap();
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).unwrap();
        let status = head[9..12].parse().unwrap();
        Some(Answer { status, head, body: String::from_utf8(body).unwrap() })
    }

    /// Bytes read; none if the connection has ended, one way or the other.
    #[track_caller]
    fn read(&mut self, buffer: &mut [u8]) -> usize {
        match self.0.read(buffer) {
            Ok(count) => count,
            Err(error) if matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => 0,
            Err(error) => panic!("the service neither answers nor closes: {error}"),
        }
    }

    /// Insists that the service closes the connection, whatever it sends before.
    #[track_caller]
    pub fn is_closed(&mut self) {
        let mut buffer = [0; 64 * 1024];
        while self.read(&mut buffer) != 0 {}
    }
}
