//! The header itself, and the names by which its refusals are known.

use super::*;

#[test]
fn a_request_without_the_header_is_not_signed() {
    let found = Signed::by_botocore().with(Authorization::of);
    assert_eq!(found, Err(SigV4Error::NotSigned));
}

#[test]
fn a_request_with_two_of_the_header_is_refused() {
    let request = Signed::by_botocore().add("Authorization", "a").add("authorization", "b");
    let found = request.with(Authorization::of);
    assert_eq!(found, Err(SigV4Error::DuplicateHeader("authorization".into())));
}

#[test]
fn the_header_says_who_signed_what() {
    let request = Signed::by_botocore().add("Authorization", &header(NAMES, SIGNATURE));
    let found = request.with(Authorization::of).unwrap();
    assert_eq!((found.access_key_id(), found.date()), (KEY_ID, "20150830"));
    assert_eq!((found.region(), found.service()), ("us-east-1", "kms"));
    assert_eq!(found.signed_headers().join(";"), NAMES);
    assert_eq!(hex::encode(found.signature()), SIGNATURE);
}

#[test]
fn the_components_may_stand_in_any_order_with_or_without_spaces_between() {
    let scope = "20150830/us-east-1/kms/aws4_request";
    let header =
        format!("AWS4-HMAC-SHA256 Signature={SIGNATURE},SignedHeaders={NAMES},  Credential={KEY_ID}/{scope}");
    assert_eq!(Signed::by_botocore().authorized_by(header).verify(), Ok(()));
}

#[test]
fn another_algorithm_is_refused() {
    let header = header(NAMES, SIGNATURE);
    for other in ["AWS4-HMAC-SHA512", "aws4-hmac-sha256", "AWS4-ECDSA-P256-SHA256", "Bearer", ""] {
        let header = header.replace("AWS4-HMAC-SHA256", other);
        assert_eq!(Authorization::parse(&header), Err(SigV4Error::Algorithm), "{other}");
    }
    assert_eq!(Authorization::parse(&header.replacen(' ', "", 1)), Err(SigV4Error::Algorithm));
    assert_eq!(Authorization::parse(""), Err(SigV4Error::Algorithm));
}

#[test]
fn a_missing_component_is_refused() {
    let header = header(NAMES, SIGNATURE);
    let (algorithm, components) = header.split_once(' ').unwrap();
    for name in ["Credential", "SignedHeaders", "Signature"] {
        let others: Vec<_> =
            components.split(", ").filter(|other| !other.starts_with(&format!("{name}="))).collect();
        let header = format!("{algorithm} {}", others.join(", "));
        assert_eq!(Authorization::parse(&header), Err(SigV4Error::MissingComponent(name)));
    }
}

#[test]
fn a_component_that_stands_twice_is_refused() {
    let header = header(NAMES, SIGNATURE);
    for component in header.split_once(' ').unwrap().1.split(", ") {
        let refused = Authorization::parse(&format!("{header}, {component}")).unwrap_err();
        assert!(matches!(refused, SigV4Error::DuplicateComponent(name) if component.starts_with(name)));
    }
}

#[test]
fn what_is_no_component_is_refused() {
    let header = header(NAMES, SIGNATURE);
    for added in [",", ", ", ", Other=1", ", signature=1", ", \tSignature", ",=", ", Signature =1"] {
        let header = format!("{header}{added}");
        assert_eq!(Authorization::parse(&header), Err(SigV4Error::Component), "{added:?}");
    }
}

#[test]
fn a_credential_of_another_form_is_refused() {
    for credential in [
        "",
        "AKIDEXAMPLE",
        "/20150830/us-east-1/kms/aws4_request",
        "AK-ID/20150830/us-east-1/kms/aws4_request",
        "AKIDEXAMPLE/2015083/us-east-1/kms/aws4_request",
        "AKIDEXAMPLE/2015083a/us-east-1/kms/aws4_request",
        "AKIDEXAMPLE/20150830//kms/aws4_request",
        "AKIDEXAMPLE/20150830/US-EAST-1/kms/aws4_request",
        "AKIDEXAMPLE/20150830/us-east-1//aws4_request",
        "AKIDEXAMPLE/20150830/us-east-1/kms/aws3_request",
        "AKIDEXAMPLE/20150830/us-east-1/kms",
        "AKIDEXAMPLE/20150830/us-east-1/kms/aws4_request/",
        " AKIDEXAMPLE/20150830/us-east-1/kms/aws4_request",
    ] {
        let header =
            format!("AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders={NAMES}, Signature={SIGNATURE}");
        assert_eq!(Authorization::parse(&header), Err(SigV4Error::Credential), "{credential}");
    }
}

#[test]
fn names_in_a_credential_are_read_up_to_their_limits() {
    let parse = |id: usize, region: usize, service: usize| {
        let (id, region, service) = ("A".repeat(id), "r".repeat(region), "s".repeat(service));
        let credential = format!("{id}/20150830/{region}/{service}/aws4_request");
        let header =
            format!("AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders={NAMES}, Signature={SIGNATURE}");
        Authorization::parse(&header).map(|_| ())
    };
    assert_eq!(parse(MAX_ACCESS_KEY_ID, MAX_SCOPE_NAME, MAX_SCOPE_NAME), Ok(()));
    assert_eq!(parse(MAX_ACCESS_KEY_ID + 1, 1, 1), Err(SigV4Error::Credential));
    assert_eq!(parse(1, MAX_SCOPE_NAME + 1, 1), Err(SigV4Error::Credential));
    assert_eq!(parse(1, 1, MAX_SCOPE_NAME + 1), Err(SigV4Error::Credential));
}

#[test]
fn signed_headers_not_sorted_doubled_empty_or_in_capitals_are_refused() {
    for names in [
        "",
        ";",
        "host;",
        ";host",
        "x-amz-date;host",
        "host;host",
        "Host;x-amz-date",
        "ho st",
        "host;x-\u{e9}",
    ] {
        let refused = Authorization::parse(&header(names, SIGNATURE));
        assert_eq!(refused, Err(SigV4Error::SignedHeaders), "{names:?}");
    }
}

#[test]
fn as_many_signed_headers_as_allowed_are_read_and_no_more() {
    let names = |count: usize| (0..count).map(|number| format!("h{number:03}")).collect::<Vec<_>>().join(";");
    let parsed = Authorization::parse(&header(&names(MAX_SIGNED_HEADERS), SIGNATURE)).unwrap();
    assert_eq!(parsed.signed_headers().len(), MAX_SIGNED_HEADERS);
    let refused = Authorization::parse(&header(&names(MAX_SIGNED_HEADERS + 1), SIGNATURE));
    assert_eq!(refused, Err(SigV4Error::SignedHeaders));
}

#[test]
fn a_header_of_the_longest_length_is_read_and_no_longer_one() {
    let header = header(NAMES, SIGNATURE);
    let padded = |length: usize| {
        header.replace(", Signature", &format!(",{}Signature", " ".repeat(length + 1 - header.len())))
    };
    assert_eq!(padded(MAX_AUTHORIZATION).len(), MAX_AUTHORIZATION);
    assert!(Authorization::parse(&padded(MAX_AUTHORIZATION)).is_ok());
    assert_eq!(Authorization::parse(&padded(MAX_AUTHORIZATION + 1)), Err(SigV4Error::AuthorizationSize));
}

#[test]
fn a_signature_of_another_form_is_refused() {
    let longer = format!("{SIGNATURE}0");
    for signature in
        ["", "0", &SIGNATURE[1..], &SIGNATURE.to_uppercase(), &longer, &SIGNATURE.replace('0', "g")]
    {
        let refused = Authorization::parse(&header(NAMES, signature));
        assert_eq!(refused, Err(SigV4Error::SignatureForm), "{signature}");
    }
}

#[test]
fn each_kind_of_refusal_has_the_name_that_aws_gives_it() {
    let names = [
        (SigV4Error::NotSigned, "MissingAuthenticationTokenException"),
        (SigV4Error::UnknownCredentials, "UnrecognizedClientException"),
        (SigV4Error::Component, "IncompleteSignatureException"),
        (SigV4Error::MissingHeader("host".into()), "IncompleteSignatureException"),
        (SigV4Error::Expired { signed: DATE.into(), max_skew: SKEW }, "InvalidSignatureException"),
        (SigV4Error::UnsignedHeader("host".into()), "InvalidSignatureException"),
        (SigV4Error::OtherRegion { expected: "local-1".into() }, "InvalidSignatureException"),
        (SigV4Error::Mismatch, "InvalidSignatureException"),
    ];
    for (error, name) in names {
        assert_eq!(error.aws_name(), name);
    }
}
