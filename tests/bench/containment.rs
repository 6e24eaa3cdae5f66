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

/// Boots in one round: their times vary most.
const BOOTS: usize = 3;

/// What was measured of one level.
#[derive(Default)]
struct Series([Vec<Duration>; FIGURES.len()]);

impl Series {
    /// Some boots, and what one enclave does.
    fn round(&mut self, image: &Path, user: &User, level: &str) {
        let options = ["--containment", level];
        let start = Start::new(image, "measured").with(&options);
        let [boots, others @ ..] = &mut self.0;
        for _ in 0..BOOTS {
            let began = Instant::now();
            let started = start.attempt(user, "run");
            boots.push(began.elapsed());
            let _ = started.success();
            let _ = user.enclave(&["terminate", "measured"]).success();
        }
        let enclave = start.run(user);
        let spent = demo::ask(&enclave, &format!("attest-many {DOCUMENTS}")).expect("microseconds");
        let documents = Duration::from_micros(spent.parse().expect("a number"));
        let vsock = exercise(|| enclave.connect(PORT).unwrap());
        let _ = enclave.terminate().success();
        for (series, figure) in
            others.iter_mut().zip([documents, vsock.to_guest, vsock.to_host, vsock.round_trips])
        {
            series.push(figure);
        }
    }
}

pub(crate) fn measure() {
    let image = peer::image();
    let user = User::new();
    let _ = user.enclave(&["pki", "init"]).success();
    // The first has filled the page cache.
    Series::default().round(&image, &user, "on");
    let (mut with, mut without) = (Series::default(), Series::default());
    for number in 0..ROUNDS {
        // In turns, and each first as often: what drifts hits both.
        if number % 2 == 0 {
            with.round(&image, &user, "on");
            without.round(&image, &user, "off");
        } else {
            without.round(&image, &user, "off");
            with.round(&image, &user, "on");
        }
    }
    println!("| median | contained | not contained | ratio |\n|---|---|---|---|");
    for (name, (with, without)) in FIGURES.iter().zip(with.0.into_iter().zip(without.0)) {
        let middle = |all: Vec<Duration>| median(all).as_secs_f64() * 1e3;
        let (with, without) = (middle(with), middle(without));
        println!("| {name} | {with:.1} ms | {without:.1} ms | {:.2} |", with / without);
    }
    println!("\nGoals: at most 1.05 for the boot, nothing measurable for the others.");
}
