//! What the security module does with its registers, whatever it is sent.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failed assumption is a failed test"
)]

mod common;

use std::sync::LazyLock;

use attestation::pcr::Pcr;
use common::{Host, ask, measurements, now};
use nsm_device::SecurityModule;
use nsm_device::module::AlreadyMeasuredError;
use nsm_device::protocol::{ErrorCode, MAX_REQUEST_LEN, MAX_RESPONSE_LEN, Request, Response};
use proptest::prelude::*;
use sha2::{Digest, Sha384};

/// A module that waits for its measurements.
fn new_module() -> SecurityModule {
    static HOST: LazyLock<Host> = LazyLock::new(|| Host::new(now()));
    HOST.module(now())
}

fn module() -> SecurityModule {
    let mut module = new_module();
    module.set_measurements(Some(&measurements())).unwrap();
    module
}

fn refused(code: ErrorCode) -> Response {
    Response::Error(code)
}

#[test]
fn before_the_measurements_every_request_is_refused() {
    let mut module = new_module();
    let attestation = Request::Attestation { user_data: None, nonce: None, public_key: None };
    for request in [
        Request::DescribeNsm,
        Request::GetRandom,
        Request::DescribePcr { index: 0 },
        Request::ExtendPcr { index: 0, data: vec![1] },
        Request::LockPcr { index: 0 },
        Request::LockPcrs { range: 32 },
        attestation,
    ] {
        assert_eq!(ask(&mut module, &request, now()), refused(ErrorCode::InvalidOperation));
    }
    // None of them left a trace.
    module.set_measurements(Some(&measurements())).unwrap();
    let measured = Response::DescribePcr { lock: true, data: measurements().pcr0 };
    assert_eq!(ask(&mut module, &Request::DescribePcr { index: 0 }, now()), measured);
    let untouched = Response::DescribePcr { lock: false, data: Pcr::ZERO };
    assert_eq!(ask(&mut module, &Request::DescribePcr { index: 16 }, now()), untouched);
}

#[test]
fn measurements_are_accepted_once() {
    let mut other = measurements();
    other.pcr0 = Pcr::from_bytes([9; 48]);
    let mut module = module();
    let before = module.attested_pcrs();
    assert_eq!(module.set_measurements(Some(&other)), Err(AlreadyMeasuredError));
    assert_eq!(module.set_measurements(None), Err(AlreadyMeasuredError));
    assert_eq!(module.attested_pcrs(), before);

    let mut debug = new_module();
    debug.set_measurements(None).unwrap();
    assert_eq!(debug.set_measurements(Some(&other)), Err(AlreadyMeasuredError));
    assert!(debug.attested_pcrs().values().next().unwrap().is_zero());
}

#[test]
fn registers_0_to_15_are_locked_and_the_rest_are_open() {
    let mut module = module();
    for index in 0..32 {
        let locked = index < 16;
        let Response::DescribePcr { lock, .. } = ask(&mut module, &Request::DescribePcr { index }, now())
        else {
            panic!("PCR {index}")
        };
        assert_eq!(lock, locked, "PCR {index}");
        let extended = ask(&mut module, &Request::ExtendPcr { index, data: vec![] }, now());
        assert_eq!(extended == refused(ErrorCode::ReadOnlyIndex), locked, "PCR {index}");
        let again = ask(&mut module, &Request::LockPcr { index }, now());
        assert_eq!(again == refused(ErrorCode::ReadOnlyIndex), locked, "PCR {index}");
        assert_eq!(
            ask(&mut module, &Request::LockPcr { index }, now()),
            refused(ErrorCode::ReadOnlyIndex),
            "PCR {index} was locked twice"
        );
    }
}

#[test]
fn registers_that_do_not_exist_are_refused() {
    let mut module = module();
    for index in [32, 33, 255, 256, u16::MAX] {
        for request in [
            Request::DescribePcr { index },
            Request::ExtendPcr { index, data: vec![1] },
            Request::LockPcr { index },
        ] {
            assert_eq!(ask(&mut module, &request, now()), refused(ErrorCode::InvalidIndex), "{request:?}");
        }
    }
    for range in [33, 255, 256, u16::MAX] {
        let answer = ask(&mut module, &Request::LockPcrs { range }, now());
        assert_eq!(answer, refused(ErrorCode::InvalidIndex), "range {range}");
    }
}

#[test]
fn a_range_locks_what_is_below_it_and_may_be_repeated() {
    let mut module = module();
    let mut lock = |range| {
        let answer = ask(&mut module, &Request::LockPcrs { range }, now());
        (answer, module.attested_pcrs().len())
    };
    assert_eq!(lock(0), (Response::LockPcrs, 16));
    assert_eq!(lock(17), (Response::LockPcrs, 17));
    assert_eq!(lock(32), (Response::LockPcrs, 32));
    assert_eq!(lock(32), (Response::LockPcrs, 32));
    assert_eq!(lock(0), (Response::LockPcrs, 32));
}

#[test]
fn extending_is_sha384_of_the_old_value_and_the_data() {
    let mut module = module();
    // printf 'hello' after 48 zero bytes | sha384sum, and that digest's bytes followed by 'world'.
    let hello =
        "30e84b2d7eeffe6d90a475797b35e59a11b0da473eee4b3b8edfe73daf0279801bb18730c39db7f27f2f77b7b458cb9e";
    let extend = |data: &[u8]| Request::ExtendPcr { index: 16, data: data.to_vec() };
    let first = Response::ExtendPcr { data: hello.parse().unwrap() };
    assert_eq!(ask(&mut module, &extend(b"hello"), now()), first);
    let second = Sha384::new().chain_update(hex::decode(hello).unwrap()).chain_update(b"world").finalize();
    let second = Pcr::from_bytes(second.into());
    assert_eq!(ask(&mut module, &extend(b"world"), now()), Response::ExtendPcr { data: second });
    let described = Response::DescribePcr { lock: false, data: second };
    assert_eq!(ask(&mut module, &Request::DescribePcr { index: 16 }, now()), described);
}

#[test]
fn the_description_is_that_of_a_real_module() {
    let mut module = module();
    let Response::DescribeNsm(description) = ask(&mut module, &Request::DescribeNsm, now()) else { panic!() };
    assert_eq!((description.version_major, description.version_minor, description.version_patch), (1, 0, 0));
    assert_eq!(description.module_id, common::MODULE_ID);
    assert_eq!(description.max_pcrs, 32);
    assert_eq!(description.locked_pcrs, (0..16).collect::<Vec<_>>());
    assert_eq!(description.digest, "SHA384");
}

#[test]
fn random_bytes_are_256_behind_the_prefix_that_the_kernel_compares() {
    let mut module = module();
    let mut draw = || module.handle(&Request::GetRandom.encode(), now());
    let (first, second) = (draw(), draw());
    assert!(first.starts_with(b"\xa1\x69GetRandom\xa1\x66random\x59\x01\x00"));
    assert_eq!(first.len(), 22 + 256);
    assert_ne!(first, second);
}

#[test]
fn a_request_that_is_too_long_or_malformed_gets_its_own_error() {
    let mut module = module();
    let mut answer = |request: &[u8]| Response::decode(&module.handle(request, now())).unwrap();
    assert_eq!(answer(&[0; MAX_REQUEST_LEN + 1]), refused(ErrorCode::InputTooLarge));
    assert_eq!(answer(&vec![0; 1 << 20]), refused(ErrorCode::InputTooLarge));
    for request in [&[][..], &[0; MAX_REQUEST_LEN], b"\xa0", b"\x66Reboot", &[0x9f; 4096], &[0xbf; 4096]] {
        assert_eq!(answer(request), refused(ErrorCode::InvalidOperation));
    }
}

/// The registers as one would keep them without thinking: values, and locks that never open.
struct Model {
    values: [[u8; 48]; 32],
    locked: [bool; 32],
}

impl Model {
    fn new(module: &SecurityModule) -> Self {
        let mut model = Self { values: [[0; 48]; 32], locked: [false; 32] };
        for (index, pcr) in module.attested_pcrs() {
            model.values[usize::from(index.get())] = *pcr.as_bytes();
            model.locked[usize::from(index.get())] = true;
        }
        model
    }

    fn answer(&mut self, request: &Request) -> Response {
        let slot = |index: &u16| Some(usize::from(*index)).filter(|slot| *slot < 32);
        match request {
            Request::DescribePcr { index } => match slot(index) {
                None => refused(ErrorCode::InvalidIndex),
                Some(slot) => Response::DescribePcr {
                    lock: self.locked[slot],
                    data: Pcr::from_bytes(self.values[slot]),
                },
            },
            Request::ExtendPcr { index, data } => match slot(index) {
                None => refused(ErrorCode::InvalidIndex),
                Some(slot) if self.locked[slot] => refused(ErrorCode::ReadOnlyIndex),
                Some(slot) => {
                    let input = [&self.values[slot][..], data].concat();
                    self.values[slot] = Sha384::digest(input).into();
                    Response::ExtendPcr { data: Pcr::from_bytes(self.values[slot]) }
                }
            },
            Request::LockPcr { index } => match slot(index) {
                None => refused(ErrorCode::InvalidIndex),
                Some(slot) if self.locked[slot] => refused(ErrorCode::ReadOnlyIndex),
                Some(slot) => {
                    self.locked[slot] = true;
                    Response::LockPcr
                }
            },
            Request::LockPcrs { range: 33.. } => refused(ErrorCode::InvalidIndex),
            Request::LockPcrs { range } => {
                self.locked[..usize::from(*range)].fill(true);
                Response::LockPcrs
            }
            other => panic!("not in the model: {other:?}"),
        }
    }
}

fn register_request() -> impl Strategy<Value = Request> {
    // Around the edges of what exists, and rarely far away.
    let number = || prop_oneof![9 => 0_u16..35, 1 => any::<u16>()];
    let data = proptest::collection::vec(any::<u8>(), 0..100);
    prop_oneof![
        4 => number().prop_map(|index| Request::DescribePcr { index }),
        8 => (number(), data).prop_map(|(index, data)| Request::ExtendPcr { index, data }),
        1 => number().prop_map(|index| Request::LockPcr { index }),
        1 => prop_oneof![0_u16..20, 0_u16..34].prop_map(|range| Request::LockPcrs { range }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_bank_agrees_with_the_model(
        requests in proptest::collection::vec(register_request(), 0..150),
    ) {
        let mut module = module();
        let mut model = Model::new(&module);
        for request in requests {
            prop_assert_eq!(ask(&mut module, &request, now()), model.answer(&request), "{:?}", request);
        }
        let locked = (0..32).filter(|slot| model.locked[*slot]);
        let expected: Vec<_> = locked.map(|slot| Pcr::from_bytes(model.values[slot])).collect();
        prop_assert_eq!(module.attested_pcrs().into_values().collect::<Vec<_>>(), expected);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever comes, an answer goes back that a client can read, and what was booted stays what it was.
    #[test]
    fn any_bytes_get_an_answer_and_change_nothing_of_what_was_booted(
        requests in proptest::collection::vec(
            prop_oneof![
                proptest::collection::vec(any::<u8>(), 0..300),
                register_request().prop_map(|request| request.encode()),
                (register_request(), any::<prop::sample::Index>(), any::<u8>()).prop_map(|(request, at, byte)| {
                    let mut bytes = request.encode();
                    *at.get_mut(&mut bytes) = byte;
                    bytes
                }),
            ],
            0..60,
        ),
    ) {
        let mut module = module();
        let booted: Vec<_> = module.attested_pcrs().into_iter().collect();
        for request in requests {
            let answer = module.handle(&request, now());
            prop_assert!(answer.len() <= MAX_RESPONSE_LEN);
            prop_assert!(Response::decode(&answer).is_ok());
        }
        let after: Vec<_> = module.attested_pcrs().into_iter().take(16).collect();
        prop_assert_eq!(after, booted);
    }
}
