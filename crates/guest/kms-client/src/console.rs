//! What the helper says on the enclave's console.

use std::fmt::Display;
use std::io::{self, Write};

/// The helper's name, before everything that it says.
pub const NAME: &str = "enclave-kms-proxy";

/// Says something. Where nobody can be told, it goes unsaid: `eprintln!` would end the helper, and with it the enclave.
pub fn tell(message: impl Display) {
    let _ = io::stderr().write_all(format!("{NAME}: {message}\n").as_bytes());
}
