//! A key service behind TLS on a Unix socket that answers as a test says, and remembers what it was asked.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use attestation::cose::SignedPayload;
use attestation::document::AttestationDocument;
use base64ct::{Base64, Encoding as _};
use getrandom::SysRng;
use kms_protocol::cms::{self, Encoding, RecipientKey};
use rustls::{ServerConnection, StreamOwned};
use serde_json::Value;
use tempfile::TempDir;

use super::tls::Certificates;

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// A request as it came.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Received {
    pub(crate) fn header(&self, name: &str) -> &str {
        let mut found = self.headers.iter().filter(|(other, _)| other == name);
        let (_, value) = found.next().unwrap_or_else(|| panic!("no {name} in {self:?}"));
        assert!(found.next().is_none(), "{name} is there twice");
        value
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// The public key in the document of the recipient.
    pub(crate) fn recipient(&self) -> RecipientKey {
        let recipient = &self.json()["Recipient"];
        assert_eq!(recipient["KeyEncryptionAlgorithm"], "RSAES_OAEP_SHA_256");
        let document = Base64::decode_vec(recipient["AttestationDocument"].as_str().unwrap()).unwrap();
        let payload = SignedPayload::from_bytes(&document).unwrap();
        let document = AttestationDocument::from_payload(payload.payload()).unwrap();
        RecipientKey::from_spki_der(&document.public_key.unwrap()).unwrap()
    }

    /// A secret, encrypted for the recipient.
    pub(crate) fn sealed(&self, secret: &[u8], encoding: Encoding) -> String {
        Base64::encode_string(&cms::seal(&self.recipient(), secret, encoding, &mut SysRng).unwrap())
    }
}

/// An HTTP answer.
pub(crate) fn http(status: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/x-amz-json-1.1\r\nx-amzn-RequestId: the-id\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// A service that runs until it is dropped.
pub(crate) struct Service {
    folder: TempDir,
    certificates: Certificates,
    received: Receiver<Received>,
}

impl Service {
    /// Answers every request with what this makes of it.
    pub(crate) fn answering(answer: impl Fn(&Received) -> Vec<u8> + Send + 'static) -> Self {
        Self::named(super::tls::HOST, answer)
    }

    /// Answers every request with its own body.
    pub(crate) fn echoing() -> Self {
        Self::answering(|request| http("200 OK", &request.body))
    }

    /// The same with a certificate for another name.
    pub(crate) fn named(name: &str, answer: impl Fn(&Received) -> Vec<u8> + Send + 'static) -> Self {
        Self::ending(name, true, answer)
    }

    /// A service whose connections the host cuts behind the answer, before the end of TLS.
    pub(crate) fn cut(answer: impl Fn(&Received) -> Vec<u8> + Send + 'static) -> Self {
        Self::ending(super::tls::HOST, false, answer)
    }

    fn ending(name: &str, properly: bool, answer: impl Fn(&Received) -> Vec<u8> + Send + 'static) -> Self {
        let (folder, certificates) = (tempfile::tempdir().unwrap(), Certificates::new(name));
        let listener = UnixListener::bind(folder.path().join("socket")).unwrap();
        let (told, received) = channel();
        let config = certificates.server();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                let mut stream = StreamOwned::new(ServerConnection::new(config.clone()).unwrap(), stream);
                // A client that does not trust this service sends nothing.
                let Some(request) = read(&mut stream) else { continue };
                let _ = stream.write_all(&answer(&request));
                if properly {
                    stream.conn.send_close_notify();
                }
                let _ = stream.flush();
                if told.send(request).is_err() {
                    return;
                }
            }
        });
        Self { folder, certificates, received }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }

    pub(crate) const fn certificates(&self) -> &Certificates {
        &self.certificates
    }

    /// The next request that came.
    pub(crate) fn received(&self) -> Received {
        self.received.recv_timeout(PATIENCE).expect("a request comes")
    }

    /// Insists that no request came.
    pub(crate) fn received_nothing(&self) {
        if let Ok(request) = self.received.try_recv() {
            panic!("a request came: {request:?}");
        }
    }
}

fn read(stream: &mut StreamOwned<ServerConnection, UnixStream>) -> Option<Received> {
    let mut reader = BufReader::new(stream);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    assert_eq!(lines.remove(0), "POST / HTTP/1.1");
    let headers: Vec<(String, String)> = lines
        .iter()
        .map(|line| {
            line.split_once(": ").map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).unwrap()
        })
        .collect();
    let length = headers
        .iter()
        .find(|(name, _)| name == "content-length")
        .map_or(0, |(_, value)| value.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Received { headers, body })
}
