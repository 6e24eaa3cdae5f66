//! Condition operators: their names, and what they compare.

use core::fmt;

use super::super::error::PolicyError;
use super::super::text::{quoted, suggestion};

/// What an operator asks of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Comparison {
    StringEquals,
    StringNotEquals,
    StringEqualsIgnoreCase,
    StringNotEqualsIgnoreCase,
    StringLike,
    StringNotLike,
    Bool,
    Null,
    DateEquals,
    DateNotEquals,
    DateLessThan,
    DateLessThanEquals,
    DateGreaterThan,
    DateGreaterThanEquals,
}

/// How an operator deals with the several values of one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Quantifier {
    /// The key has one value.
    None,
    /// Each value must satisfy it, which holds if there is none.
    ForAll,
    /// One value must satisfy it.
    ForAny,
}

/// What kind of values an operator compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Kind {
    Text,
    Bool,
    Date,
    /// Any: only their presence counts.
    Presence,
}

/// An operator as written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct Operator {
    pub(in super::super) comparison: Comparison,
    pub(in super::super) quantifier: Quantifier,
    pub(in super::super) if_exists: bool,
}

const FOR_ALL: &str = "ForAllValues:";
const FOR_ANY: &str = "ForAnyValue:";
const IF_EXISTS: &str = "IfExists";

impl Comparison {
    const ALL: [Self; 14] = [
        Self::StringEquals,
        Self::StringNotEquals,
        Self::StringEqualsIgnoreCase,
        Self::StringNotEqualsIgnoreCase,
        Self::StringLike,
        Self::StringNotLike,
        Self::Bool,
        Self::Null,
        Self::DateEquals,
        Self::DateNotEquals,
        Self::DateLessThan,
        Self::DateLessThanEquals,
        Self::DateGreaterThan,
        Self::DateGreaterThanEquals,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::StringEquals => "StringEquals",
            Self::StringNotEquals => "StringNotEquals",
            Self::StringEqualsIgnoreCase => "StringEqualsIgnoreCase",
            Self::StringNotEqualsIgnoreCase => "StringNotEqualsIgnoreCase",
            Self::StringLike => "StringLike",
            Self::StringNotLike => "StringNotLike",
            Self::Bool => "Bool",
            Self::Null => "Null",
            Self::DateEquals => "DateEquals",
            Self::DateNotEquals => "DateNotEquals",
            Self::DateLessThan => "DateLessThan",
            Self::DateLessThanEquals => "DateLessThanEquals",
            Self::DateGreaterThan => "DateGreaterThan",
            Self::DateGreaterThanEquals => "DateGreaterThanEquals",
        }
    }
}

impl Operator {
    /// Refuses an operator that AWS does not have or this service does not know.
    pub(in super::super) fn parse(text: &str, at: &str) -> Result<Self, PolicyError> {
        let refuse = |problem: String| Err(PolicyError::new(at, problem));
        let (quantifier, rest) = match (text.strip_prefix(FOR_ALL), text.strip_prefix(FOR_ANY)) {
            (Some(rest), _) => (Quantifier::ForAll, rest),
            (_, Some(rest)) => (Quantifier::ForAny, rest),
            _ => (Quantifier::None, text),
        };
        let (name, if_exists) = rest.strip_suffix(IF_EXISTS).map_or((rest, false), |name| (name, true));
        let Some(comparison) = Comparison::ALL.into_iter().find(|comparison| comparison.name() == name)
        else {
            let names = Comparison::ALL.into_iter().map(Comparison::name);
            return refuse(format!(
                "the operator {} is not known here{}",
                quoted(text),
                suggestion(name, names)
            ));
        };
        let operator = Self { comparison, quantifier, if_exists };
        if comparison == Comparison::Null && if_exists {
            return refuse("Null takes no IfExists: whether the key exists is what it asks".to_owned());
        }
        if quantifier != Quantifier::None && operator.kind() != Kind::Text {
            return refuse(format!("{} takes no ForAllValues or ForAnyValue here", comparison.name()));
        }
        if quantifier != Quantifier::None && if_exists {
            return refuse(format!(
                "{} changes nothing behind ForAllValues or ForAnyValue; leave it out",
                IF_EXISTS
            ));
        }
        Ok(operator)
    }

    /// True for the operators with `Not` in their name.
    pub(in super::super) const fn is_negated(self) -> bool {
        matches!(
            self.comparison,
            Comparison::StringNotEquals
                | Comparison::StringNotEqualsIgnoreCase
                | Comparison::StringNotLike
                | Comparison::DateNotEquals
        )
    }

    pub(in super::super) const fn kind(self) -> Kind {
        match self.comparison {
            Comparison::StringEquals
            | Comparison::StringNotEquals
            | Comparison::StringEqualsIgnoreCase
            | Comparison::StringNotEqualsIgnoreCase
            | Comparison::StringLike
            | Comparison::StringNotLike => Kind::Text,
            Comparison::Bool => Kind::Bool,
            Comparison::Null => Kind::Presence,
            _ => Kind::Date,
        }
    }
}

impl fmt::Display for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let prefix = match self.quantifier {
            Quantifier::None => "",
            Quantifier::ForAll => FOR_ALL,
            Quantifier::ForAny => FOR_ANY,
        };
        let suffix = if self.if_exists { IF_EXISTS } else { "" };
        write!(f, "{prefix}{}{suffix}", self.comparison.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> String {
        Operator::parse(text, "Condition").expect_err(text).to_string()
    }

    #[test]
    fn an_operator_that_is_not_known_is_refused_with_the_one_that_was_meant() {
        assert!(refusal("StringEqual").ends_with("did you mean StringEquals?"));
        assert!(refusal("stringequals").ends_with("did you mean StringEquals?"));
        for text in [
            "",
            "IfExists",
            "ForAllValues:",
            "IpAddress",
            "ArnEquals",
            "NumericEquals",
            "BinaryEquals",
            "forallvalues:StringEquals",
        ] {
            assert!(refusal(text).contains("is not known here"), "{text}");
        }
    }

    #[test]
    fn if_exists_is_refused_where_it_says_nothing() {
        assert!(refusal("NullIfExists").contains("takes no IfExists"));
        assert!(refusal("StringEqualsIfExistsIfExists").contains("is not known here"));
        assert!(refusal("ForAllValues:StringEqualsIfExists").contains("changes nothing"));
    }

    #[test]
    fn set_operators_are_for_texts_alone() {
        for text in ["ForAllValues:Bool", "ForAnyValue:Null", "ForAnyValue:DateEquals"] {
            assert!(refusal(text).contains("takes no ForAllValues"), "{text}");
        }
    }

    #[test]
    fn every_operator_is_read_and_shown_by_its_name() {
        for comparison in Comparison::ALL {
            let name = comparison.name();
            assert_eq!(Operator::parse(name, "").unwrap().to_string(), name);
            if comparison != Comparison::Null {
                let name = format!("{name}IfExists");
                assert_eq!(Operator::parse(&name, "").unwrap().to_string(), name);
            }
        }
        assert_eq!(
            Operator::parse("ForAnyValue:StringNotLike", "").unwrap().to_string(),
            "ForAnyValue:StringNotLike"
        );
    }
}
