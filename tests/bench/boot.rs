//! From exec to the guest's heartbeat, beside QEMU microvm on the same kernel and initrd.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;
use tests::enclave::Start;
use tests::product::User;

use crate::exits::{self, Exits};
use crate::pages::{Pages, Settings};
use crate::peer::{self, Peer};
use crate::statistics::{ROUNDS, median, row};

/// Guest memory in MiB.
const MEMORY: u32 = 256;

/// The kinds of memory measured, and their names in the tables.
const KINDS: [(Pages, &str); 3] = [
    (Pages::Ordinary, "ordinary pages"),
    (Pages::Transparent, "transparent huge pages"),
    (Pages::Reserved, "huge pages set aside"),
];

/// What was measured of one kind of boot.
#[derive(Debug, Default)]
struct Series {
    name: String,
    times: Vec<Duration>,
    exits: Vec<Exits>,
    phases: Vec<Value>,
}

impl Series {
    fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }

    /// One boot of ours.
    fn ours(&mut self, image: &Path, user: &User) {
        let before = Exits::now();
        let began = Instant::now();
        let started = Start::new(image, "bench").attempt(user, "run");
        self.times.push(began.elapsed());
        let _ = started.success();
        self.exits.extend(before.and_then(Exits::since));
        let described = user.enclave(&["describe", "bench", "-o", "json"]).success().json();
        self.phases.push(described[0]["Timings"].clone());
        let _ = user.enclave(&["terminate", "bench"]).success();
    }

    /// One boot of the peer's.
    fn peers(&mut self, peer: &Peer) {
        let before = Exits::now();
        let (guest, time) = peer.boot(1, MEMORY);
        self.exits.extend(before.and_then(Exits::since));
        self.times.push(time);
        drop(guest);
    }
}

pub(crate) fn measure() {
    let image = peer::image();
    let user = User::new();
    // The root of trust is made on first use: not part of a boot.
    let _ = user.enclave(&["pki", "init"]).success();
    let peer = Peer::new(&image);
    let settings = Settings::take_over();
    let kinds: Vec<(Option<Pages>, &str)> = match settings {
        Some(_) => KINDS.iter().map(|(pages, name)| (Some(*pages), *name)).collect(),
        None => vec![(None, "pages as this host gives them; the others need root")],
    };
    let nothing_yet = || {
        let ours: Vec<_> =
            kinds.iter().map(|(_, name)| Series::new(format!("`enclave run`, {name}"))).collect();
        (ours, Series::new("QEMU microvm, qboot"))
    };
    let (mut ours, mut theirs) = nothing_yet();
    for round in 0..=ROUNDS {
        if round == 1 {
            // The one before has filled the page cache.
            (ours, theirs) = nothing_yet();
        }
        for ((pages, _), series) in kinds.iter().zip(&mut ours) {
            if let (Some(settings), Some(pages)) = (&settings, pages) {
                settings.choose(*pages, &user, MEMORY);
            }
            series.ours(&image, &user);
        }
        theirs.peers(&peer);
    }
    report(&ours, &theirs);
}

fn report(ours: &[Series], theirs: &Series) {
    println!("| from exec to the heartbeat, 1 vCPU, {MEMORY} MiB | median | range |\n|---|---|---|");
    ours.iter().chain([theirs]).for_each(|series| row(&series.name, &series.times));
    println!();
    for series in ours {
        let ratio = median(series.times.clone()).as_secs_f64() / median(theirs.times.clone()).as_secs_f64();
        println!("{}: {ratio:.2} of the peer's time (goal: at most 0.6)", series.name);
    }
    for series in ours {
        println!("\n| phase of {} | median | range |\n|---|---|---|", series.name);
        phases(&series.phases);
    }
    let all: Vec<_> =
        ours.iter().chain([theirs]).map(|series| (series.name.as_str(), &*series.exits)).collect();
    println!();
    exits::table(&all);
}

fn phases(boots: &[Value]) {
    for (index, phase) in boots[0].as_array().unwrap().iter().enumerate() {
        let time = |timings: &Value| timings[index]["Microseconds"].as_u64().map(Duration::from_micros);
        let times: Vec<Duration> = boots.iter().filter_map(time).collect();
        row(phase["Phase"].as_str().unwrap(), &times);
    }
}
