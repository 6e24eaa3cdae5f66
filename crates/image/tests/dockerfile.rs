//! Images from a Dockerfile, by Debian's buildah.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a failed assumption of a test is a failed test"
)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use containers::tool;
use image::dockerfile::{self, DockerfileError, Request};
use image::kernel::Architecture;
use serde_json::Value;
use tempfile::TempDir;

/// 2001-09-09, 01:46:40 UTC.
const DATE: u64 = 1_000_000_000;

fn context(dockerfile: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("Dockerfile"), dockerfile).unwrap();
    fs::write(folder.path().join("program"), "#!/bin/sh\n").unwrap();
    folder
}

/// The layout and what buildah printed.
fn build(context: &Path) -> Result<(TempDir, Vec<String>), DockerfileError> {
    let layout = tempfile::Builder::new().prefix("a:colon").tempdir().unwrap();
    let mut lines = Vec::new();
    let request = Request { context, platform: Architecture::X86_64, build_time: DATE };
    dockerfile::build(&request, layout.path(), &mut |line| lines.push(line.to_owned()))?;
    Ok((layout, lines))
}

/// What skopeo reads out of a layout. A name with a colon would mean a tag.
fn inspect(layout: &Path, what: &[&str]) -> Value {
    let printed =
        tool::run(Command::new("skopeo").arg("inspect").args(what).arg("oci:.").current_dir(layout));
    serde_json::from_str(&printed).unwrap()
}

#[test]
fn files_and_entry_point_are_those_of_the_dockerfile() {
    let context = context(
        "FROM scratch\nCOPY program /bin/program\nWORKDIR /work\nENV A=b\nUSER 7:8\nENTRYPOINT [\"/bin/program\", \"-x\"]\n",
    );
    let (layout, lines) = build(context.path()).unwrap();
    let config = inspect(layout.path(), &["--config"]);
    assert_eq!(config["config"]["Entrypoint"], serde_json::json!(["/bin/program", "-x"]));
    assert_eq!(
        (&config["config"]["WorkingDir"], &config["config"]["User"]),
        (&"/work".into(), &"7:8".into())
    );
    assert_eq!(config["created"], "2001-09-09T01:46:40Z");
    assert!(lines.iter().any(|line| line.contains("COPY program /bin/program")), "{lines:?}");

    let layer = inspect(layout.path(), &[])["Layers"][0].as_str().unwrap().replacen(':', "/", 1);
    let files = tool::run(Command::new("tar").arg("-tf").arg(layout.path().join("blobs").join(layer)));
    assert!(files.lines().any(|name| name == "bin/program"), "{files}");
}

#[test]
fn two_builds_give_the_same_image() {
    let digest = |context: &TempDir| {
        let (layout, _) = build(context.path()).unwrap();
        inspect(layout.path(), &[])["Digest"].as_str().unwrap().to_owned()
    };
    let dockerfile = "FROM scratch\nCOPY program /program\nCMD [\"/program\"]\n";
    assert_eq!(digest(&context(dockerfile)), digest(&context(dockerfile)));
    assert_ne!(digest(&context(dockerfile)), digest(&context(&dockerfile.replace("CMD", "ENTRYPOINT"))));
}

#[test]
fn a_step_that_fails_is_shown() {
    let context = context("FROM scratch\nCOPY missing /program\n");
    let message = build(context.path()).unwrap_err().to_string();
    assert!(message.contains("buildah failed") && message.contains("missing"), "{message}");
}

#[test]
fn a_folder_without_a_dockerfile_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let message = build(folder.path()).unwrap_err().to_string();
    assert!(message.contains("neither a Containerfile nor a Dockerfile"), "{message}");
}

/// Builds in a process of its own, in whose environment the test changes something. Returns whether it worked and what it said.
fn elsewhere(program: &mut Command, context: &Path) -> (bool, String) {
    let output = program
        .args(["--exact", "the_other_process_of_a_test", "--nocapture", "--ignored"])
        .env("TEST_CONTEXT", context)
        .output()
        .unwrap();
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.success(), said)
}

/// This test's own program.
fn this() -> Command {
    Command::new(std::env::current_exe().unwrap())
}

#[test]
#[ignore = "part of other tests: builds what its environment says"]
fn the_other_process_of_a_test() {
    let Ok(context) = std::env::var("TEST_CONTEXT") else { return };
    if let Err(error) = build(Path::new(&context)) {
        panic!("{error}");
    }
}

#[test]
fn nothing_of_a_build_stays_behind() {
    for (dockerfile, works) in
        [("FROM scratch\nCOPY program /\n", true), ("FROM scratch\nCOPY missing /\n", false)]
    {
        let (context, temporary, home) =
            (context(dockerfile), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (worked, said) =
            elsewhere(this().env("TMPDIR", temporary.path()).env("HOME", home.path()), context.path());
        assert_eq!(worked, works, "{said}");
        assert_eq!(fs::read_dir(temporary.path()).unwrap().count(), 0);
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 0);
    }
}

#[test]
fn without_buildah_the_user_is_told_what_to_do() {
    let (context, empty) = (context("FROM scratch\n"), tempfile::tempdir().unwrap());
    let (worked, said) = elsewhere(this().env("PATH", empty.path()), context.path());
    assert!(!worked && said.contains("install it") && said.contains("--oci"), "{said}");
}

/// The ids of Debian's nobody.
const NOBODY: [&str; 5] = ["--reuid", "65534", "--regid", "65534", "--clear-groups"];

#[test]
fn no_root_is_needed_and_nothing_stays_behind_without_it() {
    if !rustix::process::geteuid().is_root() {
        // Then all other tests here do without.
        return;
    }
    let unshared = Command::new("setpriv").args(NOBODY).args(["unshare", "--user", "true"]).status().unwrap();
    if !unshared.success() {
        println!(
            "SKIPPED no_root_is_needed_and_nothing_stays_behind_without_it: users may make no user namespaces here"
        );
        return;
    }
    let dockerfile = "FROM scratch\nCOPY --chown=0:0 program /folder/program\n";
    let (context, place) = (context(dockerfile), tempfile::tempdir().unwrap());
    let (program, temporary) = (place.path().join("program"), place.path().join("temporary"));
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    fs::create_dir(&temporary).unwrap();
    std::os::unix::fs::chown(&temporary, Some(65534), Some(65534)).unwrap();
    for folder in [place.path(), context.path()] {
        fs::set_permissions(folder, PermissionsExt::from_mode(0o755)).unwrap();
    }
    let home = tempfile::tempdir().unwrap();
    std::os::unix::fs::chown(home.path(), Some(65534), Some(65534)).unwrap();

    let mut other = Command::new("setpriv");
    other
        .args(NOBODY)
        .arg(&program)
        .env("TMPDIR", &temporary)
        .env("HOME", home.path())
        .env_remove("XDG_RUNTIME_DIR");
    let (worked, said) = elsewhere(&mut other, context.path());
    assert!(worked, "{said}");
    let left: Vec<_> = fs::read_dir(&temporary).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(left, [] as [PathBuf; 0]);
}
