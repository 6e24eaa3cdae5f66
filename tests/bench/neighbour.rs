//! How long an enclave takes to answer beside nobody, beside a guest that only uses its processors, and beside one that attacks its
//! devices.

use std::path::Path;
use std::time::Duration;

use tests::enclave::{Enclave, PATIENCE, Start};
use tests::product::User;
use tests::visit::{self, RoundTrips};
use tests::{diagnosis, hostile, image};

/// Seconds of each visit.
const SECONDS: u64 = 10;
/// Rounds of all visits, in turn, since a machine's load changes with time.
const ROUNDS: usize = 3;

/// The duration below which `percent` of all are.
fn percentile(durations: &mut [Duration], percent: usize) -> Duration {
    durations.sort_unstable();
    durations[(durations.len() - 1) * percent / 100]
}

fn row(name: &str, mut found: Vec<Duration>, base: Duration) {
    let [half, most, all] = [50, 99, 100].map(|percent| percentile(&mut found, percent));
    let milliseconds = |duration: Duration| duration.as_secs_f64() * 1e3;
    println!(
        "| {name} | {} | {:.2} ms | {:.2} ms | {:.2} ms | {:.2} |",
        found.len(),
        milliseconds(half),
        milliseconds(most),
        milliseconds(all),
        half.as_secs_f64() / base.as_secs_f64()
    );
}

fn visit(neighbour: &Enclave<'_>, into: &mut RoundTrips) {
    let found = visit::visit(neighbour, Duration::from_secs(SECONDS), PATIENCE);
    into.echo.extend(found.echo);
    into.security_module.extend(found.security_module);
}

pub(crate) fn measure() {
    let user = User::new();
    let neighbour = Start::new(&image::demo(), "neighbour").run(&user);
    let images = [
        hostile::image("burn", &["burn"]),
        hostile::attacking(&["instead"], Duration::ZERO, hostile::seed()),
    ];
    let mut found = [RoundTrips::default(), RoundTrips::default(), RoundTrips::default()];
    for _ in 0..ROUNDS {
        let [alone, beside @ ..] = &mut found;
        visit(&neighbour, alone);
        for (image, found) in images.iter().zip(beside) {
            visit_beside(image, &neighbour, &user, found);
        }
    }
    let names = ["nobody", "a guest that uses its processors", "a guest that attacks its devices"];
    for what in ["echo of 64 bytes", "connection, and a request to the security module"] {
        println!(
            "| {what}, beside | times | half within | 99 % within | longest | half, of that beside busy processors |"
        );
        println!("|---|---|---|---|---|---|");
        let mut of_kind = found.each_ref().map(|trips| match what {
            "echo of 64 bytes" => trips.echo.clone(),
            _ => trips.security_module.clone(),
        });
        let base = percentile(&mut of_kind[1], 50);
        for (name, found) in names.iter().zip(of_kind) {
            row(name, found, base);
        }
        println!();
    }
}

fn visit_beside(image: &Path, neighbour: &Enclave<'_>, user: &User, into: &mut RoundTrips) {
    let enclave = hostile::start(image, "beside", user);
    visit(neighbour, into);
    assert_eq!(enclave.describe()["State"], "RUNNING", "{}", diagnosis::diagnosis(&enclave));
    let _ = enclave.terminate().success();
}
