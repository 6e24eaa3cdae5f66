//! JSON as written: members in their order, none of them twice, no deeper than a policy is.
//!
//! serde_json reads it; its own values keep the last of two members of one name, which may not be what the author read.

use core::fmt;

use serde::Deserializer;
use serde::de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor};

use super::error::PolicyError;
use super::text::quoted;

/// Deepest nesting of a policy: policy, statements, statement, Condition, operator, values.
pub(super) const MAX_DEPTH: usize = 6;

/// A JSON value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Json {
    Null,
    Bool(bool),
    /// A whole number.
    Integer(i64),
    /// Any other number.
    Number(f64),
    Text(String),
    Array(Vec<Json>),
    Object(Vec<(String, Json)>),
}

impl Json {
    /// Reads one value and nothing behind it.
    pub(super) fn parse(text: &str) -> Result<Self, PolicyError> {
        let mut reader = serde_json::Deserializer::from_str(text);
        let value = Depth(0).deserialize(&mut reader).and_then(|value| reader.end().map(|()| value));
        value.map_err(|error| {
            let message = error.to_string();
            let place = format!(" at line {} column {}", error.line(), error.column());
            PolicyError::new(
                format!("line {} column {}", error.line(), error.column()),
                message.strip_suffix(&place).unwrap_or(&message),
            )
        })
    }

    /// What it is, for messages.
    pub(super) const fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "true or false",
            Self::Integer(_) | Self::Number(_) => "a number",
            Self::Text(_) => "a text",
            Self::Array(_) => "an array",
            Self::Object(_) => "an object",
        }
    }
}

/// Reads a value that so many others are around.
#[derive(Clone, Copy)]
struct Depth(usize);

impl Depth {
    fn deeper<E: Error>(self) -> Result<Self, E> {
        if self.0 >= MAX_DEPTH {
            return Err(E::custom(format_args!("nested deeper than {MAX_DEPTH}, which no policy is")));
        }
        Ok(Self(self.0.saturating_add(1)))
    }
}

impl<'de> DeserializeSeed<'de> for Depth {
    type Value = Json;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Json, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Depth {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json, E> {
        Ok(Json::Integer(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Json, E> {
        i64::try_from(value)
            .map(Json::Integer)
            .map_err(|_| E::custom("a number this large means nothing here"))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Json, E> {
        Ok(Json::Number(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Json, E> {
        Ok(Json::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Json, E> {
        Ok(Json::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Json, A::Error> {
        let inner = self.deeper()?;
        let mut array = Vec::new();
        while let Some(element) = elements.next_element_seed(inner)? {
            array.push(element);
        }
        Ok(Json::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Json, A::Error> {
        let inner = self.deeper()?;
        let mut object: Vec<(String, Json)> = Vec::new();
        let mut names = std::collections::HashSet::new();
        while let Some(name) = members.next_key::<String>()? {
            if !names.insert(name.clone()) {
                return Err(A::Error::custom(format_args!("the member {} stands here twice", quoted(&name))));
            }
            object.push((name, members.next_value_seed(inner)?));
        }
        Ok(Json::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> String {
        Json::parse(text).expect_err(text).to_string()
    }

    #[test]
    fn a_member_that_stands_twice_is_refused_where_it_stands() {
        assert_eq!(refusal("{\"a\": 1,\n \"a\": 1}"), "line 2 column 4: the member \"a\" stands here twice");
        // The same name, spelled with an escape.
        assert!(refusal(r#"{"a": 1, "\u0061": 2}"#).contains("twice"));
    }

    #[test]
    fn six_levels_are_read_and_a_seventh_is_refused() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(Json::parse(&nested(MAX_DEPTH)).is_ok());
        assert!(refusal(&nested(MAX_DEPTH + 1)).contains("nested deeper than 6"));
        assert!(refusal(&"[".repeat(100_000)).contains("nested deeper than 6"));
        assert!(refusal(&"{\"a\":".repeat(100_000)).contains("nested deeper than 6"));
    }

    #[test]
    fn what_is_not_json_is_refused() {
        for text in [
            "",
            "{",
            "{}{}",
            "{} x",
            "{'a': 1}",
            "{\"a\": 1,}",
            "[1, // no\n2]",
            "\u{feff}{}",
            "\"\\ud800\"",
            "nul",
            "18446744073709551615",
        ] {
            assert!(Json::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn values_are_read_as_written() {
        let read = Json::parse(r#"{"b": [null, true, -1, 1.5, "x"], "a": {}}"#).unwrap();
        let array = vec![
            Json::Null,
            Json::Bool(true),
            Json::Integer(-1),
            Json::Number(1.5),
            Json::Text("x".to_owned()),
        ];
        assert_eq!(
            read,
            Json::Object(vec![
                ("b".to_owned(), Json::Array(array)),
                ("a".to_owned(), Json::Object(Vec::new()))
            ])
        );
    }
}
