//! The fuzz target's body, on its corpus and on mutations of it.

use super::*;
use crate::protocol::MAX_REQUEST_LEN;

/// Mutations of each input.
const MUTATIONS: u64 = 60;

#[test]
fn the_corpus_breaks_nothing() {
    corpus::replay("nsm", MUTATIONS, |input| _ = nsm(input));
}

/// What AWS's software sends is understood, or the corpus would say little.
#[test]
fn every_kind_of_request_is_in_the_corpus() {
    for (name, input) in corpus::inputs("nsm") {
        let understood = nsm(&input);
        let packets = corpus::packets(&input).count();
        assert_eq!(understood == packets, !name.starts_with("malformed"), "{name}");
    }
}

fn attestation(field: Option<Vec<u8>>) -> Request {
    Request::Attestation { user_data: field.clone(), nonce: field.clone(), public_key: field }
}

fn seed(requests: &[Request]) -> Vec<u8> {
    corpus::join(&requests.iter().map(Request::encode).collect::<Vec<_>>())
}

#[test]
#[ignore = "writes the seeds of the corpus anew"]
fn write_seeds() {
    let extend = |index, length| Request::ExtendPcr { index, data: vec![7; length] };
    let every = [
        Request::DescribeNsm,
        Request::DescribePcr { index: 0 },
        extend(16, 48),
        Request::LockPcr { index: 16 },
        Request::DescribePcr { index: 16 },
        Request::LockPcrs { range: 20 },
        attestation(Some(b"echoed".to_vec())),
        Request::GetRandom,
    ];
    let locked: Vec<_> = (0..=16)
        .flat_map(|index| [extend(index, 48), Request::LockPcr { index }, Request::DescribePcr { index }])
        .collect();
    let edges = [
        Request::DescribePcr { index: 31 },
        Request::DescribePcr { index: 32 },
        Request::DescribePcr { index: u16::MAX },
        Request::LockPcrs { range: 0 },
        Request::LockPcrs { range: 32 },
        Request::LockPcrs { range: 33 },
        extend(31, 1),
        attestation(None),
    ];
    // As indefinite lengths, with a text for bytes, with a field that nobody knows, with an index in eight bytes.
    let other_encodings: [&[u8]; 4] = [
        b"\xbf\x69ExtendPCR\xbf\x65index\x11\x64data\x5f\x41\x01\x41\x02\xff\xff\xff",
        b"\xa1\x69ExtendPCR\xa2\x64data\x63abc\x65index\x12",
        b"\xa1\x67LockPCR\xa2\x65index\x13\x65other\x80",
        b"\xa1\x6bDescribePCR\xa1\x65index\x1b\0\0\0\0\0\0\0\x14",
    ];
    let malformed: [&[u8]; 9] = [
        b"",
        b"\x67GetRand",
        b"\x6bDescribePCR",
        b"\xa1\x69ExtendPCR\xa1\x65index\x11",
        b"\xa1\x67LockPCR\xa1\x65index\x1a\0\x01\0\0",
        b"\xa1\x6bAttestation\xa1\x65nonce\x5b\x7f\xff\xff\xff\xff\xff\xff\xff",
        b"\xa2\x67LockPCR\xa1\x65index\x11\x68LockPCRs\xa1\x65range\x14",
        b"\x69GetRandom\x00",
        &[0x81; 300],
    ];
    corpus::write(
        "nsm",
        &[
            ("every-request", seed(&every)),
            ("locked-registers", seed(&locked)),
            ("edges", seed(&edges)),
            ("other-encodings", corpus::join(&other_encodings)),
            ("malformed", corpus::join(&malformed)),
            ("malformed-too-long", corpus::join(&[extend(17, MAX_REQUEST_LEN).encode()])),
            (
                "as-long-as-it-may-be",
                seed(&[extend(17, MAX_REQUEST_LEN - 27), attestation(Some(vec![1; 1300]))]),
            ),
            ("longest-document", seed(&[Request::LockPcrs { range: 32 }, attestation(Some(vec![2; 1348]))])),
        ],
    );
}
