//! The bodies, on their corpora and on mutations of them.

mod seeds;

use super::*;

/// Mutations of each input.
const MUTATIONS: u64 = 80;

#[test]
fn the_corpus_of_messages_breaks_nothing() {
    corpus::replay("messages", MUTATIONS, |input| _ = messages(input));
}

#[test]
fn the_corpus_of_control_breaks_nothing() {
    corpus::replay("control", MUTATIONS, |input| _ = control(input));
}

#[test]
fn the_corpus_of_the_nsm_shim_breaks_nothing() {
    corpus::replay("nsm_shim", MUTATIONS, nsm_shim);
}

/// What our processes send is understood, or the corpora would say little.
#[test]
fn what_is_well_formed_is_understood() {
    for (name, input) in corpus::inputs("messages") {
        let sent = corpus::packets(&input[1..]).filter(|packet| !packet.is_empty()).count();
        assert_eq!(messages(&input) == sent, !name.contains("malformed"), "{name}");
    }
    for (name, input) in corpus::inputs("control") {
        assert_eq!(control(&input), !name.contains("malformed"), "{name}");
    }
}
