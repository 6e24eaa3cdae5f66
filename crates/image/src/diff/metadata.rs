//! What differs in the metadata of two images, key by key.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use super::Details;

/// A key whose value differs. Keys inside others are written behind them: `BuildMetadata.BuildTime`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeyDifference {
    /// The key.
    #[serde(rename = "Key")]
    pub key: String,
    /// Its value in the first image, if it is there.
    #[serde(rename = "A")]
    pub a: Option<Value>,
    /// Its value in the second image, if it is there.
    #[serde(rename = "B")]
    pub b: Option<Value>,
}

impl KeyDifference {
    pub(super) fn new(key: impl Into<String>, a: Option<Value>, b: Option<Value>) -> Self {
        Self { key: key.into(), a, b }
    }
}

/// The keys that differ; `None` if one side is no JSON.
pub(super) fn compare(a: Option<&[u8]>, b: Option<&[u8]>) -> Option<Details> {
    let parse = |section: Option<&[u8]>| match section {
        Some(section) => serde_json::from_slice::<Value>(section).ok().map(Some),
        None => Some(None),
    };
    let (Some(a), Some(b)) = (parse(a), parse(b)) else { return None };
    let (mut a, mut b) = (flatten(a), flatten(b));
    a.retain(|key, value| {
        if b.get(key) == Some(value) {
            b.remove(key);
            return false;
        }
        true
    });
    let mut keys: Vec<KeyDifference> =
        a.into_iter().map(|(key, value)| KeyDifference { b: b.remove(&key), key, a: Some(value) }).collect();
    keys.extend(b.into_iter().map(|(key, value)| KeyDifference { key, a: None, b: Some(value) }));
    keys.sort_by(|one, other| one.key.cmp(&other.key));
    Some(Details::Keys(keys))
}

/// Every value that is no object with keys, by its path.
fn flatten(value: Option<Value>) -> BTreeMap<String, Value> {
    let mut flat = BTreeMap::new();
    let mut open: Vec<(String, Value)> = value.map(|value| (String::new(), value)).into_iter().collect();
    while let Some((path, value)) = open.pop() {
        match value {
            Value::Object(fields) if !fields.is_empty() => {
                let below = |key| if path.is_empty() { key } else { format!("{path}.{key}") };
                open.extend(fields.into_iter().map(|(key, value)| (below(key), value)));
            }
            value => {
                flat.insert(path, value);
            }
        }
    }
    flat
}
