//! Documents from running enclaves, and the security module as the guest's kernel reaches it.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;
use tests::enclave::{Enclave, Start};
use tests::image_file::ImageFile;
use tests::product::User;
use tests::{demo, image};

const NONCE: &[u8] = b"a nonce that was never used before";

/// Writes a document and the root it should verify against; their paths.
fn fetch(user: &User, enclave: &Enclave<'_>) -> (PathBuf, PathBuf) {
    let (document, root) = (user.path("document.cose"), user.path("root.pem"));
    fs::write(&document, demo::attest(enclave, NONCE)).unwrap();
    let exported = user.enclave(&["pki", "export-root"]).success();
    fs::write(&root, exported.stdout).unwrap();
    (document, root)
}

#[test]
#[ignore = "needs a KVM that can run a kernel"]
fn a_document_verifies_and_says_what_was_booted() {
    let user = User::new();
    let image = image::demo();
    let enclave = Start::new(&image, "attested").run(&user);
    let (document, root) = fetch(&user, &enclave);
    let [pcr0, pcr1, pcr2] = ImageFile::read(&image).pcrs();
    let (document, root, nonce) = (document.to_str().unwrap(), root.to_str().unwrap(), hex::encode(NONCE));
    let verify = |more: &[&str]| {
        let mut words = vec!["attest", "verify", document, "--root", root];
        words.extend(more);
        user.enclave(&words)
    };
    let expected = [format!("0={pcr0}"), format!("1={pcr1}"), format!("2={pcr2}")];
    let pcrs: Vec<&str> = expected.iter().flat_map(|pcr| ["--pcr", pcr.as_str()]).collect();
    let _ = verify(&[pcrs.as_slice(), &["--nonce", &nonce]].concat()).success();

    let _ = verify(&["--nonce", "00"]).failure(&["nonce"]);
    let _ = verify(&["--pcr", &format!("0={pcr1}")]).failure(&["PCR"]);
    let _ = verify(&["--at", "2001-01-01T00:00:00Z"]).failure(&["valid"]);
    let stranger = User::new();
    let other = stranger.path("other.pem");
    fs::write(&other, stranger.enclave(&["pki", "export-root"]).success().stdout).unwrap();
    let _ =
        user.enclave(&["attest", "verify", document, "--root", other.to_str().unwrap()]).failure(&["root"]);

    let described = enclave.describe();
    assert_eq!(described["Measurements"]["PCR0"], pcr0);
    assert_eq!(described["Measurements"]["PCR1"], pcr1);
    assert_eq!(described["Measurements"]["PCR2"], pcr2);
    assert_eq!(described["AttestedPCRs"]["PCR0"], pcr0);
    export("production", &user, &expected);
}

/// Leaves the document where the stock verifiers find it after the lab has ended.
fn export(name: &str, user: &User, pcrs: &[String]) {
    let Some(out) = std::env::var_os("LAB_OUT") else { return };
    let folder = PathBuf::from(out).join("documents").join(name);
    fs::create_dir_all(&folder).unwrap();
    fs::copy(user.path("document.cose"), folder.join("document.cose")).unwrap();
    fs::copy(user.path("root.pem"), folder.join("root.pem")).unwrap();
    fs::write(folder.join("pcrs"), pcrs.join("\n")).unwrap();
    fs::write(folder.join("nonce"), hex::encode(NONCE)).unwrap();
}

#[test]
#[ignore = "needs a KVM that can run a kernel"]
fn a_debug_document_is_refused_unless_allowed() {
    let user = User::new();
    let enclave = Start::new(&image::demo(), "debug").with(&["--debug"]).run(&user);
    let (document, root) = fetch(&user, &enclave);
    let words = ["attest", "verify", document.to_str().unwrap(), "--root", root.to_str().unwrap()];
    let zeros = format!("0={}", "0".repeat(96));
    let _ = user.enclave(&words).failure(&["debug"]);
    let _ = user.enclave(&[&words[..], &["--pcr", &zeros]].concat()).failure(&["debug"]);
    let _ = user.enclave(&[&words[..], &["--allow-debug", "--pcr", &zeros]].concat()).success();
    let described = enclave.describe();
    assert_eq!(described["AttestedPCRs"]["PCR0"], "0".repeat(96));
    assert_eq!(described["Measurements"]["PCR0"], ImageFile::read(&image::demo()).pcrs()[0]);
}

/// Sends raw request bytes through the guest kernel's driver; the raw response.
fn nsm(enclave: &Enclave<'_>, request: &str) -> String {
    demo::ask(enclave, &format!("nsm {request}")).unwrap()
}

#[test]
#[ignore = "needs a KVM that can run a kernel"]
fn the_kernels_driver_gets_the_bytes_that_aws_sends() {
    // Requests and responses are nitro's own encodings, from AWS's nsm-api crate.
    let user = User::new();
    let enclave = Start::new(&image::demo(), "bytes").run(&user);
    assert_eq!(
        nsm(&enclave, "a16b4465736372696265504352a165696e64657810"),
        format!("a16b4465736372696265504352a2646c6f636bf464646174615830{}", "00".repeat(48))
    );
    assert_eq!(
        nsm(&enclave, "a169457874656e64504352a265696e6465781064646174614568656c6c6f"),
        "a169457874656e64504352a16464617461583030e84b2d7eeffe6d90a475797b35e59a11b0da473eee4b3b8edfe73daf0279801bb18730c39db7f27f2f77b7b458cb9e"
    );
    assert_eq!(nsm(&enclave, "a1674c6f636b504352a165696e64657810"), "674c6f636b504352");
    let read_only = "a1654572726f726d526561644f6e6c79496e646578";
    assert_eq!(nsm(&enclave, "a1674c6f636b504352a165696e64657810"), read_only);
    assert_eq!(nsm(&enclave, "a169457874656e64504352a265696e6465780064646174614568656c6c6f"), read_only);
    assert_eq!(nsm(&enclave, "a1684c6f636b50435273a16572616e67651820"), "684c6f636b50435273");
    assert_eq!(nsm(&enclave, "00"), "a1654572726f7270496e76616c69644f7065726174696f6e");
    let random = nsm(&enclave, "6947657452616e646f6d");
    assert!(random.starts_with("a16947657452616e646f6da16672616e646f6d590100"), "{random}");
    assert_ne!(random, nsm(&enclave, "6947657452616e646f6d"));
}

#[test]
#[ignore = "needs a KVM that can run a kernel"]
fn the_module_is_named_after_the_enclave() {
    let user = User::new();
    let enclave = Start::new(&image::demo(), "named").run(&user);
    let described: Value = serde_json::from_str(&demo::ask(&enclave, "describe").unwrap()).unwrap();
    let id = enclave.started["EnclaveID"].as_str().unwrap();
    let (instance, slot) = id.split_once("-enc").unwrap();
    assert_eq!(described["module_id"], format!("{instance}-enc{slot:0>16}"));
    assert_eq!(described["max_pcrs"], 32);
    assert_eq!(described["digest"], "SHA384");
    assert_eq!(described["locked_pcrs"], serde_json::json!((0..16).collect::<Vec<_>>()));
}

#[test]
#[ignore = "needs a KVM that can run a kernel"]
fn a_guest_cannot_change_what_was_measured() {
    let user = User::new();
    let enclave = Start::new(&image::demo(), "fixed").run(&user);
    let before = nsm(&enclave, "a16b4465736372696265504352a165696e64657800");
    for index in 0..16 {
        // {"ExtendPCR": {"index": n, "data": "hello"}}
        let request = format!("a169457874656e64504352a265696e646578{index:02x}64646174614568656c6c6f");
        assert_eq!(nsm(&enclave, &request), "a1654572726f726d526561644f6e6c79496e646578", "PCR {index}");
    }
    assert_eq!(nsm(&enclave, "a16b4465736372696265504352a165696e64657800"), before);
}

#[test]
#[ignore = "needs a KVM that can run a kernel"]
fn a_reset_of_the_device_resets_no_register() {
    let user = User::new();
    let enclave = Start::new(&image::demo(), "reset-device").run(&user);
    let extend = "a169457874656e64504352a265696e6465781064646174614568656c6c6f";
    let describe = "a16b4465736372696265504352a165696e64657810";
    let extended = nsm(&enclave, extend);
    let before = nsm(&enclave, describe);
    assert!(before.ends_with(&extended[extended.len() - 96..]));
    demo::ask(&enclave, "rebind nsm").expect("the driver takes its device again");
    assert_eq!(nsm(&enclave, describe), before);
    assert!(
        nsm(&enclave, "a16b4465736372696265504352a165696e64657800").contains("646c6f636bf5"),
        "PCR 0 is unlocked"
    );
}
