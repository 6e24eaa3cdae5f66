//! What a relying party links with this crate: few crates, no C, nothing of the host's.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failed assumption is a failed test"
)]

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;

/// Most crates that are linked, this one and compile-time ones included. Raise it only with a reason.
const MAX_CRATES: usize = 62;
/// Beginnings of the names of what has no business here: KVM, asynchronous runtimes, networks, cryptography in C.
const FOREIGN: [&str; 20] = [
    "kvm",
    "vm-",
    "virtio",
    "vhost",
    "tokio",
    "async",
    "futures",
    "smol",
    "mio",
    "hyper",
    "reqwest",
    "http",
    "rustls",
    "openssl",
    "native-tls",
    "ring",
    "aws-lc",
    "boring",
    "mbedtls",
    "libsqlite",
];
/// What a build script uses that makes or finds C code.
const C_BUILDERS: [&str; 8] =
    ["cc", "cmake", "bindgen", "pkg-config", "vcpkg", "nasm-rs", "autotools", "meson"];

fn cargo(arguments: &[&str]) -> String {
    let cargo = std::env::var_os("CARGO").expect("cargo runs the tests");
    let output = Command::new(cargo).args(arguments).args(["--locked", "--offline"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Name and version of every crate on normal edges, with the features that this crate alone asks for.
fn linked() -> BTreeSet<(String, String)> {
    let tree = cargo(&[
        "tree",
        "--package",
        "attestation",
        "--edges",
        "normal",
        "--prefix",
        "none",
        "--format",
        "{p}",
    ]);
    let crates = tree.lines().filter_map(|line| {
        let mut words = line.split(' ');
        Some((words.next()?.to_owned(), words.next()?.strip_prefix('v')?.to_owned()))
    });
    crates.collect()
}

/// What cargo knows of each linked crate.
fn packages() -> Vec<Value> {
    let metadata: Value = serde_json::from_str(&cargo(&["metadata", "--format-version", "1"])).unwrap();
    let linked = linked();
    let packages = metadata["packages"].as_array().unwrap().iter();
    let of_ours = packages.filter(|package| {
        let text = |key: &str| package[key].as_str().unwrap().to_owned();
        linked.contains(&(text("name"), text("version")))
    });
    let found: Vec<Value> = of_ours.cloned().collect();
    assert_eq!(found.len(), linked.len(), "cargo tree and cargo metadata disagree");
    found
}

#[test]
fn a_relying_party_links_few_crates() {
    let linked = linked();
    // Those that the verifier cannot be without: had the list been read wrongly, they would be missing.
    for name in ["attestation", "p384", "x509-cert", "ciborium"] {
        assert!(linked.iter().any(|(linked, _)| linked == name), "{name} is missing: {linked:?}");
    }
    assert!(linked.len() <= MAX_CRATES, "{} crates: {linked:?}", linked.len());
}

#[test]
fn a_relying_party_links_no_kvm_no_runtime_and_no_network() {
    for (name, _) in linked() {
        assert!(!FOREIGN.iter().any(|foreign| name.starts_with(foreign)), "{name}");
    }
}

#[test]
fn a_relying_party_compiles_and_links_no_c() {
    for package in packages() {
        let name = package["name"].as_str().unwrap();
        assert_eq!(package["links"], Value::Null, "{name} links a native library");
        assert!(!name.ends_with("-sys"), "{name} is made for a native library");
        let dependencies = package["dependencies"].as_array().unwrap().iter();
        for dependency in
            dependencies.filter(|dependency| dependency["kind"] == "build" && dependency["optional"] == false)
        {
            let tool = dependency["name"].as_str().unwrap();
            assert!(!C_BUILDERS.contains(&tool), "the build script of {name} uses {tool}");
        }
    }
}
