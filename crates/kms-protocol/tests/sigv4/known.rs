//! What others signed.

use super::*;

/// Signs a request of the test suite and returns the signature.
fn suite(
    method: &str,
    query: &str,
    headers: &[(&str, &str)],
    body: &[u8],
    host: &str,
    service: &str,
) -> String {
    let headers: Vec<_> = [("Host", host)].iter().chain(headers).copied().collect();
    let request = Request { method, path: "/", query, headers: &headers, body };
    let added = sign(&request, &credentials(None), &scope("us-east-1", service), at(SIGNED_AT)).unwrap();
    let [(date, DATE), (authorization, header)] =
        [&added[0], &added[1]].map(|(name, value)| (name.as_str(), value.as_str()))
    else {
        panic!("{added:?}")
    };
    assert_eq!((date, authorization), ("x-amz-date", "authorization"));
    header.rsplit_once("Signature=").unwrap().1.to_owned()
}

/// Values of AWS's "Signature Version 4 test suite"; botocore 1.44.5 was asked for each of them, and agrees.
#[test]
fn the_published_test_suite_gets_its_published_signatures() {
    let host = "example.amazonaws.com";
    let unreserved = "-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let unreserved = format!("{unreserved}={unreserved}");
    let trimmed = [("My-Header1", " value1"), ("My-Header2", " \"a   b   c\"")];
    let form = [("Content-Type", "application/x-www-form-urlencoded")];
    for (name, method, query, headers, body, signature) in [
        (
            "get-vanilla",
            "GET",
            "",
            &[][..],
            "",
            "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
        ),
        (
            "post-vanilla",
            "POST",
            "",
            &[],
            "",
            "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
        ),
        (
            "get-vanilla-query-order-key-case",
            "GET",
            "Param2=value2&Param1=value1",
            &[],
            "",
            "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
        ),
        (
            "get-vanilla-query-unreserved",
            "GET",
            &unreserved,
            &[],
            "",
            "9c3e54bfcdf0b19771a7f523ee5669cdf59bc7cc0884027167c21bb143a40197",
        ),
        (
            "get-header-value-trim",
            "GET",
            "",
            &trimmed,
            "",
            "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736",
        ),
        (
            "post-x-www-form-urlencoded",
            "POST",
            "",
            &form,
            "Param1=value1",
            "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
        ),
    ] {
        assert_eq!(suite(method, query, headers, body.as_bytes(), host, "service"), signature, "{name}");
    }
}

/// The worked example of AWS's guide "Create a signed AWS API request"; botocore 1.44.5 agrees.
#[test]
fn the_worked_example_of_the_specification_gets_its_signature() {
    let form = [("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")];
    let signature =
        suite("GET", "Action=ListUsers&Version=2010-05-08", &form, b"", "iam.amazonaws.com", "iam");
    assert_eq!(signature, "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7");
}

/// `x-thing`, path and query as botocore 1.44.5 signs them in
/// `GET https://example.amazonaws.com/a%20b/%C3%A9/?b=2&a=1&b=1&c=%2F~`.
#[test]
fn an_encoded_path_and_query_get_botocores_signature() {
    let headers = [("host", "example.amazonaws.com"), ("X-Thing", "  a   b  c ")];
    let (path, query) = ("/a%20b/%C3%A9/", "b=2&a=1&b=1&c=%2F~");
    let request = Request { method: "GET", path, query, headers: &headers, body: b"" };
    let added = sign(&request, &credentials(None), &scope("us-east-1", "kms"), at(SIGNED_AT)).unwrap();
    let signature = "f77d5c8a0fcbd2395e99ac774f9c46ffa201255c84bf8319f164c44ff9f34bab";
    assert_eq!(added[1].1, header("host;x-amz-date;x-thing", signature));
}

/// Secrets of which `AWS4` and the secret fill a block of SHA-256 all but one byte, just, and one byte too far, and a much longer one:
/// what botocore 1.44.5 makes of them in `GET https://example.amazonaws.com/`.
#[test]
fn a_secret_of_any_length_gets_botocores_signature() {
    for (length, signature) in [
        (59, "e72febc217536158f4c5399463474a6b32e2c4d45962ba926f4d01c06ec285c0"),
        (60, "db598c550f1e135e0fd2a02c61ed909adc4cfdc529e6073ef87a4c8bbd3404e2"),
        (61, "b3a13d5d7df28a1aa4b1e6877ed696613796096ddf1f792a63879541ef3da68a"),
        (100, "60c35b502a3845978f91f47d973ebb103ffdc6ea98c2c476911302f14619ebd9"),
    ] {
        let credentials = Credentials { secret_access_key: "s".repeat(length).into(), ..credentials(None) };
        let headers = [("host", "example.amazonaws.com")];
        let request = Request { method: "GET", path: "/", query: "", headers: &headers, body: b"" };
        let added = sign(&request, &credentials, &scope("us-east-1", "service"), at(SIGNED_AT)).unwrap();
        assert_eq!(added[1].1.rsplit_once("Signature=").unwrap().1, signature, "{length}");
    }
}

#[test]
fn a_request_that_botocore_signed_is_accepted() {
    assert_eq!(Signed::by_botocore().verify(), Ok(()));
}

#[test]
fn a_request_that_botocore_signed_with_a_session_token_is_accepted() {
    let request = Signed::by_botocore().add("X-Amz-Security-Token", TOKEN);
    let request = request.authorized_by(header(NAMES_WITH_TOKEN, SIGNATURE_WITH_TOKEN));
    assert_eq!(request.verify(), Ok(()));
}

#[test]
fn signing_adds_what_botocore_adds() {
    let headers = [HOST, CONTENT_TYPE, TARGET];
    let request = Request { method: "POST", path: "/", query: "", headers: &headers, body: BODY };
    let added = sign(&request, &credentials(Some(TOKEN)), &scope("us-east-1", "kms"), at(SIGNED_AT)).unwrap();
    let expected = [
        ("x-amz-date", DATE.to_owned()),
        ("x-amz-security-token", TOKEN.to_owned()),
        ("authorization", header(NAMES_WITH_TOKEN, SIGNATURE_WITH_TOKEN)),
    ];
    assert_eq!(added, expected.map(|(name, value)| (name.to_owned(), value)));
}

#[test]
fn headers_in_another_order_and_case_and_unsigned_ones_change_nothing() {
    let mut request = Signed::by_botocore().add("User-Agent", "Boto3").add("Accept-Encoding", "identity");
    request.headers.reverse();
    for (name, _) in &mut request.headers {
        name.make_ascii_uppercase();
    }
    assert_eq!(request.verify(), Ok(()));
}
