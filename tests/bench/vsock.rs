//! vsock bytes per second each way and round trips per second, beside QEMU with the kernel's vhost-vsock.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use tests::demo::PORT;
use tests::enclave::Start;
use tests::product::User;

use crate::peer::{self, Peer};

/// Bytes of one write.
const BLOCK: usize = 64 << 10;

/// How much is done.
#[derive(Clone, Copy)]
pub(crate) struct Amounts {
    /// Bytes sent each way.
    pub(crate) bytes: usize,
    /// Round trips of 64 bytes.
    pub(crate) round_trips: u32,
    /// Connections opened one after the other.
    pub(crate) connections: u32,
}

const AMOUNTS: Amounts = Amounts { bytes: 64 << 20, round_trips: 1000, connections: 200 };

/// What one host achieves.
pub(crate) struct Figures {
    pub(crate) to_guest: Duration,
    pub(crate) to_host: Duration,
    pub(crate) round_trips: Duration,
    pub(crate) connections: Duration,
}

fn line(mut stream: impl Read) -> String {
    let mut text = Vec::new();
    let mut byte = [0];
    while stream.read(&mut byte).unwrap() == 1 && byte != [b'\n'] {
        text.push(byte[0]);
    }
    String::from_utf8(text).unwrap()
}

/// Sends, receives, asks and connects, by connections to the demo application.
pub(crate) fn exercise<S>(amounts: Amounts, mut connect: impl FnMut() -> S) -> Figures
where
    for<'a> &'a S: Read + Write,
{
    let Amounts { bytes, round_trips: trips, connections } = amounts;
    let block = vec![0; BLOCK];

    let sink = connect();
    let mut sink = &sink;
    let began = Instant::now();
    sink.write_all(format!("sink {bytes}\n").as_bytes()).unwrap();
    for _ in 0..bytes / BLOCK {
        sink.write_all(&block).unwrap();
    }
    assert!(line(&mut sink).starts_with("ok"));
    let to_guest = began.elapsed();

    let source = connect();
    let mut source = &source;
    let mut buffer = vec![0; BLOCK];
    let began = Instant::now();
    source.write_all(format!("source {bytes}\n").as_bytes()).unwrap();
    let mut received = 0;
    while received < bytes {
        let read = source.read(&mut buffer).unwrap();
        assert!(read > 0, "the guest stopped after {received} bytes");
        received += read;
    }
    let to_host = began.elapsed();

    let echo = connect();
    let mut echo = &echo;
    echo.write_all(b"echo\n").unwrap();
    let mut small = [0x55; 64];
    let began = Instant::now();
    for _ in 0..trips {
        echo.write_all(&small).unwrap();
        echo.read_exact(&mut small).unwrap();
    }
    let round_trips = began.elapsed();

    let began = Instant::now();
    for _ in 0..connections {
        let asked = connect();
        let mut asked = &asked;
        asked.write_all(b"cmdline\n").unwrap();
        assert!(line(&mut asked).starts_with("ok"));
    }
    Figures { to_guest, to_host, round_trips, connections: began.elapsed() }
}

fn row(name: &str, figures: &Figures) {
    let rate = |spent: Duration| AMOUNTS.bytes as f64 / 1e6 / spent.as_secs_f64();
    println!(
        "| {name} | {:.0} MB/s | {:.0} MB/s | {:.0} | {:.3} ms | {:.2} ms |",
        rate(figures.to_host),
        rate(figures.to_guest),
        f64::from(AMOUNTS.round_trips) / figures.round_trips.as_secs_f64(),
        figures.round_trips.as_secs_f64() * 1e3 / f64::from(AMOUNTS.round_trips),
        figures.connections.as_secs_f64() * 1e3 / f64::from(AMOUNTS.connections),
    );
}

pub(crate) fn measure() {
    let image = peer::image();
    let user = User::new();
    println!(
        "| 64 KiB writes, 64-byte round trips | guest to host | host to guest | round trips a second | each | connect and ask |\n|---|---|---|---|---|---|"
    );
    let enclave = Start::new(&image, "vsock").cpus(1).run(&user);
    let ours = exercise(AMOUNTS, || enclave.connect(PORT).unwrap());
    let _ = enclave.terminate().success();
    row("`enclave run`", &ours);
    let peer = Peer::new(&image);
    let (_guest, _) = peer.boot(1, 256);
    let theirs = exercise(AMOUNTS, || Peer::connect(PORT));
    row("QEMU microvm, vhost-vsock", &theirs);
}
