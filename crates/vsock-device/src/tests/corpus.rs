//! The fuzz target's body, on its corpus and on random input.

use proptest::prelude::*;

use crate::testing::fuzz;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(virtio::testing::cases(300)))]

    #[test]
    fn any_packets_leave_a_device_that_works(data in proptest::collection::vec(any::<u8>(), 0..600)) {
        fuzz::vsock(&data);
    }
}

#[test]
fn the_corpus_is_replayed() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/corpus/vsock");
    let mut inputs = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let data = std::fs::read(entry.unwrap().path()).unwrap();
        for start in 0..data.len().min(16) {
            fuzz::vsock(&data[start..]);
        }
        inputs += 1;
    }
    assert!(inputs > 0, "no corpus in {folder}");
}

/// The corpus reaches both services, or it would say little of them.
#[test]
fn the_corpus_reports() {
    for (name, reports) in
        [("heartbeat", 1), ("application-end", 1), ("application-signalled", 1), ("application-failed", 1)]
    {
        let path = format!("{}/../../fuzz/corpus/vsock/{name}", env!("CARGO_MANIFEST_DIR"));
        assert_eq!(fuzz::vsock(&std::fs::read(path).unwrap()), reports, "{name}");
    }
}
