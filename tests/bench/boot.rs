//! From exec to the guest's heartbeat, beside QEMU microvm on the same kernel and initrd.

use std::time::{Duration, Instant};

use tests::enclave::Start;
use tests::product::User;

use crate::peer::{self, Peer};
use crate::statistics::{ROUNDS, median, row};

/// Guest memory in MiB.
const MEMORY: u32 = 256;

pub(crate) fn measure() {
    let image = peer::image();
    let user = User::new();
    // The root of trust is made on first use: not part of a boot.
    let _ = user.enclave(&["pki", "init"]).success();
    let peer = Peer::new(&image);
    println!("| from exec to the heartbeat, 1 vCPU, {MEMORY} MiB | median | range |\n|---|---|---|");
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    let mut phases = Vec::new();
    for round in 0..=ROUNDS {
        let began = Instant::now();
        let enclave = Start::new(&image, "bench").run(&user);
        let elapsed = began.elapsed();
        let described = enclave.describe();
        let _ = enclave.terminate().success();
        let (guest, peers) = peer.boot(1, MEMORY);
        drop(guest);
        // The first round fills the page cache.
        if round > 0 {
            ours.push(elapsed);
            theirs.push(peers);
            phases.push(described["Timings"].clone());
        }
    }
    row("`enclave run`", &ours);
    row("QEMU microvm, qboot", &theirs);
    let ratio = median(ours).as_secs_f64() / median(theirs).as_secs_f64();
    println!("\nratio of the medians: {ratio:.2} (goal: at most 0.6)\n");
    println!("| phase of `enclave run` | median | range |\n|---|---|---|");
    let names = phases[0].as_array().unwrap().clone();
    for (index, phase) in names.iter().enumerate() {
        let times: Vec<Duration> = phases
            .iter()
            .map(|timings| Duration::from_micros(timings[index]["Microseconds"].as_u64().unwrap_or(0)))
            .collect();
        row(phase["Phase"].as_str().unwrap(), &times);
    }
}
