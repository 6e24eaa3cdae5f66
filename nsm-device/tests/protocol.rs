//! Encodings, byte for byte, and what is read leniently or refused.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failed assumption is a failed test"
)]

use attestation::pcr::Pcr;
use ciborium::Value;
use nsm_device::protocol::{
    DecodeRequestError, DecodeResponseError, Description, ErrorCode, MAX_REQUEST_LEN, MAX_RESPONSE_LEN,
    Request, Response,
};
use proptest::prelude::*;

fn unhex(text: &str) -> Vec<u8> {
    hex::decode(text).unwrap()
}

/// The first 16 registers are locked.
fn description() -> Description {
    Description {
        version_major: 1,
        version_minor: 0,
        version_patch: 0,
        module_id: "i-1-enc2".into(),
        max_pcrs: 32,
        locked_pcrs: (0..16).collect(),
        digest: "SHA384".into(),
    }
}

/// What AWS's nsm-api crate writes with serde_cbor.
fn golden_requests() -> Vec<(Request, &'static str)> {
    let attestation = |nonce| Request::Attestation { user_data: None, nonce, public_key: None };
    vec![
        (Request::DescribePcr { index: 0 }, "a16b4465736372696265504352a165696e64657800"),
        (Request::DescribePcr { index: 16 }, "a16b4465736372696265504352a165696e64657810"),
        (Request::DescribePcr { index: 31 }, "a16b4465736372696265504352a165696e646578181f"),
        (
            Request::ExtendPcr { index: 16, data: b"hello".to_vec() },
            "a169457874656e64504352a265696e6465781064646174614568656c6c6f",
        ),
        (Request::LockPcr { index: 16 }, "a1674c6f636b504352a165696e64657810"),
        (Request::LockPcrs { range: 32 }, "a1684c6f636b50435273a16572616e67651820"),
        (Request::DescribeNsm, "6b44657363726962654e534d"),
        (Request::GetRandom, "6947657452616e646f6d"),
        (
            attestation(None),
            "a16b4174746573746174696f6ea369757365725f64617461f6656e6f6e6365f66a7075626c69635f6b6579f6",
        ),
        (
            attestation(Some(vec![1, 2, 3, 4])),
            "a16b4174746573746174696f6ea369757365725f64617461f6656e6f6e636544010203046a7075626c69635f6b6579f6",
        ),
    ]
}

/// What AWS's nsm-api crate reads and writes.
fn golden_responses() -> Vec<(Response, String)> {
    let extended =
        "30e84b2d7eeffe6d90a475797b35e59a11b0da473eee4b3b8edfe73daf0279801bb18730c39db7f27f2f77b7b458cb9e";
    vec![
        (Response::LockPcr, "674c6f636b504352".into()),
        (Response::LockPcrs, "684c6f636b50435273".into()),
        (
            Response::DescribePcr { lock: true, data: Pcr::ZERO },
            format!("a16b4465736372696265504352a2646c6f636bf564646174615830{}", "00".repeat(48)),
        ),
        (
            Response::ExtendPcr { data: Pcr::ZERO.extend(b"hello") },
            format!("a169457874656e64504352a164646174615830{extended}"),
        ),
        (
            Response::GetRandom { random: vec![0xab; 256] },
            format!("a16947657452616e646f6da16672616e646f6d590100{}", "ab".repeat(256)),
        ),
        (
            Response::DescribeNsm(description()),
            concat!(
                "a16b44657363726962654e534da76d76657273696f6e5f6d616a6f72016d76657273696f6e5f6d696e6f7200",
                "6d76657273696f6e5f706174636800696d6f64756c655f696468692d312d656e6332686d61785f706372731820",
                "6b6c6f636b65645f7063727390000102030405060708090a0b0c0d0e0f6664696765737466534841333834"
            )
            .into(),
        ),
        (Response::Error(ErrorCode::ReadOnlyIndex), "a1654572726f726d526561644f6e6c79496e646578".into()),
        (Response::Error(ErrorCode::InvalidIndex), "a1654572726f726c496e76616c6964496e646578".into()),
        (
            Response::Error(ErrorCode::InvalidOperation),
            "a1654572726f7270496e76616c69644f7065726174696f6e".into(),
        ),
        (Response::Error(ErrorCode::InputTooLarge), "a1654572726f726d496e707574546f6f4c61726765".into()),
    ]
}

#[test]
fn requests_are_written_and_read_as_aws_does() {
    for (request, expected) in golden_requests() {
        assert_eq!(hex::encode(request.encode()), expected, "{request:?}");
        assert_eq!(Request::decode(&unhex(expected)), Ok(request));
    }
}

#[test]
fn responses_are_written_and_read_as_aws_does() {
    for (response, expected) in golden_responses() {
        assert_eq!(hex::encode(response.encode()), expected, "{response:?}");
        assert_eq!(Response::decode(&unhex(&expected)), Ok(response));
    }
}

#[test]
fn every_error_has_the_name_that_aws_gives_it() {
    use ErrorCode as E;
    for (code, name) in [
        (E::Success, "Success"),
        (E::InvalidArgument, "InvalidArgument"),
        (E::InvalidIndex, "InvalidIndex"),
        (E::InvalidResponse, "InvalidResponse"),
        (E::ReadOnlyIndex, "ReadOnlyIndex"),
        (E::InvalidOperation, "InvalidOperation"),
        (E::BufferTooSmall, "BufferTooSmall"),
        (E::InputTooLarge, "InputTooLarge"),
        (E::InternalError, "InternalError"),
    ] {
        assert_eq!(code.to_string(), name);
        assert_eq!(Response::decode(&Response::Error(code).encode()), Ok(Response::Error(code)));
    }
}

fn map(pairs: Vec<(&str, Value)>) -> Value {
    Value::Map(pairs.into_iter().map(|(key, value)| (Value::from(key), value)).collect())
}

fn encode(value: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    ciborium::into_writer(value, &mut bytes).unwrap();
    bytes
}

fn decode(name: &str, fields: Vec<(&str, Value)>) -> Result<Request, DecodeRequestError> {
    Request::decode(&encode(&map(vec![(name, map(fields))])))
}

#[test]
fn requests_are_read_leniently() {
    let one = || Value::from(1);
    // An integer in more bytes than it needs.
    for wide in ["1801", "190001", "1a00000001", "1b0000000000000001"] {
        let request = unhex(&format!("a1674c6f636b504352a165696e646578{wide}"));
        assert_eq!(Request::decode(&request), Ok(Request::LockPcr { index: 1 }));
    }
    // Another order, a field nobody knows, text where bytes are usual.
    let fields = vec![("data", Value::from("hello")), ("news", Value::Array(vec![])), ("index", one())];
    assert_eq!(decode("ExtendPCR", fields), Ok(Request::ExtendPcr { index: 1, data: b"hello".to_vec() }));
    // Optional fields missing.
    let empty = Request::Attestation { user_data: None, nonce: None, public_key: None };
    assert_eq!(decode("Attestation", vec![]), Ok(empty));
    // Maps and strings without a length.
    let request = unhex("bf674c6f636b504352bf7f63696e6462657aff02ff65696e64657801ff");
    assert!(Request::decode(&request).is_err());
    let request = unhex("bf674c6f636b504352bf7f63696e64626578ff01ffff");
    assert_eq!(Request::decode(&request), Ok(Request::LockPcr { index: 1 }));
}

#[test]
fn numbers_that_no_register_has_are_told_apart_from_nonsense() {
    let index = |value: Value| decode("DescribePCR", vec![("index", value)]);
    assert_eq!(index(Value::from(65_535)), Ok(Request::DescribePcr { index: 65_535 }));
    assert_eq!(index(Value::from(65_536)), Err(DecodeRequestError::Index));
    assert_eq!(index(Value::from(u64::MAX)), Err(DecodeRequestError::Index));
    for nonsense in [Value::from(-1), Value::from("0"), Value::Null, Value::from(0.0), Value::from(false)] {
        assert_eq!(index(nonsense), Err(DecodeRequestError::Unknown));
    }
    assert_eq!(DecodeRequestError::Index.error_code(), ErrorCode::InvalidIndex);
    assert_eq!(DecodeRequestError::Unknown.error_code(), ErrorCode::InvalidOperation);
    assert_eq!(DecodeRequestError::TooLong.error_code(), ErrorCode::InputTooLarge);
}

#[test]
fn what_is_no_request_is_refused() {
    let unknown = Err(DecodeRequestError::Unknown);
    let fields = || map(vec![("index", Value::from(1))]);
    for value in [
        Value::from("LockPCR"),
        Value::from("Reboot"),
        Value::from(""),
        Value::from(1),
        Value::Null,
        Value::Array(vec![]),
        map(vec![]),
        map(vec![("Reboot", fields())]),
        map(vec![("DescribeNSM", fields())]),
        map(vec![("LockPCR", Value::from(1))]),
        map(vec![("LockPCR", map(vec![]))]),
        map(vec![("LockPCR", fields()), ("LockPCR", fields())]),
        map(vec![("LockPCR", fields()), ("more", Value::Null)]),
        map(vec![("LockPCR", map(vec![("index", Value::from(1)), ("index", Value::from(1))]))]),
        map(vec![("ExtendPCR", fields())]),
        map(vec![("ExtendPCR", map(vec![("data", Value::from(vec![1_u8]))]))]),
        map(vec![("Attestation", map(vec![("nonce", Value::from(1))]))]),
        map(vec![("Error", Value::from("InvalidIndex"))]),
        Value::Map(vec![(Value::from(1), fields())]),
    ] {
        assert_eq!(Request::decode(&encode(&value)), unknown, "{value:?}");
    }
    let good = Request::GetRandom.encode();
    let trailing = [&good[..], &[0]].concat();
    let nested = [vec![0x81; 4000], vec![0]].concat();
    for bytes in [&[][..], &[0xff], &good[..good.len() - 1], &trailing, &nested] {
        assert_eq!(Request::decode(bytes), unknown);
    }
}

#[test]
fn lengths_are_bounded_at_their_edge() {
    let data =
        vec![0; MAX_REQUEST_LEN - Request::ExtendPcr { index: 1, data: vec![0; 256] }.encode().len() + 256];
    let longest = Request::ExtendPcr { index: 1, data };
    assert_eq!(longest.encode().len(), MAX_REQUEST_LEN);
    assert_eq!(Request::decode(&longest.encode()), Ok(longest));
    assert_eq!(Request::decode(&[0; MAX_REQUEST_LEN + 1]), Err(DecodeRequestError::TooLong));
    assert_eq!(Response::decode(&[0; MAX_RESPONSE_LEN]), Err(DecodeResponseError::Unknown));
    assert_eq!(Response::decode(&[0; MAX_RESPONSE_LEN + 1]), Err(DecodeResponseError::TooLong));
}

#[test]
fn what_is_no_response_is_refused() {
    let bytes = |length: usize| Value::from(vec![0_u8; length]);
    for value in [
        Value::from("DescribeNSM"),
        Value::from(1),
        map(vec![("Error", Value::from("Nonsense"))]),
        map(vec![("Error", Value::from(1))]),
        map(vec![("Other", Value::from("InvalidIndex"))]),
        map(vec![("LockPCR", map(vec![]))]),
        map(vec![("DescribePCR", map(vec![("lock", Value::from(true)), ("data", bytes(47))]))]),
        map(vec![("DescribePCR", map(vec![("lock", Value::from(1)), ("data", bytes(48))]))]),
        map(vec![("ExtendPCR", map(vec![("data", bytes(49))]))]),
        map(vec![("GetRandom", map(vec![]))]),
        map(vec![("Attestation", map(vec![("document", Value::Null)]))]),
    ] {
        assert_eq!(Response::decode(&encode(&value)), Err(DecodeResponseError::Unknown), "{value:?}");
    }
    // QEMU's order of a DescribePCR response is another; names decide.
    let qemu = map(vec![("DescribePCR", map(vec![("data", bytes(48)), ("lock", Value::from(false))]))]);
    assert_eq!(Response::decode(&encode(&qemu)), Ok(Response::DescribePcr { lock: false, data: Pcr::ZERO }));
}

#[test]
fn a_description_with_a_number_out_of_range_is_refused() {
    let golden = Response::DescribeNsm(description()).encode();
    let value: Value = ciborium::from_reader(golden.as_slice()).unwrap();
    let fields = value.as_map().unwrap()[0].1.as_map().unwrap().clone();
    for position in 0..fields.len() {
        let mut changed = fields.clone();
        changed[position].1 = Value::from(65_536);
        let response = encode(&map(vec![("DescribeNSM", Value::Map(changed))]));
        assert_eq!(
            Response::decode(&response),
            Err(DecodeResponseError::Unknown),
            "{:?}",
            fields[position].0
        );
    }
}

fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 0..600)
}

fn any_request() -> impl Strategy<Value = Request> {
    let field = || proptest::option::of(any_bytes());
    prop_oneof![
        any::<u16>().prop_map(|index| Request::DescribePcr { index }),
        (any::<u16>(), any_bytes()).prop_map(|(index, data)| Request::ExtendPcr { index, data }),
        any::<u16>().prop_map(|index| Request::LockPcr { index }),
        any::<u16>().prop_map(|range| Request::LockPcrs { range }),
        Just(Request::DescribeNsm),
        Just(Request::GetRandom),
        (field(), field(), field()).prop_map(|(user_data, nonce, public_key)| Request::Attestation {
            user_data,
            nonce,
            public_key
        }),
    ]
}

proptest! {
    #[test]
    fn requests_survive_the_round_trip(request in any_request()) {
        prop_assert_eq!(Request::decode(&request.encode()), Ok(request));
    }

    #[test]
    fn random_bytes_do_not_panic(bytes in any_bytes()) {
        _ = Request::decode(&bytes);
        _ = Response::decode(&bytes);
    }

    /// Near misses: a good request with a byte changed is read as something or refused.
    #[test]
    fn damaged_requests_do_not_panic(
        request in any_request(),
        position in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut bytes = request.encode();
        *position.get_mut(&mut bytes) = byte;
        if let Ok(read) = Request::decode(&bytes) {
            prop_assert_eq!(Request::decode(&read.encode()), Ok(read));
        }
    }
}
