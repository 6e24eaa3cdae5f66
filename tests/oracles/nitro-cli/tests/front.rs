//! The same command line given to AWS's nitro-cli and to ours: the same standard output, exit status and error.
//!
//! AWS's is built into the cache by `tools/cargo-tool nitro-cli`, ours by `make build`. What needs a Nitro machine AWS's cannot do
//! here; tests/scenarios/nitro_cli.rs has it for ours. What may differ is in docs/nitro-cli.md.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// Release of AWS's that is asked; pinned in tools/cargo-tool.
const RELEASE: &str = "1.5.2";
/// The Debug text that this release prints for its hasher, and what AWS documents.
const HASHERS: (&str, &str) = ("Sha512_48 { .. }", "Sha384 { ... }");

/// The two programs, and one folder for both to work in.
struct Both {
    theirs: PathBuf,
    ours: PathBuf,
    folder: TempDir,
}

#[derive(Debug)]
struct Ran {
    status: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Ran {
    /// "[ E26 ] Insufficient memory requested": what scripts may match on.
    fn error(&self) -> Option<&str> {
        let line = self.stderr.lines().find(|line| line.starts_with("[ E"))?;
        Some(line.split_once(". ").map_or(line, |(first, _)| first))
    }

    /// Standard output with the hasher's name as AWS documents it.
    fn output(&self) -> String {
        self.stdout.replace(HASHERS.0, HASHERS.1)
    }
}

impl Both {
    /// `None`, and a word about it, where AWS's has not been built.
    fn new(test: &str) -> Option<Self> {
        let cache = env::var_os("ENCLAVE_CACHE_DIR").map(PathBuf::from).or_else(|| {
            let home = || Some(PathBuf::from(env::var_os("HOME")?).join(".cache"));
            Some(env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(home)?.join("enclave"))
        })?;
        let theirs = cache.join(format!("tools/nitro-cli-{RELEASE}/bin/nitro-cli"));
        if !theirs.exists() {
            println!("SKIPPED {test}: needs AWS's nitro-cli; `tools/cargo-tool nitro-cli` builds it");
            return None;
        }
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../..");
        let bin = env::var_os("ENCLAVE_BIN_DIR").map_or_else(|| root.join("target/release"), PathBuf::from);
        let folder = tempfile::tempdir().unwrap();
        // AWS's makes neither.
        for name in ["sockets", "logs"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        Some(Self { theirs, ours: bin.canonicalize().unwrap().join("nitro-cli"), folder })
    }

    fn run(&self, program: &Path, arguments: &[&str]) -> Ran {
        let path = |name: &str| self.folder.path().join(name);
        let output = Command::new(program)
            .args(arguments)
            .current_dir(&self.folder)
            .env("NITRO_CLI_LOGS_PATH", path("logs"))
            .env("NITRO_CLI_SOCKETS_PATH", path("sockets"))
            .env("ENCLAVE_RUN_DIR", path("run"))
            .env("ENCLAVE_STATE_DIR", path("state"))
            .env("ENCLAVE_CONFIG", path("enclave.toml"))
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Ran { status: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    fn theirs(&self, arguments: &[&str]) -> Ran {
        self.run(&self.theirs, arguments)
    }

    fn ours(&self, arguments: &[&str]) -> Ran {
        self.run(&self.ours, arguments)
    }

    fn file(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.folder.path().join(name), content).unwrap();
    }

    /// Insists on success and the same standard output.
    #[track_caller]
    fn agree(&self, arguments: &[&str]) -> Ran {
        let (theirs, ours) = (self.theirs(arguments), self.ours(arguments));
        assert_eq!((theirs.status, ours.status), (Some(0), Some(0)), "{arguments:?}: {theirs:#?} {ours:#?}");
        assert_eq!(ours.stdout, theirs.output(), "{arguments:?}");
        ours
    }

    /// Insists on the same failure.
    #[track_caller]
    fn refuse(&self, status: i32, arguments: &[&str]) {
        let (theirs, ours) = (self.theirs(arguments), self.ours(arguments));
        let both = format!("{arguments:?}: {theirs:#?} {ours:#?}");
        assert_eq!((theirs.status, ours.status), (Some(status), Some(status)), "{both}");
        assert_eq!((ours.error(), &ours.stdout), (theirs.error(), &theirs.stdout), "{both}");
    }

    /// An image of ours, a key and its certificate.
    fn image(&self) {
        fs::create_dir_all(self.folder.path().join("root/bin")).unwrap();
        self.file("root/bin/app", "an application");
        self.file("metadata.json", r#"{"team": "a", "nested": {"of": [1, 2]}}"#);
        let words = [
            "build",
            "--rootfs",
            "root",
            "--output",
            "a.eif",
            "--metadata",
            "metadata.json",
            "--",
            "/bin/app",
        ];
        let built = self.run(&self.ours.with_file_name("enclave"), &words);
        assert_eq!(built.status, Some(0), "{built:#?}");
        let made = Command::new("openssl")
            .args([
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:secp384r1",
                "-nodes",
                "-sha384",
            ])
            .args(["-days", "2", "-subj", "/C=DE/O=Org/CN=signer", "-keyout", "key.pem", "-out", "cert.pem"])
            .current_dir(&self.folder)
            .stderr(Stdio::null())
            .status()
            .unwrap();
        assert!(made.success());
    }
}

#[test]
fn images_are_described_alike() {
    let Some(both) = Both::new("images_are_described_alike") else { return };
    both.image();
    let _ = both.agree(&["describe-eif", "--eif-path", "a.eif"]);
    let words =
        ["sign-eif", "--eif-path", "a.eif", "--private-key", "key.pem", "--signing-certificate", "cert.pem"];
    let signed = both.theirs(&words);
    assert_eq!(signed.status, Some(0), "{signed:#?}");
    let described = both.agree(&["describe-eif", "--eif-path", "a.eif"]);
    let described: Value = serde_json::from_str(&described.stdout).unwrap();
    assert_eq!(described["SignatureCheck"], true);
    let measured: Value = serde_json::from_str(&signed.output()).unwrap();
    assert_eq!(described["Measurements"], measured["Measurements"]);

    // One bit of the signature: its last byte stands before the end of the file.
    let mut bytes = fs::read(both.folder.path().join("a.eif")).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    both.file("damaged.eif", bytes);
    both.refuse(35, &["describe-eif", "--eif-path", "damaged.eif"]);
}

#[test]
fn files_and_certificates_are_measured_alike() {
    let Some(both) = Both::new("files_and_certificates_are_measured_alike") else { return };
    both.image();
    for file in ["a.eif", "metadata.json"] {
        let _ = both.agree(&["pcr", "--input", file]);
    }
    both.file("empty", "");
    let _ = both.agree(&["pcr", "--input", "empty"]);
    let _ = both.agree(&["pcr", "--signing-certificate", "cert.pem"]);
}

#[test]
fn without_enclaves_the_same_is_printed() {
    let Some(both) = Both::new("without_enclaves_the_same_is_printed") else { return };
    let _ = both.agree(&["describe-enclaves"]);
    let _ = both.agree(&["describe-enclaves", "--metadata"]);
    let _ = both.agree(&["terminate-enclave", "--all"]);
}

#[test]
fn failures_have_the_same_number_and_first_words() {
    let Some(both) = Both::new("failures_have_the_same_number_and_first_words") else { return };
    both.image();
    both.file("neither.json", r#"{"eif_path": "a", "memory_mib": 64}"#);
    both.file("both.json", r#"{"eif_path": "a", "memory_mib": 64, "cpu_ids": [1], "cpu_count": 1}"#);
    both.file("text.json", "{");
    both.file("units.json", r#"{"eif_path": "a", "memory_mib": "64M", "cpu_count": 1}"#);
    let config = |name| vec!["run-enclave", "--config", name];
    let settings =
        |more: &[&'static str]| [&["run-enclave", "--eif-path", "a.eif", "--memory", "256"], more].concat();
    for (status, words) in [
        (1, config("neither.json")),
        (2, config("both.json")),
        (17, config("text.json")),
        (17, config("units.json")),
        (19, config("missing.json")),
        (3, vec!["run-enclave", "--eif-path", "a.eif", "--memory", "256_mb", "--cpu-count", "1"]),
        (3, settings(&["--cpu-count", "1z"])),
        (3, settings(&["--cpu-ids", "1", "z"])),
        (3, settings(&["--cpu-count", "1", "--enclave-cid", "x"])),
        (3, settings(&["--cpu-count", "1", "--enclave-cid", "2"])),
        (3, settings(&["--cpu-count", "1", "--enclave-cid", "3"])),
        (3, settings(&["--cpu-count", "1", "--enclave-cid", "4294967295"])),
    ] {
        both.refuse(status, &words);
    }
    for (status, words) in [
        (11, &["terminate-enclave", "--enclave-id", "i-1-enc2"][..]),
        (58, &["terminate-enclave", "--enclave-name", "nobody"]),
        (11, &["console", "--enclave-id", "i-1-enc2"]),
        (58, &["console", "--enclave-name", "nobody"]),
        (19, &["pcr", "--input", "missing"]),
        (57, &["pcr", "--signing-certificate", "text.json"]),
        (35, &["describe-eif", "--eif-path", "missing"]),
        (35, &["describe-eif", "--eif-path", "text.json"]),
        (1, &["sign-eif", "--private-key", "key.pem", "--signing-certificate", "cert.pem"]),
        (60, &["sign-eif", "--eif-path", "a.eif"]),
        (
            60,
            &[
                "sign-eif",
                "--eif-path",
                "a.eif",
                "--private-key",
                "missing",
                "--signing-certificate",
                "cert.pem",
            ],
        ),
        (
            60,
            &[
                "sign-eif",
                "--eif-path",
                "text.json",
                "--private-key",
                "key.pem",
                "--signing-certificate",
                "cert.pem",
            ],
        ),
    ] {
        both.refuse(status, words);
    }
}

#[test]
fn errors_are_explained_by_the_same_first_words() {
    let Some(both) = Both::new("errors_are_explained_by_the_same_first_words") else { return };
    let explain = |program: &Path, code: &str| {
        let ran = both.run(program, &["explain", "--error-code", code]);
        assert_eq!((ran.status, ran.stdout.as_str()), (Some(0), ""), "{code}");
        ran.stderr.split(". ").next().unwrap_or_default().trim_end().to_owned()
    };
    for number in 0..=61 {
        let code = format!("E{number:02}");
        let theirs = explain(&both.theirs, &code);
        // This release explains these no more than E61, and says it of E02 in other words than when it raises it.
        if !matches!(number, 2 | 57..=59) {
            assert_eq!(explain(&both.ours, &code), theirs, "{code}");
        }
    }
}

#[test]
fn no_subcommand_and_no_option_is_missing_or_more() {
    let Some(both) = Both::new("no_subcommand_and_no_option_is_missing_or_more") else { return };
    for subcommand in [
        "run-enclave",
        "terminate-enclave",
        "build-enclave",
        "describe-eif",
        "describe-enclaves",
        "console",
        "pcr",
        "explain",
        "sign-eif",
    ] {
        let (theirs, ours) = (both.theirs(&[subcommand, "--help"]), both.ours(&[subcommand, "--help"]));
        assert_eq!((theirs.status, ours.status), (Some(0), Some(0)), "{subcommand}");
        assert_eq!(options(&ours.stdout), options(&theirs.stdout), "{subcommand}");
    }
    for words in [
        &["frobnicate"][..],
        &[],
        &["run-enclave"],
        &["run-enclave", "--eif-path", "a", "--memory", "64", "--cpu-count", "1", "--cpu-ids", "1"],
        &["run-enclave", "--config", "a", "--memory", "64"],
        &["run-enclave", "--config", "a", "--debug-mode"],
        &["terminate-enclave"],
        &["terminate-enclave", "--all", "--enclave-id", "a"],
        &["console"],
        &["pcr"],
        &["build-enclave", "--docker-uri", "a", "--output-file", "b", "--private-key", "k"],
        &["sign-eif", "--signing-certificate", "c"],
    ] {
        both.refuse(2, words);
    }
}

fn options(help: &str) -> BTreeSet<&str> {
    let words =
        help.lines().filter(|line| line.trim_start().starts_with('-')).flat_map(str::split_whitespace);
    words.filter(|word| word.starts_with("--")).collect()
}
