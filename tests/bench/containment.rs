//! What the containment costs: boot, attestation and vsock with it and without.
//!
//! Boots are timed in turns. Everything else is done by two enclaves that live side by side, one contained and one not,
//! a little by each in turn: what drifts hits both, and the ratio of each turn stands for itself.

use std::path::Path;
use std::time::{Duration, Instant};

use tests::demo;
use tests::demo::PORT;
use tests::enclave::{Enclave, Start};
use tests::product::User;

use crate::peer;
use crate::statistics::median;
use crate::vsock::{Amounts, exercise};

/// Boots of each kind.
const BOOTS: usize = 21;

/// Pairs of enclaves, and turns of each pair. Which of a pair is started first, and so gets which processor, alternates.
const PAIRS: usize = 4;
const TURNS: usize = 8;

/// Documents asked for in one turn.
const DOCUMENTS: u32 = 25;

/// What vsock does in one turn.
const AMOUNTS: Amounts = Amounts { bytes: 16 << 20, round_trips: 300, connections: 0 };

/// What is measured in each turn, in this order.
const FIGURES: [&str; 4] =
    ["25 attestation documents", "16 MiB to the guest", "16 MiB to the host", "300 round trips of 64 bytes"];

const LEVELS: [&str; 2] = ["on", "off"];

/// One enclave's part of a turn.
fn turn(enclave: &Enclave<'_>) -> [Duration; FIGURES.len()] {
    let spent = demo::ask(enclave, &format!("attest-many {DOCUMENTS}")).expect("microseconds");
    let documents = Duration::from_micros(spent.parse().expect("a number"));
    let vsock = exercise(AMOUNTS, || enclave.connect(PORT).unwrap());
    [documents, vsock.to_guest, vsock.to_host, vsock.round_trips]
}

/// The times of both levels in each turn.
fn pair(image: &Path, user: &User, first: usize) -> Vec<[[Duration; FIGURES.len()]; 2]> {
    let start = |level: &'static str| {
        let options = ["--containment", level];
        Start::new(image, level).with(&options).run(user)
    };
    let mut enclaves = [None, None];
    for level in [first, 1 - first] {
        enclaves[level] = Some(start(LEVELS[level]));
    }
    let [Some(with), Some(without)] = enclaves else { panic!("both levels were started") };
    // The first turn warms both up.
    let turns = (0..=TURNS).map(|number| {
        if number % 2 == 0 {
            let contained = turn(&with);
            [contained, turn(&without)]
        } else {
            let bare = turn(&without);
            [turn(&with), bare]
        }
    });
    let turns = turns.skip(1).collect();
    let _ = (with.terminate().success(), without.terminate().success());
    turns
}

fn boot(image: &Path, user: &User, level: &str) -> Duration {
    let options = ["--containment", level];
    let began = Instant::now();
    let started = Start::new(image, "measured").with(&options).attempt(user, "run");
    let spent = began.elapsed();
    let _ = started.success();
    let _ = user.enclave(&["terminate", "measured"]).success();
    spent
}

pub(crate) fn measure() {
    let image = peer::image();
    let user = User::new();
    let _ = user.enclave(&["pki", "init"]).success();
    // The first fills the page cache.
    let _ = boot(&image, &user, "on");
    let boots = (0..BOOTS).map(|number| {
        if number % 2 == 0 {
            let contained = boot(&image, &user, "on");
            [contained, boot(&image, &user, "off")]
        } else {
            let bare = boot(&image, &user, "off");
            [boot(&image, &user, "on"), bare]
        }
    });
    println!(
        "| | contained, median | not contained, median | ratio, median | half of the ratios |\n|---|---|---|---|---|"
    );
    row("from exec to the heartbeat", &boots.collect::<Vec<_>>());
    let turns: Vec<_> = (0..PAIRS).flat_map(|number| pair(&image, &user, number % 2)).collect();
    for (index, name) in FIGURES.iter().enumerate() {
        let times: Vec<_> = turns.iter().map(|[with, without]| [with[index], without[index]]).collect();
        row(name, &times);
    }
    println!("\nGoals: at most 1.05 for the boot, nothing measurable for the others.");
}

/// Medians of both, and of the ratio within each turn, with the range that holds the middle half.
fn row(name: &str, times: &[[Duration; 2]]) {
    let milliseconds =
        |level: usize| median(times.iter().map(|pair| pair[level]).collect()).as_secs_f64() * 1e3;
    let mut ratios: Vec<f64> =
        times.iter().map(|[with, without]| with.as_secs_f64() / without.as_secs_f64()).collect();
    ratios.sort_by(f64::total_cmp);
    let at = |part: usize| ratios[ratios.len() * part / 4];
    println!(
        "| {name} | {:.1} ms | {:.1} ms | {:.2} | {:.2} to {:.2} |",
        milliseconds(0),
        milliseconds(1),
        at(2),
        at(1),
        at(3)
    );
}
