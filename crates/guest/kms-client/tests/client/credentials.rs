//! Credentials: what the host gives, how long it is kept, and how programs get it.

use std::io::Write;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use kms_client::credentials::{CredentialsError, Source, served};
use kms_client::route::Route;
use kms_protocol::credentials::{Issued, MAX_LEN};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::sdk::{get, post, signed_by};
use crate::support::service::{Service, http};
use crate::support::{Local, keys, runtime};

/// A host's program that answers each connection with what a test says, and counts them.
struct Host {
    folder: TempDir,
    asked: Arc<AtomicUsize>,
}

impl Host {
    fn answering(answer: impl Fn(usize) -> Vec<u8> + Send + 'static) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let asked = Arc::new(AtomicUsize::new(0));
        let (listener, count) =
            (UnixListener::bind(folder.path().join("socket")).unwrap(), Arc::clone(&asked));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let number = count.fetch_add(1, Ordering::SeqCst);
                // Who is refused early does not read to the end.
                let _ = stream.unwrap().write_all(&answer(number));
            }
        });
        Self { folder, asked }
    }

    fn source(&self) -> Source {
        source(&self.folder.path().join("socket"))
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

fn source(path: &Path) -> Source {
    Source::host(Route::Unix(path.to_owned()))
}

fn current(source: &Source) -> Result<Issued, CredentialsError> {
    runtime().block_on(source.current())
}

/// What the AWS CLI's `export-credentials` writes, good for so long.
fn exported(id: &str, good_for: Duration) -> Vec<u8> {
    let end = Timestamp::try_from(SystemTime::now() + good_for).unwrap();
    let json = json!({
        "Version": 1, "AccessKeyId": id, "SecretAccessKey": "secret", "SessionToken": "token", "Expiration": end.to_string(),
    });
    json.to_string().into_bytes()
}

#[test]
fn nobody_there_is_said_with_what_mends_it() {
    let error = current(&source(Path::new("/nowhere/socket"))).unwrap_err().to_string();
    assert!(
        error.contains("/nowhere/socket") && error.contains("aws configure export-credentials"),
        "{error}"
    );
}

#[test]
fn credentials_that_have_expired_are_refused() {
    let host = Host::answering(|_| {
        br#"{"AccessKeyId":"A","SecretAccessKey":"s","Expiration":"2020-01-01T00:00:00Z"}"#.to_vec()
    });
    assert!(matches!(current(&host.source()), Err(CredentialsError::Expired(_))));
}

#[test]
fn the_longest_answer_is_read_and_one_byte_more_refused() {
    let padded = |length: usize| {
        let mut text = exported("A", Duration::from_secs(3600));
        text.resize(length, b' ');
        text
    };
    let host = Host::answering(move |_| padded(MAX_LEN));
    assert_eq!(current(&host.source()).unwrap().keys.access_key_id, "A");
    let host = Host::answering(move |_| padded(MAX_LEN + 1));
    let error = current(&host.source()).unwrap_err().to_string();
    assert!(error.contains("longer than 65536 bytes"), "{error}");
}

#[test]
fn the_host_is_asked_once_while_they_are_good() {
    let host = Host::answering(|number| exported(&format!("A{number}"), Duration::from_secs(3600)));
    let source = host.source();
    assert_eq!(current(&source).unwrap().keys.access_key_id, "A0");
    assert_eq!(current(&source).unwrap().keys.access_key_id, "A0");
    assert_eq!(host.asked(), 1);
}

#[test]
fn the_host_is_asked_again_before_they_expire_and_the_old_ones_stay_known() {
    // The first are good for less than the margin.
    let host = Host::answering(|number| {
        exported(&format!("A{number}"), Duration::from_secs(60 + 3600 * number as u64))
    });
    let source = host.source();
    assert_eq!(current(&source).unwrap().keys.access_key_id, "A0");
    assert_eq!(current(&source).unwrap().keys.access_key_id, "A1");
    assert_eq!(host.asked(), 2);
    let secret_of = |id| runtime().block_on(source.secret_of(id));
    for known in ["A0", "A1"] {
        assert_eq!(secret_of(known).as_deref().map(String::as_str), Some("secret"));
    }
    assert_eq!(secret_of("A2"), None);
}

#[test]
fn credentials_about_to_expire_are_used_while_the_host_is_away() {
    let host = Host::answering(|_| exported("A0", Duration::from_secs(60)));
    let source = host.source();
    assert_eq!(current(&source).unwrap().keys.access_key_id, "A0");
    std::fs::remove_file(host.folder.path().join("socket")).unwrap();
    assert_eq!(current(&source).unwrap().keys.access_key_id, "A0");
}

#[test]
fn a_host_that_has_no_newer_ones_is_not_asked_at_each_request() {
    let host = Host::answering(|number| match number {
        0 => exported("A0", Duration::from_secs(60)),
        _ => b"none".to_vec(),
    });
    let source = host.source();
    for _ in 0..4 {
        assert_eq!(current(&source).unwrap().keys.access_key_id, "A0");
    }
    assert_eq!(host.asked(), 2);
}

#[test]
fn a_host_that_has_none_at_all_is_asked_each_time() {
    let host = Host::answering(|_| b"none".to_vec());
    let source = host.source();
    for asked in 1..4 {
        current(&source).unwrap_err();
        assert_eq!(host.asked(), asked);
    }
}

#[test]
fn a_host_that_takes_the_connection_and_says_nothing_is_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    // The kernel takes connections for whoever listens and does not accept.
    let _host = UnixListener::bind(&path).unwrap();
    let source = Source::host_within(Route::Unix(path), Duration::from_millis(200));
    let error = current(&source).unwrap_err().to_string();
    assert!(error.contains("did not end within 200ms"), "{error}");
}

#[test]
fn an_sdk_finds_the_hosts_credentials_and_signs_with_them() {
    let service = Service::answering(|_| http("200 OK", "{}"));
    let host = Host::answering(|_| exported("AHOST", Duration::from_secs(3600)));
    let local = Local::with(&service, host.source(), None);
    let mut keys = keys("AHOST");
    (keys.secret_access_key, keys.session_token) = ("secret".to_owned().into(), Some("token".to_owned()));
    let headers = signed_by(&keys, "kms", local.address, "Encrypt", b"{}");
    post(local.address, &headers, b"{}").refused(400, "UnrecognizedClientException", "AHOST");
    let answer = get(local.address, "/credentials", &[("Authorization", &local.token)]);
    assert!(answer.head.contains("cache-control: no-store"), "{answer:?}");
    let found = answer.json();
    assert_eq!(
        (&found["AccessKeyId"], &found["SecretAccessKey"], &found["Token"]),
        (&"AHOST".into(), &"secret".into(), &"token".into())
    );
    assert!(found["Expiration"].as_str().unwrap().ends_with('Z'));
    assert_eq!(post(local.address, &headers, b"{}").status, 200);
    assert_eq!(service.received().header("x-amz-security-token"), "token");
}

#[test]
fn credentials_are_not_given_to_who_does_not_show_the_token() {
    let service = Service::echoing();
    let host = Host::answering(|_| exported("AHOST", Duration::from_secs(3600)));
    let local = Local::with(&service, host.source(), None);
    let token = local.token.as_str();
    let ask = |headers: &[(&str, &str)]| get(local.address, "/credentials", headers);
    let missing = "MissingAuthenticationTokenException";
    ask(&[]).refused(401, missing, "AWS_CONTAINER_AUTHORIZATION_TOKEN");
    // Which of two would count?
    ask(&[("Authorization", token), ("Authorization", token)]).refused(401, missing, "Authorization");
    ask(&[("X-Authorization", token)]).refused(401, missing, "Authorization");
    let (swapped, bearer) = (token.to_lowercase(), format!("Bearer {token}"));
    for wrong in ["", "x", &token[1..], &token[..token.len() - 1], &swapped, &bearer, "\u{e4}"] {
        let answer = ask(&[("Authorization", wrong)]);
        answer.refused(401, "UnrecognizedClientException", "AWS_CONTAINER_AUTHORIZATION_TOKEN");
    }
    let path = format!("/credentials?Authorization={token}");
    assert_eq!(get(local.address, &path, &[]).status, 404);
    // Nor was the host asked for any.
    assert_eq!(host.asked(), 0);
    assert_eq!(ask(&[("authorization", token)]).status, 200);
}

#[test]
fn the_token_of_another_start_is_worth_nothing() {
    let service = Service::echoing();
    let (one, other) = (Local::new(&service), Local::new(&service));
    let answer = get(one.address, "/credentials", &[("Authorization", &other.token)]);
    answer.refused(401, "UnrecognizedClientException", "started with");
}

#[test]
fn no_credentials_are_an_error_in_awss_form() {
    let service = Service::answering(|_| http("200 OK", "{}"));
    let host = Host::answering(|_| b"no".to_vec());
    let local = Local::with(&service, host.source(), None);
    let answer = get(local.address, "/credentials", &[("Authorization", &local.token)]);
    answer.refused(503, "KMSInternalException", "no credentials");
    service.received_nothing();
}

#[test]
fn lasting_credentials_are_served_with_a_date_and_an_empty_token() {
    // SDKs insist on both members.
    let issued = Issued { keys: keys("A"), expiration: None };
    let json: Value = serde_json::from_slice(&served(&issued, SystemTime::UNIX_EPOCH)).unwrap();
    assert_eq!(
        json,
        json!({ "AccessKeyId": "A", "SecretAccessKey": "secret of A", "Token": "", "Expiration": "1970-01-01T01:00:00Z" })
    );
}
