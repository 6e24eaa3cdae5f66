//! Debian's docker-registry, filled by skopeo from layouts that umoci made.

use std::fs;
use std::path::Path;
use std::process::Command;

use containers::registry::{Options, PASSWORD, USER};
use containers::{Layout, Registry, tool};
use image::kernel::Architecture;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::{Pull, blobs, docker_config};

/// A small image of two layers.
fn layout(folder: &Path) -> Layout {
    let (one, two) = (folder.join("one"), folder.join("two"));
    fs::create_dir_all(one.join("bin")).unwrap();
    fs::create_dir(&two).unwrap();
    fs::write(one.join("bin/app"), vec![b'a'; 100_000]).unwrap();
    fs::write(two.join("setting"), "value\n").unwrap();
    let config = ["--config.entrypoint=/bin/app", "--os=linux", "--architecture=amd64"];
    Layout::by_umoci(&[&one, &two], &config, &folder.join("layout"))
}

#[test]
fn what_is_pulled_is_what_skopeo_pushed() {
    let folder = tempfile::tempdir().unwrap();
    let layout = layout(folder.path());
    let registry = Registry::start();
    let reference = registry.push(&layout, "team/app:1.0");
    let got = Pull::default().run(&reference).unwrap();

    assert_eq!(got.pulled.reference, reference);
    assert_eq!(got.pulled.digest, layout.digest());
    assert_eq!(got.pulled.pinned, format!("{}/team/app@{}", registry.host(), layout.digest()));
    assert_eq!(got.pulled.media_type, "application/vnd.oci.image.manifest.v1+json");
    for name in blobs(got.folder.path()) {
        assert_eq!(tool::sha256sum(&got.folder.path().join("blobs/sha256").join(&name)), name);
        assert!(layout.folder().join("blobs/sha256").join(&name).exists(), "{name} is the layout's");
    }
    // The manifest, the configuration, two layers.
    assert_eq!(blobs(got.folder.path()).len(), 4);
    assert_eq!((got.progress.len(), got.retries), (3, 0));
    assert!(got.progress.values().all(|(done, total)| done == total));

    // The same by its digest.
    let again = Pull::default().run(&got.pulled.pinned).unwrap();
    assert_eq!((again.pulled.digest, again.pulled.pinned), (got.pulled.digest, got.pulled.pinned));
}

#[test]
fn other_tools_read_the_layout_that_a_pull_leaves() {
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::start();
    let reference = registry.push(&layout(folder.path()), "app:1");
    let got = Pull::default().run(&reference).unwrap();

    let inspected = tool::run(
        Command::new("skopeo")
            .args(["inspect", "--config"])
            .arg(format!("oci:{}", got.folder.path().display())),
    );
    let config: Value = serde_json::from_str(&inspected).unwrap();
    assert_eq!(config["config"]["Entrypoint"][0], "/bin/app");
    // skopeo checks every digest on its way.
    let copy = folder.path().join("copy.tar");
    tool::skopeo_copy(
        &[],
        &format!("oci:{}", got.folder.path().display()),
        &format!("docker-archive:{}:app:1", copy.display()),
    );
    assert!(fs::metadata(copy).unwrap().len() > 100_000);
}

#[test]
fn an_image_in_dockers_own_format_is_pulled() {
    let folder = tempfile::tempdir().unwrap();
    let layout = layout(folder.path());
    let registry = Registry::start();
    let reference = format!("{}/app:docker", registry.host());
    tool::skopeo_copy(
        &["--dest-tls-verify=false", "--format=v2s2"],
        &layout.skopeo(),
        &format!("docker://{reference}"),
    );
    let got = Pull::default().run(&reference).unwrap();
    assert_eq!(got.pulled.media_type, "application/vnd.docker.distribution.manifest.v2+json");
    let index: Value =
        serde_json::from_slice(&fs::read(got.folder.path().join("index.json")).unwrap()).unwrap();
    assert_eq!(index["manifests"][0]["mediaType"], got.pulled.media_type);
    assert_eq!(index["manifests"][0]["digest"], got.pulled.digest);
}

#[test]
fn an_image_or_a_repository_that_is_not_there_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::start();
    let reference = registry.push(&layout(folder.path()), "app:1");
    for missing in [reference.replace("app:1", "app:2"), reference.replace("app:1", "other:1")] {
        let message = Pull::default().fails(&missing);
        assert!(message.contains("404") && message.contains(&missing), "{message}");
    }
}

#[test]
fn an_image_for_another_machine_is_refused_before_its_layers_come() {
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::start();
    let reference = registry.push(&layout(folder.path()), "app:1");
    let message = Pull { platform: Architecture::Aarch64, ..Pull::default() }.fails(&reference);
    assert!(message.contains("not made for linux/arm64; it is made for linux/amd64"), "{message}");
}

#[test]
fn a_registry_with_users_gives_its_images_to_them_alone() {
    let folder = tempfile::tempdir().unwrap();
    let layout = layout(folder.path());
    let registry = Registry::start_with(Options { users: true, ..Options::default() });
    let reference = registry.push(&layout, "private/app:1");
    let with = |user: &str, password: &str| {
        let encoded = tool::run(Command::new("sh").args([
            "-c",
            "printf %s \"$0\" | base64 -w0",
            &format!("{user}:{password}"),
        ]));
        let text = format!(r#"{{"auths":{{"{}":{{"auth":"{encoded}"}}}}}}"#, registry.host());
        docker_config(&text)
    };

    let (_folder, credentials) = with(USER, PASSWORD);
    let got = Pull { credentials, ..Pull::default() }.run(&reference).unwrap();
    assert_eq!(got.pulled.digest, layout.digest());

    let message = Pull::default().fails(&reference);
    assert!(message.contains("docker login") && message.contains(registry.host()), "{message}");

    for (user, password) in [(USER, "wrong-secret"), ("nobody", PASSWORD), (USER, "")] {
        let (_folder, credentials) = with(user, password);
        let message = Pull { credentials, ..Pull::default() }.fails(&reference);
        assert!(message.contains("refuses the credentials") && message.contains(user), "{message}");
        assert!(!message.contains("wrong-secret") && !message.contains(PASSWORD), "{message}");
    }
}

/// A certificate authority, and a certificate of it for 127.0.0.1, made by openssl: authority, certificate, key.
fn certificates(folder: &Path) {
    let script = "
        openssl req -x509 -newkey rsa:2048 -noenc -keyout ca.key -out ca.pem -days 2 -subj /CN=authority
        openssl req -newkey rsa:2048 -noenc -keyout key.pem -out request.pem -subj /CN=registry
        printf 'subjectAltName=IP:127.0.0.1' > names
        openssl x509 -req -in request.pem -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names -out cert.pem
    ";
    tool::run(Command::new("sh").args(["-ec", script]).current_dir(folder));
}

/// Pulls in a process of its own, whose environment alone says which authorities are trusted and who the user is.
pub(crate) fn pull_elsewhere(reference: &str, environment: &[(&str, &str)]) -> Result<String, String> {
    pull_by(&mut Command::new(std::env::current_exe().unwrap()), reference, environment)
}

/// The same by another command, which runs this test's program.
fn pull_by(command: &mut Command, reference: &str, environment: &[(&str, &str)]) -> Result<String, String> {
    let output = command
        .args(["--exact", "stock::the_other_process_of_a_test", "--nocapture", "--ignored"])
        .env_remove("SSL_CERT_FILE")
        .env_remove("SSL_CERT_DIR")
        .env_remove("DOCKER_CONFIG")
        .envs(environment.iter().copied())
        .env("TEST_REFERENCE", reference)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() { Ok(said) } else { Err(said + &String::from_utf8_lossy(&output.stderr)) }
}

/// The most memory that this process has had, in KiB: VmHWM of proc(5).
fn peak_memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
#[ignore = "part of other tests: pulls what its environment says"]
fn the_other_process_of_a_test() {
    let Ok(reference) = std::env::var("TEST_REFERENCE") else { return };
    let credentials = image::registry::DockerConfig::of_user();
    match (Pull { credentials, ..Pull::default() }).run(&reference) {
        Ok(got) => println!("pulled {}\npeak memory in KiB: {}", got.pulled.pinned, peak_memory()),
        Err(error) => panic!("refused: {error}"),
    }
}

#[test]
fn a_registry_with_a_certificate_is_believed_only_if_its_authority_is_known() {
    let folder = tempfile::tempdir().unwrap();
    certificates(folder.path());
    let (certificate, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    let registry = Registry::start_with(Options { tls: Some((&certificate, &key)), ..Options::default() });
    let layout = layout(folder.path());
    let reference = registry.push(&layout, "app:1");
    let authority = folder.path().join("ca.pem");

    let pulled = pull_elsewhere(&reference, &[("SSL_CERT_FILE", authority.to_str().unwrap())]).unwrap();
    assert!(pulled.contains(&layout.digest()), "{pulled}");

    let refused = pull_elsewhere(&reference, &[]).unwrap_err();
    assert!(refused.contains("no certificate authority of this system has signed it"), "{refused}");
    assert!(refused.contains("SSL_CERT_FILE"), "{refused}");

    // The certificate is not for this name of the same server.
    let other_name = reference.replace("127.0.0.1", "localhost");
    let refused = pull_elsewhere(&other_name, &[("SSL_CERT_FILE", authority.to_str().unwrap())]).unwrap_err();
    assert!(refused.contains("made for another name"), "{refused}");
}

#[test]
fn the_environment_says_where_the_credentials_are() {
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::start_with(Options { users: true, ..Options::default() });
    let layout = layout(folder.path());
    let reference = registry.push(&layout, "app:1");
    // printf 'someone:pass:word' | base64
    let text = format!(r#"{{"auths":{{"{}":{{"auth":"c29tZW9uZTpwYXNzOndvcmQ="}}}}}}"#, registry.host());
    let home = TempDir::new().unwrap();
    let docker = home.path().join(".docker");
    fs::create_dir(&docker).unwrap();
    fs::write(docker.join("config.json"), &text).unwrap();
    let file = docker.join("config.json");
    let empty = TempDir::new().unwrap();

    let home_text = home.path().to_str().unwrap();
    for environment in [
        vec![("HOME", home_text)],
        vec![("HOME", "/nonexistent"), ("DOCKER_CONFIG", docker.to_str().unwrap())],
        vec![("HOME", "/nonexistent"), ("DOCKER_CONFIG", file.to_str().unwrap())],
    ] {
        let pulled = pull_elsewhere(&reference, &environment).unwrap();
        assert!(pulled.contains(&layout.digest()), "{environment:?}: {pulled}");
    }
    let elsewhere = [("HOME", home_text), ("DOCKER_CONFIG", empty.path().to_str().unwrap())];
    let refused = pull_elsewhere(&reference, &elsewhere).unwrap_err();
    assert!(refused.contains("docker login"), "{refused}");
}

#[test]
fn without_certificate_authorities_no_registry_elsewhere_is_asked() {
    let empty = TempDir::new().unwrap();
    let nothing = empty.path().join("nothing");
    let refused = pull_elsewhere("registry.invalid/app:1", &[("SSL_CERT_FILE", nothing.to_str().unwrap())])
        .unwrap_err();
    assert!(refused.contains("no certificate authorities were found"), "{refused}");
    assert!(refused.contains(nothing.to_str().unwrap()), "{refused}");
}

#[test]
fn a_disk_that_is_full_is_said_so_and_nothing_stays_on_it() {
    let (folder, temporary) = (tempfile::tempdir().unwrap(), TempDir::new().unwrap());
    let large = folder.path().join("large");
    fs::create_dir(&large).unwrap();
    // gzip makes it no smaller.
    tool::run(
        Command::new("sh").args(["-c", "head -c 1000000 /dev/urandom >\"$0\""]).arg(large.join("file")),
    );
    let layout =
        Layout::by_umoci(&[&large], &["--os=linux", "--architecture=amd64"], &folder.path().join("layout"));
    let registry = Registry::start();
    let reference = registry.push(&layout, "app:1");
    // A limit on the size of files stands for a full disk: the write fails either way. 100 blocks are 51,200 bytes.
    let mut limited = Command::new("sh");
    limited
        .args(["-c", "trap '' XFSZ; ulimit -f 100; exec \"$0\" \"$@\""])
        .arg(std::env::current_exe().unwrap());
    let refused =
        pull_by(&mut limited, &reference, &[("TMPDIR", temporary.path().to_str().unwrap())]).unwrap_err();
    assert!(refused.contains("cannot be written: File too large"), "{refused}");
    assert!(refused.contains("blobs/sha256/"), "{refused}");
    assert_eq!(fs::read_dir(temporary.path()).unwrap().count(), 0);
}
