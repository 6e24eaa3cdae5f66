//! Requests as an SDK sends them to the local endpoint.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, SystemTime};

use kms_protocol::sigv4::{self, Credentials, Request, Scope};
use serde_json::Value;

use super::{KEY, keys};

/// Longer than anything here takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Insists on an error in AWS's form, of this name and with these words.
    #[track_caller]
    pub(crate) fn refused(&self, status: u16, kind: &str, words: &str) {
        assert_eq!(self.status, status, "{self:?}");
        let json = self.json();
        assert_eq!(json["__type"], kind, "{json}");
        assert!(json["message"].as_str().unwrap().contains(words), "{json}");
        assert_eq!(json.as_object().unwrap().len(), 2, "{json}");
    }
}

/// The headers of a signed request, by the access key of the local endpoint.
pub(crate) fn signed(address: SocketAddr, operation: &str, body: &[u8]) -> Vec<(String, String)> {
    signed_by(&keys(KEY), "kms", address, operation, body)
}

/// The same by another key, for another service.
pub(crate) fn signed_by(
    keys: &Credentials,
    service: &str,
    address: SocketAddr,
    operation: &str,
    body: &[u8],
) -> Vec<(String, String)> {
    signed_at(SystemTime::now(), keys, service, address, operation, body)
}

/// The same at another time.
pub(crate) fn signed_at(
    time: SystemTime,
    keys: &Credentials,
    service: &str,
    address: SocketAddr,
    operation: &str,
    body: &[u8],
) -> Vec<(String, String)> {
    let (host, target) = (address.to_string(), format!("TrentService.{operation}"));
    let headers = [
        ("host", host.as_str()),
        ("content-type", "application/x-amz-json-1.1"),
        ("x-amz-target", target.as_str()),
    ];
    let request = Request { method: "POST", path: "/", query: "", headers: &headers, body };
    let scope = Scope { region: "eu-central-1".to_owned(), service: service.to_owned() };
    let mut all = sigv4::sign(&request, keys, &scope, time).unwrap();
    all.extend(headers.map(|(name, value)| (name.to_owned(), value.to_owned())));
    all
}

/// Sends a signed request and reads the answer.
pub(crate) fn ask(address: SocketAddr, operation: &str, body: impl AsRef<[u8]>) -> Answer {
    let body = body.as_ref();
    post(address, &signed(address, operation, body), body)
}

pub(crate) fn post(address: SocketAddr, headers: &[(String, String)], body: &[u8]) -> Answer {
    exchange(address, &message(headers, body.len(), body))
}

/// A request with this body of which this length is said.
pub(crate) fn message(headers: &[(String, String)], length: usize, body: &[u8]) -> Vec<u8> {
    let mut head = String::from("POST / HTTP/1.1\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str(&format!("content-length: {length}\r\n\r\n"));
    [head.as_bytes(), body].concat()
}

/// A request without a body, with these header fields.
pub(crate) fn get(address: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Answer {
    let fields: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    exchange(address, format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n{fields}\r\n").as_bytes())
}

/// Sends these bytes and reads one answer.
pub(crate) fn exchange(address: SocketAddr, bytes: &[u8]) -> Answer {
    let mut stream = connect(address);
    // Whoever is refused early need not be read to the end.
    let _ = stream.write_all(bytes);
    answer(&mut stream).unwrap_or_else(|| panic!("no answer"))
}

/// Connects, and waits for nothing for ever.
pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Reads one answer; none if the connection ends before it.
pub(crate) fn answer(stream: &mut TcpStream) -> Option<Answer> {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        // An end before the answer's, and a connection that is reset.
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap_or("0");
    let mut body = vec![0; length.parse().unwrap()];
    reader.read_exact(&mut body).ok()?;
    Some(Answer { status, head, body })
}

/// Insists that the other end closes the connection, without a word.
#[track_caller]
pub(crate) fn is_closed(stream: &mut TcpStream) {
    match stream.read(&mut [0; 1]) {
        Ok(0) => {}
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        other => panic!("it is not closed: {other:?}"),
    }
}
