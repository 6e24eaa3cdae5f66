//! Transfers that break off, stall, or are sent on to somewhere else.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use containers::tool;
use image::registry::{self, Event};
use image::scratch::Scratch;
use serde_json::json;

use crate::server::{Answer, CONFIG, Image, LAYER, Server, descriptor, digest};
use crate::support::{Pull, blobs, docker_config, limits};

#[test]
fn an_honest_server_of_this_test_is_believed() {
    let image = Image::new();
    let server = Server::start({
        let image = image.clone();
        move |asked| image.answer(asked)
    });
    let got = Pull::default().run(&server.image("a:1")).unwrap();
    assert_eq!(got.pulled.digest, digest(&image.manifest));
    assert_eq!(
        std::fs::read(got.folder.path().join("blobs/sha256").join(&digest(&image.layers[0])[7..])).unwrap(),
        image.layers[0]
    );
    assert!(server.asked().iter().all(|asked| asked.authorization().is_none()));
}

#[test]
fn a_dropped_connection_is_tried_again() {
    let image = Image::new();
    let failures = AtomicUsize::new(2);
    let broken = digest(&image.layers[0]);
    let server = Server::start({
        let (image, broken) = (image.clone(), broken.clone());
        move |asked| {
            let down = |count: usize| count.checked_sub(1);
            if asked.path.ends_with(&broken)
                && failures.fetch_update(Ordering::SeqCst, Ordering::SeqCst, down).is_ok()
            {
                return Answer::cut(image.layers[0].len(), &image.layers[0][..1000]);
            }
            image.answer(asked)
        }
    });
    let got = Pull::default().run(&server.image("a:1")).unwrap();
    assert_eq!((got.retries, server.count(&broken)), (2, 3));
    assert_eq!(blobs(got.folder.path()).len(), 4);
    assert_eq!(
        std::fs::read(got.folder.path().join("blobs/sha256").join(&broken[7..])).unwrap(),
        image.layers[0]
    );
}

#[test]
fn a_connection_that_is_dropped_again_and_again_ends_with_the_blobs_name() {
    let image = Image::new();
    let broken = digest(&image.layers[1]);
    let server = Server::start({
        let broken = broken.clone();
        move |asked| {
            if asked.path.ends_with(&broken) { Answer::cut(12, b"sec") } else { image.answer(asked) }
        }
    });
    let message = Pull::default().fails(&server.image("a:1"));
    assert!(message.contains(&broken) && message.contains("3 attempts"), "{message}");
    assert_eq!(server.count(&broken), 3);
}

#[test]
fn a_server_in_trouble_is_asked_again_and_then_named() {
    for status in [500, 502, 503, 504] {
        let server = Server::start(move |_| Answer::status(status));
        let message = Pull::default().fails(&server.image("a:1"));
        assert!(
            message.contains(&format!("it answered {status}")) && message.contains(server.host()),
            "{message}"
        );
        assert_eq!(server.count("/manifests/"), 3);
    }
}

#[test]
fn a_server_that_falls_silent_is_left() {
    let image = Image::new();
    let silent = digest(&image.layers[0]);
    let server = Server::start({
        let silent = silent.clone();
        move |asked| {
            if asked.path.ends_with(&silent) { Answer::silent(300_000, b"111") } else { image.answer(asked) }
        }
    });
    let mut pull = Pull::default();
    // Long enough for the honest answers of a busy machine.
    pull.limits.stall_time = Duration::from_secs(1);
    pull.limits.attempts = 2;
    let began = Instant::now();
    let message = pull.fails(&server.image("a:1"));
    assert!(message.contains(&silent) && message.contains("nothing came for too long"), "{message}");
    assert!(began.elapsed() >= 2 * pull.limits.stall_time, "each attempt waits that long");
}

#[test]
fn a_manifest_that_never_ends_to_trickle_has_a_time() {
    let server = Server::start(|_| Answer::silent(1000, b"{"));
    let mut pull = Pull::default();
    pull.limits.document_time = Duration::from_millis(100);
    let message = pull.fails(&server.image("a:1"));
    assert!(message.contains("it took more than"), "{message}");
}

#[test]
fn nobody_listening_is_said_so() {
    // A port that was free a moment ago.
    let gone = Server::start(|_| Answer::status(200)).image("a:1");
    let message = Pull::default().fails(&gone);
    assert!(
        message.contains("no connection: Connection refused") && message.contains("3 attempts"),
        "{message}"
    );
}

#[test]
fn a_name_that_does_not_exist_is_said_so() {
    // RFC 6761: this name never exists. Where no DNS server answers, the lookup fails in another way.
    let mut pull = Pull::default();
    pull.limits.attempts = 1;
    pull.limits.connect_time = Duration::from_secs(5);
    let message = pull.fails("registry.invalid/a:1");
    assert!(
        message.contains("the name registry.invalid") && message.contains("check the network"),
        "{message}"
    );
}

#[test]
fn localhost_is_this_machine_by_name_too() {
    let image = Image::new();
    let server = Server::start(move |asked| image.answer(asked));
    let port = server.host().rsplit(':').next().unwrap();
    Pull::default().run(&format!("localhost:{port}/a:1")).unwrap();
    assert!(server.asked().iter().all(|asked| asked.headers["host"] == format!("localhost:{port}")));
}

#[test]
fn blobs_may_come_from_elsewhere_and_credentials_do_not_go_there() {
    let image = Image::new();
    let storage = Server::start({
        let image = image.clone();
        move |asked| image.answer(asked)
    });
    let elsewhere = storage.host().to_owned();
    let registry = Server::start({
        let image = image.clone();
        move |asked| {
            if asked.authorization().is_none() {
                return Answer::status(401).header("WWW-Authenticate", "Basic realm=\"test\"");
            }
            if asked.path.contains("/blobs/") {
                return Answer::status(307).header("Location", format!("http://{elsewhere}{}", asked.path));
            }
            image.answer(asked)
        }
    });
    // printf 'me:secret' | base64
    let text = format!(r#"{{"auths":{{"{}":{{"auth":"bWU6c2VjcmV0"}}}}}}"#, registry.host());
    let (_folder, credentials) = docker_config(&text);
    let got = Pull { credentials, ..Pull::default() }.run(&registry.image("a:1")).unwrap();
    assert_eq!(got.pulled.digest, digest(&image.manifest));
    assert_eq!(storage.count("/blobs/"), 3);
    for asked in storage.asked() {
        assert_eq!(asked.authorization(), None);
        assert!(!format!("{asked:?}").contains("bWU6"), "{asked:?}");
    }
}

#[test]
fn redirects_that_must_not_be_followed_are_not() {
    let other = Server::start(|_| Answer::status(200));
    let host = other.host().to_owned();
    for (location, why) in [
        (String::new(), "the new address is none"),
        ("http://[".to_owned(), "the new address is none"),
        ("http://registry.invalid/blob".to_owned(), "not reached by HTTPS"),
        ("ftp://127.0.0.1/blob".to_owned(), "not reached by HTTPS"),
        ("file:///etc/passwd".to_owned(), "not reached by HTTPS"),
        (format!("http://user:word@{host}/blob"), "has a password in it"),
    ] {
        let server = Server::start(move |_| Answer::status(302).header("Location", location.clone()));
        let message = Pull::default().fails(&server.image("a:1"));
        assert!(message.contains(why), "{message}");
        assert_eq!(server.count(""), 1, "a refusal is final");
    }
    assert_eq!(other.count(""), 0);
}

#[test]
fn a_chain_of_redirects_has_an_end() {
    let most = limits().redirects;
    let image = Image::new();
    for (length, works) in [(most, true), (most + 1, false)] {
        let image = image.clone();
        let server = Server::start(move |asked| {
            let (path, done) = asked.path.split_once("?done=").unwrap_or((&asked.path, "0"));
            let done: usize = done.parse().unwrap();
            if path.contains("/manifests/") && done < length {
                return Answer::status(302).header("Location", format!("{path}?done={}", done + 1));
            }
            image.answer(&crate::server::Asked { path: path.to_owned(), ..asked.clone() })
        });
        let result = Pull::default().run(&server.image("a:1"));
        assert_eq!(result.is_ok(), works);
        if let Err(error) = result {
            assert!(error.to_string().contains("too often"), "{error}");
        }
    }
}

/// Bytes of a large layer.
const LARGE: u64 = 200 << 20;
/// Bytes that a pull of it may have in memory at once.
const MEMORY: u64 = 64 << 20;

#[test]
fn memory_does_not_grow_with_a_layer() {
    let zeros = format!("head -c {LARGE} /dev/zero | sha256sum | cut -d ' ' -f 1");
    let name = format!("sha256:{}", tool::run(Command::new("sh").args(["-c", &zeros])).trim_end());
    let mut image = Image::new();
    let layer = json!({ "mediaType": LAYER, "digest": name, "size": LARGE });
    image.describe(descriptor(CONFIG, &image.config), vec![layer]);
    let server =
        Server::start(
            move |asked| {
                if asked.path.ends_with(&name) { Answer::zeros(LARGE) } else { image.answer(asked) }
            },
        );
    // In a process of its own, where nothing else is in memory.
    let said = crate::stock::pull_elsewhere(&server.image("a:1"), &[]).unwrap();
    let peak = said.lines().find_map(|line| line.strip_prefix("peak memory in KiB: ")).unwrap();
    let peak = peak.parse::<u64>().unwrap() << 10;
    assert!(peak < MEMORY, "{peak}");
}

#[test]
fn what_a_killed_pull_left_is_removed_by_the_next() {
    let image = Image::new();
    let silent = digest(&image.layers[0]);
    let server = Server::start(move |asked| {
        if asked.path.ends_with(&silent) { Answer::silent(300_000, b"111") } else { image.answer(asked) }
    });
    let place = tempfile::tempdir().unwrap();
    let mut pull = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "transfers::the_other_process_that_is_killed", "--nocapture", "--ignored"])
        .env("TEST_REFERENCE", server.image("a:1"))
        .env("TEST_PLACE", place.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // It says so when the layer has begun to come.
    let mut lines = BufReader::new(pull.stdout.take().unwrap()).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.contains("has begun")));
    pull.kill().unwrap();
    pull.wait().unwrap();
    assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 1, "nobody was there to remove it");
    drop(Scratch::new_in(place.path()).unwrap());
    assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 0);
}

#[test]
#[ignore = "part of another test: pulls until it is killed"]
fn the_other_process_that_is_killed() {
    let (Ok(reference), Ok(place)) = (std::env::var("TEST_REFERENCE"), std::env::var("TEST_PLACE")) else {
        return;
    };
    let scratch = Scratch::new_in(place.as_ref()).unwrap();
    let (pull, reference) = (Pull::default(), reference.parse().unwrap());
    let request = registry::Request {
        reference: &reference,
        platform: pull.platform,
        limits: &pull.limits,
        credentials: &pull.credentials,
    };
    let into = scratch.make("layout").unwrap();
    let ended = registry::pull(&request, &into, &mut |event| {
        if matches!(event, Event::Blob { total: 300_000, .. }) {
            println!("the layer has begun");
        }
    });
    panic!("it was to be killed, and ended: {ended:?}");
}
