//! The program under the name `nitro-cli`: what its subcommands print where no enclave is needed.
//!
//! Expected outputs are nitro-cli 1.5.2's own for the same files, byte for byte, but for HashAlgorithm: that release prints another
//! Debug text of its hasher than AWS documents.

use std::path::Path;
use std::process::Command;

use crate::eif::{PCR0, PCR1, PCR2, golden};
use crate::signed::Signer;
use crate::support::{Ran, User};

/// Runs it to its end.
pub(crate) fn nitro(user: &User, arguments: &[&str]) -> Ran {
    Ran::of(&mut user.nitro_cli(arguments))
}

#[test]
fn every_subcommand_is_there_and_no_other() {
    let user = User::new();
    let help = nitro(&user, &["--help"]).succeeded().stdout;
    let listed: Vec<_> =
        help.lines().filter_map(|line| line.strip_prefix("  ")?.split_whitespace().next()).collect();
    let subcommands = [
        "run-enclave",
        "terminate-enclave",
        "build-enclave",
        "describe-eif",
        "describe-enclaves",
        "console",
        "pcr",
        "explain",
        "sign-eif",
        "help",
    ];
    assert_eq!(listed[..subcommands.len()], subcommands, "{help}");
    assert!(nitro(&user, &["--version"]).succeeded().stdout.starts_with("Nitro CLI 1.5.2 (enclave "));
    assert_eq!(nitro(&user, &[]).status, 2);
    assert_eq!(nitro(&user, &["run"]).status, 2);
}

#[test]
fn a_wrong_command_line_exits_with_2_and_writes_no_log() {
    let user = User::new();
    for words in [
        &["run-enclave", "--cpu-count", "1", "--memory", "64"][..],
        &["run-enclave", "--cpu-count", "1", "--eif-path", "a"],
        &["run-enclave", "--memory", "64", "--eif-path", "a"],
        &["run-enclave", "--cpu-count", "1", "--cpu-ids", "1", "--memory", "64", "--eif-path", "a"],
        &["run-enclave", "--config", "a", "--cpu-count", "1"],
        &["run-enclave", "--config", "a", "--cpu-ids", "1"],
        &["run-enclave", "--config", "a", "--memory", "1"],
        &["run-enclave", "--config", "a", "--eif-path", "a"],
        &["run-enclave", "--config", "a", "--enclave-cid", "5"],
        &["run-enclave", "--config", "a", "--enclave-name", "a"],
        &["run-enclave", "--config", "a", "--debug-mode"],
        &["terminate-enclave"],
        &["terminate-enclave", "--all", "--enclave-id", "i-1-enc2"],
        &["terminate-enclave", "--all", "--enclave-name", "a"],
        &["terminate-enclave", "--enclave-id", "i-1-enc2", "--enclave-name", "a"],
        &["console"],
        &["console", "--enclave-id", "i-1-enc2", "--enclave-name", "a"],
        &["build-enclave", "--docker-uri", "a"],
        &["build-enclave", "--output-file", "a"],
        &["build-enclave", "--docker-uri", "a", "--output-file", "a", "--private-key", "k"],
        &["build-enclave", "--docker-uri", "a", "--output-file", "a", "--signing-certificate", "c"],
        &["sign-eif", "--eif-path", "a", "--private-key", "k"],
        &["pcr"],
        &["pcr", "--input", "a", "--signing-certificate", "a"],
        &["describe-eif"],
        &["explain"],
    ] {
        let ran = nitro(&user, words);
        assert_eq!((ran.status, ran.stdout.as_str()), (2, ""), "{words:?}: {ran:#?}");
        assert!(ran.stderr.contains("Usage: nitro-cli"), "{ran:#?}");
    }
    assert!(!user.path("logs").exists());
}

#[test]
fn without_enclaves_lists_are_empty() {
    let user = User::new();
    for words in
        [&["describe-enclaves"][..], &["describe-enclaves", "--metadata"], &["terminate-enclave", "--all"]]
    {
        let ran = nitro(&user, words).succeeded();
        assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("[]\n", ""), "{words:?}");
    }
}

#[test]
fn describe_eif_prints_nitro_clis_object() {
    let user = User::new();
    let path = user.file("golden.eif", golden());
    let expected = format!(
        r#"{{
  "EifVersion": 4,
  "Measurements": {{
    "HashAlgorithm": "Sha384 {{ ... }}",
    "PCR0": "{PCR0}",
    "PCR1": "{PCR1}",
    "PCR2": "{PCR2}"
  }},
  "IsSigned": false,
  "CheckCRC": true,
  "ImageName": "n",
  "ImageVersion": "v",
  "Metadata": {{
    "BuildTime": "2026-01-01T00:00:00Z",
    "BuildTool": "t",
    "BuildToolVersion": "1",
    "OperatingSystem": "Linux",
    "KernelVersion": "6.6",
    "DockerInfo": null
  }}
}}
"#
    );
    let ran = nitro(&user, &["describe-eif", "--eif-path", &path]).succeeded();
    assert_eq!((ran.stdout, ran.stderr.as_str()), (expected, ""));
}

#[test]
fn describe_eif_of_a_signed_image_shows_its_certificate() {
    let user = User::new();
    let signer = Signer::new(&user, "signer");
    let image = signer.signed_image(&user, "signed.eif", PCR0);
    let (pcr8, _) = crate::signed::pcr8(&user, &signer.certificate);
    let ran = nitro(&user, &["describe-eif", "--eif-path", &image]).succeeded();
    let report = ran.json();
    assert_eq!(report["Measurements"]["PCR8"], pcr8);
    assert_eq!((&report["IsSigned"], &report["SignatureCheck"]), (&true.into(), &true.into()));
    assert_eq!(report["SigningCertificate"]["IssuerName"]["commonName"], "signer");
    assert_eq!(report["SigningCertificate"]["Algorithm"], "ecdsa-with-SHA384");
    assert_eq!(
        crate::support::keys(&ran.stdout)[..6],
        ["EifVersion", "Measurements", "IsSigned", "SigningCertificate", "CheckCRC", "SignatureCheck"]
    );
    // A signature over another image is shown, one that its key did not make is an error.
    let other = signer.signed_image(&user, "other.eif", &"ab".repeat(48));
    let report = nitro(&user, &["describe-eif", "--eif-path", &other]).succeeded().json();
    assert_eq!(report["SignatureCheck"], false);
    let damaged = signer.damaged_image(&user, "damaged.eif");
    assert_eq!(nitro(&user, &["describe-eif", "--eif-path", &damaged]).status, 35);
}

#[test]
fn sign_eif_prints_nitro_clis_object_and_replaces_a_signature() {
    let user = User::new();
    let (first, second) = (Signer::new(&user, "first"), Signer::on_curve(&user, "second", "secp521r1"));
    let image = user.file("golden.eif", golden());
    for signer in [first, second] {
        let (pcr8, _) = crate::signed::pcr8(&user, &signer.certificate);
        let expected = format!(
            r#"{{
  "Measurements": {{
    "HashAlgorithm": "Sha384 {{ ... }}",
    "PCR0": "{PCR0}",
    "PCR1": "{PCR1}",
    "PCR2": "{PCR2}",
    "PCR8": "{pcr8}"
  }}
}}
"#
        );
        let words = ["sign-eif", "--eif-path", &image, "--private-key", &signer.key];
        let ran = nitro(&user, &[&words[..], &["--signing-certificate", &signer.certificate]].concat());
        let ran = ran.succeeded();
        assert_eq!((ran.stdout, ran.stderr.as_str()), (expected, "Enclave Image successfully signed.\n"));
        let verified = user.run(&["eif", "verify", &image, "--require-signature", &signer.certificate]);
        let _ = verified.succeeded();
    }
}

#[test]
fn pcr_measures_files_and_certificates() {
    let user = User::new();
    let input = user.file("input", "anything at all");
    let content = hex::decode(sha384sum(&input)).unwrap();
    let extended = user.file("extended", [vec![0; 48], content].concat());
    let expected = format!("{{\n  \"PCR\": \"{}\"\n}}\n", sha384sum(&extended));
    assert_eq!(nitro(&user, &["pcr", "--input", &input]).succeeded().stdout, expected);

    let signer = Signer::new(&user, "signer");
    let (pcr8, _) = crate::signed::pcr8(&user, &signer.certificate);
    let printed = nitro(&user, &["pcr", "--signing-certificate", &signer.certificate]).succeeded().stdout;
    assert_eq!(printed, format!("{{\n  \"PCR8\": \"{pcr8}\"\n}}\n"));
}

fn sha384sum(file: &str) -> String {
    let output = Command::new("sha384sum").arg(Path::new(file)).output().unwrap();
    String::from_utf8(output.stdout).unwrap()[..96].to_owned()
}

#[test]
fn explain_tells_every_number_on_standard_error() {
    let user = User::new();
    for number in 0..=60 {
        let code = format!("E{number:02}");
        let ran = nitro(&user, &["explain", "--error-code", &code]).succeeded();
        assert_eq!(ran.stdout, "", "{code}");
        assert!(ran.stderr.len() > 40 && !ran.stderr.contains("No such error code"), "{code}: {ran:#?}");
    }
    for unknown in ["E61", "61", "E1", "e36", ""] {
        let ran = nitro(&user, &["explain", "--error-code", unknown]).succeeded();
        assert_eq!((ran.stdout, ran.stderr), (String::new(), format!("No such error code {unknown}\n")));
    }
    let ran = nitro(&user, &["explain", "--error-code", "E26"]).succeeded();
    assert!(ran.stderr.starts_with("Insufficient memory requested. "), "{ran:#?}");
}

#[test]
fn the_name_alone_decides_which_front_answers() {
    let user = User::new();
    let ran = user.run(&["describe-enclaves"]);
    assert_eq!(ran.status, 2, "{ran:#?}");
    let ran = nitro(&user, &["describe"]);
    assert_eq!(ran.status, 2, "{ran:#?}");
}
