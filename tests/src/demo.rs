//! The demo application's line protocol (crates/guest/src/bin/enclave-demo.rs), from the host's side.

use std::io::{BufRead, BufReader, Write};

use crate::enclave::Enclave;

/// The vsock port that the demo application listens on.
pub const PORT: u32 = 5005;

/// Sends one request and returns what follows `ok `.
///
/// # Errors
/// What follows `error `, or what the socket said.
pub fn ask(enclave: &Enclave<'_>, request: &str) -> Result<String, String> {
    let mut stream = enclave.connect(PORT).map_err(|error| error.to_string())?;
    stream.write_all(format!("{request}\n").as_bytes()).map_err(|error| error.to_string())?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).map_err(|error| error.to_string())?;
    let answer = answer.trim_end();
    match answer.split_once(' ').unwrap_or((answer, "")) {
        ("ok", text) => Ok(text.to_owned()),
        ("error", text) => Err(text.to_owned()),
        _ => Err(format!("unexpected answer {answer:?}")),
    }
}

/// Sends a request that ends the guest: its answer may never come.
pub fn tell(enclave: &Enclave<'_>, request: &str) {
    let mut stream = enclave.connect(PORT).expect("the demo application listens");
    stream.write_all(format!("{request}\n").as_bytes()).expect("the demo application reads");
    // The connection ends with the guest.
    let mut rest = Vec::new();
    let _ = std::io::Read::read_to_end(&mut stream, &mut rest);
}

/// An attestation document with this nonce.
#[must_use]
pub fn attest(enclave: &Enclave<'_>, nonce: &[u8]) -> Vec<u8> {
    let answer = ask(enclave, &format!("attest {}", hex::encode(nonce))).expect("a document");
    hex::decode(answer).expect("hexadecimal digits")
}
