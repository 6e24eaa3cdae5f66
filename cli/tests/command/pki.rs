//! The root of trust: made once, private, and refused when it cannot be trusted.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use sha2::{Digest, Sha384};

use crate::support::{User, keys, mode, set_mode};

/// The register that `text` extends from zero, by the hash alone: what AWS's user guide says of PCR 3 and 4.
fn register_of(text: &str) -> String {
    hex::encode(Sha384::new().chain_update([0; 48]).chain_update(text).finalize())
}

#[test]
fn init_makes_private_files_and_tells_what_follows_from_them() {
    let user = User::new();
    let made = user.run(&["pki", "init", "-o", "json"]).succeeded();
    assert!(made.stderr.contains("no root of trust yet"), "{made:#?}");
    assert_eq!(keys(&made.stdout), ["Folder", "InstanceID", "Role", "PCR3", "PCR4", "Root", "Host"]);
    let report = made.json();
    let instance = report["InstanceID"].as_str().unwrap();
    assert!(instance.len() == 19 && instance.starts_with("i-"), "{instance}");
    assert_eq!(report["PCR3"], register_of(report["Role"].as_str().unwrap()));
    assert_eq!(report["PCR4"], register_of(instance));

    let folder = user.path("state/pki");
    assert_eq!((mode(&user.path("state")), mode(&folder)), (0o700, 0o700));
    let files: BTreeSet<String> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            assert_eq!(mode(&entry.path()), 0o600, "{entry:?}");
            entry.file_name().into_string().unwrap()
        })
        .collect();
    assert_eq!(
        files,
        ["host.key", "host.pem", "identity.json", "root.key", "root.pem"].map(str::to_owned).into()
    );
    for subject in [&report["Root"]["Subject"], &report["Host"]["Subject"]] {
        let subject = subject.as_str().unwrap();
        assert!(["Amazon", "AWS", "nitro"].iter().all(|word| !subject.contains(word)), "{subject}");
    }
}

#[test]
fn a_second_use_changes_nothing() {
    let user = User::new();
    let first = user.run(&["pki", "init", "-o", "json"]).succeeded();
    let again = user.run(&["pki", "init", "-o", "json"]).succeeded();
    assert!(again.stderr.contains("nothing was changed"), "{again:#?}");
    let shown = user.run(&["pki", "show", "-o", "json"]).succeeded();
    assert_eq!((first.json(), again.json()), (shown.json(), shown.json()));
    assert!(!user.run(&["pki", "show"]).succeeded().stdout.is_empty());
}

#[test]
fn many_commands_at_once_make_one_root() {
    let user = User::new();
    let children: Vec<_> = (0..8)
        .map(|_| {
            let mut command = user.command(&["pki", "export-root"]);
            command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::null()).spawn().unwrap()
        })
        .collect();
    let roots: BTreeSet<Vec<u8>> =
        children.into_iter().map(|child| child.wait_with_output().unwrap().stdout).collect();
    assert_eq!(roots.len(), 1);
}

#[test]
fn the_identity_can_be_chosen_once() {
    let user = User::new();
    let wanted = [
        "pki",
        "init",
        "--instance-id",
        "i-1234567890abcdef0",
        "--role",
        "arn:aws:iam::123456789012:role/Webserver",
    ];
    let report = user.run(&[&wanted[..], &["-o", "json"]].concat()).succeeded().json();
    // AWS user guide, "Where to get an enclave's measurements".
    assert!(report["PCR3"].as_str().unwrap().starts_with("78fce75db17cd4e0a3fb8dad3ad128ca5e77edbb2b2c7f75"));
    assert!(report["PCR4"].as_str().unwrap().starts_with("08f996b5d43e047a9eb51e7f548bfee7e164fd7dc8f65541"));
    let _ = user.run(&wanted).succeeded();
    let _ = user.run(&["pki", "init", "--role", "another"]).failed(&["i-1234567890abcdef0", "already"]);
}

#[test]
fn nothing_is_shown_before_there_is_something() {
    let user = User::new();
    let _ = user.run(&["pki", "show"]).failed(&["no root of trust", "pki init"]);
    assert!(!user.path("state").exists());
}

#[test]
fn the_exported_root_is_what_openssl_reads_and_it_vouches_for_the_host() {
    let user = User::new();
    let exported = user.run(&["pki", "export-root"]).succeeded();
    assert!(exported.stdout.starts_with("-----BEGIN CERTIFICATE-----\n"), "{exported:#?}");
    assert!(exported.stderr.contains("no root of trust yet"));
    let file = user.path("root.pem");
    let written = user.run(&["pki", "export-root", "--output", file.to_str().unwrap()]).succeeded();
    assert_eq!((written.stdout.as_str(), fs::read_to_string(&file).unwrap()), ("", exported.stdout));
    let verified = Command::new("openssl")
        .arg("verify")
        .arg("-CAfile")
        .arg(&file)
        .arg(user.path("state/pki/host.pem"))
        .output()
        .expect("openssl is installed");
    assert!(verified.status.success(), "{verified:?}");
}

#[test]
fn what_others_could_have_read_or_changed_is_refused() {
    let user = User::new();
    let _ = user.run(&["pki", "init"]).succeeded();
    let folder = user.path("state/pki");
    for (path, open, private) in [
        (folder.clone(), 0o755, 0o700),
        (folder.join("root.pem"), 0o644, 0o600),
        (folder.join("identity.json"), 0o620, 0o600),
    ] {
        set_mode(&path, open);
        let _ = user.run(&["pki", "show"]).failed(&[path.to_str().unwrap(), "chmod"]);
        set_mode(&path, private);
    }
    let _ = user.run(&["pki", "show"]).succeeded();
}

#[test]
fn keys_are_not_made_where_others_can_write() {
    let user = User::new();
    let state = user.path("state");
    fs::create_dir(&state).unwrap();
    set_mode(&state, 0o777);
    let _ = user.run(&["pki", "init"]).failed(&["can be written by others", "chmod go-w"]);
    assert!(!state.join("pki").exists());
}

#[test]
fn nothing_is_read_through_a_symbolic_link() {
    let user = User::new();
    let _ = user.run(&["pki", "init"]).succeeded();
    let folder = user.path("state/pki");
    fs::rename(folder.join("root.pem"), user.path("elsewhere.pem")).unwrap();
    symlink(user.path("elsewhere.pem"), folder.join("root.pem")).unwrap();
    let _ = user.run(&["pki", "show"]).failed(&["root.pem"]);
    fs::rename(&folder, user.path("moved")).unwrap();
    symlink(user.path("moved"), &folder).unwrap();
    let _ = user.run(&["pki", "show"]).failed(&["state/pki"]);
}

#[test]
fn a_damaged_root_of_trust_is_not_replaced_by_itself() {
    let user = User::new();
    let _ = user.run(&["pki", "init"]).succeeded();
    let other = User::new();
    let _ = other.run(&["pki", "init"]).succeeded();
    let host = user.path("state/pki/host.pem");
    let good = fs::read(&host).unwrap();
    for damage in [fs::read(other.path("state/pki/host.pem")).unwrap(), b"nothing".to_vec(), vec![0xff; 100]]
    {
        fs::write(&host, &damage).unwrap();
        let _ = user.run(&["pki", "init"]).failed(&["pki"]);
        assert_eq!(fs::read(&host).unwrap(), damage);
    }
    fs::write(&host, good).unwrap();
    let _ = user.run(&["pki", "show"]).succeeded();
}

#[test]
fn what_an_interrupted_command_left_is_cleaned() {
    let user = User::new();
    let left = user.path("state/pki.new");
    fs::create_dir_all(&left).unwrap();
    set_mode(&user.path("state"), 0o700);
    fs::write(left.join("root.key"), "half a key").unwrap();
    let _ = user.run(&["pki", "init"]).succeeded();
    assert!(!left.exists());
}

#[test]
fn an_ordinary_path_is_found_without_variables() {
    let user = User::new();
    let mut command = user.command(&["pki", "init", "-o", "json"]);
    command.env_remove("ENCLAVE_STATE_DIR").env("XDG_DATA_HOME", user.path("data"));
    if rustix::process::geteuid().is_root() {
        // Root's place is /var/lib/enclave, which a test does not touch.
        return;
    }
    let ran = crate::support::Ran::of(&mut command).succeeded();
    assert_eq!(ran.json()["Folder"], user.path("data/enclave/pki").to_str().unwrap());
}
