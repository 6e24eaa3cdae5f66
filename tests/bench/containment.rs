//! What the containment costs: boot, attestation and vsock with it and without, in turns.

use std::path::Path;
use std::time::{Duration, Instant};

use tests::demo;
use tests::demo::PORT;
use tests::enclave::Start;
use tests::product::User;

use crate::peer;
use crate::statistics::{ROUNDS, median};
use crate::vsock::exercise;

/// Documents asked for in one round.
const DOCUMENTS: u32 = 50;

/// What is measured, in this order in each round.
const FIGURES: [&str; 5] = [
    "from exec to the heartbeat",
    "attestation documents",
    "64 MiB to the guest",
    "64 MiB to the host",
    "1000 round trips of 64 bytes",
];

/// One enclave from its start to its end.
fn round(image: &Path, user: &User, level: &str) -> [Duration; FIGURES.len()] {
    let options = ["--containment", level];
    let start = Start::new(image, "measured").with(&options);
    let began = Instant::now();
    let started = start.attempt(user, "run");
    let boot = began.elapsed();
    let _ = started.success();
    let _ = user.enclave(&["terminate", "measured"]).success();
    let enclave = start.run(user);
    let spent = demo::ask(&enclave, &format!("attest-many {DOCUMENTS}")).expect("microseconds");
    let documents = Duration::from_micros(spent.parse().expect("a number"));
    let vsock = exercise(|| enclave.connect(PORT).unwrap());
    let _ = enclave.terminate().success();
    [boot, documents, vsock.to_guest, vsock.to_host, vsock.round_trips]
}

pub(crate) fn measure() {
    let image = peer::image();
    let user = User::new();
    let _ = user.enclave(&["pki", "init"]).success();
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for number in 0..=ROUNDS {
        let rounds = [round(&image, &user, "on"), round(&image, &user, "off")];
        // The first has filled the page cache.
        if number > 0 {
            with.push(rounds[0]);
            without.push(rounds[1]);
        }
    }
    println!("| median of {ROUNDS}, in turns | contained | not contained | ratio |\n|---|---|---|---|");
    for (index, name) in FIGURES.iter().enumerate() {
        let middle = |all: &[[Duration; FIGURES.len()]]| {
            median(all.iter().map(|figures| figures[index]).collect()).as_secs_f64() * 1e3
        };
        let (with, without) = (middle(&with), middle(&without));
        println!("| {name} | {with:.1} ms | {without:.1} ms | {:.2} |", with / without);
    }
    println!("\nGoals: at most 1.05 for the boot, nothing measurable for the others.");
}
