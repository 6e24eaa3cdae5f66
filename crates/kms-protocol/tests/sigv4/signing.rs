//! What can be signed is accepted, and what cannot is said.

use super::*;

fn sign_error(
    headers: &[(&str, &str)],
    credentials: &Credentials,
    scope: &Scope,
    time: SystemTime,
) -> SignError {
    let request = Request { method: "POST", path: "/", query: "", headers, body: BODY };
    sign(&request, credentials, scope, time).unwrap_err()
}

#[test]
fn a_request_is_not_signed_without_a_host_or_a_second_time() {
    let (credentials, scope) = (credentials(None), scope("us-east-1", "kms"));
    assert_eq!(sign_error(&[TARGET], &credentials, &scope, at(SIGNED_AT)), SignError::NoHost);
    for name in ["X-Amz-Date", "Authorization", "X-Amz-Security-Token"] {
        let error = sign_error(&[HOST, (name, "a")], &credentials, &scope, at(SIGNED_AT));
        assert_eq!(error, SignError::Signed(name.to_lowercase()));
    }
}

#[test]
fn names_that_no_signature_can_carry_are_not_signed_with() {
    let good = scope("us-east-1", "kms");
    let refused =
        |credentials: &Credentials, scope: &Scope| sign_error(&[HOST], credentials, scope, at(SIGNED_AT));
    for id in ["", "a/b", "a,b", &"A".repeat(MAX_ACCESS_KEY_ID + 1)] {
        let credentials = Credentials { access_key_id: id.into(), ..credentials(None) };
        assert_eq!(refused(&credentials, &good), SignError::Name("access key id"));
    }
    for name in ["", "a/b", "EU", &"a".repeat(MAX_SCOPE_NAME + 1)] {
        assert_eq!(refused(&credentials(None), &scope(name, "kms")), SignError::Name("region"));
        assert_eq!(refused(&credentials(None), &scope("a", name)), SignError::Name("service"));
    }
}

#[test]
fn a_time_before_1970_and_too_many_headers_are_not_signed() {
    let (credentials, scope) = (credentials(None), scope("us-east-1", "kms"));
    let early = UNIX_EPOCH - Duration::from_secs(1);
    assert_eq!(sign_error(&[HOST], &credentials, &scope, early), SignError::Time);
    let many = vec![HOST; MAX_HEADERS - 2];
    let error = sign_error(&many, &credentials, &scope, at(SIGNED_AT));
    assert_eq!(error, SignError::Request(SigV4Error::TooManyHeaders));
}

#[test]
fn headers_that_no_verifier_would_read_are_not_signed() {
    let refused =
        |headers: &[(&str, &str)]| sign_error(headers, &credentials(None), &scope("a", "kms"), at(SIGNED_AT));
    let form = SignError::Request(SigV4Error::SignedHeaders);
    for name in ["", "a;b", "a=b", "a,b", "a b", "\u{e9}"] {
        assert_eq!(refused(&[HOST, (name, "value")]), form, "{name:?}");
    }
    let names: Vec<String> = (0..MAX_SIGNED_HEADERS - 1).map(|number| format!("h{number}")).collect();
    let many: Vec<_> = names.iter().map(|name| (name.as_str(), "")).chain([HOST]).collect();
    assert_eq!(refused(&many), form);
    let long = "a".repeat(MAX_AUTHORIZATION);
    assert_eq!(refused(&[HOST, (&long, "")]), SignError::Request(SigV4Error::AuthorizationSize));
    let twice = SignError::Request(SigV4Error::DuplicateHeader("a".into()));
    assert_eq!(refused(&[HOST, ("a", "1"), ("A", "2")]), twice);
    let unsigned = [HOST, ("X-Amz-Content-SHA256", "UNSIGNED-PAYLOAD")];
    assert_eq!(refused(&unsigned), SignError::Request(SigV4Error::BodyHash));
}

#[test]
fn the_secret_is_not_shown() {
    let shown = format!("{:?}", credentials(Some(TOKEN)));
    assert!(shown.contains(KEY_ID) && !shown.contains(SECRET) && !shown.contains(TOKEN), "{shown}");
}

proptest! {
    #[test]
    fn whatever_can_be_signed_is_accepted_and_no_longer_with_a_byte_changed(
        path in "(/[!-~&&[^?#/.]]{1,9}){0,3}/?",
        query in "([a-z]{1,4}=(%20|%C3%A9|[A-Za-z0-9~.-]){0,4}(&[a-z]{1,4}=[a-z0-9]{0,4}){0,3})?",
        value in "[ -~\u{e4}\u{20ac}]{0,20}",
        token in proptest::option::of("[!-~]{1,60}"),
        body in proptest::collection::vec(any::<u8>(), 1..40),
        time in 0_u64..253_402_300_799,
        changed in any::<proptest::sample::Index>(),
    ) {
        let path = if path.is_empty() { "/".to_owned() } else { path };
        let headers = [HOST, TARGET, ("x-thing", value.as_str())];
        let request = Request { method: "PUT", path: &path, query: &query, headers: &headers, body: &body };
        let (credentials, scope) = (credentials(token.as_deref()), scope("local-1", "kms"));
        let added = sign(&request, &credentials, &scope, at(time)).unwrap();
        let all: Vec<_> = headers.into_iter().chain(added.iter().map(|(name, value)| (name.as_str(), value.as_str()))).collect();
        let signed = Request { headers: &all, ..request };
        let authorization = Authorization::of(&signed).unwrap();
        let verify = |request: &Request<'_>| authorization.verify(request, SECRET, &scope, at(time), SKEW);
        prop_assert_eq!(verify(&signed), Ok(()));
        prop_assert_eq!(verify_session_token(&signed, token.as_deref()), Ok(()));
        let mut other = body.clone();
        other[changed.index(body.len())] ^= 1;
        prop_assert_eq!(verify(&Request { body: &other, ..signed }), Err(SigV4Error::Mismatch));
    }

    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,200}") {
        let _ = Authorization::parse(&text);
        let _ = Authorization::parse(&format!("AWS4-HMAC-SHA256 {text}"));
    }
}
