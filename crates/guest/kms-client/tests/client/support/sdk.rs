//! Requests as an SDK sends them to the local endpoint.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, SystemTime};

use kms_protocol::sigv4::{self, Request, Scope};
use serde_json::Value;

use super::{KEY, keys};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

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
    signed_by(KEY, "kms", address, operation, body)
}

/// The same by another key, for another service.
pub(crate) fn signed_by(
    key: &str,
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
    let mut all = sigv4::sign(&request, &keys(key), &scope, SystemTime::now()).unwrap();
    all.extend(headers.map(|(name, value)| (name.to_owned(), value.to_owned())));
    all
}

/// Sends a signed request and reads the answer.
pub(crate) fn ask(address: SocketAddr, operation: &str, body: impl AsRef<[u8]>) -> Answer {
    let body = body.as_ref();
    post(address, &signed(address, operation, body), body)
}

pub(crate) fn post(address: SocketAddr, headers: &[(String, String)], body: &[u8]) -> Answer {
    let mut head = String::from("POST / HTTP/1.1\r\nConnection: close\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str(&format!("content-length: {}\r\n\r\n", body.len()));
    exchange(address, &[head.as_bytes(), body].concat())
}

pub(crate) fn get(address: SocketAddr, path: &str) -> Answer {
    exchange(
        address,
        format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes(),
    )
}

/// Sends these bytes and reads to the end.
pub(crate) fn exchange(address: SocketAddr, bytes: &[u8]) -> Answer {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // Whoever is refused early need not be read to the end.
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let end = answer
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .unwrap_or_else(|| panic!("no answer: {answer:?}"));
    let head = String::from_utf8(answer[..end].to_vec()).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head, body: answer[end + 4..].to_vec() }
}
