//! Keys and certificates made by the `openssl` program.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Curves that sign images, as OpenSSL names them.
pub const CURVES: [&str; 3] = ["prime256v1", "secp384r1", "secp521r1"];

/// Runs `openssl` with the words of `arguments` in `folder`.
pub fn openssl(folder: &Path, arguments: &str) {
    let output = Command::new("openssl")
        .args(arguments.split(' '))
        .current_dir(folder)
        .output()
        .expect("openssl (package openssl) is needed");
    assert!(output.status.success(), "openssl {arguments}: {output:?}");
}

/// A key on `curve` and a certificate for it, `NAME.key` and `NAME.pem` in `folder`.
pub fn signer(folder: &Path, name: &str, curve: &str) -> (PathBuf, PathBuf) {
    openssl(
        folder,
        &format!(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:{curve} -nodes -days 2 -subj /CN={name} -keyout {name}.key -out \
             {name}.pem"
        ),
    );
    (folder.join(format!("{name}.key")), folder.join(format!("{name}.pem")))
}
