//! Registries that send something else, or more, than they should.

use std::fs;

use image::kernel::Architecture;
use serde_json::{Value, json};

use crate::server::{Answer, Asked, CONFIG, INDEX, Image, LAYER, MANIFEST, Server, descriptor, digest};
use crate::support::{Pull, blobs};

/// The message of a pull from a server whose answers to one path are replaced.
fn with_instead(image: &Image, part: &str, answer: &Answer) -> String {
    let (image, part, answer) = (image.clone(), part.to_owned(), answer.clone());
    let server = Server::start(
        move |asked| if asked.path.contains(&part) { answer.clone() } else { image.answer(asked) },
    );
    let message = Pull::default().fails(&server.image("a:1"));
    assert_eq!(server.count("/manifests/"), 1, "a lie is not asked for again: {message}");
    message
}

/// The message of a pull of an image whose manifest is this.
fn with_manifest(manifest: &Value) -> String {
    let image = Image { manifest: manifest.to_string().into_bytes(), ..Image::new() };
    let server = Server::start(move |asked| image.answer(asked));
    let message = Pull::default().fails(&server.image("a:1"));
    assert_eq!(server.count("/blobs/"), 0, "refused before anything is fetched: {message}");
    message
}

#[test]
fn a_layer_of_other_bytes_is_refused_by_its_digest() {
    let image = Image::new();
    let mut wrong = image.layers[0].clone();
    wrong[299_999] ^= 1;
    let name = digest(&image.layers[0]);
    let message = with_instead(&image, &name, &Answer::bytes(wrong.clone()));
    assert!(message.contains(&name) && message.contains(&digest(&wrong)), "{message}");
}

#[test]
fn a_configuration_of_other_bytes_is_refused_by_its_digest() {
    let image = Image::new();
    let wrong = vec![b' '; image.config.len()];
    let message = with_instead(&image, &digest(&image.config), &Answer::bytes(wrong));
    assert!(message.contains(&digest(&image.config)) && message.contains("its digest is"), "{message}");
}

#[test]
fn a_layer_that_is_announced_with_another_size_is_refused() {
    let image = Image::new();
    let name = digest(&image.layers[1]);
    for (bytes, size) in [(&b"second layer!"[..], "13"), (b"second laye", "11"), (b"", "0")] {
        let message = with_instead(&image, &name, &Answer::bytes(bytes));
        assert!(
            message.contains("12 bytes") && message.contains(&format!("{size} are announced")),
            "{message}"
        );
    }
}

#[test]
fn a_layer_without_an_end_is_left_at_the_size_of_the_manifest() {
    let image = Image::new();
    let message = with_instead(&image, &digest(&image.layers[0]), &Answer::endless());
    assert!(message.contains("300000 bytes, but more come"), "{message}");
}

#[test]
fn a_manifest_without_an_end_is_left_at_the_limit() {
    let message = with_instead(&Image::new(), "/manifests/", &Answer::endless());
    assert!(message.contains("more than 4194304"), "{message}");
}

#[test]
fn headers_without_an_end_are_left() {
    let server = Server::start(|_| Answer::endless_head());
    let message = Pull::default().fails(&server.image("a:1"));
    assert!(message.contains("the connection broke"), "{message}");
}

#[test]
fn a_manifest_at_the_limit_is_read_and_one_byte_more_is_not() {
    let image = Image::new();
    let server = Server::start({
        let image = image.clone();
        move |asked| image.answer(asked)
    });
    let mut pull = Pull::default();
    pull.limits.manifest_bytes = image.manifest.len() as u64;
    pull.run(&server.image("a:1")).unwrap();
    pull.limits.manifest_bytes -= 1;
    let message = pull.fails(&server.image("a:1"));
    assert!(message.contains("are allowed"), "{message}");
}

#[test]
fn a_manifest_that_is_not_what_the_reference_names_is_refused() {
    let (image, other) = (Image::new(), Image::of("amd64", vec![b"other".to_vec()]));
    let wanted = digest(&image.manifest);
    let lie = Answer::bytes(other.manifest.clone()).header("Content-Type", MANIFEST);
    for lie in [lie.clone(), lie.header("Docker-Content-Digest", wanted.clone())] {
        let server = Server::start(move |_| lie.clone());
        let message = Pull::default().fails(&server.image(&format!("a@{wanted}")));
        assert!(message.contains(&wanted) && message.contains(&digest(&other.manifest)), "{message}");
    }
}

#[test]
fn a_manifest_that_is_not_what_the_registry_itself_says_is_refused() {
    let image = Image::new();
    let lie = Answer::bytes(image.manifest.clone())
        .header("Content-Type", MANIFEST)
        .header("Docker-Content-Digest", digest(b"something else"));
    let message = with_instead(&image, "/manifests/", &lie);
    assert!(message.contains("not what it should be"), "{message}");
}

#[test]
fn as_many_layers_as_allowed_are_pulled_and_one_more_is_not() {
    let layers: Vec<Vec<u8>> = (0..4_u8).map(|number| vec![number]).collect();
    let image = Image::of("amd64", layers);
    let server = Server::start(move |asked| image.answer(asked));
    let mut pull = Pull::default();
    pull.limits.layers = 4;
    assert_eq!(blobs(pull.run(&server.image("a:1")).unwrap().folder.path()).len(), 6);
    pull.limits.layers = 3;
    let message = pull.fails(&server.image("a:1"));
    assert!(message.contains("has 4 layers, 3 are allowed"), "{message}");
}

#[test]
fn sizes_are_limited_for_each_blob_and_in_all() {
    let image = Image::new();
    let (config, large, small) =
        (image.config.len() as u64, image.layers[0].len() as u64, image.layers[1].len() as u64);
    let server = Server::start(move |asked| image.answer(asked));
    let reference = server.image("a:1");
    let mut pull = Pull::default();
    (pull.limits.config_bytes, pull.limits.blob_bytes, pull.limits.image_bytes) =
        (config, large, large + small);
    pull.run(&reference).unwrap();

    pull.limits.blob_bytes -= 1;
    assert!(pull.fails(&reference).contains("has 300000 bytes, 299999 are allowed"));
    pull.limits.blob_bytes += 1;
    pull.limits.image_bytes -= 1;
    assert!(pull.fails(&reference).contains("has 300012 bytes, 300011 are allowed"));
    pull.limits.image_bytes += 1;
    pull.limits.config_bytes -= 1;
    assert!(pull.fails(&reference).contains("the configuration"));
}

#[test]
fn sizes_that_overflow_when_they_are_added_are_refused() {
    let layers: Vec<Value> = (0..3_u8)
        .map(|number| json!({ "mediaType": LAYER, "digest": digest(&[number]), "size": u64::MAX }))
        .collect();
    let manifest = json!({ "schemaVersion": 2, "config": descriptor(CONFIG, b"{}"), "layers": layers });
    assert!(with_manifest(&manifest).contains("are allowed"));
    let mut pull = Pull::default();
    pull.limits.blob_bytes = u64::MAX;
    let image = Image { manifest: manifest.to_string().into_bytes(), ..Image::new() };
    let server = Server::start(move |asked| image.answer(asked));
    assert!(pull.fails(&server.image("a:1")).contains(&u64::MAX.to_string()));
}

#[test]
fn names_of_blobs_that_are_no_sha256_digests_are_refused() {
    let good = descriptor(LAYER, b"x");
    for name in [
        "sha256:../../../../etc/passwd",
        "sha256:",
        "sha256:00",
        "md5:d41d8cd98f00b204e9800998ecf8427e",
        "sha512:cf83e1357eefb8bdf1542850d66d8007d620e4050b5715dc83f4a921d36ce9ce47d0d13c5d85f2b0ff8318d2877eec2f63b931bd47417a81a538327af927da3e",
        "sha256:E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855",
        "../blob",
        "",
    ] {
        let mut bad = good.clone();
        bad["digest"] = json!(name);
        for (config, layer) in [(descriptor(CONFIG, b"{}"), bad.clone()), (bad.clone(), good.clone())] {
            let mut config = config;
            config["mediaType"] = json!(CONFIG);
            let manifest = json!({ "schemaVersion": 2, "config": config, "layers": [layer] });
            let message = with_manifest(&manifest);
            assert!(
                message.contains("SHA-256") || message.contains("not what a manifest should be"),
                "{message}"
            );
        }
    }
}

#[test]
fn documents_that_are_no_manifest_are_refused() {
    let config = descriptor(CONFIG, b"{}");
    for manifest in [
        json!([]),
        json!({}),
        json!("text"),
        json!({ "schemaVersion": 1, "fsLayers": [{ "blobSum": digest(b"") }] }),
        json!({ "schemaVersion": 2, "config": config }),
        json!({ "schemaVersion": 2, "layers": [] }),
        json!({ "schemaVersion": 2, "config": config, "layers": {} }),
        // One thing to one reader and another to the next.
        json!({ "schemaVersion": 2, "config": config, "layers": [], "manifests": [] }),
        json!({ "schemaVersion": 2, "mediaType": INDEX, "config": config, "layers": [] }),
        json!({ "schemaVersion": 2, "mediaType": MANIFEST, "manifests": [] }),
        // A chart, which a registry may keep as well.
        json!({ "schemaVersion": 2, "config": descriptor("application/vnd.cncf.helm.config.v1+json", b"{}"), "layers": [] }),
        // The same blob, with two sizes.
        json!({ "schemaVersion": 2, "config": config, "layers": [
            { "mediaType": LAYER, "digest": digest(b"x"), "size": 1 }, { "mediaType": LAYER, "digest": digest(b"x"), "size": 2 }] }),
    ] {
        let message = with_manifest(&manifest);
        assert!(message.contains("the manifest of") || message.contains("a:1"), "{message}");
    }
    for text in ["", "not JSON \u{1b}[2J", &"[".repeat(100_000)] {
        let image = Image { manifest: text.as_bytes().to_vec(), ..Image::new() };
        let server = Server::start(move |asked| image.answer(asked));
        let message = Pull::default().fails(&server.image("a:1"));
        assert!(
            message.contains("not what a manifest should be") && !message.contains('\u{1b}'),
            "{message}"
        );
    }
}

#[test]
fn a_layer_that_an_image_has_twice_comes_once() {
    let image = Image::of("amd64", vec![b"same".to_vec(), b"other".to_vec(), b"same".to_vec()]);
    let name = digest(b"same");
    let server = Server::start(move |asked| image.answer(asked));
    let got = Pull::default().run(&server.image("a:1")).unwrap();
    assert_eq!((server.count(&name), blobs(got.folder.path()).len()), (1, 4));
}

#[test]
fn an_empty_layer_is_a_layer() {
    let image = Image::of("amd64", vec![Vec::new()]);
    let server = Server::start(move |asked| image.answer(asked));
    let got = Pull::default().run(&server.image("a:1")).unwrap();
    assert_eq!(got.progress[&digest(b"")], (0, 0));
}

/// A list of images: each with what it says of its platform.
struct List {
    index: Vec<u8>,
    images: Vec<Image>,
}

impl List {
    fn new(entries: &[(&str, Value)]) -> Self {
        let images: Vec<Image> = entries
            .iter()
            .map(|(architecture, platform)| {
                Image::of(architecture, vec![format!("layer for {platform}").into_bytes()])
            })
            .collect();
        let manifests: Vec<Value> = images
            .iter()
            .zip(entries)
            .map(|(image, (_, platform))| {
                let mut entry = descriptor(MANIFEST, &image.manifest);
                entry["platform"] = platform.clone();
                entry
            })
            .collect();
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": manifests });
        Self { index: index.to_string().into_bytes(), images }
    }

    fn answer(&self, asked: &Asked) -> Answer {
        if asked.path.ends_with("/manifests/1") {
            return Answer::bytes(self.index.clone()).header("Content-Type", INDEX);
        }
        let by_digest = |image: &&Image| asked.path.ends_with(&digest(&image.manifest));
        if let Some(image) = self.images.iter().find(by_digest) {
            return image.answer(asked);
        }
        // Blobs have different bytes in each image.
        let answers = self.images.iter().map(|image| image.answer(asked));
        if asked.path.contains("/manifests/") {
            return Answer::status(404);
        }
        answers.into_iter().find(|answer| !answer.is_refusal()).unwrap_or_else(|| Answer::status(404))
    }
}

#[test]
fn the_image_for_the_machine_is_chosen_from_a_list() {
    let list = List::new(&[
        ("unknown", json!({ "os": "unknown", "architecture": "unknown" })),
        ("amd64", json!({ "os": "windows", "architecture": "amd64" })),
        ("amd64", json!({ "os": "linux", "architecture": "amd64", "variant": "v3" })),
        ("amd64", json!({ "os": "linux", "architecture": "amd64" })),
        ("arm", json!({ "os": "linux", "architecture": "arm", "variant": "v7" })),
        ("arm64", json!({ "os": "linux", "architecture": "arm64", "variant": "v8" })),
    ]);
    let (plain, arm) = (digest(&list.images[3].manifest), digest(&list.images[5].manifest));
    let server = Server::start(move |asked| list.answer(asked));
    for (platform, wanted, architecture) in
        [(Architecture::X86_64, plain, "amd64"), (Architecture::Aarch64, arm, "arm64")]
    {
        let got = Pull { platform, ..Pull::default() }.run(&server.image("a:1")).unwrap();
        assert_eq!(got.pulled.digest, wanted);
        let index: Value =
            serde_json::from_slice(&fs::read(got.folder.path().join("index.json")).unwrap()).unwrap();
        assert_eq!(index["manifests"][0]["digest"], wanted);
        assert_eq!(index["manifests"][0]["platform"]["architecture"], architecture);
        assert_eq!(blobs(got.folder.path()).len(), 3);
    }
}

#[test]
fn a_list_without_the_machine_says_which_machines_it_has() {
    let list = List::new(&[
        ("arm", json!({ "os": "linux", "architecture": "arm", "variant": "v7" })),
        ("s390x", json!({ "os": "linux", "architecture": "s390x" })),
        ("unknown", json!({ "os": "unknown", "architecture": "unknown" })),
        ("evil", json!({ "os": "linux", "architecture": "\u{1b}[2J" })),
    ]);
    let server = Server::start(move |asked| list.answer(asked));
    let message = Pull::default().fails(&server.image("a:1"));
    assert!(
        message.contains("not made for linux/amd64; it is made for linux/arm/v7, linux/s390x:"),
        "{message}"
    );
}

#[test]
fn what_a_list_leads_to_must_be_what_it_says() {
    let make = || List::new(&[("amd64", json!({ "os": "linux", "architecture": "amd64" }))]);
    // Other bytes of the same length, a shorter document, another list.
    let list = make();
    let mut same_length = list.images[0].manifest.clone();
    let end = same_length.len() - 1;
    same_length.insert(end, b' ');
    same_length.remove(0);
    for (lie, why) in
        [(same_length, "its digest is"), (b"{}".to_vec(), "but has 2"), (list.index.clone(), "but has")]
    {
        let list = make();
        let server = Server::start(move |asked| {
            if asked.path.ends_with("/manifests/1") { list.answer(asked) } else { Answer::bytes(lie.clone()) }
        });
        let message = Pull::default().fails(&server.image("a:1"));
        assert!(message.contains(why), "{message}");
    }
    // An image that is for another machine than its list says.
    let list = List::new(&[("arm64", json!({ "os": "linux", "architecture": "amd64" }))]);
    let server = Server::start(move |asked| list.answer(asked));
    let message = Pull::default().fails(&server.image("a:1"));
    assert!(message.contains("it is made for linux/arm64"), "{message}");
}

#[test]
fn a_list_that_leads_to_a_list_is_refused() {
    let inner = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [] }).to_string();
    let mut entry = descriptor(INDEX, inner.as_bytes());
    entry["platform"] = json!({ "os": "linux", "architecture": "amd64" });
    let outer = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [entry] }).to_string();
    let server = Server::start(move |asked| {
        Answer::bytes(if asked.path.ends_with("/manifests/1") { outer.clone() } else { inner.clone() })
    });
    let message = Pull::default().fails(&server.image("a:1"));
    assert!(message.contains("leads to another list"), "{message}");
}

#[test]
fn a_configuration_that_names_no_machine_is_refused() {
    for config in ["{}", "[]", "nonsense"] {
        let mut image = Image::new();
        image.config = config.as_bytes().to_vec();
        image.describe(descriptor(CONFIG, &image.config), Vec::new());
        let server = Server::start(move |asked| image.answer(asked));
        let message = Pull::default().fails(&server.image("a:1"));
        assert!(message.contains("names no architecture"), "{message}");
    }
}

#[test]
fn a_folder_that_is_not_empty_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("precious"), "x").unwrap();
    let reference = "localhost:1/a".parse().unwrap();
    let pull = Pull::default();
    let request = image::registry::Request {
        reference: &reference,
        platform: pull.platform,
        limits: &pull.limits,
        credentials: &pull.credentials,
    };
    let error = image::registry::pull(&request, folder.path(), &mut |_| {}).unwrap_err();
    assert!(error.to_string().contains("must be an empty folder"), "{error}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}
