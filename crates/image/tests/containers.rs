//! OCI layouts and Docker's archives: the image that is meant, and what is wrong with the others.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a failed assumption in a test is a failed test"
)]

mod support;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use image::container::{
    ContainerError, ContainerImage, Overrides, Selection, open_docker_archive, open_layout,
};
use image::digest::Digest;
use image::kernel::Architecture;
use image::limits::Limits;
use serde_json::{Value, json};
use support::{Image, LAYER, Layout, Tar, described, gzip, selection, tagged};

const MANIFEST_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const ATTESTATION: &str = "application/vnd.in-toto+json";

fn open(layout: &Layout) -> Result<ContainerImage, ContainerError> {
    open_layout(layout.path(), &selection())
}

#[track_caller]
fn refused(result: Result<ContainerImage, ContainerError>, words: &[&str]) {
    let message = result.unwrap_err().to_string();
    for word in words {
        assert!(message.contains(word), "{word:?} is missing: {message}");
    }
}

fn for_architecture(name: &str) -> Image {
    Image { architecture: name.to_owned(), config: json!({"Cmd": [name]}), ..Image::default() }
}

/// The first argument of what runs: by it tests tell images apart.
fn runs(image: &ContainerImage) -> String {
    image.application(&Overrides::default()).unwrap().arguments.remove(0)
}

#[test]
fn a_layout_is_read_from_a_folder_and_from_an_archive_of_any_compression() {
    let layout = Layout::of(&Image::default());
    let folder = tempfile::tempdir().unwrap();
    let tar = layout.tar();
    let zstd = zstd::encode_all(tar.as_slice(), 1).unwrap();
    let forms = [("a.tar", tar.clone()), ("a.tar.gz", gzip(&tar)), ("a.tar.zst", zstd)];
    let whole = open(&layout).unwrap();
    for (name, bytes) in forms {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        let image = open_layout(&path, &selection()).unwrap();
        assert_eq!((image.id, image.manifest_digest), (whole.id, whole.manifest_digest), "{name}");
        assert_eq!(image.layers[0].stored.size(), whole.layers[0].stored.size());
    }
    assert_eq!(whole.id, Digest::of(&Image::default().configuration()));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3, "nothing else is left there");
}

#[test]
fn the_image_for_the_architecture_is_chosen_through_nested_indexes() {
    let mut layout = Layout::new();
    let store = <[u8]>::to_vec;
    let images = ["amd64", "arm64", "s390x"]
        .map(|name| described(layout.image(&for_architecture(name), LAYER, store), Some(name), None));
    let attestation = layout.manifest(&json!({
        "schemaVersion": 2, "layers": [], "config": layout.blob(ATTESTATION, b"{}")
    }));
    let attestation = described(attestation, Some("unknown"), None);
    let inner = layout.index(&[&images[..], &[attestation]].concat());
    let mut outer = layout.index(&[inner]);
    outer["mediaType"] = json!(MANIFEST_LIST);
    layout.add(described(outer, None, Some("latest")));
    let image = open(&layout).unwrap();
    assert_eq!((runs(&image).as_str(), image.reference.as_deref()), ("amd64", Some("latest")));
    let arm = Selection { architecture: Architecture::Aarch64, ..selection() };
    assert_eq!(runs(&open_layout(layout.path(), &arm).unwrap()), "arm64");
    assert_eq!(runs(&open_layout(layout.path(), &tagged("latest")).unwrap()), "amd64");
}

#[test]
fn an_index_without_the_architecture_says_which_there_are() {
    let mut layout = Layout::new();
    for name in ["arm64", "s390x"] {
        let image = layout.image(&for_architecture(name), LAYER, <[u8]>::to_vec);
        // One of them says it in the index, the other only in its configuration.
        layout.add(described(image, (name == "arm64").then_some(name), None));
    }
    refused(open(&layout), &["linux/amd64", "linux/arm64, linux/s390x", "--arch"]);
}

#[test]
fn one_of_several_images_is_chosen_by_name() {
    let mut layout = Layout::new();
    for (name, command) in [("one", "first"), ("two", "second")] {
        let image = Image { config: json!({"Cmd": [command]}), ..Image::default() };
        layout.add(described(layout.image(&image, LAYER, <[u8]>::to_vec), None, Some(name)));
    }
    refused(open(&layout), &["several images", "one", "two", "--tag"]);
    assert_eq!(runs(&open_layout(layout.path(), &tagged("two")).unwrap()), "second");
    refused(open_layout(layout.path(), &tagged("three")), &["\"three\"", "one, two"]);
    // The same image under a second name is no second image.
    let mut layout = Layout::of(&Image::default());
    layout.add(described(layout.manifests[0].clone(), None, Some("other")));
    assert!(open(&layout).is_ok());
}

#[test]
fn what_is_no_image_is_said_so() {
    let mut layout = Layout::new();
    layout.add(layout.manifest(&json!({
        "schemaVersion": 2, "layers": [], "config": layout.blob("application/vnd.cncf.helm.config.v1+json", b"{}")
    })));
    refused(open(&layout), &["not a container image"]);
    let mut layout = Layout::new();
    layout.add(layout.blob("application/vnd.example", b"{}"));
    refused(open(&layout), &["no container image"]);
    refused(
        open(&Layout::of(&Image { os: "windows".to_owned(), ..Image::default() })),
        &["windows", "Linux"],
    );
    refused(open(&Layout::of(&for_architecture("arm64"))), &["linux/arm64", "--arch"]);
    let empty = tempfile::tempdir().unwrap();
    refused(open_layout(empty.path(), &selection()), &["not an OCI layout", "--rootfs"]);
    refused(open_layout(Path::new("/nonexistent"), &selection()), &["/nonexistent"]);
}

#[test]
fn a_damaged_part_is_named() {
    let image = Image::default();
    let id = Digest::of(&image.configuration()).to_string();
    type Damage = fn(&Path);
    let damage: [(&str, Damage); 3] = [
        ("damaged", |path| {
            let mut bytes = fs::read(path).unwrap();
            bytes[2] ^= 0x20;
            fs::write(path, bytes).unwrap();
        }),
        ("missing", |path| fs::remove_file(path).unwrap()),
        ("more than", |path| fs::write(path, vec![b' '; (4 << 20) + 1]).unwrap()),
    ];
    for (word, change) in damage {
        let layout = Layout::of(&image);
        let manifest = layout.manifests[0]["digest"].as_str().unwrap().to_owned();
        change(&layout.blob_path(&manifest));
        refused(open(&layout), &[word]);
        let layout = Layout::of(&image);
        change(&layout.blob_path(&id));
        refused(open(&layout), &[word]);
    }
    let layout = Layout::of(&image);
    fs::remove_file(layout.blob_path(&Digest::of(&image.layers[0]).to_string())).unwrap();
    refused(open(&layout), &["layer 1", "missing"]);
    let mut layout = Layout::of(&image);
    let mut wrong_size = layout.manifests[0].clone();
    wrong_size["size"] = json!(1);
    layout.manifests.clear();
    layout.add(wrong_size);
    refused(open(&layout), &["bytes, not 1"]);
}

/// A layout whose one manifest is `change`d from an honest one.
fn changed(change: impl Fn(&mut Value)) -> Layout {
    let mut layout = Layout::new();
    let image = Image::default();
    let config = layout.blob("application/vnd.oci.image.config.v1+json", &image.configuration());
    let layer = layout.blob(LAYER, &image.layers[0]);
    let mut manifest = json!({"schemaVersion": 2, "config": config, "layers": [layer]});
    change(&mut manifest);
    layout.add(layout.manifest(&manifest));
    layout
}

#[test]
fn layers_are_only_what_they_can_be() {
    for (media_type, good) in [
        ("application/vnd.oci.image.layer.v1.tar+gzip", true),
        ("application/vnd.oci.image.layer.v1.tar+zstd", true),
        ("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", true),
        ("application/vnd.docker.image.rootfs.diff.tar.gzip", true),
        ("application/vnd.docker.image.rootfs.diff.tar", true),
        ("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", true),
        ("application/vnd.oci.image.layer.v1.tar+encrypted", false),
        ("application/vnd.oci.image.layer.v1.tar+gzip+encrypted", false),
        ("application/vnd.example.layer", false),
    ] {
        let layout = changed(|manifest| manifest["layers"][0]["mediaType"] = json!(media_type));
        if good {
            assert!(open(&layout).is_ok(), "{media_type}");
        } else {
            refused(open(&layout), &["layer 1", media_type]);
        }
    }
    refused(open(&changed(|manifest| manifest["layers"] = json!([]))), &["lists 1 layers", "has 0"]);
}

#[test]
fn digests_that_could_name_other_files_are_refused() {
    for digest in [
        "sha256:../../../../etc/passwd",
        "sha512:cf83e1357eefb8bdf1542850d66d8007d620e4050b5715dc83f4a921d36ce9ce47d0d13c5d85f2b0ff8318d2877eec2f63b931bd47417a81a538327af927da3e",
        "sha256:",
        "passwd",
    ] {
        for part in ["config", "layers"] {
            let layout = changed(|manifest| match part {
                "config" => manifest["config"]["digest"] = json!(digest),
                _ => manifest["layers"][0]["digest"] = json!(digest),
            });
            assert!(matches!(open(&layout), Err(ContainerError::Document { .. })), "{part} {digest}");
        }
    }
}

#[test]
fn a_document_that_calls_itself_something_else_is_refused() {
    let layout = changed(|manifest| manifest["mediaType"] = json!("application/vnd.oci.image.index.v1+json"));
    refused(open(&layout), &["says of itself"]);
}

#[test]
fn malformed_documents_are_errors_that_name_them() {
    let layout = Layout::of(&Image::default());
    for text in ["", "{", "[]", "null", "{}", r#"{"schemaVersion":2,"manifests":[{}]}"#, "\u{0}"] {
        fs::write(layout.path().join("index.json"), text).unwrap();
        refused(open(&layout), &["index.json cannot be used"]);
    }
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    fs::write(layout.path().join("index.json"), deep).unwrap();
    refused(open(&layout), &["index.json cannot be used"]);
}

#[test]
fn nesting_manifests_and_layers_have_limits() {
    let mut layout = Layout::new();
    let mut descriptor = layout.image(&Image::default(), LAYER, <[u8]>::to_vec);
    for _ in 0..4 {
        descriptor = layout.index(&[descriptor]);
    }
    layout.add(descriptor.clone());
    assert!(open(&layout).is_ok());
    layout.manifests.clear();
    layout.add(layout.index(&[descriptor]));
    refused(open(&layout), &["more than 4 indexes inside indexes"]);

    let layout = Layout::of(&Image::default());
    let limited = |limits: Limits| open_layout(layout.path(), &Selection { limits, ..selection() });
    assert!(limited(Limits { manifests: 1, layers: 1, ..Limits::default() }).is_ok());
    refused(limited(Limits { layers: 0, ..Limits::default() }), &["more than 0 layers"]);
    refused(limited(Limits { manifests: 0, ..Limits::default() }), &["more than 0 manifests"]);
    refused(limited(Limits { document: 10, ..Limits::default() }), &["more than 10 bytes"]);
}

#[test]
fn links_out_of_a_layout_are_not_followed() {
    let layout = Layout::of(&Image::default());
    let secret = tempfile::NamedTempFile::new().unwrap();
    let blob = layout.blob_path(layout.manifests[0]["digest"].as_str().unwrap());
    let inside = layout.path().join("elsewhere");
    fs::rename(&blob, &inside).unwrap();
    symlink("../../elsewhere", &blob).unwrap();
    assert!(open(&layout).is_ok(), "a link inside is as good as a file");
    fs::copy(&inside, secret.path()).unwrap();
    fs::remove_file(&blob).unwrap();
    symlink(secret.path(), &blob).unwrap();
    refused(open(&layout), &["out of the layout"]);
    fs::remove_file(&blob).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, &blob, rustix::fs::Mode::from(0o600)).unwrap();
    refused(open(&layout), &["not a file"]);
}

#[test]
fn entrypoint_and_cmd_are_combined_and_the_user_goes_before_the_image() {
    let image = Image {
        config: json!({
            "Entrypoint": ["/entry", "-e"], "Cmd": ["argument"], "Env": ["A=1", "B=2"],
            "WorkingDir": "srv/app", "User": "app:app", "Volumes": {"/data": {}}, "Labels": null
        }),
        ..Image::default()
    };
    let image = open(&Layout::of(&image)).unwrap();
    let application = image.application(&Overrides::default()).unwrap();
    assert_eq!(application.arguments, ["/entry", "-e", "argument"]);
    assert_eq!(
        application.environment,
        ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "A=1", "B=2"]
    );
    assert_eq!(application.working_directory.as_deref(), Some("/srv/app"));
    assert_eq!(application.user.as_deref(), Some("app:app"));
    let overrides = Overrides {
        command: vec!["/other".to_owned()],
        environment: vec!["B=3".to_owned()],
        working_directory: Some("/".to_owned()),
        user: Some("0".to_owned()),
    };
    let application = image.application(&overrides).unwrap();
    assert_eq!(application.arguments, ["/other"]);
    assert_eq!(application.environment[1..], ["A=1", "B=3"]);
    assert_eq!(
        (application.working_directory.as_deref(), application.user.as_deref()),
        (Some("/"), Some("0"))
    );
}

#[test]
fn an_image_that_says_nothing_is_fine_but_for_its_command() {
    for config in
        [json!(null), json!({}), json!({"Cmd": null, "Entrypoint": null, "Env": null}), json!({"Cmd": []})]
    {
        let image = open(&Layout::of(&Image { config: config.clone(), ..Image::default() })).unwrap();
        let error = image.application(&Overrides::default()).unwrap_err();
        assert!(matches!(error, ContainerError::NoCommand), "{config}");
        let overrides = Overrides { command: vec!["/app".to_owned()], ..Overrides::default() };
        let application = image.application(&overrides).unwrap();
        assert_eq!((application.working_directory, application.user), (None, None));
    }
}

#[test]
fn the_metadata_are_what_docker_inspect_says() {
    let mut layout = Layout::new();
    let image = Image::default();
    layout.add(described(layout.image(&image, LAYER, gzip), None, Some("registry:5000/team/app:1.2")));
    let opened = open(&layout).unwrap();
    assert_eq!(
        opened.docker_info(),
        json!({
            "Id": Digest::of(&image.configuration()).to_string(),
            "RepoTags": ["registry:5000/team/app:1.2"], "RepoDigests": [],
            "Created": "2024-01-02T03:04:05Z", "Architecture": "amd64", "Os": "linux",
            "Config": {"Cmd": ["/bin/app"]},
            "RootFS": {"Type": "layers", "Layers": [Digest::of(&image.layers[0]).to_string()]}
        })
    );
    assert_eq!(opened.name(), Some("registry:5000/team/app"));
    for (reference, name) in
        [("app:1", "app"), ("a/b", "a/b"), ("a/b@sha256:00", "a/b"), ("h:1/app", "h:1/app")]
    {
        let mut image = opened.clone();
        image.reference = Some(reference.to_owned());
        assert_eq!(image.name(), Some(name), "{reference}");
    }
    // Layouts name their images by a tag alone.
    let mut image = opened;
    image.reference = Some("1.2".to_owned());
    assert_eq!(image.name(), None);
}

/// What `docker save` writes of images, with configurations and layers named as given.
fn saved(images: &[(&Image, &str)], new_names: bool) -> Vec<u8> {
    let (mut tar, mut manifest) = (Tar::new(), Vec::new());
    for (image, tag) in images {
        let configuration = image.configuration();
        let hex = |bytes: &[u8]| Digest::of(bytes).hex();
        let name =
            |bytes: &[u8], old: String| if new_names { format!("blobs/sha256/{}", hex(bytes)) } else { old };
        let config = name(&configuration, format!("{}.json", hex(&configuration)));
        let mut layers = Vec::new();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        for layer in &image.layers {
            let path = name(layer, format!("{}/layer.tar", &hex(layer)[..12]));
            tar = tar.file(&path, &text(layer));
            layers.push(path);
        }
        tar = tar.file(&config, &text(&configuration));
        manifest.push(json!({"Config": config, "RepoTags": [tag], "Layers": layers}));
    }
    tar.file("manifest.json", &serde_json::to_string(&manifest).unwrap()).end()
}

fn open_saved(bytes: &[u8], selection: &Selection) -> Result<ContainerImage, ContainerError> {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), bytes).unwrap();
    open_docker_archive(file.path(), selection)
}

#[test]
fn dockers_archives_old_and_new_are_read_and_the_image_is_chosen_by_tag() {
    let (one, two) = (Image::default(), Image { config: json!({"Cmd": ["second"]}), ..Image::default() });
    for new_names in [false, true] {
        let alone = saved(&[(&one, "app:latest")], new_names);
        for bytes in [alone.clone(), gzip(&alone)] {
            let image = open_saved(&bytes, &selection()).unwrap();
            assert_eq!((runs(&image).as_str(), image.reference.as_deref()), ("/bin/app", Some("app:latest")));
            assert_eq!(image.id, Digest::of(&one.configuration()));
            assert_eq!(image.layers[0].diff_id, Some(Digest::of(&one.layers[0])));
        }
        let both = saved(&[(&one, "app:latest"), (&two, "app:2")], new_names);
        refused(open_saved(&both, &selection()), &["several images", "app:latest", "app:2", "--tag"]);
        assert_eq!(runs(&open_saved(&both, &tagged("app:2")).unwrap()), "second");
        assert_eq!(runs(&open_saved(&both, &tagged("app")).unwrap()), "/bin/app");
        refused(open_saved(&both, &tagged("app:3")), &["app:3", "app:latest, app:2"]);
    }
}

#[test]
fn a_layer_may_be_a_link_to_another() {
    let image = Image { layers: vec![Tar::new().file("a", "1").end(); 2], ..Image::default() };
    let configuration = image.configuration();
    let manifest = json!([{
        "Config": "config.json", "RepoTags": null, "Layers": ["one/layer.tar", "two/layer.tar"]
    }]);
    let archive = |target: &str| {
        Tar::new()
            .file("config.json", std::str::from_utf8(&configuration).unwrap())
            .file("one/layer.tar", std::str::from_utf8(&image.layers[0]).unwrap())
            .symlink("two/layer.tar", target)
            .file("manifest.json", &manifest.to_string())
            .end()
    };
    let opened = open_saved(&archive("../one/layer.tar"), &selection()).unwrap();
    assert_eq!(opened.layers[1].stored.size(), image.layers[0].len() as u64);
    refused(open_saved(&archive("layer.tar"), &selection()), &["symbolic links"]);
    refused(open_saved(&archive("/etc/passwd"), &selection()), &["two/layer.tar is missing"]);
}

#[test]
fn a_wrong_or_legacy_archive_is_told_from_the_right_one() {
    let legacy = Tar::new().file("repositories", "{}").end();
    refused(open_saved(&legacy, &selection()), &["before 1.10"]);
    refused(open_saved(&Layout::of(&Image::default()).tar(), &selection()), &["--oci"]);
    refused(open_saved(&Tar::new().folder("bin").end(), &selection()), &["--rootfs"]);
    refused(open_saved(b"text", &selection()), &["not a complete tar archive"]);
    let saved = saved(&[(&Image::default(), "app")], false);
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), &saved).unwrap();
    refused(open_layout(file.path(), &selection()), &["--docker-archive"]);
    for (manifest, word) in [
        ("[]", "no container image"),
        ("{}", "manifest.json"),
        (r#"[{"Config":"x","Layers":[]}]"#, "x is missing"),
    ] {
        refused(open_saved(&Tar::new().file("manifest.json", manifest).end(), &selection()), &[word]);
    }
}

#[test]
fn a_configuration_that_is_not_what_it_is_called_is_refused() {
    let name = format!("{}.json", Digest::of(b"another").hex());
    let manifest = json!([{"Config": name, "Layers": []}]).to_string();
    let archive = Tar::new().file(&name, "{}").file("manifest.json", &manifest).end();
    refused(open_saved(&archive, &selection()), &["damaged", "digest"]);
}
