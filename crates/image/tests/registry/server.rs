//! A server that says what a test wants it to, however wrong.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// The first byte of a TLS connection, which these servers do not speak.
const TLS_HANDSHAKE: u8 = 0x16;

/// What a client asked for.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) method: String,
    /// With the query.
    pub(crate) path: String,
    /// Names in lower case.
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: String,
}

impl Asked {
    pub(crate) fn authorization(&self) -> Option<&str> {
        self.headers.get("authorization").map(String::as_str)
    }
}

/// What the server answers.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Body,
}

#[derive(Debug, Clone)]
enum Body {
    Whole(Vec<u8>),
    /// Announced with this length, and cut off after these bytes.
    Cut(u64, Vec<u8>),
    /// Announced with this length; after these bytes nothing comes, and the connection stays.
    Silent(u64, Vec<u8>),
    /// So many zeros.
    Zeros(u64),
    /// Without a length and without an end.
    Endless,
    /// Headers without an end.
    EndlessHead,
}

impl Answer {
    pub(crate) fn status(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Body::Whole(Vec::new()) }
    }

    pub(crate) fn bytes(bytes: impl Into<Vec<u8>>) -> Self {
        Self { body: Body::Whole(bytes.into()), ..Self::status(200) }
    }

    pub(crate) fn with(status: u16, body: &str) -> Self {
        Self { body: Body::Whole(body.as_bytes().to_vec()), ..Self::status(status) }
    }

    /// True if it is anything but a success.
    pub(crate) fn is_refusal(&self) -> bool {
        self.status != 200
    }

    pub(crate) fn cut(length: usize, bytes: &[u8]) -> Self {
        Self { body: Body::Cut(length as u64, bytes.to_vec()), ..Self::status(200) }
    }

    pub(crate) fn silent(length: usize, bytes: &[u8]) -> Self {
        Self { body: Body::Silent(length as u64, bytes.to_vec()), ..Self::status(200) }
    }

    pub(crate) fn zeros(length: u64) -> Self {
        Self { body: Body::Zeros(length), ..Self::status(200) }
    }

    pub(crate) fn endless() -> Self {
        Self { body: Body::Endless, ..Self::status(200) }
    }

    pub(crate) fn endless_head() -> Self {
        Self { body: Body::EndlessHead, ..Self::status(200) }
    }

    pub(crate) fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }
}

/// A server on a loopback port. It ends with this value.
pub(crate) struct Server {
    host: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    ending: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub(crate) fn start(answer: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Self {
        Self::start_knowing(|_| answer)
    }

    /// For answers that name the server itself.
    pub(crate) fn start_knowing<A>(answer: impl FnOnce(&str) -> A) -> Self
    where
        A: Fn(&Asked) -> Answer + Send + Sync + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let answer = Arc::new(answer(&host));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let ending = Arc::new(AtomicBool::new(false));
        let thread = thread::spawn({
            let (asked, ending) = (asked.clone(), ending.clone());
            move || {
                for stream in listener.incoming() {
                    if ending.load(Ordering::SeqCst) {
                        return;
                    }
                    let (answer, asked) = (answer.clone(), asked.clone());
                    // Errors are the client's going away, as it should from a server like this.
                    thread::spawn(move || stream.and_then(|stream| serve(&stream, &*answer, &asked)));
                }
            }
        });
        Self { host, asked, ending, thread: Some(thread) }
    }

    /// Host and port.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// The reference of an image here.
    pub(crate) fn image(&self, name: &str) -> String {
        format!("{}/{name}", self.host)
    }

    /// Everything that was asked so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// How often a path with this in it was asked for.
    pub(crate) fn count(&self, part: &str) -> usize {
        self.asked().iter().filter(|asked| asked.path.contains(part)).count()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.ending.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(&self.host));
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

fn serve(
    stream: &TcpStream,
    answer: &dyn Fn(&Asked) -> Answer,
    all: &Mutex<Vec<Asked>>,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    if reader.fill_buf()?.first().is_none_or(|byte| *byte == TLS_HANDSHAKE) {
        return Ok(());
    }
    let asked = read(&mut reader)?;
    all.lock().unwrap().push(asked.clone());
    write(stream, &mut reader, &answer(&asked))
}

fn read(reader: &mut impl BufRead) -> std::io::Result<Asked> {
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split_whitespace().map(str::to_owned);
    let (method, path) = (words.next().unwrap(), words.next().unwrap());
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok(Asked { method, path, headers, body: String::from_utf8(body).unwrap() })
}

fn write(mut stream: &TcpStream, reader: &mut impl Read, answer: &Answer) -> std::io::Result<()> {
    let mut head = format!("HTTP/1.1 {} Whatever\r\nConnection: close\r\n", answer.status);
    for (name, value) in &answer.headers {
        head += &format!("{name}: {value}\r\n");
    }
    let length = match &answer.body {
        Body::Whole(bytes) => Some(bytes.len() as u64),
        Body::Cut(length, _) | Body::Silent(length, _) | Body::Zeros(length) => Some(*length),
        Body::Endless | Body::EndlessHead => None,
    };
    if let Some(length) = length {
        head += &format!("Content-Length: {length}\r\n");
    }
    if matches!(answer.body, Body::EndlessHead) {
        stream.write_all(head.as_bytes())?;
        loop {
            stream.write_all(format!("X-More: {}\r\n", "x".repeat(1000)).as_bytes())?;
        }
    }
    stream.write_all(format!("{head}\r\n").as_bytes())?;
    match &answer.body {
        Body::Whole(bytes) | Body::Cut(_, bytes) => stream.write_all(bytes),
        Body::Silent(_, bytes) => {
            stream.write_all(bytes)?;
            // Until the client has had enough.
            reader.read(&mut [0]).map(drop)
        }
        Body::Zeros(length) => std::io::copy(&mut std::io::repeat(0).take(*length), &mut stream).map(drop),
        Body::Endless | Body::EndlessHead => loop {
            stream.write_all(&[b' '; 65536])?;
        },
    }
}

/// An image that a server can serve: every blob by its digest, the manifest by a tag.
#[derive(Debug, Clone)]
pub(crate) struct Image {
    pub(crate) manifest: Vec<u8>,
    pub(crate) config: Vec<u8>,
    pub(crate) layers: Vec<Vec<u8>>,
}

/// `sha256:` and the digits.
pub(crate) fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

/// A descriptor of these bytes.
pub(crate) fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({ "mediaType": media_type, "digest": digest(bytes), "size": bytes.len() })
}

pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(crate) const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

impl Image {
    /// One image of two layers for linux/amd64.
    pub(crate) fn new() -> Self {
        Self::of("amd64", vec![vec![b'1'; 300_000], b"second layer".to_vec()])
    }

    pub(crate) fn of(architecture: &str, layers: Vec<Vec<u8>>) -> Self {
        let config = json!({ "architecture": architecture, "os": "linux" }).to_string().into_bytes();
        let mut image = Self { manifest: Vec::new(), config, layers };
        let layers: Vec<Value> = image.layers.iter().map(|layer| descriptor(LAYER, layer)).collect();
        image.describe(descriptor(CONFIG, &image.config), layers);
        image
    }

    /// Gives it a manifest of these descriptors, whether they are true or not.
    pub(crate) fn describe(&mut self, config: Value, layers: Vec<Value>) {
        let manifest =
            json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers });
        self.manifest = manifest.to_string().into_bytes();
    }

    /// What an honest registry answers.
    pub(crate) fn answer(&self, asked: &Asked) -> Answer {
        let own = digest(&self.manifest);
        let last = asked.path.rsplit('/').next().unwrap();
        if asked.path.contains("/manifests/") {
            if last == own || !last.starts_with("sha256:") {
                return Answer::bytes(self.manifest.clone())
                    .header("Content-Type", MANIFEST)
                    .header("Docker-Content-Digest", own);
            }
            return Answer::status(404);
        }
        self.layers
            .iter()
            .chain([&self.config])
            .find(|blob| digest(blob) == last)
            .map_or_else(|| Answer::status(404), |blob| Answer::bytes(blob.clone()))
    }
}
