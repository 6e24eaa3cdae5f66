//! `doctor` says what it found, what that means and how to mend it.

use crate::support::User;

#[test]
fn every_finding_is_explained_and_every_fault_can_be_mended() {
    let user = User::new();
    let ran = user.run(&["doctor", "-o", "json"]);
    let findings = ran.json();
    let findings = findings.as_array().unwrap();
    for finding in findings {
        let text = |key: &str| finding[key].as_str().unwrap_or_default().to_owned();
        assert!(
            !text("Check").is_empty() && !text("Found").is_empty() && !text("Meaning").is_empty(),
            "{finding}"
        );
        assert_eq!(text("Verdict") == "OK", text("Mend").is_empty(), "{finding}");
    }
    for check in [
        "KVM access",
        "Memory",
        "Huge pages",
        "CPUs",
        "Swap",
        "Limit on locked memory",
        "Containment",
        "Guest kernel",
    ] {
        assert!(findings.iter().any(|finding| finding["Check"] == check), "{check} is not looked at");
    }
    // Exactly a failure makes the command fail.
    let failed = findings.iter().any(|finding| finding["Verdict"] == "FAILURE");
    assert_eq!(ran.status, i32::from(failed));
}

#[test]
fn a_bad_configuration_is_found() {
    let user = User::new();
    let _ = user.file("enclave.toml", "default_cpu = 1\n");
    let ran = user.run(&["doctor"]);
    assert_eq!(ran.status, 1);
    assert!(ran.stdout.contains("FAIL  Configuration") && ran.stdout.contains("default_cpu"), "{ran:#?}");
    let _ = ran.says(&["Configuration"]);
}

#[test]
fn missing_companions_are_found_with_the_remedy() {
    let user = User::new();
    let ran = user.run(&["doctor"]);
    assert!(ran.stdout.contains("WARN  Guest kernel") && ran.stdout.contains("make build"), "{ran:#?}");
    assert!(!user.path("state").exists() && !user.path("run").exists(), "looking makes nothing");
}
