//! Attestation requests per second beside bare P-384 signatures.

use std::time::{Duration, Instant};

use p384::ecdsa::signature::Signer;
use p384::ecdsa::{Signature, SigningKey};
use tests::enclave::Start;
use tests::product::User;
use tests::{demo, image};

/// Requests in one measurement.
const REQUESTS: u32 = 200;

pub(crate) fn measure() {
    let user = User::new();
    let enclave = Start::new(&image::demo(), "attestation").run(&user);
    let spent = demo::ask(&enclave, &format!("attest-many {REQUESTS}")).expect("microseconds");
    let requests = Duration::from_micros(spent.parse().expect("a number"));

    let key = SigningKey::from_slice(&[7; 48]).expect("a scalar below the order");
    let message = vec![0x5a; 4096];
    let began = Instant::now();
    for _ in 0..REQUESTS {
        let signature: Signature = key.sign(&message);
        std::hint::black_box(signature);
    }
    let signatures = began.elapsed();
    let per_second = |spent: Duration| f64::from(REQUESTS) / spent.as_secs_f64();
    println!("| | a second | each |\n|---|---|---|");
    println!(
        "| bare P-384 signatures on the host | {:.0} | {:.2} ms |",
        per_second(signatures),
        1e3 / per_second(signatures)
    );
    println!(
        "| attestation requests in the guest | {:.0} | {:.2} ms |",
        per_second(requests),
        1e3 / per_second(requests)
    );
}
