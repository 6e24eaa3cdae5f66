//! What commands and supervisors say to each other, and the state file. The first byte of an input says what the rest is.

use crate::client;
use crate::control::{Envelope, Reply, Request};
use crate::fuzzing::{MOST_MESSAGES, read};
use crate::launch::{LaunchEvent, LaunchSpec, PROTOCOL_VERSION};
use crate::{state, supervisor};

/// Takes an input for a request (0), a reply (1), a starting supervisor's reports (2), the order to start one (3) or a
/// state file (4). True if it was understood.
///
/// # Panics
/// It was understood as something that it is not.
pub fn control(data: &[u8]) -> bool {
    let Some((kind, bytes)) = data.split_first() else { return false };
    match kind % 5 {
        0 => read::<Envelope>(bytes).is_some_and(|envelope| request(&envelope)),
        1 => read::<Reply>(bytes).is_some(),
        2 => events(bytes),
        3 => read::<LaunchSpec>(bytes).is_some_and(|spec| supervisor::fuzzing::order(&spec)),
        _ => state_file(bytes),
    }
}

/// The supervisor's side: a request of another version is refused whatever it says.
fn request(envelope: &Envelope) -> bool {
    let Ok(request) = envelope.open() else { return false };
    assert_eq!(envelope.version, PROTOCOL_VERSION);
    let written = ciborium::Value::serialized(&request).expect("a request can be sent");
    let again: Request = written.deserialized().expect("a request can be read");
    assert_eq!(again, request);
    true
}

/// The command's side: it passes events on until the last one.
fn events(bytes: &[u8]) -> bool {
    let mut heard = 0;
    let mut last = false;
    let mut packets = corpus::packets(bytes).take(MOST_MESSAGES);
    let next = || Ok(packets.next().and_then(read::<LaunchEvent>));
    let outcome = client::follow(next, &mut |event| {
        assert!(!last, "it went on after the outcome");
        heard += 1;
        last = matches!(event, LaunchEvent::Created(_) | LaunchEvent::Running(_) | LaunchEvent::Failed(_));
    });
    assert!(last || outcome.is_err(), "there is an outcome that was not told");
    heard > 0
}

fn state_file(text: &[u8]) -> bool {
    let record = match state::decode(text) {
        Ok(record) => record,
        Err(error) => {
            let words = error.to_string();
            assert!(words.len() < 1000 && !words.chars().any(char::is_control), "{words:?}");
            return false;
        }
    };
    assert_eq!(record.version, state::STATE_VERSION);
    let written = state::encode(&record).expect("a record can be written");
    assert_eq!(state::decode(&written).expect("a written record can be read"), record);
    true
}
