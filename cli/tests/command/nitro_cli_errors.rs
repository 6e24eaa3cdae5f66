//! The program under the name `nitro-cli`: every error number that can be had without an enclave, caused for real, and how it is
//! told: nitro-cli's text, a link, a log file, the number as exit status.

use std::fs::{self, File};
use std::process::Stdio;

use crate::bzimage::smallest_bzimage;
use crate::eif::{PCR0, golden, image};
use crate::nitro_cli::nitro;
use crate::signed::Signer;
use crate::support::{Ran, User, enclave_alone};

const HELP: &str = "https://docs.aws.amazon.com/enclaves/latest/user/cli-errors.html";

/// Insists on this error, told as nitro-cli does, whose text begins with `text` and whose cause says `cause`.
#[track_caller]
fn refused(ran: Ran, number: i32, text: &str, cause: &str) -> Ran {
    let code = format!("E{number:02}");
    assert_eq!((ran.status, ran.stdout.as_str()), (number, ""), "{ran:#?}");
    let told = ran.stderr.find(&format!("[ {code} ] {text}"));
    let cause = ran.stderr.lines().find(|line| line.starts_with("Cause: ") && line.contains(cause));
    assert!(told.is_some() && cause.is_some(), "{text:?} or its cause is missing: {ran:#?}");
    assert!(ran.stderr.contains("\nNext: "), "{ran:#?}");
    assert!(
        ran.stderr.contains(&format!("\n\nFor more details, please visit {HELP}#{code}\n\n")),
        "{ran:#?}"
    );
    ran
}

/// `run-enclave` of the golden image with these further arguments.
fn run(user: &User, more: &[&str]) -> Ran {
    let image = user.file("golden.eif", golden());
    nitro(user, &[&["run-enclave", "--eif-path", &image][..], more].concat())
}

/// `run-enclave` of a file with enough of everything.
fn run_file(user: &User, path: &str) -> Ran {
    nitro(user, &["run-enclave", "--cpu-count", "1", "--memory", "128", "--eif-path", path])
}

/// `run-enclave --config` with this content.
fn run_config(user: &User, content: &str) -> Ran {
    let config = user.file("config.json", content);
    nitro(user, &["run-enclave", "--config", &config])
}

#[test]
fn an_error_is_told_whole_and_logged() {
    let user = User::new();
    let ran = run(&user, &["--cpu-count", "1", "--memory", "0"]);
    assert_eq!((ran.status, ran.stdout.as_str()), (26, ""), "{ran:#?}");
    let (told, log) = ran.stderr.split_once("\n\nIf you open a support ticket, ").unwrap();
    assert_eq!(
        told,
        "[ E26 ] Insufficient memory requested. User provided `memory` is 0 MB, but based on the EIF file size, the minimum \
         memory should be 4 MB\n\
         Cause: At least 4 MB must be allocated (which is 4 times the EIF file size)\n\
         Next: give at least --memory 4; `enclave run` does without this rule and computes what the image needs\n\n\
         For more details, please visit https://docs.aws.amazon.com/enclaves/latest/user/cli-errors.html#E26"
    );
    let path =
        log.strip_prefix("please provide the error log found at \"").unwrap().strip_suffix("\"\n").unwrap();
    let time = path
        .strip_prefix(user.path("logs/err").to_str().unwrap())
        .and_then(|rest| rest.strip_suffix("+00:00.log"))
        .unwrap_or_else(|| panic!("{path}"));
    assert_eq!(time.as_bytes()[10], b'T', "{time}");
    let logged = fs::read_to_string(path).unwrap();
    assert!(logged.starts_with("  Action: Run Enclave\n  Subactions:\n    At least 4 MB"), "{logged}");
    assert!(logged.contains("\n  Root error file: ") && logged.contains("\n  Version: "), "{logged}");
}

#[test]
fn the_backtrace_is_shown_if_asked_for() {
    let user = User::new();
    let words = ["explain", "--error-code", "E26"];
    assert_eq!(Ran::of(user.nitro_cli(&words).env("BACKTRACE", "1")).status, 0);
    let words = ["terminate-enclave", "--enclave-name", "nobody"];
    let shown = Ran::of(user.nitro_cli(&words).env("BACKTRACE", "1"));
    let shown = refused(shown, 58, "Naming error. ", "No enclave matched the given name.");
    assert!(
        shown.stderr.contains("\n\nBacktrace:\n  Action: Terminate Enclave\n  Subactions:\n"),
        "{shown:#?}"
    );
    let hidden = Ran::of(user.nitro_cli(&words).env("BACKTRACE", "0"));
    assert!(!hidden.stderr.contains("Backtrace"), "{hidden:#?}");
}

#[test]
fn a_log_that_cannot_be_written_does_not_hide_the_error() {
    let user = User::new();
    let file = user.file("a-file", "");
    let mut command = user.nitro_cli(&["terminate-enclave", "--enclave-name", "nobody"]);
    let ran = Ran::of(command.env("NITRO_CLI_LOGS_PATH", format!("{file}/logs")));
    let ran = refused(ran, 58, "Naming error. ", "nobody");
    assert!(
        ran.stderr.contains("No error log was written to") && ran.stderr.contains("NITRO_CLI_LOGS_PATH"),
        "{ran:#?}"
    );
}

#[test]
fn e01_something_mandatory_is_missing() {
    let user = User::new();
    let text = "Missing mandatory argument. User did not provide the `cpu-count` argument.\n";
    let _ = refused(run_config(&user, r#"{"eif_path": "a", "memory_mib": 64}"#), 1, text, "neither");
    let text = "Missing mandatory argument. User did not provide the `eif-path` argument.\n";
    let _ = refused(nitro(&user, &["sign-eif"]), 1, text, "--eif-path");
}

#[test]
fn e02_settings_exclude_each_other() {
    let user = User::new();
    let config = r#"{"eif_path": "a", "memory_mib": 64, "cpu_count": 1, "cpu_ids": [1]}"#;
    let text = "Conflicting arguments. User provided both `cpu-count` and `cpu-ids`.\n";
    let _ = refused(run_config(&user, config), 2, text, "both");
}

#[test]
fn e03_a_value_is_no_number_that_can_be_used() {
    let user = User::new();
    let refused = |name: &str, value: &str, more: &[&str]| {
        let text =
            format!("Invalid argument provided. The parameter `{name}` is not a valid integer (`{value}`)\n");
        let _ = refused(run(&user, more), 3, &text, value);
    };
    for memory in ["256_mb", "1K", "-1", "", "18446744073709551615G"] {
        let option = format!("--memory={memory}");
        refused("memory", memory, &["--cpu-count", "1", &option]);
    }
    refused("cpu-count", "1z", &["--cpu-count", "1z", "--memory", "64"]);
    refused("cpu-count", "4294967296", &["--cpu-count", "4294967296", "--memory", "64"]);
    refused("cpu-id", "x", &["--cpu-ids", "1", "x", "--memory", "64"]);
    for cid in ["a", "1", "2", "3", "4294967295", "4294967296"] {
        refused("enclave-cid", cid, &["--cpu-count", "1", "--memory", "64", "--enclave-cid", cid]);
    }
    let config = r#"{"eif_path": "a", "memory_mib": 64, "cpu_count": 1, "enclave_cid": 3}"#;
    let text = "Invalid argument provided. The parameter `enclave-cid` is not a valid integer (`3`)\n";
    let _ = self::refused(run_config(&user, config), 3, text, "vsock address 3");
    let ran = nitro(&user, &["console", "--enclave-name", "a", "--disconnect-timeout", "soon"]);
    let text =
        "Invalid argument provided. The parameter `disconnect-timeout` is not a valid integer (`soon`)\n";
    let _ = self::refused(ran, 3, text, "soon");
}

#[test]
fn a_cid_of_zero_is_announced_as_a_free_one() {
    let user = User::new();
    let ran = run(&user, &["--cpu-count", "0", "--memory", "64", "--enclave-cid", "0"]);
    let first = ran.stderr.lines().next().unwrap_or_default();
    assert_eq!(first, "The enclave CID will be auto-generated as the provided CID is 0");
    let _ = refused(ran, 29, "Ioctl failure. ", "without a CPU");
}

#[test]
fn e05_the_hypervisor_is_missing() {
    let user = User::new();
    let (program, folder) = enclave_alone();
    std::os::unix::fs::symlink(program, folder.path().join("nitro-cli")).unwrap();
    let image = user.file("golden.eif", golden());
    let template =
        user.nitro_cli(&["run-enclave", "--cpu-count", "1", "--memory", "64", "--eif-path", &image]);
    let mut command = std::process::Command::new(folder.path().join("nitro-cli"));
    command.args(template.get_args()).env_clear();
    command.envs(template.get_envs().filter_map(|(key, value)| Some((key, value?))));
    let ran = refused(Ran::of(&mut command), 5, "Process spawn failure. ", "enclave-hypervisor");
    assert!(ran.stderr.contains("make build"), "{ran:#?}");
}

#[test]
fn e07_the_folder_of_enclaves_cannot_be_read() {
    let user = User::new();
    let file = user.file("a-file", "");
    let ran = Ran::of(user.nitro_cli(&["describe-enclaves"]).env("ENCLAVE_RUN_DIR", &file));
    let _ = refused(ran, 7, "Read from disk failure. ", "a-file");
}

#[test]
fn e11_no_enclave_has_that_id() {
    let user = User::new();
    for words in [["terminate-enclave", "--enclave-id"], ["console", "--enclave-id"]] {
        for id in ["i-1-enc2", "../../etc", ""] {
            let _ = refused(nitro(&user, &[words[0], words[1], id]), 11, "Socket error. ", "is running");
        }
    }
}

#[test]
fn e17_the_configuration_is_not_the_json_it_should_be() {
    let user = User::new();
    for config in [
        "",
        "{",
        "[]",
        r#"{"memory_mib": 64, "cpu_count": 1}"#,
        r#"{"eif_path": "a", "memory_mib": "64", "cpu_count": 1}"#,
        r#"{"eif_path": "a", "memory_mib": 64, "cpu_count": -1}"#,
        r#"{"eif_path": "a", "memory_mib": 64, "cpu_ids": 1}"#,
        r#"{"eif_path": "a", "memory_mib": 64, "cpu_count": 1} {}"#,
    ] {
        let _ = refused(run_config(&user, config), 17, "Serde error. ", "config.json");
    }
    // 64 KiB are read, and not one byte more.
    let settings = r#"{"eif_path": "none.eif", "memory_mib": 64, "cpu_count": 1}"#;
    let longest = format!("{settings}{}", " ".repeat(64 * 1024 - settings.len()));
    let _ = refused(run_config(&user, &longest), 19, "File operation failure. ", "none.eif");
    let _ = refused(run_config(&user, &format!("{longest} ")), 17, "Serde error. ", "65536 bytes");
}

#[test]
fn e19_a_file_cannot_be_opened() {
    let user = User::new();
    let missing = user.path("missing").to_str().unwrap().to_owned();
    let folder = user.path("").to_str().unwrap().to_owned();
    for words in [
        &["run-enclave", "--config", &missing][..],
        &["run-enclave", "--cpu-count", "1", "--memory", "64", "--eif-path", &missing],
        &["pcr", "--input", &missing],
        &["pcr", "--signing-certificate", &missing],
    ] {
        let ran = refused(nitro(&user, words), 19, "File operation failure. ", "missing");
        assert!(
            ran.stderr.contains(&format!("\nFile: '{missing}', failing operation: 'Open'.\n")),
            "{ran:#?}"
        );
    }
    let _ = refused(run_file(&user, &folder), 19, "File operation failure. ", "not an ordinary file");
    let file = user.file("a-file", "");
    let words = ["run-enclave", "--cpu-count", "1", "--memory", "64", "--eif-path", &file];
    let ran = Ran::of(user.nitro_cli(&words).env("ENCLAVE_RUN_DIR", &file));
    let _ = refused(ran, 19, "File operation failure. ", "a-file");
    let _ = user.file("enclave.toml", "no such key = 1");
    let ran = run(&user, &["--cpu-count", "1", "--memory", "64"]);
    let _ = refused(ran, 19, "File operation failure. ", "enclave.toml");
}

#[test]
fn e20_to_e24_cpus_that_cannot_be_had() {
    let user = User::new();
    let cpus = |more: &[&str]| run(&user, &[more, &["--memory", "64"]].concat());
    let text = "Invalid CPU configuration. User provided `cpu-ids` contains same CPU(s) (CPU(s) 0, 7) multiple times.\n";
    let _ = refused(cpus(&["--cpu-ids", "0", "7", "0", "7", "1"]), 20, text, "more than once");
    let text = "No such CPU available in the pool. User provided `cpu-ids` contains CPU 60000, which is not available in \
                the pool.\n";
    let ran = refused(cpus(&["--cpu-ids", "0", "60000"]), 21, text, "60000");
    assert!(ran.stderr.contains("cpu_pool"), "{ran:#?}");
    let text = "Insufficient CPUs available in the pool. User provided `cpu-count` is 5000, which is more than the \
                configured CPU pool size.\n";
    let _ = refused(cpus(&["--cpu-count", "5000"]), 22, text, "5000 CPUs");
    let _ = user.file("enclave.toml", "cpu_pool = \"60000\"\n");
    let _ = refused(cpus(&["--cpu-ids", "0"]), 21, "No such CPU available in the pool. ", "CPU 0 ");
    let _ = refused(cpus(&["--cpu-count", "1"]), 22, "Insufficient CPUs available in the pool. ", "offers 0");
    let _ = user.file("enclave.toml", "cpu_pool = \"all\"\n");
    let _ = refused(cpus(&["--cpu-count", "1"]), 24, "CPU error. ", "all");
}

#[test]
fn e26_less_memory_than_four_times_the_image() {
    let user = User::new();
    let path = user.file("large.eif", golden());
    let file = File::options().write(true).open(&path).unwrap();
    let run =
        |memory| nitro(&user, &["run-enclave", "--cpu-count", "1", "--memory", memory, "--eif-path", &path]);
    file.set_len(2 << 20).unwrap();
    let text = "Insufficient memory requested. User provided `memory` is 7 MB, but based on the EIF file size, the minimum \
                memory should be 8 MB\n";
    let _ = refused(run("7M"), 26, text, "4 times");
    // Four times is enough: what is wrong next is the file.
    let _ = refused(run("8m"), 35, "EIF file parsing error. ", "large.eif");
    file.set_len((2 << 20) + 1).unwrap();
    let _ = refused(run("8"), 26, "Insufficient memory requested. ", "12 MB");
    let config =
        format!("{{\"eif_path\": {path:?}, \"memory_mib\": 7, \"cpu_ids\": [1], \"unknown\": \"ignored\"}}");
    let _ = refused(run_config(&user, &config), 26, "Insufficient memory requested. ", "12 MB");
}

#[test]
fn e26_less_memory_than_the_kernel_needs() {
    let user = User::new();
    let kernel = smallest_bzimage();
    let sections: [(u16, &[u8]); 3] = [(1, &kernel), (2, b"quiet"), (3, b"RAMDISK")];
    let path = user.file("bootable.eif", image(0, &sections, 0));
    let words = ["run-enclave", "--cpu-count", "1", "--memory", "4", "--eif-path", &path];
    let _ = refused(nitro(&user, &words), 26, "Insufficient memory requested. ", "the image needs");
}

#[test]
fn e27_more_memory_than_the_host_has() {
    let user = User::new();
    let text = "Insufficient memory available. User provided `memory` is 1073741824 MB, which is more than the available \
                memory.\n";
    let ran = run(&user, &["--cpu-count", "1", "--memory", "1024T"]);
    assert!(!ran.stderr.contains("Start allocating memory..."), "{ran:#?}");
    let _ = refused(ran, 27, text, "available");
}

#[test]
fn e29_an_enclave_without_a_cpu() {
    let user = User::new();
    let _ = refused(run(&user, &["--cpu-count", "0", "--memory", "64"]), 29, "Ioctl failure. ", "CPU");
    let image = user.file("golden.eif", golden());
    let config = format!("{{\"eif_path\": {image:?}, \"memory_mib\": 64, \"cpu_ids\": []}}");
    let _ = refused(run_config(&user, &config), 29, "Ioctl failure. ", "CPU");
}

#[test]
fn e35_a_file_that_is_no_image() {
    let user = User::new();
    for (name, content) in [
        ("empty.eif", Vec::new()),
        ("text.eif", b"hello".to_vec()),
        ("zeros.eif", vec![0; 1000]),
        ("cut.eif", golden()[..700].to_vec()),
        ("longer.eif", [&golden()[..], b" "].concat()),
    ] {
        let path = user.file(name, content);
        let _ = refused(run_file(&user, &path), 35, "EIF file parsing error. ", name);
        let ran = nitro(&user, &["describe-eif", "--eif-path", &path]);
        let _ = refused(ran, 35, "EIF file parsing error. ", name);
    }
    let ran = nitro(&user, &["describe-eif", "--eif-path", "/nonexistent.eif"]);
    let _ = refused(ran, 35, "EIF file parsing error. ", "/nonexistent.eif");
}

#[test]
fn e39_an_enclave_that_tells_nothing() {
    let user = User::new();
    let folder = user.path("run/i-1-enc2");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("state.json"), "{}").unwrap();
    for words in [&["describe-enclaves"][..], &["terminate-enclave", "--all"]] {
        let ran = nitro(&user, words);
        // As nitro-cli does, those that answered are printed first.
        assert_eq!((ran.status, ran.stdout.as_str()), (39, "[]\n"), "{ran:#?}");
        assert!(
            ran.stderr.contains("i-1-enc2") && ran.stderr.contains("\nFailed connections: 1\n"),
            "{ran:#?}"
        );
        assert!(ran.stderr.contains("\n[ E39 ] Enclave process connection failure. "), "{ran:#?}");
    }
    assert!(folder.join("state.json").exists(), "what cannot be read is left alone");
}

#[test]
fn e46_nobody_takes_what_is_printed() {
    let user = User::new();
    let full = File::options().write(true).open("/dev/full").unwrap();
    let ran = Ran::of(user.nitro_cli(&["describe-enclaves"]).stdout(Stdio::from(full)));
    let _ = refused(ran, 46, "Enclave console write output error. ", "standard output");
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let ran = Ran::of(user.nitro_cli(&["describe-enclaves"]).stdout(writer));
    assert_eq!(ran.status, 46, "{ran:#?}");
}

#[test]
fn e48_an_image_that_cannot_be_built() {
    let user = User::new();
    let output = user.path("out.eif").to_str().unwrap().to_owned();
    let build = |more: &[&str]| {
        nitro(
            &user,
            &[&["build-enclave", "--docker-uri", "hello:1", "--output-file", &output][..], more].concat(),
        )
    };
    let signer = Signer::new(&user, "signer");
    let text = "EIF building error. ";
    let long = user.file("long.json", format!("\"{}\"", "x".repeat(4095)));
    let _ = refused(build(&["--metadata", &long]), 48, text, "long.json");
    let _ = refused(build(&["--metadata", "/nonexistent.json"]), 48, text, "/nonexistent.json");
    let _ = refused(build(&["--docker-dir", &long]), 48, text, "not a folder");
    let arn = "arn:aws:kms:eu-west-1:123456789012:key/1234";
    let ran = build(&["--signing-certificate", &signer.certificate, "--private-key", arn]);
    let ran = refused(ran, 48, text, "KMS");
    assert!(ran.stderr.starts_with("Start building the Enclave Image...\n"), "{ran:#?}");
    assert!(!user.path("out.eif").exists());
}

#[test]
fn e57_a_certificate_that_is_none() {
    let user = User::new();
    let text = user.file("text.pem", "-----BEGIN CERTIFICATE-----\nhello\n-----END CERTIFICATE-----\n");
    let ran = nitro(&user, &["pcr", "--signing-certificate", &text]);
    let _ = refused(ran, 57, "Hasher error. ", "text.pem");
}

#[test]
fn e58_names_that_no_enclave_has_or_can_have() {
    let user = User::new();
    for words in [["terminate-enclave", "--enclave-name"], ["console", "--enclave-name"]] {
        for name in ["nobody", "i-1-enc2", ""] {
            let ran = nitro(&user, &[words[0], words[1], name]);
            let _ = refused(ran, 58, "Naming error. ", "No enclave matched the given name.");
        }
    }
    for name in ["a\nb", "i-1-enc2", "", &"x".repeat(65)] {
        let ran = run(&user, &["--cpu-count", "1", "--memory", "64", "--enclave-name", name]);
        let _ = refused(ran, 58, "Naming error. ", "enclave's name");
    }
    // The longest name there may be, and what is wrong next.
    let ran = run(&user, &["--cpu-count", "5000", "--memory", "64", "--enclave-name", &"x".repeat(64)]);
    assert_eq!(ran.status, 22, "{ran:#?}");
}

#[test]
fn e59_a_signature_that_does_not_hold() {
    let user = User::new();
    let signer = Signer::new(&user, "signer");
    let damaged = signer.damaged_image(&user, "damaged.eif");
    let text = "EIF signature checker error. ";
    let _ = refused(run_file(&user, &damaged), 59, text, "signature is not valid");
    let expired = Signer::expired(&user, "expired").signed_image(&user, "expired.eif", PCR0);
    let _ = refused(run_file(&user, &expired), 59, text, "expired");
}

#[test]
fn e60_an_image_that_cannot_be_signed() {
    let user = User::new();
    let (signer, image) = (Signer::new(&user, "signer"), user.file("golden.eif", golden()));
    let sign = |more: &[&str]| nitro(&user, &[&["sign-eif", "--eif-path", &image][..], more].concat());
    let text = "Signing error. ";
    let with =
        |certificate: &str, key: &str| sign(&["--signing-certificate", certificate, "--private-key", key]);
    let _ = refused(sign(&[]), 60, text, "neither");
    let _ = refused(with(&signer.certificate, "/nonexistent.key"), 60, text, "/nonexistent.key");
    let _ = refused(with("/nonexistent.pem", &signer.key), 60, text, "/nonexistent.pem");
    let _ = refused(with(&signer.key, &signer.key), 60, text, "signer.key");
    let expired = Signer::expired(&user, "expired");
    let _ = refused(with(&expired.certificate, &expired.key), 60, text, "expired");
    let arn = "arn:aws:kms:eu-west-1:123456789012:key/1234";
    let _ = refused(with(&signer.certificate, arn), 60, text, "KMS");
    let ran = nitro(
        &user,
        &[
            "sign-eif",
            "--eif-path",
            "/nonexistent.eif",
            "--signing-certificate",
            &signer.certificate,
            "--private-key",
            &signer.key,
        ],
    );
    let _ = refused(ran, 60, text, "/nonexistent.eif");
    assert_eq!(fs::read(&image).unwrap(), golden(), "nothing was changed");
}
