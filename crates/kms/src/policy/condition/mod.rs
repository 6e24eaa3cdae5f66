//! Conditions: what a statement asks of a request beside principal, action and resource.
//!
//! Specification: AWS IAM user guide, "IAM JSON policy elements: Condition operators", "Multivalued context keys"; AWS KMS
//! developer guide, "AWS KMS condition keys", "AWS KMS condition keys for attested platforms".

pub(super) mod key;
pub(super) mod operator;
pub(super) mod values;

use self::key::{Key, Presented};
use self::operator::{Operator, Quantifier};
use self::values::Values;
use super::decision::Mismatch;
use super::document::Effect;
use super::request::Request;
use super::text::listed;

/// One operator on one key.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Condition {
    pub(super) operator: Operator,
    pub(super) key: Key,
    pub(super) values: Values,
}

impl Condition {
    /// Whether it holds for a request. `effect` is that of its statement.
    pub(super) fn holds(&self, request: &Request<'_>, effect: Effect) -> bool {
        let presented = self.key.presented(request);
        match self.operator.quantifier {
            Quantifier::ForAll => presented.values().iter().all(|value| self.holds_for(value)),
            Quantifier::ForAny => presented.values().iter().any(|value| self.holds_for(value)),
            Quantifier::None => self.holds_unquantified(&presented, effect),
        }
    }

    fn holds_unquantified(&self, presented: &Presented<'_>, effect: Effect) -> bool {
        let values = presented.values();
        if let Values::Null(expected) = self.values {
            return values.is_empty() == expected;
        }
        if values.is_empty() {
            // What AWS says of missing keys: the negated operators hold, the others do not, unless IfExists says so.
            return self.operator.if_exists || self.operator.is_negated();
        }
        // Several values for a key that has one: encryption contexts tell upper from lower case, keys of conditions do not.
        // No such request may get more than one with any of the values would.
        match effect {
            Effect::Allow => values.iter().all(|value| self.holds_for(value)),
            Effect::Deny => values.iter().any(|value| self.holds_for(value)),
        }
    }

    /// Several expected values: one of them has to match, or with a negated operator none of them.
    fn holds_for(&self, presented: &str) -> bool {
        self.values.any_matches(presented) != self.operator.is_negated()
    }

    /// Why it does not hold.
    pub(super) fn mismatch(&self, request: &Request<'_>) -> Mismatch {
        Mismatch {
            element: format!("Condition {} {}", self.operator, self.key.shown()),
            expected: self.expected(),
            presented: match self.key.presented(request) {
                Presented::Values(values) => listed(values.iter().map(AsRef::as_ref)),
                Presented::Absent(why) => format!("not present: {why}"),
            },
        }
    }

    fn expected(&self) -> String {
        if let Values::Null(absent) = self.values {
            return if absent { "not present" } else { "any value" }.to_owned();
        }
        let values = listed(self.values.texts().iter().map(String::as_str));
        match (self.operator.is_negated(), self.values.texts().len()) {
            (false, 1) => values,
            (false, _) => format!("one of {values}"),
            (true, 1) => format!("not {values}"),
            (true, _) => format!("none of {values}"),
        }
    }
}

/// "time" as conditions compare and show it: RFC 3339, UTC, whole seconds.
pub(super) fn time_text(time: std::time::SystemTime) -> String {
    let seconds = jiff::Timestamp::try_from(time)
        .map(jiff::Timestamp::as_second)
        .and_then(jiff::Timestamp::from_second);
    seconds.map_or_else(|_| String::new(), |time| time.to_string())
}
