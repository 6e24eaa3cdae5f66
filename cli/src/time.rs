//! Times as people and programs read them: RFC 3339 in UTC, whole seconds.

use std::time::SystemTime;

use jiff::Timestamp;

/// What is written for a time that no calendar reaches.
const UNKNOWN: &str = "unknown";

/// A time of this host.
pub(crate) fn text(time: SystemTime) -> String {
    Timestamp::try_from(time).map_or_else(|_| UNKNOWN.to_owned(), whole_seconds)
}

fn whole_seconds(timestamp: Timestamp) -> String {
    Timestamp::from_second(timestamp.as_second()).map_or_else(|_| UNKNOWN.to_owned(), |time| time.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_in_utc_without_fractions() {
        let made = SystemTime::UNIX_EPOCH + std::time::Duration::from_millis(1_600_000_000_999);
        assert_eq!(text(made), "2020-09-13T12:26:40Z");
        assert_eq!(text(SystemTime::UNIX_EPOCH), "1970-01-01T00:00:00Z");
    }
}
