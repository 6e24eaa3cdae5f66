//! Times as people and programs read them: RFC 3339 in UTC, whole seconds.

use std::time::SystemTime;

use jiff::Timestamp;

/// What is written for a time that no calendar reaches.
const UNKNOWN: &str = "unknown";

/// A time of this host.
pub(crate) fn text(time: SystemTime) -> String {
    Timestamp::try_from(time).map_or_else(|_| UNKNOWN.to_owned(), whole_seconds)
}

/// Milliseconds since 1970, as documents count.
pub(crate) fn milliseconds(milliseconds: u64) -> String {
    i64::try_from(milliseconds)
        .ok()
        .and_then(|milliseconds| Timestamp::from_millisecond(milliseconds).ok())
        .map_or_else(|| UNKNOWN.to_owned(), whole_seconds)
}

fn whole_seconds(timestamp: Timestamp) -> String {
    Timestamp::from_second(timestamp.as_second()).map_or_else(|_| UNKNOWN.to_owned(), |time| time.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_in_utc_without_fractions() {
        assert_eq!(milliseconds(1_600_000_000_999), "2020-09-13T12:26:40Z");
        assert_eq!(milliseconds(u64::MAX), "unknown");
        assert_eq!(text(SystemTime::UNIX_EPOCH), "1970-01-01T00:00:00Z");
    }
}
