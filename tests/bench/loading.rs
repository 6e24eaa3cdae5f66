//! Image load and measure beside plain `sha384sum`.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tests::enclave::Start;
use tests::product::User;
use tests::{demo, image};

use crate::statistics::{ROUNDS, median, row};

/// Bytes of incompressible content added to the demo's root folder.
const PAYLOAD: usize = 48 << 20;

fn time(mut command: Command) -> Duration {
    let began = Instant::now();
    assert!(command.stdout(Stdio::null()).status().unwrap().success());
    began.elapsed()
}

/// So many bytes that cannot be compressed, the same each time.
pub(crate) fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 1u64;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    })
    .take(bytes / 8)
    .flatten()
    .collect()
}

fn big_image(user: &User) -> std::path::PathBuf {
    let rootfs = user.path("rootfs");
    fs::create_dir_all(rootfs.join("bin")).unwrap();
    fs::copy(image::demo_rootfs().join("bin/enclave-demo"), rootfs.join("bin/enclave-demo")).unwrap();
    fs::File::create(rootfs.join("payload")).unwrap().write_all(&noise(PAYLOAD)).unwrap();
    let output = user.path("big.eif");
    let words = [
        "build",
        "--rootfs",
        rootfs.to_str().unwrap(),
        "--output",
        output.to_str().unwrap(),
        "--",
        "/bin/enclave-demo",
    ];
    let _ = user.enclave(&words).success();
    output
}

/// How long the supervisor took to read, measure and place the image, by its own clock.
fn loaded(user: &User, image: &Path) -> Duration {
    let mut start = Start::new(image, "loading");
    start.memory = 512;
    let enclave = start.run(user);
    let timings = enclave.describe()["Timings"].clone();
    assert!(demo::ask(&enclave, "clock").is_ok());
    let _ = enclave.terminate().success();
    let phase = timings
        .as_array()
        .unwrap()
        .iter()
        .find(|phase| phase["Phase"].as_str().is_some_and(|name| name.contains("measur")));
    Duration::from_micros(phase.expect("a phase of measuring")["Microseconds"].as_u64().unwrap())
}

pub(crate) fn measure() {
    let user = User::new();
    let image = big_image(&user);
    let length = fs::metadata(&image).unwrap().len();
    let (mut hashes, mut measures, mut loads) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        let mut command = Command::new("sha384sum");
        command.arg(&image);
        let hash = time(command);
        let measured = time(user.command(&["eif", "measure", image.to_str().unwrap()]));
        let load = loaded(&user, &image);
        if round > 0 {
            hashes.push(hash);
            measures.push(measured);
            loads.push(load);
        }
    }
    println!("| image of {:.1} MB | median | range |\n|---|---|---|", length as f64 / 1e6);
    row("`sha384sum`", &hashes);
    row("`enclave eif measure`", &measures);
    row("load, measure and place, in the supervisor", &loads);
    let hash = median(hashes).as_secs_f64();
    println!("\n`sha384sum`: {:.1} MB/s", length as f64 / 1e6 / hash);
    println!(
        "`eif measure` takes {:.2} times as long (goal: at most 1.2)",
        median(measures).as_secs_f64() / hash
    );
    println!("loading takes {:.2} times as long (goal: at most 1.2)", median(loads).as_secs_f64() / hash);
}
