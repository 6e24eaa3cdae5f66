//! What services answer: what is not as it must be never reaches the application.

use std::os::unix::net::UnixListener;
use std::sync::mpsc;
use std::time::Duration;

use base64ct::{Base64, Encoding as _};
use getrandom::SysRng;
use kms_client::endpoint::{ExchangeError, MAX_ANSWER};
use kms_client::operation::SecretOperation;
use kms_client::{ClientError, endpoint};
use kms_protocol::cms::{self, Encoding, RecipientKey};
use rand_core::UnwrapErr;
use serde_json::json;
use spki::EncodePublicKey;

use crate::support::sdk::ask;
use crate::support::service::{Service, http};
use crate::support::{self, KEY, Local, keys};

const SECRET: &[u8] = b"the secret that nobody else may see";

/// Insists that a service with this answer to Decrypt is refused, and returns why.
#[track_caller]
fn refused(answer: impl Fn(&support::service::Received) -> Vec<u8> + Send + 'static, words: &str) {
    let service = Service::answering(answer);
    let answered = ask(Local::new(&service).address, "Decrypt", r#"{"CiphertextBlob":"AAAA"}"#);
    answered.refused(answered.status, "KMSInternalException", words);
    assert!(answered.status == 502 || answered.status == 503, "{answered:?}");
    let secret = Base64::encode_string(SECRET);
    assert!(!String::from_utf8_lossy(&answered.body).contains(&secret), "{answered:?}");
}

#[test]
fn a_plaintext_in_the_clear_is_refused() {
    let plain = Base64::encode_string(SECRET);
    refused(move |_| http("200 OK", json!({ "Plaintext": plain }).to_string()), "in the clear");
}

#[test]
fn a_plaintext_beside_an_envelope_is_refused() {
    let plain = Base64::encode_string(SECRET);
    refused(
        move |request| {
            let sealed = request.sealed(SECRET, Encoding::Der);
            http("200 OK", json!({ "Plaintext": plain, "CiphertextForRecipient": sealed }).to_string())
        },
        "in the clear",
    );
}

#[test]
fn an_answer_without_an_envelope_is_refused() {
    refused(|_| http("200 OK", r#"{"KeyId":"k"}"#), "knows nothing of attestation");
    refused(|_| http("200 OK", r#"{"CiphertextForRecipient":null}"#), "knows nothing of attestation");
}

#[test]
fn an_envelope_that_is_none_is_refused() {
    refused(|_| http("200 OK", r#"{"CiphertextForRecipient":"%%%%"}"#), "not base64");
    refused(|_| http("200 OK", r#"{"CiphertextForRecipient":""}"#), "cannot open");
    let garbage = Base64::encode_string(&[0x30; 4096]);
    refused(move |_| http("200 OK", json!({ "CiphertextForRecipient": garbage }).to_string()), "cannot open");
}

#[test]
fn an_envelope_for_somebody_else_is_refused() {
    let other = rsa::RsaPrivateKey::new(&mut UnwrapErr(SysRng), 2048).unwrap();
    let other =
        RecipientKey::from_spki_der(other.to_public_key().to_public_key_der().unwrap().as_bytes()).unwrap();
    let sealed = cms::seal(&other, SECRET, Encoding::Ber, &mut SysRng).unwrap();
    let sealed = Base64::encode_string(&sealed);
    refused(move |_| http("200 OK", json!({ "CiphertextForRecipient": sealed }).to_string()), "cannot open");
}

#[test]
fn an_answer_that_is_no_json_object_is_refused() {
    refused(|_| http("200 OK", "[]"), "no JSON object");
    refused(|_| http("200 OK", "{"), "no JSON object");
}

#[test]
fn an_answer_that_breaks_off_is_refused() {
    refused(
        |request| {
            let sealed = request.sealed(SECRET, Encoding::Der);
            let mut answer = http("200 OK", json!({ "CiphertextForRecipient": sealed }).to_string());
            answer.truncate(answer.len() - 1);
            answer
        },
        "broke off",
    );
    refused(|_| Vec::new(), "broke off");
    refused(|_| b"no HTTP at all\r\n\r\n".to_vec(), "broke off");
}

#[test]
fn the_longest_answer_is_taken_and_one_byte_more_refused() {
    let body = |length: usize| format!("{{\"a\":\"{}\"}}", "b".repeat(length - 8));
    let service = Service::answering(move |_| http("200 OK", body(MAX_ANSWER)));
    let answered = ask(Local::new(&service).address, "ListKeys", "{}");
    assert_eq!((answered.status, answered.body.len()), (200, MAX_ANSWER));
    refused(move |_| http("200 OK", body(MAX_ANSWER + 1)), "longer than 1048576 bytes");
}

#[test]
fn an_answer_without_end_is_refused() {
    refused(
        |_| {
            let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
            let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
            format!("{head}{}", chunk.repeat(32)).into_bytes()
        },
        "longer than 1048576 bytes",
    );
}

/// An answer that ends with the connection could be cut by the host wherever it likes.
#[test]
fn an_answer_that_ends_before_tls_does_is_refused() {
    let whole = b"HTTP/1.1 200 OK\r\n\r\n{}".to_vec();
    let proper = Service::answering({
        let whole = whole.clone();
        move |_| whole.clone()
    });
    assert_eq!(ask(Local::new(&proper).address, "ListKeys", "{}").status, 200);
    let cut = Service::cut(move |_| whole.clone());
    ask(Local::new(&cut).address, "ListKeys", "{}").refused(503, "KMSInternalException", "broke off");
}

#[test]
fn a_status_that_is_none_of_an_answers_is_refused() {
    for (status, refused) in
        [("199 a", true), ("200 b", false), ("599 c", false), ("600 d", true), ("101 e", true)]
    {
        let service = Service::answering(move |_| http(status, "{}"));
        let answered = ask(Local::new(&service).address, "ListKeys", "{}");
        if refused {
            answered.refused(503, "KMSInternalException", "broke off");
        } else {
            assert_eq!(answered.status.to_string(), status[..3]);
        }
    }
}

/// Insists that a service is not waited for longer than these limits say.
#[track_caller]
fn is_too_slow(service: &Service, limits: endpoint::Limits) {
    let client = support::impatient(service, limits);
    let asked = support::runtime().block_on(client.generate_random("local-1", 32));
    let Err(ClientError::Exchange(ExchangeError::Slow(limit))) = asked else { panic!("{asked:?}") };
    assert_eq!(limit, SHORT);
}

/// For what a test waits to happen.
const SHORT: Duration = Duration::from_millis(200);

#[test]
fn a_service_that_does_not_answer_is_not_waited_for_longer_than_the_limit() {
    // It answers when the test has ended, and nobody is there.
    let (_test, ended) = mpsc::channel::<()>();
    let service = Service::answering(move |_| {
        let _ = ended.recv();
        Vec::new()
    });
    is_too_slow(&service, endpoint::Limits { answer: SHORT, ..endpoint::Limits::default() });
}

#[test]
fn a_host_that_takes_the_connection_and_says_nothing_is_not_waited_for() {
    let service = Service::echoing();
    std::fs::remove_file(service.socket()).unwrap();
    // The kernel takes connections for whoever listens and does not accept.
    let _host = UnixListener::bind(service.socket()).unwrap();
    is_too_slow(&service, endpoint::Limits { handshake: SHORT, ..endpoint::Limits::default() });
}

#[test]
fn a_service_with_a_certificate_of_another_root_is_told_nothing() {
    let (service, stranger) = (Service::answering(|_| Vec::new()), Service::answering(|_| Vec::new()));
    let route = kms_client::route::Route::Unix(service.socket());
    let roots = endpoint::Roots::File(stranger.certificates().root());
    let endpoint = endpoint::Endpoint::new("https://kms.test", route, roots).unwrap();
    let reached = support::runtime().block_on(endpoint.reach(std::time::Duration::ZERO, || ()));
    assert!(matches!(reached, Err(endpoint::ExchangeError::Handshake { .. })), "{reached:?}");
    service.received_nothing();
}

#[test]
fn a_service_of_another_name_is_told_nothing() {
    let service = Service::named("other.test", |_| Vec::new());
    let answered = ask(Local::new(&service).address, "Decrypt", "{}");
    answered.refused(503, "KMSInternalException", "kms.test did not prove to be the key service");
    service.received_nothing();
}

#[test]
fn the_services_errors_are_passed_on_as_they_are() {
    let denied = r#"{"__type":"AccessDeniedException","message":"not for you"}"#;
    let service = Service::answering(move |_| http("400 Bad Request", denied));
    let local = Local::new(&service);
    for operation in ["Decrypt", "Encrypt"] {
        let answered = ask(local.address, operation, "{}");
        assert_eq!((answered.status, answered.body.as_slice()), (400, denied.as_bytes()));
        assert!(answered.head.contains("x-amzn-requestid: the-id"), "{answered:?}");
    }
}

#[test]
fn the_library_says_the_services_error_by_its_name() {
    let service = Service::answering(|_| {
        http("400 Bad Request", r#"{"__type":"a.b#AccessDeniedException","Message":"no"}"#)
    });
    let client = support::client(&service, kms_client::credentials::Source::Fixed(keys(KEY)));
    let refused = support::runtime().block_on(client.generate_random("local-1", 32));
    let Err(ClientError::Refused { kind, message }) = refused else { panic!("{refused:?}") };
    assert_eq!((kind.as_str(), message.as_str()), ("AccessDeniedException", "no"));
}

#[test]
fn every_secret_is_opened_in_both_encodings_and_returned_where_sdks_look_for_it() {
    for encoding in [Encoding::Ber, Encoding::Der] {
        let service = Service::answering(move |request| {
            let sealed = request.sealed(SECRET, encoding);
            http(
                "200 OK",
                json!({ "KeyId": "k", "CiphertextForRecipient": sealed, "Plaintext": null }).to_string(),
            )
        });
        let local = Local::new(&service);
        for operation in SecretOperation::ALL {
            let answered = ask(local.address, operation.name(), r#"{"KeyId":"k"}"#);
            let expected = json!({ "KeyId": "k", operation.secret_member(): Base64::encode_string(SECRET) });
            let mut json = answered.json();
            if operation.secret_member() != "Plaintext" {
                // This service answers it for every operation; it is not what these return.
                assert_eq!(json.as_object_mut().unwrap().remove("Plaintext"), Some(serde_json::Value::Null));
            }
            assert_eq!((answered.status, json), (200, expected));
        }
    }
}
