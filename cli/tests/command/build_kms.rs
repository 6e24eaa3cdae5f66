//! `enclave build --kms-endpoint`: what is added to an image, and what is refused before it is built.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::json;
use tempfile::TempDir;

use crate::build::{kernel, rootfs, sections, unpacked};
use crate::build_sources::layout;
use crate::support::{Ran, User, enclave_alone, mode};

const HELPER: &[u8] = b"stands for the helper";
const CA: &str = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
const ENDPOINT: [&str; 2] = ["--kms-endpoint", "https://kms.example"];
const KEYS: [&str; 4] = ["--env", "AWS_ACCESS_KEY_ID=A", "--env", "AWS_SECRET_ACCESS_KEY=s"];

/// `enclave` with a helper beside it.
struct Installed {
    user: User,
    root: String,
    program: PathBuf,
    _folder: TempDir,
}

impl Installed {
    fn new() -> Self {
        let installed = Self::without_helper();
        fs::write(installed.program.with_file_name("enclave-kms-proxy"), HELPER).unwrap();
        installed
    }

    fn without_helper() -> Self {
        let (program, folder) = enclave_alone();
        let user = User::new();
        Self { root: rootfs(&user, "root"), user, program, _folder: folder }
    }

    fn build(&self, output: &str, more: &[&str]) -> Ran {
        let (kernel, init) = (self.user.file("kernel", kernel()), self.user.file("init", "init"));
        let output = self.user.path(output).to_str().unwrap().to_owned();
        let words = ["build", "--output", &output, "--kernel", &kernel, "--init", &init];
        let ours = self.user.command::<&str>(&[]);
        let mut command = Command::new(&self.program);
        command.args(words).args(more).env_clear();
        Ran::of(command.envs(ours.get_envs().filter_map(|(key, value)| Some((key, value?)))))
    }

    fn build_root(&self, output: &str, more: &[&str]) -> Ran {
        self.build(output, &[&["--rootfs", &self.root], more, &["--", "/bin/app", "--flag"]].concat())
    }

    /// The files of the application's ramdisk.
    fn files(&self, output: &str) -> PathBuf {
        let sections = sections(&fs::read(self.user.path(output)).unwrap());
        unpacked(&self.user, &sections[4].1)
    }
}

#[test]
fn the_helper_the_root_certificates_and_the_wrapped_command_are_in_the_image() {
    let installed = Installed::new();
    let ca = installed.user.file("ca.pem", CA);
    let more = [
        "--kms-endpoint",
        "https://kms.example:8443",
        "--kms-port",
        "8001",
        "--kms-ca",
        &ca,
        "--kms-credentials-port",
        "8002",
        "--kms-region",
        "local-1",
        "-o",
        "json",
    ];
    let report = installed.build_root("app.eif", &more).succeeded().json();
    let files = installed.files("app.eif");
    let helper = files.join("rootfs/.enclave/enclave-kms-proxy");
    assert_eq!((fs::read(&helper).unwrap().as_slice(), mode(&helper)), (HELPER, 0o755));
    assert_eq!(mode(&files.join("rootfs/.enclave")), 0o755);
    assert_eq!(fs::read_to_string(files.join("rootfs/.enclave/kms-ca.pem")).unwrap(), CA);
    let command = [
        "/.enclave/enclave-kms-proxy",
        "--endpoint",
        "https://kms.example:8443",
        "--port",
        "8001",
        "--ca",
        "/.enclave/kms-ca.pem",
        "--region",
        "local-1",
        "--credentials-port",
        "8002",
        "--",
        "/bin/app",
        "--flag",
        "",
    ];
    assert_eq!(fs::read_to_string(files.join("cmd")).unwrap(), command.join("\n"));
    // By sha256sum(1).
    let added = json!({
        "Program": "/.enclave/enclave-kms-proxy", "Endpoint": "https://kms.example:8443", "VsockPort": 8001, "CredentialsVsockPort": 8002,
        "SHA256": containers::tool::sha256sum(&helper),
        "CASHA256": containers::tool::sha256sum(&installed.user.path("ca.pem")),
    });
    assert_eq!(report["KMSHelper"], added);
    let image = installed.user.path("app.eif");
    let described =
        installed.user.run(&["eif", "describe", image.to_str().unwrap(), "-o", "json"]).succeeded().json();
    assert_eq!(described["Metadata"]["KMSHelper"], added);
}

#[test]
fn a_container_images_command_is_wrapped_as_well() {
    let (installed, layout) = (Installed::new(), layout());
    let words =
        [&["--oci", layout.path().to_str().unwrap(), "--arch", "amd64"][..], &ENDPOINT, &KEYS].concat();
    let _ = installed.build("app.eif", &words).succeeded();
    let files = installed.files("app.eif");
    let command = fs::read_to_string(files.join("cmd")).unwrap();
    assert!(command.ends_with("\n--\n/bin/app\n--serve\n"), "{command}");
    assert!(command.starts_with("/.enclave/enclave-kms-proxy\n"), "{command}");
    assert_eq!(fs::read(files.join("rootfs/.enclave/enclave-kms-proxy")).unwrap(), HELPER);
}

#[test]
fn the_same_parts_give_the_same_image_and_another_endpoint_another() {
    let installed = Installed::new();
    let pcrs = |endpoint: &str, output: &str| {
        let words = [&["--kms-endpoint", endpoint, "--check", "-o", "json"][..], &KEYS].concat();
        let report = installed.build_root(output, &words).succeeded().json();
        assert_eq!(report["Reproducible"], true);
        report["Measurements"].clone()
    };
    let first = pcrs("https://kms.example", "a.eif");
    assert_eq!(first, pcrs("https://kms.example", "b.eif"));
    let other = pcrs("https://kms.other", "c.eif");
    assert_ne!(first["PCR0"], other["PCR0"]);
    assert_ne!(first["PCR2"], other["PCR2"]);
    assert_eq!(first["PCR1"], other["PCR1"], "the boot is the same");
}

#[test]
fn without_the_option_nothing_is_added() {
    let installed = Installed::new();
    let report = installed.build_root("app.eif", &["-o", "json"]).succeeded().json();
    assert!(report.get("KMSHelper").is_none());
    let files = installed.files("app.eif");
    assert!(!files.join("rootfs/.enclave").exists());
    assert_eq!(fs::read_to_string(files.join("cmd")).unwrap(), "/bin/app\n--flag\n");
}

#[test]
fn a_missing_helper_is_said_with_what_makes_it() {
    let installed = Installed::without_helper();
    installed
        .build_root("app.eif", &[&ENDPOINT[..], &KEYS].concat())
        .failed(&["enclave-kms-proxy is missing", "make build"]);
}

#[test]
fn an_image_with_such_a_folder_of_its_own_is_refused() {
    let installed = Installed::new();
    fs::create_dir(installed.user.path("root/.enclave")).unwrap();
    let words = [&["--rootfs", &installed.root][..], &ENDPOINT, &KEYS, &["--", "/bin/app"]].concat();
    installed.build("app.eif", &words).failed(&["/.enclave of its own"]);
    assert!(!installed.user.path("app.eif").exists());
    let _ = installed.build("app.eif", &["--rootfs", &installed.root, "--", "/bin/app"]).succeeded();
}

#[test]
fn an_endpoint_without_tls_or_with_a_path_is_refused() {
    let installed = Installed::new();
    for (endpoint, words) in [
        ("http://kms.example", "https://HOST"),
        ("kms.example", "https://HOST"),
        ("https://", "without a path"),
        ("https://kms.example/a", "without a path"),
        ("https://a@kms.example", "without a path"),
        ("https://kms.example\n--wait", "without a path"),
    ] {
        let ran = installed.build_root("app.eif", &[&["--kms-endpoint", endpoint][..], &KEYS].concat());
        assert_eq!(ran.status, 2, "{ran:#?}");
        assert!(ran.stderr.contains(words), "{ran:#?}");
    }
}

#[test]
fn the_helpers_options_are_of_no_use_without_it() {
    let installed = Installed::new();
    for option in ["--kms-port=1", "--kms-ca=a", "--kms-credentials-port=1", "--kms-region=a"] {
        let ran = installed.build_root("app.eif", &[option]);
        assert_eq!(ran.status, 2, "{ran:#?}");
        assert!(ran.stderr.contains("--kms-endpoint"), "{ran:#?}");
    }
}

#[test]
fn requests_that_nothing_would_sign_are_refused() {
    let installed = Installed::new();
    installed.build_root("app.eif", &ENDPOINT).failed(&["nothing to sign", "--kms-credentials-port"]);
    let half = [&ENDPOINT[..], &KEYS[..2]].concat();
    installed.build_root("app.eif", &half).failed(&["nothing to sign"]);
}

#[test]
fn two_kinds_of_credentials_are_refused() {
    let both = [&ENDPOINT[..], &KEYS, &["--kms-credentials-port", "9"]].concat();
    Installed::new().build_root("app.eif", &both).failed(&["--kms-credentials-port", "leave out one"]);
}

#[test]
fn a_private_key_in_place_of_root_certificates_stays_out_of_the_image() {
    let installed = Installed::new();
    let key = format!("{CA}-----BEGIN EC PRIVATE KEY-----\nAAAA\n");
    for (text, words) in [(key.as_str(), "private key"), ("no PEM", "no certificate"), ("", "no certificate")]
    {
        let file = installed.user.file("ca.pem", text);
        let words_of = [&ENDPOINT[..], &KEYS, &["--kms-ca", &file]].concat();
        installed.build_root("app.eif", &words_of).failed(&[words]);
    }
}

#[test]
fn without_a_command_there_is_nothing_to_wrap() {
    let installed = Installed::new();
    let words = [&["--rootfs", &installed.root][..], &ENDPOINT, &KEYS].concat();
    installed.build("app.eif", &words).failed(&["no command"]);
}
