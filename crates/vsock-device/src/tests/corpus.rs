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
    for (_, data) in corpus::inputs("vsock") {
        for start in 0..data.len().min(16) {
            fuzz::vsock(&data[start..]);
        }
    }
}

/// The corpus reaches both services, or it would say little of them.
#[test]
fn the_corpus_reports() {
    let reporting = ["heartbeat", "application-end", "application-signalled", "application-failed"];
    for (name, data) in corpus::inputs("vsock") {
        let reports = usize::from(reporting.contains(&name.as_str()));
        assert_eq!(fuzz::vsock(&data), reports, "{name}");
    }
}
