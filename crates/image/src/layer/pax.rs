//! Extended headers of the pax format: `LENGTH KEY=VALUE\n`, one after the other (POSIX pax, "pax Extended Header").
//!
//! The tar crate's own parser splits at line feeds, and the values of attributes are any bytes.

/// One record.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Record<'h> {
    pub(super) key: &'h [u8],
    pub(super) value: &'h [u8],
}

/// The records of a header; `Err` at the first that is none.
pub(super) fn records(mut header: &[u8]) -> impl Iterator<Item = Result<Record<'_>, &'static str>> {
    core::iter::from_fn(move || {
        if header.is_empty() {
            return None;
        }
        let Some((record, rest)) = split(header) else {
            header = &[];
            return Some(Err("its extended header is malformed"));
        };
        header = rest;
        Some(Ok(record))
    })
}

fn split(header: &[u8]) -> Option<(Record<'_>, &[u8])> {
    let digits = header.iter().position(|byte| *byte == b' ')?;
    let length: usize = core::str::from_utf8(header.get(..digits)?).ok()?.parse().ok()?;
    let (record, rest) = header.split_at_checked(length)?;
    let record = record.get(digits.checked_add(1)?..)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|byte| *byte == b'=')?;
    Some((Record { key: record.get(..equals)?, value: record.get(equals.checked_add(1)?..)? }, rest))
}

/// A decimal number.
pub(super) fn number(value: &[u8]) -> Option<u64> {
    core::str::from_utf8(value).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_may_hold_line_feeds_and_equals_signs() {
        let header = b"12 path=a/b\n18 user.x=1\n2=3\n\n\n5 b=\n";
        let found: Vec<_> = records(header).map(Result::unwrap).collect();
        let record = |key, value| Record { key, value };
        assert_eq!(found, [record(b"path", b"a/b"), record(b"user.x", b"1\n2=3\n\n"), record(b"b", b"")]);
    }

    #[test]
    fn a_malformed_record_ends_the_header_with_an_error() {
        for header in [
            &b"11 path=a/b\n"[..],
            b"13 path=a/b\n",
            b"99 path=a/b\n",
            b"path=a/b\n",
            b"0 =\n",
            b"5 ab\n",
            b"18446744073709551615 a=b\n",
            b"99999999999999999999999 a=b\n",
            b"2 a=b\n",
        ] {
            let found: Vec<_> = records(header).collect();
            assert!(found.last().unwrap().is_err(), "{header:?}: {found:?}");
            assert!(found.len() <= 2);
        }
    }
}
