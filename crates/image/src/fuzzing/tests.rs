//! The bodies, on their corpora and on mutations of them.

use serde_json::{Value, json};
use tar::EntryType;

use super::*;

/// Mutations of each input.
const MUTATIONS: u64 = 120;

#[test]
fn the_corpus_of_layers_breaks_nothing() {
    corpus::replay("layers", MUTATIONS, |input| _ = layers(input));
}

#[test]
fn the_corpus_of_layouts_breaks_nothing() {
    corpus::replay("layout", MUTATIONS, |input| _ = layout(input));
}

/// Honest inputs are understood, or the corpora would say little.
#[test]
fn the_corpora_are_what_their_names_say() {
    for (name, input) in corpus::inputs("layers") {
        assert_eq!(layers(&input), !name.starts_with("refused"), "{name}");
    }
    for (name, input) in corpus::inputs("layout") {
        let expected =
            (!name.starts_with("refused"), !name.starts_with("refused") && !name.contains("layout"));
        assert_eq!(layout(&input), expected, "{name}");
    }
}

struct Tar(Vec<u8>);

impl Tar {
    fn member(mut self, name: &str, kind: EntryType, link: &str, content: &[u8]) -> Self {
        let mut header = Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(0o755);
        header.set_uid(0);
        header.set_gid(0);
        header.set_device_major(1).unwrap();
        header.set_device_minor(3).unwrap();
        header.set_size(content.len() as u64);
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.set_link_name_literal(link).unwrap();
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(content);
        self.0.resize(self.0.len().next_multiple_of(BLOCK), 0);
        self
    }

    fn file(self, name: &str) -> Self {
        self.member(name, EntryType::Regular, "", b"content")
    }

    fn folder(self, name: &str) -> Self {
        self.member(name, EntryType::Directory, "", b"")
    }

    fn symlink(self, name: &str, target: &str) -> Self {
        self.member(name, EntryType::Symlink, target, b"")
    }
}

fn tar() -> Tar {
    Tar(Vec::new())
}

/// A record of an extended header.
fn record(key: &str, value: &str) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let length = (rest..).find(|length| rest + length.to_string().len() == *length).unwrap();
    format!("{length} {key}={value}\n").into_bytes()
}

#[test]
#[ignore = "writes the seeds of the corpus anew"]
fn write_seeds_of_layers() {
    let join = |layers: &[Tar]| corpus::join(&layers.iter().map(|layer| &layer.0).collect::<Vec<_>>());
    let lower = || tar().folder("usr/bin").symlink("bin", "usr/bin").file("bin/sh").file("gone");
    let pax = [
        record("path", &("long/".repeat(40) + "file")),
        record("SCHILY.xattr.user.a", "x\n1"),
        record("uid", "70000"),
    ]
    .concat();
    let seeds = [
        ("merged", join(&[lower(), tar().file("bin/app").file(".wh.gone").file("bin/.wh..wh..opq")])),
        (
            "links",
            join(&[
                lower().member("hard", EntryType::Link, "bin/sh", b"").symlink("up", "../../.."),
                tar().file("up/x"),
            ]),
        ),
        ("replaced", join(&[tar().folder("a").file("a/b"), tar().file("a"), tar().folder("a").file("a/c")])),
        ("extended", join(&[tar().member("pax", EntryType::XHeader, "", &pax).file("short")])),
        ("long-names", join(&[tar().member("l", EntryType::GNULongName, "", &[b'n'; 200]).file("short")])),
        (
            "special",
            join(&[tar().member("null", EntryType::Char, "", b"").member("pipe", EntryType::Fifo, "", b"")]),
        ),
        ("refused-outside", join(&[tar().file("../outside")])),
        ("refused-link", join(&[tar().member("hard", EntryType::Link, "missing", b"")])),
        ("refused-loop", join(&[tar().symlink("a", "b").symlink("b", "a").file("a/c")])),
        ("refused-not-a-folder", join(&[tar().file("a"), tar().file("a/b")])),
        ("refused-sparse", join(&[tar().member("holes", EntryType::GNUSparse, "", b"")])),
        ("refused-truncated", join(&[Tar(tar().file("a").0[..515].to_vec())])),
    ];
    corpus::write("layers", &seeds);
}

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// A descriptor of the part `number`; its length is filled in as text.
fn descriptor(media_type: &str, number: usize) -> Value {
    json!({"mediaType": media_type, "digest": format!("sha256:@{number}"), "size": format!("#{number}")})
}

/// Parts of an image; numbers that stand for lengths lose their quotes.
fn parts(parts: &[Value]) -> Vec<u8> {
    let texts = parts.iter().map(|part| {
        let mut text = part.to_string();
        for number in 0..8 {
            text = text.replace(&format!("\"#{number}\""), &format!("#{number}"));
        }
        text
    });
    corpus::join(&texts.collect::<Vec<_>>())
}

#[test]
#[ignore = "writes the seeds of the corpus anew"]
fn write_seeds_of_layouts() {
    let index = |manifests: Value| json!({"schemaVersion": 2, "manifests": manifests});
    // Where the manifest stands: index and the manifest of `docker save` come first.
    let image = |at: usize| {
        let manifest = json!({
            "schemaVersion": 2, "config": descriptor("application/vnd.oci.image.config.v1+json", at + 1),
            "layers": [descriptor("application/vnd.oci.image.layer.v1.tar", at + 2)]
        });
        let config = json!({
            "architecture": "amd64", "os": "linux", "created": "2024-01-01T00:00:00Z",
            "config": {"Entrypoint": ["/a"], "Cmd": ["b"], "Env": ["A=1", "PATH=/"], "WorkingDir": "/w", "User": "u",
                       "Volumes": {"/v": {}}, "Labels": {"a": "b"}},
            "rootfs": {"type": "layers", "diff_ids": [format!("sha256:@{}", at + 2)]}
        });
        let saved = json!([{
            "Config": format!("blobs/sha256/@{}", at + 1), "RepoTags": ["name:latest"],
            "Layers": [format!("blobs/sha256/@{}", at + 2)]
        }]);
        (saved, manifest, config)
    };
    let (saved, manifest, config) = image(2);
    let layer = json!("a layer");
    let all = |index: Value, manifest: &Value, config: &Value, saved: &Value| {
        parts(&[index, saved.clone(), manifest.clone(), config.clone(), layer.clone()])
    };
    let plain = || index(json!([descriptor(MANIFEST, 2)]));
    let named = |at| {
        let mut named = descriptor(MANIFEST, at);
        named["annotations"] = json!({"org.opencontainers.image.ref.name": "name"});
        named["platform"] = json!({"architecture": "amd64", "os": "linux"});
        named
    };
    let nested = {
        let (saved, manifest, config) = image(4);
        let outer = index(json!([descriptor(INDEX, 2)]));
        let middle = index(json!([descriptor(INDEX, 3)]));
        let inner = index(json!([named(4), {"mediaType": "x/y", "digest": "sha256:@6", "size": 1}]));
        parts(&[outer, saved, middle, inner, manifest, config, layer.clone()])
    };
    let mut foreign = config.clone();
    foreign["architecture"] = json!("riscv64");
    let mut bare = config.clone();
    bare["config"] = json!(null);
    let seeds = [
        ("both", all(plain(), &manifest, &config, &saved)),
        ("both-named", all(index(json!([named(2)])), &manifest, &config, &saved)),
        ("both-bare", all(plain(), &manifest, &bare, &saved)),
        ("both-nested", nested),
        ("only-layout", all(plain(), &manifest, &config, &json!([]))),
        ("refused-architecture", all(plain(), &manifest, &foreign, &saved)),
        (
            "refused-layers",
            all(plain(), &json!({"schemaVersion": 2, "layers": []}), &json!({"os": "linux"}), &saved),
        ),
        (
            "refused-digest",
            all(
                index(json!([{"mediaType": MANIFEST, "digest": "sha256:../..", "size": 1}])),
                &manifest,
                &foreign,
                &json!({}),
            ),
        ),
        ("refused-empty", parts(&[])),
    ];
    corpus::write("layout", &seeds);
}
