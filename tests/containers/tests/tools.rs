//! What other tests take for granted: the tools make images with what they were given.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a failed assumption of a test is a failed test"
)]

use std::fs;
use std::path::Path;
use std::process::Command;

use containers::{Layout, tool};
use serde_json::Value;

fn inspect(layout: &Layout, what: &[&str]) -> Value {
    let printed = tool::run(Command::new("skopeo").arg("inspect").args(what).arg(layout.skopeo()));
    serde_json::from_str(&printed).unwrap()
}

/// The names of the files in all layers.
fn files(layout: &Layout) -> String {
    let layers = inspect(layout, &[])["Layers"].as_array().unwrap().clone();
    layers
        .iter()
        .map(|layer| {
            let blob = layout.folder().join("blobs").join(layer.as_str().unwrap().replacen(':', "/", 1));
            tool::run(Command::new("tar").arg("-tf").arg(blob))
        })
        .collect()
}

fn root(folder: &Path) -> std::path::PathBuf {
    let root = folder.join("root");
    fs::create_dir_all(root.join("bin")).unwrap();
    fs::write(root.join("bin/app"), "#!/bin/sh\n").unwrap();
    root
}

#[test]
fn umoci_and_buildah_make_layouts_of_the_same_folder() {
    let folder = tempfile::tempdir().unwrap();
    let root = root(folder.path());
    let by_umoci =
        Layout::by_umoci(&[&root], &["--config.entrypoint=/bin/app"], &folder.path().join("umoci"));
    let by_buildah =
        Layout::by_buildah(&root, &["ENTRYPOINT [\"/bin/app\"]"], &folder.path().join("buildah"));
    for layout in [by_umoci, by_buildah] {
        assert_eq!(inspect(&layout, &["--config"])["config"]["Entrypoint"][0], "/bin/app");
        assert!(files(&layout).lines().any(|name| name == "bin/app"));
        assert_eq!(inspect(&layout, &[])["Digest"], layout.digest());
    }
}

#[test]
fn what_a_step_removes_becomes_a_whiteout() {
    let folder = tempfile::tempdir().unwrap();
    let app = root(folder.path());
    let copy = |tree: &Path| drop(tool::run(Command::new("cp").arg("-a").arg(app.join(".")).arg(tree)));
    let remove = |tree: &Path| fs::remove_file(tree.join("bin/app")).unwrap();
    let layout = Layout::by_umoci_in_steps(&[&copy, &remove], &[], &folder.path().join("layout"));
    assert!(files(&layout).lines().any(|name| name == "bin/.wh.app"));
}

#[test]
fn umoci_inserts_layers_without_an_end() {
    let folder = tempfile::tempdir().unwrap();
    let app = root(folder.path());
    let layout = Layout::by_umoci(&[], &[], &folder.path().join("layout"));
    layout.insert_unfinished_layer(&app);
    let blob = inspect(&layout, &[])["Layers"][0].as_str().unwrap().replacen(':', "/", 1);
    let blob = layout.folder().join("blobs").join(blob);
    let length = tool::run(Command::new("sh").args(["-c", "gzip -dc \"$0\" | wc -c"]).arg(blob));
    assert_ne!(length.trim().parse::<u64>().unwrap() % 512, 0, "a tar archive is made of blocks");
}

#[test]
fn skopeo_saves_an_image_as_docker_does() {
    let folder = tempfile::tempdir().unwrap();
    let layout = Layout::by_umoci(&[&root(folder.path())], &[], &folder.path().join("layout"));
    let archive = folder.path().join("image.tar");
    layout.save_as_docker_archive("app:1", &archive);
    let manifest = tool::run(Command::new("tar").arg("-xOf").arg(&archive).arg("manifest.json"));
    let manifest: Value = serde_json::from_str(&manifest).unwrap();
    assert_eq!(manifest[0]["RepoTags"][0], "docker.io/library/app:1");
    assert_eq!(manifest[0]["Layers"].as_array().unwrap().len(), 1);
}

#[test]
fn debians_python_is_in_an_image_with_what_it_needs() {
    let folder = tempfile::tempdir().unwrap();
    let app = root(folder.path());
    let layout = Layout::by_umoci(
        &[&tool::python_root(), &app],
        &["--config.entrypoint=/usr/bin/python3"],
        &folder.path().join("layout"),
    );
    let files = files(&layout);
    for name in ["usr/bin/python3", "usr/bin/python3.11", "lib64/ld-linux-x86-64.so.2", "bin/sh", "bin/app"] {
        assert!(files.lines().any(|file| file == name), "{name}");
    }
}
