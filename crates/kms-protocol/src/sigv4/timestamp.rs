//! Times as signatures write them: `YYYYMMDDTHHMMSSZ`, in UTC.

use std::time::SystemTime;

use der::DateTime;

/// Characters of a time, and of the day with which it begins.
const LENGTH: usize = 16;
const DAY: usize = 8;

/// A time and its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Timestamp {
    text: String,
    time: SystemTime,
}

impl Timestamp {
    /// A time in whole seconds. None before 1970 and after 9999.
    pub(super) fn new(time: SystemTime) -> Option<Self> {
        let date = DateTime::from_system_time(time).ok()?;
        let text = format!(
            "{:04}{:02}{:02}T{:02}{:02}{:02}Z",
            date.year(),
            date.month(),
            date.day(),
            date.hour(),
            date.minutes(),
            date.seconds()
        );
        Some(Self { text, time: date.to_system_time() })
    }

    /// Reads the text. None if it has another form or means no time.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let bytes: &[u8; LENGTH] = text.as_bytes().try_into().ok()?;
        let [year @ .., b'T', _, _, _, _, _, _, b'Z'] = bytes else { return None };
        let [.., h1, h2, m1, m2, s1, s2, _] = bytes;
        let [y1, y2, y3, y4, month1, month2, day1, day2] = year;
        let two = |tens: &u8, ones: &u8| number(&[*tens, *ones]);
        let date = DateTime::new(
            number(&[*y1, *y2, *y3, *y4])?,
            u8::try_from(two(month1, month2)?).ok()?,
            u8::try_from(two(day1, day2)?).ok()?,
            u8::try_from(two(h1, h2)?).ok()?,
            u8::try_from(two(m1, m2)?).ok()?,
            u8::try_from(two(s1, s2)?).ok()?,
        );
        Some(Self { text: text.to_owned(), time: date.ok()?.to_system_time() })
    }

    /// The whole text.
    pub(super) fn as_str(&self) -> &str {
        &self.text
    }

    /// The day: `YYYYMMDD`.
    pub(super) fn day(&self) -> &str {
        self.text.get(..DAY).unwrap_or_default()
    }

    /// The time itself.
    pub(super) const fn time(&self) -> SystemTime {
        self.time
    }
}

/// True for eight digits.
pub(super) fn is_day(text: &str) -> bool {
    text.len() == DAY && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// A number of decimal digits and of nothing else.
fn number(digits: &[u8]) -> Option<u16> {
    digits.iter().try_fold(0_u16, |number, digit| {
        let digit = digit.is_ascii_digit().then(|| digit.wrapping_sub(b'0'))?;
        number.checked_mul(10)?.checked_add(digit.into())
    })
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    /// `date -u -d @1440938160 +%Y%m%dT%H%M%SZ`
    const TEXT: &str = "20150830T123600Z";
    const SECONDS: u64 = 1_440_938_160;

    #[test]
    fn a_time_is_written_and_read_as_date_writes_it() {
        let time = UNIX_EPOCH + Duration::from_secs(SECONDS);
        let written = Timestamp::new(time + Duration::from_millis(999)).unwrap();
        assert_eq!((written.as_str(), written.day(), written.time()), (TEXT, "20150830", time));
        assert_eq!(Timestamp::parse(TEXT), Some(written));
    }

    #[test]
    fn what_is_no_time_of_this_form_is_not_read() {
        for text in [
            "",
            "20150830T123600",
            "20150830T123600Z ",
            "20150830t123600Z",
            "20150830T123600z",
            "2015-08-30T12:36",
            "+0150830T123600Z",
            "20151330T123600Z",
            "20150229T123600Z",
            "20150830T243600Z",
            "20150830T126000Z",
            "20150830T123661Z",
            "19691231T235959Z",
            "2015083\u{e9}T12360Z",
        ] {
            assert_eq!(Timestamp::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_time_before_1970_or_after_9999_is_not_written() {
        assert_eq!(Timestamp::new(UNIX_EPOCH - Duration::from_secs(1)), None);
        assert_eq!(Timestamp::new(UNIX_EPOCH + Duration::from_secs(253_402_300_800)), None);
        assert!(Timestamp::new(UNIX_EPOCH + Duration::from_secs(253_402_300_799)).is_some());
    }
}
