//! Images from Debian's docker-registry and from Dockerfiles, by both fronts.

use std::fs;
use std::path::Path;
use std::process::Command;

use containers::{Layout, Registry};
use serde_json::Value;

use crate::build::kernel;
use crate::signed::{Signer, pcr8};
use crate::support::{Ran, User};

/// What runs in the container image of these tests.
const ENTRYPOINT: [&str; 2] = ["/bin/app", "--serve"];

/// A container image of one layer.
fn layout(user: &User) -> Layout {
    let root = user.path("container");
    fs::create_dir_all(root.join("bin")).unwrap();
    fs::write(root.join("bin/app"), vec![b'a'; 50_000]).unwrap();
    let entrypoint = ENTRYPOINT.map(|word| format!("--config.entrypoint={word}"));
    let config =
        [&entrypoint[0], &entrypoint[1], "--config.workingdir=/srv", "--os=linux", "--architecture=amd64"];
    Layout::by_umoci(&[&root], &config, &user.path("layout"))
}

/// A folder laid out as AWS's blobs.
fn blobs(user: &User) -> String {
    let folder = user.path("blobs");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("bzImage"), kernel()).unwrap();
    fs::write(folder.join("init"), "init").unwrap();
    fs::write(folder.join("cmdline"), "reboot=k console=ttyS0\n").unwrap();
    folder.to_str().unwrap().to_owned()
}

/// With the programs that this machine has, as buildah and its helpers need.
fn with_path(mut command: Command) -> Command {
    command.env("PATH", std::env::var_os("PATH").unwrap());
    command
}

fn build(user: &User, output: &str, more: &[&str]) -> Ran {
    let (bootstrap, output) = (blobs(user), user.path(output).to_str().unwrap().to_owned());
    let words = ["build", "--bootstrap", &bootstrap, "--output", &output, "-o", "json"];
    Ran::of(&mut with_path(user.command(&[&words[..], more].concat())))
}

fn described(user: &User, image: &str) -> Value {
    let image = user.path(image).to_str().unwrap().to_owned();
    user.run(&["eif", "describe", &image, "-o", "json"]).succeeded().json()
}

/// A folder with a Dockerfile that needs no other image.
fn dockerfile(user: &User, name: &str, lines: &str) -> String {
    let folder = user.path(name);
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("app"), "#!/bin/true\n").unwrap();
    fs::write(folder.join("Dockerfile"), lines).unwrap();
    folder.to_str().unwrap().to_owned()
}

/// What of a build is left in the folder of its output.
fn leftovers(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with("enclave-") || name.starts_with(".enclave-")).collect()
}

#[test]
fn an_image_from_a_registry_is_the_one_of_its_layout() {
    let user = User::new();
    let layout = layout(&user);
    let registry = Registry::start();
    let reference = registry.push(&layout, "team/app:1.0");
    let pulled = build(&user, "pulled.eif", &["--image", &reference]).succeeded();
    let read = build(&user, "read.eif", &["--oci", layout.folder().to_str().unwrap()]).succeeded().json();

    assert!(pulled.stderr.contains(&layout.digest()), "the digest is told: {pulled:#?}");
    let pulled = pulled.json();
    assert_eq!(pulled["Measurements"], read["Measurements"]);
    assert_eq!(pulled["Source"]["Kind"], "Registry");
    assert_eq!(pulled["Source"]["Reference"], reference);
    assert_eq!(pulled["Source"]["Digest"], layout.digest());
    let described = described(&user, "pulled.eif");
    let pinned = format!("{}/team/app@{}", registry.host(), layout.digest());
    assert_eq!(described["Metadata"]["DockerInfo"]["RepoDigests"][0], pinned);
    assert_eq!(described["ImageName"], format!("{}/team/app", registry.host()));
    assert_eq!(leftovers(&user.path("")), [""; 0]);

    // By its digest it is the same file again.
    let _ = build(&user, "pinned.eif", &["--image", &pinned, "--check"]).succeeded();
    assert_eq!(described["Measurements"], self::described(&user, "pinned.eif")["Measurements"]);
}

#[test]
fn what_a_registry_does_not_have_is_told_and_nothing_is_left() {
    let user = User::new();
    let registry = Registry::start();
    let reference = format!("{}/team/nothing:1", registry.host());
    let _ = build(&user, "a.eif", &["--image", &reference]).failed(&["team/nothing"]);
    let _ = build(&user, "a.eif", &["--image", "not a reference"]).failed(&["not a reference"]);
    let layout = layout(&user);
    let reference = registry.push(&layout, "team/app:1.0");
    let _ = build(&user, "a.eif", &["--image", &reference, "--arch", "arm64"]).failed(&["linux/amd64"]);
    assert!(!user.path("a.eif").exists());
    assert_eq!(leftovers(&user.path("")), [""; 0]);
}

#[test]
fn a_dockerfile_is_built_signed_and_the_same_again() {
    let user = User::new();
    let signer = Signer::new(&user, "signer");
    let folder = dockerfile(&user, "context", "FROM scratch\nCOPY app /bin/app\nENTRYPOINT [\"/bin/app\"]\n");
    let words = ["--dockerfile", &folder, "--sign-key", &signer.key, "--sign-cert", &signer.certificate];
    let first = build(&user, "first.eif", &words).succeeded().json();
    let again = build(&user, "again.eif", &[&words[..], &["--name", "first"]].concat()).succeeded().json();
    assert_eq!(first["Source"]["Kind"], "Dockerfile");
    assert_eq!(first["Measurements"], again["Measurements"]);
    assert_eq!(first["Measurements"]["PCR8"], pcr8(&user, &signer.certificate).0);
    // Key and signature as well: such signatures need no random numbers.
    assert_eq!(fs::read(user.path("first.eif")).unwrap(), fs::read(user.path("again.eif")).unwrap());
    let image = user.path("first.eif").to_str().unwrap().to_owned();
    let verified = user.run(&["eif", "verify", &image, "--require-signature", &signer.certificate]);
    let _ = verified.succeeded();

    let broken = dockerfile(&user, "broken", "FROM scratch\nCOPY missing /bin/app\n");
    let _ = build(&user, "b.eif", &["--dockerfile", &broken]).failed(&["buildah failed", "missing"]);
    let empty = user.path("container");
    fs::create_dir_all(&empty).unwrap();
    let _ = build(&user, "b.eif", &["--dockerfile", empty.to_str().unwrap()]).failed(&["Dockerfile"]);
    assert!(!user.path("b.eif").exists());
    assert_eq!(leftovers(&user.path("")), [""; 0]);
}

#[test]
fn what_cannot_sign_is_refused_before_anything_is_built() {
    let user = User::new();
    let root = crate::build::rootfs(&user, "root");
    let (signer, other) = (Signer::new(&user, "signer"), Signer::new(&user, "other"));
    let expired = Signer::expired(&user, "expired");
    for (key, certificate, word) in [
        (&other.key, &signer.certificate, "key"),
        (&expired.key, &expired.certificate, "2021"),
        (&signer.certificate, &signer.certificate, "key"),
    ] {
        let words = ["--rootfs", &root, "--sign-key", key, "--sign-cert", certificate, "--", "/bin/app"];
        let ran = build(&user, "a.eif", &words).failed(&[word]);
        assert!(!ran.stderr.contains("Writing"), "it was built first: {ran:#?}");
        assert!(!user.path("a.eif").exists());
    }
}

fn build_enclave(user: &User, more: &[&str]) -> Ran {
    let output = user.path("out.eif").to_str().unwrap().to_owned();
    let words = [&["build-enclave", "--output-file", &output][..], more].concat();
    Ran::of(with_path(user.nitro_cli(&words)).env("NITRO_CLI_BLOBS", blobs(user)))
}

#[test]
fn build_enclave_prints_what_nitro_cli_prints() {
    let user = User::new();
    let layout = layout(&user);
    let registry = Registry::start();
    let reference = registry.push(&layout, "team/app:1.0");
    let signer = Signer::new(&user, "signer");
    let signing = ["--private-key", &signer.key, "--signing-certificate", &signer.certificate];
    let ran = build_enclave(&user, &[&["--docker-uri", &reference][..], &signing].concat()).succeeded();
    let ours = build(&user, "ours.eif", &["--image", &reference]).succeeded().json();
    let pcr = |name: &str| ours["Measurements"][name].as_str().unwrap().to_owned();
    let expected = format!(
        "{{\n  \"Measurements\": {{\n    \"HashAlgorithm\": \"Sha384 {{ ... }}\",\n    \"PCR0\": \"{}\",\n    \
         \"PCR1\": \"{}\",\n    \"PCR2\": \"{}\",\n    \"PCR8\": \"{}\"\n  }}\n}}\n",
        pcr("PCR0"),
        pcr("PCR1"),
        pcr("PCR2"),
        pcr8(&user, &signer.certificate).0
    );
    assert_eq!(ran.stdout, expected);
    assert!(ran.stderr.starts_with("Start building the Enclave Image...\n"), "{ran:#?}");
    assert!(ran.stderr.ends_with("Enclave Image successfully created.\n"), "{ran:#?}");
    // As nitro-cli names it: up to the first colon, which here is that of the registry's port.
    assert_eq!(described(&user, "out.eif")["ImageName"], reference.split(':').next().unwrap());
}

#[test]
fn e49_and_e50_tell_a_dockerfile_from_a_registry() {
    let user = User::new();
    let broken = dockerfile(&user, "broken", "FROM scratch\nCOPY missing /bin/app\n");
    let ran = build_enclave(&user, &["--docker-uri", "app", "--docker-dir", &broken]);
    assert_eq!(ran.status, 49, "{ran:#?}");
    assert!(ran.stderr.contains("[ E49 ]") && ran.stderr.contains("missing"), "{ran:#?}");
    let registry = Registry::start();
    let ran = build_enclave(&user, &["--docker-uri", &format!("{}/nothing", registry.host())]);
    assert_eq!(ran.status, 50, "{ran:#?}");
    assert!(ran.stderr.contains("[ E50 ]") && ran.stderr.contains("nothing"), "{ran:#?}");
    assert!(!user.path("out.eif").exists());
}
