//! Decrypt with a Recipient, in a process and over HTTPS, beside the cryptography that it cannot do without.
//!
//! Needs no guest: the document is one that the security module makes, of a chain that `enclave` makes. Everything runs in turn on one
//! CPU, and what counts is processor time: over HTTPS the service's alone, not the client's. Latencies are what the caller waits.

mod client;
mod enclave;
mod floor;
mod in_process;
mod request;
mod served;

use std::hint::black_box;
use std::time::{Duration, Instant, SystemTime};

use tests::product::User;

use self::client::Connector;
use self::enclave::Enclave;
use self::floor::Floor;
use self::in_process::InProcess;
use self::request::{SECRET, prepare};
use self::served::Served;
use crate::processor::{self, OneCpu};
use crate::statistics::median;

/// Requests of each kind in one turn.
const REQUESTS: usize = 25;
/// Turns: short ones and many, so that all kinds meet the same machine; odd, so that the median is one of them.
const TURNS: usize = 31;

/// What the requests of one kind take, in all turns.
#[derive(Default)]
struct Series {
    /// Processor time of each turn.
    spent: Vec<Duration>,
    /// How long each request takes.
    latencies: Vec<Duration>,
}

/// What is measured.
#[derive(Default)]
struct Measured {
    signatures: Series,
    rsa: Series,
    aes: Series,
    in_process: Series,
    https: Series,
    connections: Series,
}

pub(crate) fn measure() {
    let _one = OneCpu::keep();
    let folder = tempfile::tempdir().unwrap();
    let user = User::new();
    let enclave = Enclave::new(SystemTime::now());
    let floor = Floor::new(&enclave.document);
    let in_process = InProcess::new(folder.path(), &enclave);
    let served = Served::new(&user, &enclave);
    let connector = Connector::new(&served);
    let mut client = connector.connect();
    let body = prepare(&enclave, |operation, body| client.send(connector.sign(operation, body)).into());
    assert_eq!(*enclave.secret(&in_process.decrypt()), SECRET);
    assert_eq!(*enclave.secret(&client.send(connector.sign("Decrypt", &body))), SECRET);

    let here = processor::of_this_thread;
    let there = || served.spent();
    let nothing = || ();
    let signed = || connector.sign("Decrypt", &body);
    let mut measured = Measured::default();
    for turn in 0..=TURNS {
        measured.signatures.turn(here, nothing, |()| floor.check_signatures());
        measured.rsa.turn(here, nothing, |()| floor.encrypt_key());
        measured.aes.turn(here, nothing, |()| floor.aes());
        measured.in_process.turn(here, nothing, |()| _ = black_box(in_process.decrypt()));
        measured.https.turn(there, signed, |request| _ = black_box(client.send(request)));
        measured.connections.turn(there, signed, |request| _ = black_box(connector.connect().send(request)));
        if turn == 0 {
            // It filled the caches.
            measured = Measured::default();
        }
    }
    measured.show(floor.checks());
}

impl Series {
    /// Measures some requests. What makes each of them ready is not part of its latency.
    fn turn<R>(
        &mut self,
        clock: impl Fn() -> Duration,
        mut ready: impl FnMut() -> R,
        mut call: impl FnMut(R),
    ) {
        let began = clock();
        for _ in 0..REQUESTS {
            let request = ready();
            let began = Instant::now();
            call(request);
            self.latencies.push(began.elapsed());
        }
        self.spent.push(clock() - began);
    }

    /// Processor time of a request.
    fn each(&self) -> Duration {
        median(self.spent.clone()) / u32::try_from(REQUESTS).unwrap()
    }

    /// A latency that so many of a hundred requests do not exceed, in milliseconds.
    fn percentile(&self, hundredths: usize) -> f64 {
        let mut sorted = self.latencies.clone();
        sorted.sort_unstable();
        milliseconds(sorted[(sorted.len() - 1) * hundredths / 100])
    }
}

impl Measured {
    fn show(&self, checks: usize) {
        let line = |name: &str, each: Duration| {
            println!("| {name} | {:.0} | {:.3} ms |", 1.0 / each.as_secs_f64(), milliseconds(each));
        };
        println!("| processor time | a second on one core | each |\n|---|---|---|");
        line(
            &format!("{checks} checks of P-384 signatures: the document and the chain below the root"),
            self.signatures.each(),
        );
        line("RSA-2048: the public key read, RSAES-OAEP with SHA-256", self.rsa.each());
        line("AES-256-GCM of the ciphertext, AES-256-CBC of the answer", self.aes.each());
        let floor = self.signatures.each() + self.rsa.each() + self.aes.each();
        line("all of these: the cryptography that cannot be left out", floor);
        let decrypts = [
            ("`Service::handle`", &self.in_process),
            ("`enclave kms serve` over HTTPS, one connection", &self.https),
            ("`enclave kms serve` over HTTPS, a connection each", &self.connections),
        ];
        for (name, series) in decrypts {
            line(&format!("Decrypt with Recipient, {name}"), series.each());
        }
        println!("\n| Decrypt with Recipient | p50 | p99 | of its cryptography |\n|---|---|---|---|");
        for (name, series) in decrypts {
            let (half, most) = (series.percentile(50), series.percentile(99));
            println!("| {name} | {half:.2} ms | {most:.2} ms | {:.2} |", self.of_floor(series));
        }
        println!("\nGoal: at most 1.3 times its cryptography.");
    }

    /// How many times the processor time of the cryptography it takes: the median of the turns, as a machine that others use as well
    /// changes its speed between them.
    fn of_floor(&self, series: &Series) -> f64 {
        let floor = [&self.signatures, &self.rsa, &self.aes];
        let permille = series.spent.iter().enumerate().map(|(turn, spent)| {
            let floor: Duration = floor.iter().map(|part| part.spent[turn]).sum();
            spent.as_nanos() * 1000 / floor.as_nanos()
        });
        f64::from(u32::try_from(median(permille.collect())).unwrap()) / 1e3
    }
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
