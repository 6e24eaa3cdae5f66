//! Taking a request or a response apart: its name, then its fields one by one.

use attestation::cbor::read_exactly_one;
use ciborium::Value;

/// A request or a response before its fields are understood.
pub(super) enum Message {
    /// Its name alone.
    Unit(String),
    /// Its name and its fields.
    Fields(String, Fields),
    /// Its name and one text: an error.
    Text(String, String),
}

impl Message {
    /// `None` if the bytes are not one of the three forms.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        match read_exactly_one(bytes)? {
            Value::Text(name) => Some(Self::Unit(name)),
            Value::Map(pairs) => {
                let [(Value::Text(name), value)] = <[_; 1]>::try_from(pairs).ok()? else { return None };
                match value {
                    Value::Map(fields) => Some(Self::Fields(name, Fields(fields))),
                    Value::Text(text) => Some(Self::Text(name, text)),
                    _ => None,
                }
            }
            _ => None,
        }
    }
}

/// The fields of a message. Each is `None` if it is missing, there twice, or of another type.
pub(super) struct Fields(Vec<(Value, Value)>);

impl Fields {
    /// Takes a field out. `Some(Null)` if it is missing.
    fn take(&mut self, name: &str) -> Option<Value> {
        let mut found = self.0.extract_if(.., |(key, _)| key.as_text() == Some(name));
        match (found.next(), found.next()) {
            (None, _) => Some(Value::Null),
            (Some((_, value)), None) => Some(value),
            (Some(_), Some(_)) => None,
        }
    }

    pub(super) fn unsigned(&mut self, name: &str) -> Option<u64> {
        u64::try_from(self.take(name)?.as_integer()?).ok()
    }

    pub(super) fn boolean(&mut self, name: &str) -> Option<bool> {
        self.take(name)?.as_bool()
    }

    pub(super) fn text(&mut self, name: &str) -> Option<String> {
        self.take(name)?.into_text().ok()
    }

    /// A byte string, or a text string taken for its bytes.
    pub(super) fn bytes(&mut self, name: &str) -> Option<Vec<u8>> {
        self.optional_bytes(name)?
    }

    /// As [`Self::bytes`], where missing and null mean none.
    pub(super) fn optional_bytes(&mut self, name: &str) -> Option<Option<Vec<u8>>> {
        match self.take(name)? {
            Value::Null => Some(None),
            Value::Bytes(bytes) => Some(Some(bytes)),
            Value::Text(text) => Some(Some(text.into_bytes())),
            _ => None,
        }
    }

    pub(super) fn array(&mut self, name: &str) -> Option<Vec<Value>> {
        self.take(name)?.into_array().ok()
    }
}
