//! What a condition compares with.

use core::cmp::Ordering;

use attestation::pcr::PCR_LEN;
use jiff::Timestamp;

use super::super::error::PolicyError;
use super::super::json::Json;
use super::super::pattern::Pattern;
use super::super::text::quoted;
use super::super::variable::no_variable;
use super::key::{Key, timestamp};
use super::operator::{Comparison, Kind, Operator};

/// Hexadecimal digits of a register.
const PCR_DIGITS: usize = 2 * PCR_LEN;

/// The values of a condition, ready to compare; the texts as written stand beside them.
#[derive(Debug, Clone, PartialEq)]
pub(in super::super) enum Values {
    /// Exactly this text.
    Exact(Vec<String>),
    /// This text, upper and lower case being one: kept in lower case.
    Folded { lower: Vec<String>, texts: Vec<String> },
    /// Texts with wildcards.
    Like { patterns: Vec<Pattern>, texts: Vec<String> },
    /// Times, and how the presented one has to lie to them: before, at, after.
    Dates { times: Vec<Timestamp>, texts: Vec<String>, orderings: &'static [Ordering] },
    /// Null: true if the key must be absent.
    Null(bool),
}

impl Values {
    /// Reads the values of `key` under `operator`, which fit each other.
    pub(in super::super) fn parse(
        operator: Operator,
        key: &Key,
        values: &[Json],
        at: &str,
    ) -> Result<Self, PolicyError> {
        let refuse = |problem: String| Err(PolicyError::new(at, problem));
        let texts = values.iter().map(|value| text(operator, value, at)).collect::<Result<Vec<_>, _>>()?;
        if operator.comparison == Comparison::Null {
            return match texts.as_slice() {
                [one] => Ok(Self::Null(one == "true")),
                _ => refuse("Null takes one value: true (the key is absent) or false".to_owned()),
            };
        }
        if key.register().is_some() {
            for value in &texts {
                register_value(operator.comparison, value, at)?;
            }
        }
        Ok(match operator.comparison {
            Comparison::StringEquals | Comparison::StringNotEquals | Comparison::Bool | Comparison::Null => {
                Self::Exact(texts)
            }
            Comparison::StringEqualsIgnoreCase | Comparison::StringNotEqualsIgnoreCase => {
                Self::Folded { lower: texts.iter().map(|text| text.to_lowercase()).collect(), texts }
            }
            Comparison::StringLike | Comparison::StringNotLike => {
                Self::Like { patterns: texts.iter().map(Pattern::new).collect(), texts }
            }
            _ => {
                let times = texts.iter().map(|text| date(text, at)).collect::<Result<_, _>>()?;
                Self::Dates { times, texts, orderings: orderings(operator.comparison) }
            }
        })
    }

    /// The values as written.
    pub(in super::super) fn texts(&self) -> &[String] {
        match self {
            Self::Exact(texts)
            | Self::Folded { texts, .. }
            | Self::Like { texts, .. }
            | Self::Dates { texts, .. } => texts,
            Self::Null(_) => &[],
        }
    }

    /// True if one of them is what was presented; negation is not looked at.
    pub(super) fn any_matches(&self, presented: &str) -> bool {
        match self {
            Self::Exact(texts) => texts.iter().any(|text| text == presented),
            Self::Folded { lower, .. } => lower.contains(&presented.to_lowercase()),
            Self::Like { patterns, .. } => patterns.iter().any(|pattern| pattern.matches(presented)),
            Self::Dates { times, orderings, .. } => timestamp(presented)
                .is_some_and(|presented| times.iter().any(|time| orderings.contains(&presented.cmp(time)))),
            Self::Null(_) => false,
        }
    }
}

/// How the presented time has to lie to the expected one. DateNotEquals is the negation of being equal.
const fn orderings(comparison: Comparison) -> &'static [Ordering] {
    match comparison {
        Comparison::DateLessThan => &[Ordering::Less],
        Comparison::DateLessThanEquals => &[Ordering::Less, Ordering::Equal],
        Comparison::DateGreaterThan => &[Ordering::Greater],
        Comparison::DateGreaterThanEquals => &[Ordering::Greater, Ordering::Equal],
        _ => &[Ordering::Equal],
    }
}

/// One value as text. JSON's own true, false and numbers are taken where the operator compares such.
fn text(operator: Operator, value: &Json, at: &str) -> Result<String, PolicyError> {
    let wrong = |wanted: &str| {
        Err(PolicyError::new(at, format!("{operator} compares with {wanted}, and here is {}", value.kind())))
    };
    match (operator.kind(), value) {
        (Kind::Text, Json::Text(text)) | (Kind::Date, Json::Text(text)) => {
            no_variable(text, at)?;
            Ok(text.clone())
        }
        (Kind::Date, Json::Integer(seconds)) => Ok(seconds.to_string()),
        (Kind::Bool | Kind::Presence, Json::Bool(value)) => Ok(value.to_string()),
        (Kind::Bool | Kind::Presence, Json::Text(text)) if is_bool(text) => Ok(text.to_ascii_lowercase()),
        (Kind::Text, _) => wrong("texts"),
        (Kind::Date, _) => wrong("times"),
        (Kind::Bool | Kind::Presence, _) => wrong("\"true\" or \"false\""),
    }
}

fn is_bool(text: &str) -> bool {
    text.eq_ignore_ascii_case("true") || text.eq_ignore_ascii_case("false")
}

/// A time: RFC 3339, a day (its beginning in UTC), or seconds since 1970.
fn date(text: &str, at: &str) -> Result<Timestamp, PolicyError> {
    /// Digits of a year, which is not taken for seconds.
    const YEAR: usize = 4;
    let read = if let Ok(seconds) = text.parse::<i64>() {
        Timestamp::from_second(seconds).ok().filter(|_| text.len() > YEAR)
    } else if let Ok(time) = text.parse::<Timestamp>() {
        Some(time)
    } else if text.contains(['T', 't', ' ', ':']) {
        // A time of day without its zone.
        None
    } else {
        text.parse::<jiff::civil::Date>()
            .ok()
            .and_then(|day| day.to_zoned(jiff::tz::TimeZone::UTC).ok())
            .map(|start| start.timestamp())
    };
    read.ok_or_else(|| {
        PolicyError::new(
            at,
            format!(
                "{} is no time; write 2026-11-22T03:00:00Z, 2026-11-22 or seconds since 1970",
                quoted(text)
            ),
        )
    })
}

/// A value that no register can have is a mistake.
fn register_value(comparison: Comparison, text: &str, at: &str) -> Result<(), PolicyError> {
    let wild = matches!(comparison, Comparison::StringLike | Comparison::StringNotLike);
    let digit = |c: char| c.is_ascii_hexdigit() || (wild && matches!(c, '*' | '?'));
    let stars = text.chars().filter(|c| *c == '*').count();
    let length = text.chars().count().saturating_sub(if wild { stars } else { 0 });
    let fits = if wild && stars > 0 { length <= PCR_DIGITS } else { length == PCR_DIGITS };
    if fits && text.chars().all(digit) {
        return Ok(());
    }
    Err(PolicyError::new(
        at,
        format!(
            "{} is no value of a register; they have {PCR_DIGITS} hexadecimal digits (SHA-384)",
            quoted(text)
        ),
    ))
}
