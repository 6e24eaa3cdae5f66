//! What programs ask the local endpoint, and what becomes of it.

use std::time::{Duration, SystemTime};

use kms_client::Client;
use kms_client::client::EncryptionContext;
use kms_client::credentials::Source;
use kms_protocol::cms::Encoding;
use kms_protocol::sigv4::{Authorization, Request, Scope};
use serde_json::{Value, json};

use crate::support::sdk::{ask, get, post, signed, signed_at, signed_by};
use crate::support::service::{Received, Service, http};
use crate::support::{self, KEY, Local, keys};

/// Checks the signature of a request as the service would, for this region.
#[track_caller]
fn check_signature(received: &Received, region: &str) {
    let headers: Vec<(&str, &str)> =
        received.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let request = Request { method: "POST", path: "/", query: "", headers: &headers, body: &received.body };
    let authorization = Authorization::parse(received.header("authorization")).unwrap();
    assert_eq!(authorization.access_key_id(), KEY);
    let scope = Scope { region: region.to_owned(), service: "kms".to_owned() };
    let (secret, skew) = (keys(KEY).secret_access_key, Duration::from_secs(60));
    authorization.verify(&request, &secret, &scope, SystemTime::now(), skew).unwrap();
    assert_eq!(received.header("host"), "kms.test");
}

fn sealing() -> Service {
    Service::answering(|request| {
        let sealed = request.sealed(b"secret", Encoding::Ber);
        http("200 OK", json!({ "CiphertextForRecipient": sealed }).to_string())
    })
}

#[test]
fn a_recipient_is_added_and_the_rest_of_the_request_stays() {
    let service = sealing();
    let local = Local::new(&service);
    let body = json!({ "CiphertextBlob": "AAAA", "EncryptionContext": { "a": "b" }, "GrantTokens": ["t"] });
    assert_eq!(ask(local.address, "Decrypt", body.to_string()).status, 200);
    let received = service.received();
    check_signature(&received, "eu-central-1");
    assert_eq!(received.header("x-amz-target"), "TrentService.Decrypt");
    let mut sent = received.json();
    assert!(sent.as_object_mut().unwrap().remove("Recipient").is_some());
    assert_eq!(sent, body);
}

#[test]
fn each_request_has_a_document_of_its_own() {
    let service = sealing();
    let local = Local::new(&service);
    let document = || {
        assert_eq!(ask(local.address, "GenerateRandom", r#"{"NumberOfBytes":32}"#).status, 200);
        service.received().json()["Recipient"]["AttestationDocument"].clone()
    };
    assert_ne!(document(), document());
}

#[test]
fn the_region_of_an_option_goes_before_that_of_the_signature() {
    let service = sealing();
    let source = Source::Fixed(keys(KEY));
    let local = Local::with(&service, source, Some("local-1"));
    assert_eq!(ask(local.address, "Decrypt", "{}").status, 200);
    check_signature(&service.received(), "local-1");
}

#[test]
fn a_request_with_its_own_recipient_and_its_answer_are_left_alone() {
    let answer = r#"{"CiphertextForRecipient":"AAAA",  "Plaintext":null}"#;
    let service = Service::answering(move |_| http("200 OK", answer));
    let local = Local::new(&service);
    let body = r#"{"Recipient" : {"AttestationDocument":"AAAA"}, "CiphertextBlob":"BBBB"}"#;
    let answered = ask(local.address, "Decrypt", body);
    assert_eq!((answered.status, answered.body.as_slice()), (200, answer.as_bytes()));
    let received = service.received();
    assert_eq!(received.body, body.as_bytes());
    check_signature(&received, "eu-central-1");
}

#[test]
fn a_recipient_that_is_null_is_none() {
    let service = sealing();
    assert_eq!(ask(Local::new(&service).address, "Decrypt", r#"{"Recipient":null}"#).status, 200);
    assert!(service.received().json()["Recipient"]["AttestationDocument"].is_string());
}

#[test]
fn other_operations_are_passed_on_byte_by_byte() {
    let service = Service::echoing();
    let local = Local::new(&service);
    let body = r#"{ "KeyId" : "k",  "Plaintext":"AAAA" }"#;
    let answered = ask(local.address, "Encrypt", body);
    assert_eq!((answered.status, answered.body.as_slice()), (200, body.as_bytes()));
    check_signature(&service.received(), "eu-central-1");
}

#[test]
fn a_request_that_is_not_signed_goes_nowhere() {
    let service = Service::echoing();
    let local = Local::new(&service);
    let mut headers = signed(local.address, "Encrypt", b"{}");
    headers.retain(|(name, _)| name != "authorization");
    post(local.address, &headers, b"{}").refused(
        400,
        "MissingAuthenticationTokenException",
        "no Authorization header",
    );
    headers.push(("authorization".to_owned(), "Basic YTpi".to_owned()));
    assert_eq!(post(local.address, &headers, b"{}").status, 400);
    service.received_nothing();
}

#[test]
fn an_access_key_of_somebody_else_goes_nowhere() {
    let service = Service::echoing();
    let local = Local::new(&service);
    let headers = signed_by(&keys("AKIAOTHER"), "kms", local.address, "Encrypt", b"{}");
    post(local.address, &headers, b"{}").refused(400, "UnrecognizedClientException", "AKIAOTHER");
    service.received_nothing();
}

#[test]
fn a_signature_for_another_service_goes_nowhere() {
    let service = Service::echoing();
    let local = Local::new(&service);
    let headers = signed_by(&keys(KEY), "s3", local.address, "Encrypt", b"{}");
    post(local.address, &headers, b"{}").refused(400, "InvalidSignatureException", "another service");
    service.received_nothing();
}

/// The access key's id is no secret: whoever knows it and not the secret asks for nothing.
#[test]
fn a_signature_that_was_not_made_with_the_secret_goes_nowhere() {
    let service = Service::echoing();
    let local = Local::new(&service);
    let mut forged = keys(KEY);
    forged.secret_access_key = "another secret".to_owned().into();
    for operation in ["Decrypt", "Encrypt"] {
        let headers = signed_by(&forged, "kms", local.address, operation, b"{}");
        post(local.address, &headers, b"{}").refused(400, "InvalidSignatureException", "does not match");
    }
    service.received_nothing();
}

#[test]
fn a_signature_for_another_request_goes_nowhere() {
    let service = Service::echoing();
    let local = Local::new(&service);
    let headers = signed(local.address, "Encrypt", b"{}");
    post(local.address, &headers, b"{ }").refused(400, "InvalidSignatureException", "does not match");
    let mut other = headers.clone();
    other.iter_mut().find(|(name, _)| name == "x-amz-target").unwrap().1 = "TrentService.Decrypt".to_owned();
    post(local.address, &other, b"{}").refused(400, "InvalidSignatureException", "does not match");
    let mut twice = headers.clone();
    twice.push(("x-amz-target".to_owned(), "TrentService.Decrypt".to_owned()));
    post(local.address, &twice, b"{}").refused(400, "UnknownOperationException", "names no operation");
    let mut more = headers.clone();
    more.push(("x-amz-other".to_owned(), "not signed".to_owned()));
    post(local.address, &more, b"{}").refused(400, "InvalidSignatureException", "x-amz-other");
    service.received_nothing();
    assert_eq!(post(local.address, &headers, b"{}").status, 200);
}

#[test]
fn a_signature_of_long_ago_goes_nowhere() {
    let service = Service::echoing();
    let local = Local::new(&service);
    let then = SystemTime::now() - Duration::from_secs(6 * 60);
    let headers = signed_at(then, &keys(KEY), "kms", local.address, "Encrypt", b"{}");
    assert_eq!(post(local.address, &headers, b"{}").json()["__type"], "InvalidSignatureException");
    service.received_nothing();
    let then = SystemTime::now() - Duration::from_secs(4 * 60);
    let headers = signed_at(then, &keys(KEY), "kms", local.address, "Encrypt", b"{}");
    assert_eq!(post(local.address, &headers, b"{}").status, 200);
}

#[test]
fn a_request_with_two_signatures_goes_nowhere() {
    let service = Service::echoing();
    let local = Local::new(&service);
    let mut headers = signed(local.address, "Encrypt", b"{}");
    let authorization = headers.iter().find(|(name, _)| name == "authorization").unwrap().clone();
    headers.push(authorization);
    assert_eq!(post(local.address, &headers, b"{}").json()["__type"], "IncompleteSignatureException");
    service.received_nothing();
}

#[test]
fn what_names_no_operation_goes_nowhere() {
    let service = Service::echoing();
    let local = Local::new(&service);
    for target in [
        "TrentService.",
        "Other.Decrypt",
        "TrentService.Dec/rypt",
        &format!("TrentService.{}", "a".repeat(65)),
    ] {
        let mut headers = signed(local.address, "Encrypt", b"{}");
        headers.retain(|(name, _)| name != "x-amz-target");
        headers.push(("x-amz-target".to_owned(), target.to_owned()));
        post(local.address, &headers, b"{}").refused(400, "UnknownOperationException", "names no operation");
    }
    service.received_nothing();
}

#[test]
fn a_secret_asked_for_in_no_json_goes_nowhere() {
    let service = Service::echoing();
    let local = Local::new(&service);
    for body in ["", "[]", "{", "{}{}", "\u{feff}{}"] {
        ask(local.address, "Decrypt", body).refused(400, "SerializationException", "no JSON object");
    }
    service.received_nothing();
}

#[test]
fn other_paths_and_methods_are_not_there() {
    let service = Service::echoing();
    let local = Local::new(&service);
    for path in ["/", "/credentials/", "/credentials?a=b", "/latest/meta-data", "/../credentials"] {
        get(local.address, path, &[]).refused(404, "UnknownOperationException", "GET /credentials");
    }
    service.received_nothing();
}

#[test]
fn a_service_that_is_not_there_is_said_to_be_missing() {
    let service = Service::echoing();
    let local = Local::new(&service);
    std::fs::remove_file(service.socket()).unwrap();
    ask(local.address, "Encrypt", "{}").refused(503, "KMSInternalException", "cannot connect");
    ask(local.address, "Decrypt", "{}").refused(503, "KMSInternalException", "cannot connect");
}

/// A service whose answers have a secret and these members.
fn sealing_beside(members: Value) -> Service {
    Service::answering(move |request| {
        let mut answer = members.clone();
        answer["CiphertextForRecipient"] = request.sealed(b"secret", Encoding::Der).into();
        http("200 OK", answer.to_string())
    })
}

fn library(service: &Service) -> Client {
    support::client(service, Source::Fixed(keys(KEY)))
}

/// Insists that the library asked for this operation, with these members and a recipient.
#[track_caller]
fn check_asked(service: &Service, operation: &str, members: &Value) {
    let received = service.received();
    check_signature(&received, "local-1");
    assert_eq!(received.header("x-amz-target"), format!("TrentService.{operation}"));
    let mut sent = received.json();
    assert!(sent.as_object_mut().unwrap().remove("Recipient").is_some());
    assert_eq!(sent, *members);
}

fn context() -> EncryptionContext {
    EncryptionContext::from([("a".to_owned(), "b".to_owned())])
}

#[test]
fn the_library_decrypts() {
    let service = sealing_beside(json!({ "KeyId": "k" }));
    let client = library(&service);
    let secret =
        support::runtime().block_on(client.decrypt("local-1", Some("k"), b"sealed", &context())).unwrap();
    assert_eq!(secret.as_slice(), b"secret");
    let asked = json!({ "CiphertextBlob": "c2VhbGVk", "KeyId": "k", "EncryptionContext": { "a": "b" } });
    check_asked(&service, "Decrypt", &asked);
}

#[test]
fn the_library_makes_a_data_key() {
    let service = sealing_beside(json!({ "KeyId": "k", "CiphertextBlob": "c2VhbGVk" }));
    let client = library(&service);
    let context = context();
    let made = client.generate_data_key("local-1", "k", "AES_256", &context);
    let made = support::runtime().block_on(made).unwrap();
    assert_eq!((made.plaintext.as_slice(), made.ciphertext.as_slice()), (&b"secret"[..], &b"sealed"[..]));
    let asked = json!({ "KeyId": "k", "KeySpec": "AES_256", "EncryptionContext": { "a": "b" } });
    check_asked(&service, "GenerateDataKey", &asked);
}

#[test]
fn the_library_makes_a_data_key_pair() {
    let members = json!({ "KeyId": "k", "PrivateKeyCiphertextBlob": "c2VhbGVk", "PublicKey": "cHVibGlj" });
    let service = sealing_beside(members);
    let client = library(&service);
    let none = EncryptionContext::new();
    let made = client.generate_data_key_pair("local-1", "k", "ECC_NIST_P256", &none);
    let made = support::runtime().block_on(made).unwrap();
    assert_eq!(made.private_key.as_slice(), b"secret");
    assert_eq!((made.ciphertext.as_slice(), made.public_key.as_slice()), (&b"sealed"[..], &b"public"[..]));
    check_asked(&service, "GenerateDataKeyPair", &json!({ "KeyId": "k", "KeyPairSpec": "ECC_NIST_P256" }));
}

#[test]
fn the_library_derives_a_shared_secret() {
    let service = sealing_beside(json!({ "KeyId": "k" }));
    let client = library(&service);
    let derived = client.derive_shared_secret("local-1", "k", b"public");
    assert_eq!(support::runtime().block_on(derived).unwrap().as_slice(), b"secret");
    let asked = json!({ "KeyId": "k", "KeyAgreementAlgorithm": "ECDH", "PublicKey": "cHVibGlj" });
    check_asked(&service, "DeriveSharedSecret", &asked);
}
