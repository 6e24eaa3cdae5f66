//! The product called `nitro-cli`, as AWS's own tools call it.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::Stdio;

use rustix::process::Signal;
use serde_json::{Value, json};
use tests::enclave::{Start, connect};
use tests::image_file::ImageFile;
use tests::product::{Printed, User};
use tests::{demo, image, processes};

use crate::ends::bare_image;

/// `run-enclave` of the demo with one CPU and 256 MiB, and with `more`.
fn run(user: &User, more: &[&str]) -> Printed {
    let image = image::demo();
    let words = ["run-enclave", "--eif-path", image.to_str().unwrap(), "--memory", "256", "--cpu-count", "1"];
    user.nitro_cli(&[&words[..], more].concat())
}

fn described(user: &User) -> Vec<Value> {
    match user.nitro_cli(&["describe-enclaves"]).success().json() {
        Value::Array(list) => list,
        other => panic!("describe-enclaves prints an array, not {other}"),
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text"))
}

/// One request of the demo's line protocol, by the socket that stands for the enclave's address.
fn ask(user: &User, started: &Value, request: &str) -> String {
    let socket = user.run_root().join(text(&started["EnclaveID"])).join("vsock.sock");
    let deadline = std::time::Instant::now() + tests::enclave::PATIENCE;
    // Each attempt is answered by the guest's kernel; that answer paces the loop.
    let mut stream = loop {
        match connect(&socket, demo::PORT) {
            Ok(stream) => break stream,
            Err(error) => {
                assert!(std::time::Instant::now() < deadline, "the application does not listen: {error}")
            }
        }
    };
    stream.write_all(format!("{request}\n").as_bytes()).unwrap();
    let mut answer = String::new();
    let _ = BufReader::new(stream).read_line(&mut answer);
    answer.trim_end().to_owned()
}

/// Insists on this error number, told as nitro-cli does.
#[track_caller]
fn refused(printed: &Printed, number: i32, words: &[&str]) {
    assert_eq!((printed.status, printed.stdout.as_str()), (Some(number), ""), "{printed:#?}");
    assert!(printed.stderr.contains(&format!("[ E{number:02} ] ")), "{printed:#?}");
    for word in words {
        assert!(printed.stderr.contains(word), "{word:?} is missing: {printed:#?}");
    }
}

#[test]
#[ignore = "needs a KVM that can run a kernel"]
fn outputs_are_nitro_clis_and_both_fronts_see_the_enclave() {
    let user = User::new();
    // Otherwise the first enclave of a host tells that a root of trust was made.
    let _ = user.enclave(&["pki", "init"]).success();
    let printed = run(&user, &["--enclave-name", "hello"]).success();
    let started = printed.json();
    let (id, pid, cid) = (text(&started["EnclaveID"]), &started["ProcessID"], &started["EnclaveCID"]);
    let cpu = &started["CPUIDs"][0];
    let object = format!(
        "{{\n  \"EnclaveName\": \"hello\",\n  \"EnclaveID\": \"{id}\",\n  \"ProcessID\": {pid},\n  \"EnclaveCID\": {cid},\n  \
         \"NumberOfCPUs\": 1,\n  \"CPUIDs\": [\n    {cpu}\n  ],\n  \"MemoryMiB\": 256"
    );
    assert_eq!(printed.stdout, format!("{object}\n}}\n"));
    assert_eq!(
        printed.stderr,
        format!(
            "Start allocating memory...\nStarted enclave with enclave-cid: {cid}, memory: 256 MiB, cpu-ids: [{cpu}]\n"
        )
    );

    let [pcr0, pcr1, pcr2] = ImageFile::read(&image::demo()).pcrs();
    let object = object.replace('\n', "\n  ");
    let object = format!(
        "[\n  {object},\n    \"State\": \"RUNNING\",\n    \"Flags\": \"NONE\",\n    \"Measurements\": {{\n      \
         \"HashAlgorithm\": \"Sha384 {{ ... }}\",\n      \"PCR0\": \"{pcr0}\",\n      \"PCR1\": \"{pcr1}\",\n      \
         \"PCR2\": \"{pcr2}\"\n    }}"
    );
    let listed = user.nitro_cli(&["describe-enclaves"]).success();
    assert_eq!((listed.stdout, listed.stderr.as_str()), (format!("{object}\n  }}\n]\n"), ""));
    let with_metadata = user.nitro_cli(&["describe-enclaves", "--metadata"]).success().stdout;
    let expected = format!(
        "{object},\n    \"ImageName\": \"demo\",\n    \"ImageVersion\": \"1.0\",\n    \"Metadata\": {{\n"
    );
    assert!(with_metadata.starts_with(&expected), "{with_metadata}");
    let metadata = &serde_json::from_str::<Value>(&with_metadata).unwrap()[0]["Metadata"];
    for key in ["BuildTime", "BuildTool", "BuildToolVersion", "OperatingSystem", "KernelVersion"] {
        assert!(metadata[key].is_string(), "{key}: {metadata}");
    }
    assert_eq!(user.describe_all()[0]["EnclaveID"], id);
    // Metadata that is none costs an enclave its metadata, not its place in the list.
    fs::write(user.run_root().join(id).join("metadata.json"), "{").unwrap();
    let without = user.nitro_cli(&["describe-enclaves", "--metadata"]).success();
    assert_eq!(without.stdout, format!("{object}\n  }}\n]\n"));
    assert!(without.stderr.starts_with("warning: no metadata of hello: "), "{without:#?}");

    let ended = user.nitro_cli(&["terminate-enclave", "--enclave-id", id]).success();
    let object = format!(
        "{{\n  \"EnclaveName\": \"hello\",\n  \"EnclaveID\": \"{id}\",\n  \"Terminated\": true\n}}\n"
    );
    assert_eq!((ended.stdout, ended.stderr), (object, format!("Successfully terminated enclave {id}.\n")));
    assert!(user.describe_all().is_empty());
    refused(&user.nitro_cli(&["terminate-enclave", "--enclave-id", id]), 11, &[id]);
    assert!(!user.path("logs").join("nitro_enclaves.log").exists());
}

/// As the agent of ACM for Nitro Enclaves does it (aws/aws-nitro-enclaves-acm, src/bin/p11ne-agent).
#[test]
#[ignore = "needs a KVM that can run a kernel"]
fn the_acm_agent_runs_connects_and_ends_an_enclave_by_signal() {
    let user = User::new();
    let started = run(&user, &[]).success().json();
    let keys: Vec<&str> = started.as_object().unwrap().keys().map(String::as_str).collect();
    for key in ["EnclaveID", "ProcessID", "EnclaveCID", "NumberOfCPUs", "CPUIDs", "MemoryMiB"] {
        assert!(keys.contains(&key), "{key}: {started}");
    }
    assert!(ask(&user, &started, "cmdline").starts_with("ok "));
    let pid = u32::try_from(started["ProcessID"].as_u64().unwrap()).unwrap();
    processes::signal(pid, Signal::TERM);
    assert!(processes::ended(pid), "process {pid} lives on");
    assert!(described(&user).is_empty());
    // Our own front still tells how it ended.
    assert_eq!(user.describe_all()[0]["ExitReason"], "Signalled");
}

#[test]
#[ignore = "needs a KVM that can run a kernel"]
fn names_and_addresses_are_free_ones_and_others_enclaves_are_left_alone() {
    let (user, other) = (User::new(), User::new());
    let theirs = run(&other, &["--enclave-name", "theirs"]).success().json();
    // One of each front; a name that is taken gets a number, also one that was asked for.
    let by_enclave = Start::new(&image::demo(), "demo").launch(&user);
    let first = run(&user, &[]).success().json();
    let second = run(&user, &["--enclave-name", "demo", "--enclave-cid", "0"]).success();
    assert!(second.stderr.starts_with("The enclave CID will be auto-generated as the provided CID is 0\n"));
    let second = second.json();
    assert_eq!((&first["EnclaveName"], &second["EnclaveName"]), (&json!("demo_1"), &json!("demo_2")));
    let cid = theirs["EnclaveCID"].to_string();
    refused(&run(&user, &["--enclave-cid", &cid]), 29, &["Ioctl failure", &cid]);
    refused(&user.nitro_cli(&["terminate-enclave", "--enclave-name", "theirs"]), 58, &["theirs"]);
    let _ = user.nitro_cli(&["terminate-enclave", "--enclave-name", "demo_1"]).success();

    // What has not been started is not there for nitro-cli.
    let _ = Start::new(&image::demo(), "later").attempt(&user, "create").success();
    let mut ids: Vec<Value> =
        described(&user).into_iter().map(|enclave| enclave["EnclaveID"].clone()).collect();
    let all = user.nitro_cli(&["terminate-enclave", "--all"]).success();
    let mut ended: Vec<Value> =
        all.json().as_array().unwrap().iter().map(|enclave| enclave["EnclaveID"].clone()).collect();
    let mut expected = vec![by_enclave.started["EnclaveID"].clone(), second["EnclaveID"].clone()];
    for list in [&mut ids, &mut ended, &mut expected] {
        list.sort_by_key(Value::to_string);
    }
    assert_eq!((&ids, &ended), (&expected, &expected));
    assert_eq!(all.stderr.matches("Successfully terminated enclave ").count(), 2);
    assert_eq!(user.describe_all()[0]["State"], "CREATED");
    assert_eq!(described(&other).len(), 1);
}

#[test]
#[ignore = "needs a KVM that can run a kernel"]
fn virtual_cpus_run_on_the_cpus_that_were_named() {
    let user = User::new();
    let config = user.path("config.json");
    let settings = json!({"eif_path": image::demo(), "memory_mib": 256, "cpu_ids": [2, 1], "debug_mode": true, "enclave_name": "pinned"});
    fs::write(&config, settings.to_string()).unwrap();
    let started = user.nitro_cli(&["run-enclave", "--config", config.to_str().unwrap()]).success().json();
    assert_eq!((&started["CPUIDs"], &started["NumberOfCPUs"]), (&json!([2, 1]), &json!(2)));
    assert_eq!(
        (&described(&user)[0]["Flags"], &started["EnclaveName"]),
        (&json!("DEBUG_MODE"), &json!("pinned"))
    );
    let supervisor = u32::try_from(started["ProcessID"].as_u64().unwrap()).unwrap();
    let vm = processes::child_with_argument(supervisor, "vm").expect("a virtual machine process");
    let mut pinned: Vec<(String, String)> = fs::read_dir(format!("/proc/{vm}/task"))
        .unwrap()
        .map(|thread| fs::read_to_string(thread.unwrap().path().join("status")).unwrap())
        .map(|status| (field(&status, "Name:"), field(&status, "Cpus_allowed_list:")))
        .filter(|(name, _)| name.starts_with("vcpu"))
        .collect();
    pinned.sort();
    let expected = [("vcpu0", "2"), ("vcpu1", "1")].map(|(name, cpu)| (name.to_owned(), cpu.to_owned()));
    assert_eq!(pinned, expected);
    // The other front takes them as well.
    let by_enclave = user.enclave(&[
        "run",
        "--eif",
        image::demo().to_str().unwrap(),
        "--memory",
        "256",
        "--cpu-ids",
        "3,0",
        "-o",
        "json",
    ]);
    assert_eq!(by_enclave.success().json()["CPUIDs"], json!([3, 0]));
}

fn field(status: &str, name: &str) -> String {
    status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim().to_owned()
}

#[test]
#[ignore = "needs a KVM that can run a kernel"]
fn the_console_is_attached_after_the_object_and_let_go_in_time() {
    let user = User::new();
    let image = image::demo();
    let words = [
        "run-enclave",
        "--eif-path",
        image.to_str().unwrap(),
        "--memory",
        "256M",
        "--cpu-count",
        "1",
        "--attach-console",
    ];
    let mut child = user.nitro_command(&words).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut object = String::new();
    while !object.ends_with("\n}\n") {
        assert_ne!(stdout.read_line(&mut object).unwrap(), 0, "{object}");
    }
    let started: Value = serde_json::from_str(&object).unwrap();
    let mut lines = String::new();
    for _ in 0..2 {
        stdout.read_line(&mut lines).unwrap();
    }
    let connected = format!(
        "Connecting to the console for enclave {}...\nSuccessfully connected to the console.\n",
        started["EnclaveCID"]
    );
    assert_eq!(lines, connected);
    assert_eq!(described(&user)[0]["Flags"], "DEBUG_MODE");

    // What the guest has printed by now is shown to whoever connects later, too.
    const PRINTED: &str = "enclave-demo: listening on vsock port";
    assert!(ask(&user, &started, "cmdline").starts_with("ok "));
    let name = text(&started["EnclaveName"]);
    let second = user.nitro_cli(&["console", "--enclave-name", name, "--disconnect-timeout", "1"]).success();
    assert!(second.stdout.starts_with(&connected) && second.stdout.contains(PRINTED), "{second:#?}");
    assert_eq!(described(&user).len(), 1, "the enclave runs on");

    let _ = ask(&user, &started, "exit 0");
    let mut console = Vec::new();
    stdout.read_to_end(&mut console).unwrap();
    let console = String::from_utf8_lossy(&console);
    assert!(console.contains(PRINTED), "{console}");
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(described(&user).is_empty());
    refused(&user.nitro_cli(&["console", "--enclave-name", name]), 58, &[name]);
}

#[test]
#[ignore = "needs a KVM that can run a kernel"]
fn e44_an_enclave_in_production_has_no_console() {
    let user = User::new();
    let started = run(&user, &[]).success().json();
    let printed = user.nitro_cli(&["console", "--enclave-id", text(&started["EnclaveID"])]);
    let text = "The enclave was not started with the debug flag set, include '--debug-mode' in the run-enclave command";
    refused(&printed, 44, &["Enclave console connection failure. ", text]);
}

#[test]
#[ignore = "needs a KVM that can run a kernel"]
fn e36_an_enclave_that_does_not_boot() {
    let user = User::new();
    fs::write(user.path("enclave.toml"), "heartbeat_timeout_ms = 2000").unwrap();
    // cli; hlt; jmp to hlt: a guest that lives and says nothing.
    let silent = bare_image("nitro-silent", &[0xfa, 0xf4, 0xeb, 0xfc]);
    let damaged = user.path("damaged.eif");
    let mut bytes = fs::read(image::demo()).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&damaged, bytes).unwrap();
    for (image, cause) in [(&silent, "HeartbeatTimeout"), (&damaged, "checksum")] {
        let words =
            ["run-enclave", "--eif-path", image.to_str().unwrap(), "--memory", "256", "--cpu-count", "1"];
        let printed = user.nitro_cli(&words);
        refused(
            &printed,
            36,
            &["Start allocating memory...\n", "Enclave boot failure. ", "\nCause: ", cause],
        );
        assert!(described(&user).is_empty());
    }
}
