//! Every part of a signed request changed.

use super::*;

#[test]
fn another_secret_is_refused() {
    let other = SECRET.replace('w', "W");
    let verified = Signed::by_botocore().verify_as(&other, &scope("us-east-1", "kms"), at(SIGNED_AT));
    assert_eq!(verified, Err(SigV4Error::Mismatch));
}

#[test]
fn another_method_is_refused() {
    let request = Signed { method: "GET".into(), ..Signed::by_botocore() };
    assert_eq!(request.refused(), SigV4Error::Mismatch);
}

#[test]
fn another_path_is_refused() {
    let request = Signed { path: "/a".into(), ..Signed::by_botocore() };
    assert_eq!(request.refused(), SigV4Error::Mismatch);
}

#[test]
fn an_added_query_is_refused() {
    let request = Signed { query: "a=1".into(), ..Signed::by_botocore() };
    assert_eq!(request.refused(), SigV4Error::Mismatch);
}

#[test]
fn another_body_is_refused() {
    for body in [&b""[..], b"{} ", b"{\"Limit\":1}"] {
        let request = Signed { body: body.to_vec(), ..Signed::by_botocore() };
        assert_eq!(request.refused(), SigV4Error::Mismatch);
    }
}

#[test]
fn another_value_of_each_signed_header_is_refused() {
    for (name, value) in [
        ("Host", "kms.eu-west-1.amazonaws.com"),
        ("Content-Type", "application/json"),
        ("X-Amz-Target", "TrentService.Decrypt"),
        ("X-Amz-Date", "20150830T123601Z"),
    ] {
        assert_eq!(Signed::by_botocore().set(name, value).refused(), SigV4Error::Mismatch, "{name}");
    }
}

#[test]
fn each_changed_digit_of_the_signature_is_refused() {
    for at in 0..SIGNATURE.len() {
        let mut signature = SIGNATURE.as_bytes().to_vec();
        signature[at] = if signature[at] == b'0' { b'1' } else { b'0' };
        let signature = String::from_utf8(signature).unwrap();
        let request = Signed::by_botocore().authorized_by(header(NAMES, &signature));
        assert_eq!(request.refused(), SigV4Error::Mismatch, "{at}");
    }
}

#[test]
fn each_missing_signed_header_is_refused() {
    for (name, lower) in [
        ("Host", "host"),
        ("Content-Type", "content-type"),
        ("X-Amz-Target", "x-amz-target"),
        ("X-Amz-Date", "x-amz-date"),
    ] {
        let refused = Signed::by_botocore().without(name).refused();
        assert_eq!(refused, SigV4Error::MissingHeader(lower.into()));
    }
}

#[test]
fn each_signed_header_that_stands_twice_is_refused() {
    for (name, value) in Signed::by_botocore().headers {
        let refused = Signed::by_botocore().add(&name.to_uppercase(), &value).refused();
        assert_eq!(refused, SigV4Error::DuplicateHeader(name.to_lowercase()));
    }
}

#[test]
fn a_signature_without_the_host_is_refused() {
    let request =
        Signed::by_botocore().authorized_by(header("content-type;x-amz-date;x-amz-target", SIGNATURE));
    assert_eq!(request.refused(), SigV4Error::UnsignedHeader("host".into()));
}

#[test]
fn a_signature_without_the_date_is_refused() {
    let request = Signed::by_botocore().authorized_by(header("content-type;host;x-amz-target", SIGNATURE));
    assert_eq!(request.refused(), SigV4Error::UnsignedHeader("x-amz-date".into()));
}

#[test]
fn a_signature_without_the_target_is_refused() {
    let request = Signed::by_botocore().authorized_by(header("content-type;host;x-amz-date", SIGNATURE));
    assert_eq!(request.refused(), SigV4Error::UnsignedHeader("x-amz-target".into()));
}

#[test]
fn an_amazon_header_added_after_signing_is_refused() {
    let refused = Signed::by_botocore().add("X-AMZ-Security-Token", TOKEN).refused();
    assert_eq!(refused, SigV4Error::UnsignedHeader("x-amz-security-token".into()));
}

#[test]
fn a_signed_header_with_control_characters_is_refused() {
    let refused = Signed::by_botocore().set("Content-Type", "a\nhost:b").refused();
    assert_eq!(refused, SigV4Error::HeaderValue("content-type".into()));
}

#[test]
fn another_region_is_refused() {
    let verified = Signed::by_botocore().verify_as(SECRET, &scope("local-1", "kms"), at(SIGNED_AT));
    assert_eq!(verified, Err(SigV4Error::OtherRegion { expected: "local-1".into() }));
}

#[test]
fn another_service_is_refused() {
    let verified = Signed::by_botocore().verify_as(SECRET, &scope("us-east-1", "sts"), at(SIGNED_AT));
    assert_eq!(verified, Err(SigV4Error::OtherService { expected: "sts".into() }));
}

#[test]
fn a_scope_of_another_day_is_refused() {
    let authorization = header(NAMES, SIGNATURE).replace("20150830", "20150831");
    assert_eq!(Signed::by_botocore().authorized_by(authorization).refused(), SigV4Error::OtherDay);
}

#[test]
fn a_date_of_another_form_is_refused() {
    for date in ["", "20150830", "2015-08-30T12:36:00Z", "Sun, 30 Aug 2015 12:36:00 GMT", "20150830T123660Z"]
    {
        assert_eq!(Signed::by_botocore().set("X-Amz-Date", date).refused(), SigV4Error::Date, "{date}");
    }
}

#[test]
fn a_clock_skewed_up_to_the_limit_is_accepted_and_no_further() {
    let verify = |now| Signed::by_botocore().verify_as(SECRET, &scope("us-east-1", "kms"), at(now));
    assert_eq!(verify(SIGNED_AT + SKEW.as_secs()), Ok(()));
    assert_eq!(verify(SIGNED_AT - SKEW.as_secs()), Ok(()));
    let expired = SigV4Error::Expired { signed: DATE.into(), max_skew: SKEW };
    assert_eq!(verify(SIGNED_AT + SKEW.as_secs() + 1), Err(expired));
    let early = SigV4Error::NotYetCurrent { signed: DATE.into(), max_skew: SKEW };
    assert_eq!(verify(SIGNED_AT - SKEW.as_secs() - 1), Err(early));
}

#[test]
fn a_body_said_to_be_unsigned_streamed_or_another_is_refused() {
    let names = "content-type;host;x-amz-content-sha256;x-amz-date;x-amz-target";
    let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    for hash in ["UNSIGNED-PAYLOAD", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD", empty, ""] {
        let request = Signed::by_botocore().add("x-amz-content-sha256", hash);
        assert_eq!(request.authorized_by(header(names, SIGNATURE)).refused(), SigV4Error::BodyHash, "{hash}");
    }
}

#[test]
fn the_right_hash_of_the_body_in_a_header_is_accepted() {
    let hash = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"; // printf '{}' | sha256sum
    let headers = [HOST, CONTENT_TYPE, TARGET, ("x-amz-content-sha256", hash)];
    let request = Request { method: "POST", path: "/", query: "", headers: &headers, body: BODY };
    let added = sign(&request, &credentials(None), &scope("us-east-1", "kms"), at(SIGNED_AT)).unwrap();
    let request = Signed::by_botocore().add("x-amz-content-sha256", hash);
    assert_eq!(request.authorized_by(added[1].1.clone()).verify(), Ok(()));
}

#[test]
fn a_request_that_could_be_read_in_two_ways_is_refused() {
    let cases = [
        ("method", vec!["", "post", "PO ST", "POST\n"]),
        (
            "path",
            vec!["", "a", "//", "/a//b", "/.", "/a/../b", "/a/./", "/a?b", "/a#b", "/a b", "/\u{e9}", "/a\n"],
        ),
        (
            "query",
            vec![
                "&", "=1", "a=1&", "a=b=c", "a=%2f", "a=%41", "a=%4", "a=%", "a=+", "a= ", "a=\u{e9}", "a=/",
            ],
        ),
    ];
    for (part, values) in cases {
        for value in values {
            let mut request = Signed::by_botocore();
            let place = match part {
                "method" => &mut request.method,
                "path" => &mut request.path,
                _ => &mut request.query,
            };
            *place = value.into();
            assert_eq!(request.refused(), SigV4Error::NotCanonical(part), "{part} {value:?}");
        }
    }
}

#[test]
fn a_request_with_the_most_headers_is_accepted_and_with_one_more_refused() {
    let mut request = Signed::by_botocore();
    request.headers.resize(MAX_HEADERS, ("accept".into(), "*/*".into()));
    assert_eq!(request.verify(), Ok(()));
    assert_eq!(request.add("accept", "*/*").refused(), SigV4Error::TooManyHeaders);
}

#[test]
fn only_the_session_token_that_goes_with_the_key_is_accepted() {
    let plain = Signed::by_botocore();
    let with_token = plain.clone().add("X-Amz-Security-Token", TOKEN);
    let check = |request: &Signed, expected| request.with(|request| verify_session_token(request, expected));
    assert_eq!(check(&plain, None), Ok(()));
    assert_eq!(check(&with_token, Some(TOKEN)), Ok(()));
    for (request, expected) in
        [(&plain, Some(TOKEN)), (&with_token, None), (&with_token, Some("other")), (&with_token, Some(""))]
    {
        assert_eq!(check(request, expected), Err(SigV4Error::UnknownCredentials));
    }
    let twice = with_token.add("x-amz-security-token", TOKEN);
    assert!(matches!(check(&twice, Some(TOKEN)), Err(SigV4Error::DuplicateHeader(_))));
}
