//! From JSON to a policy. Whatever is not known is refused: what would be ignored is a hole.
//!
//! Specification: AWS IAM user guide, "Grammar of the IAM JSON policy language"; AWS KMS developer guide, "Create a key policy".

use std::collections::HashSet;

use super::action::ActionPattern;
use super::arn::{Arn, is_partition};
use super::condition::Condition;
use super::condition::key::Key;
use super::condition::operator::{Kind, Operator, Quantifier};
use super::condition::values::Values;
use super::document::{Effect, Listed, Statement};
use super::error::PolicyError;
use super::json::Json;
use super::pattern::Pattern;
use super::principals::Principal;
use super::text::{quoted, suggestion};
use super::variable::no_variable;

/// Largest policy of a key, in bytes. Source: AWS KMS developer guide, "Resource quotas": key policy document size.
pub const MAX_POLICY_BYTES: usize = 32 * 1024;
/// Largest policy of a caller, in bytes. Source: IAM user guide, "IAM and AWS STS quotas": inline policies have 10240 characters at most.
pub const MAX_IDENTITY_POLICY_BYTES: usize = 10_240;
/// Most statements of a policy. AWS bounds them by the size alone.
pub const MAX_STATEMENTS: usize = 128;
/// Most conditions of a statement: keys, counted for each operator.
pub const MAX_CONDITIONS: usize = 64;
/// Most values of one element or condition.
pub const MAX_VALUES: usize = 256;

/// Versions of the policy language. One without a version is of the older; they differ in policy variables, which are refused
/// in both.
const VERSIONS: [&str; 2] = ["2012-10-17", "2008-10-17"];

type Result<T> = core::result::Result<T, PolicyError>;
type Members = [(String, Json)];

/// Whose policy it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    Key,
    Identity,
}

/// The statements of a policy.
pub(super) fn statements(json: &str, owner: Owner) -> Result<Vec<Statement>> {
    let (whose, most) = match owner {
        Owner::Key => ("of a key", MAX_POLICY_BYTES),
        Owner::Identity => ("of a caller", MAX_IDENTITY_POLICY_BYTES),
    };
    if json.len() > most {
        return refuse("policy", format!("{} bytes; the policy {whose} has at most {most}", json.len()));
    }
    let policy = Json::parse(json)?;
    let members = object(&policy, "policy")?;
    known(members, &["Version", "Id", "Statement"], "policy")?;
    if let Some(version) = member(members, "Version") {
        let version = text(version, "Version")?;
        if !VERSIONS.contains(&version) {
            return refuse(
                "Version",
                format!("{} is no version of the language; write 2012-10-17", quoted(version)),
            );
        }
    }
    if let Some(id) = member(members, "Id") {
        text(id, "Id")?;
    }
    let Some(list) = member(members, "Statement") else {
        return refuse("policy", "there is no Statement".to_owned());
    };
    let list = one_or_many(list);
    not_empty(list.len(), "Statement")?;
    bounded(list.len(), MAX_STATEMENTS, "statements", "Statement")?;
    let each =
        list.iter().enumerate().map(|(index, json)| statement(json, owner, &format!("Statement[{index}]")));
    let statements = each.collect::<Result<Vec<_>>>()?;
    distinct_sids(&statements)?;
    Ok(statements)
}

fn distinct_sids(statements: &[Statement]) -> Result<()> {
    let mut seen = HashSet::new();
    for (index, sid) in
        statements.iter().enumerate().filter_map(|(index, one)| Some((index, one.sid.as_ref()?)))
    {
        if !seen.insert(sid) {
            return refuse(
                &format!("Statement[{index}].Sid"),
                format!("{} is another statement's too", quoted(sid)),
            );
        }
    }
    Ok(())
}

fn statement(json: &Json, owner: Owner, at: &str) -> Result<Statement> {
    let members = object(json, at)?;
    let inside = |name: &str| format!("{at}.{name}");
    if member(members, "NotPrincipal").is_some() {
        return refuse(
            &inside("NotPrincipal"),
            "this service does not know it; write Principal \"*\" with a Condition StringNotEquals on aws:PrincipalArn".to_owned(),
        );
    }
    const ELEMENTS: [&str; 8] =
        ["Sid", "Effect", "Principal", "Action", "NotAction", "Resource", "NotResource", "Condition"];
    known(members, &ELEMENTS, at)?;
    let sid = member(members, "Sid").map(|sid| text(sid, &inside("Sid"))).transpose()?.map(str::to_owned);
    let effect = match member(members, "Effect").map(|effect| text(effect, &inside("Effect"))).transpose()? {
        Some("Allow") => Effect::Allow,
        Some("Deny") => Effect::Deny,
        Some(other) => {
            return refuse(&inside("Effect"), format!("{} is neither Allow nor Deny", quoted(other)));
        }
        None => return refuse(at, "there is no Effect; write Allow or Deny".to_owned()),
    };
    let principals = match (owner, member(members, "Principal")) {
        (Owner::Key, Some(json)) => principals(json, &inside("Principal"))?,
        (Owner::Identity, None) => Vec::new(),
        (Owner::Key, None) => {
            return refuse(
                at,
                "there is no Principal; in the policy of a key each statement says whom it is about"
                    .to_owned(),
            );
        }
        (Owner::Identity, Some(_)) => {
            return refuse(
                &inside("Principal"),
                "the policy of a caller is about that caller; leave it out".to_owned(),
            );
        }
    };
    let actions = listed(members, "Action", "NotAction", at, ActionPattern::parse)?;
    let resources = listed(members, "Resource", "NotResource", at, resource)?;
    let conditions = match member(members, "Condition") {
        Some(json) => conditions(json, &inside("Condition"))?,
        None => Vec::new(),
    };
    Ok(Statement { sid, effect, principals, actions, resources, conditions })
}

fn principals(json: &Json, at: &str) -> Result<Vec<Principal>> {
    if let Json::Text(all) = json {
        if all == "*" {
            return Ok(vec![Principal::Everyone]);
        }
        return refuse(at, format!("{} stands alone; write \"*\" or {{\"AWS\": ...}}", quoted(all)));
    }
    let members = object(json, at)?;
    for (kind, _) in members {
        if ["Service", "Federated", "CanonicalUser"].contains(&kind.as_str()) {
            return refuse(
                at,
                format!("{kind}: no such principal signs requests to this service; leave it out"),
            );
        }
    }
    known(members, &["AWS"], at)?;
    let Some(list) = member(members, "AWS") else {
        return refuse(at, "names nobody; write \"*\" or {\"AWS\": ...}".to_owned());
    };
    texts(list, &format!("{at}.AWS"))?.into_iter().map(|text| Principal::parse(text, at)).collect()
}

/// The element, or its negation; one of them there must be.
fn listed<T>(
    members: &Members,
    these: &str,
    all_but: &str,
    at: &str,
    parse: impl Fn(&str, &str) -> Result<T>,
) -> Result<Listed<T>> {
    let read = |json: &Json, name: &str| {
        let at = format!("{at}.{name}");
        texts(json, &at)?.into_iter().map(|text| parse(text, &at)).collect::<Result<Vec<_>>>()
    };
    match (member(members, these), member(members, all_but)) {
        (Some(json), None) => read(json, these).map(Listed::These),
        (None, Some(json)) => read(json, all_but).map(Listed::AllBut),
        (Some(_), Some(_)) => refuse(at, format!("there are both {these} and {all_but}; write one of them")),
        (None, None) => refuse(at, format!("there is no {these}")),
    }
}

/// `*`, or the ARN of a key or an alias, wildcards included.
fn resource(text: &str, at: &str) -> Result<Pattern> {
    no_variable(text, at)?;
    if text == "*" {
        return Ok(Pattern::new(text));
    }
    if is_resource(text) {
        return Ok(Pattern::new(text));
    }
    refuse(
        at,
        format!(
            "{} is neither \"*\" nor the ARN of a key or an alias (arn:aws:kms:REGION:ACCOUNT:key/ID)",
            quoted(text)
        ),
    )
}

fn is_resource(text: &str) -> bool {
    let wild = |part: &str| part.contains(['*', '?']);
    let kms = |service: &str| service == "kms" || wild(service);
    match Arn::parse(text) {
        Some(arn) => {
            let kind =
                arn.resource.starts_with("key/") || arn.resource.starts_with("alias/") || wild(arn.resource);
            kind && kms(arn.service) && (is_partition(arn.partition) || wild(arn.partition))
        }
        // A star at the end stands for the parts that are missing.
        None => text.starts_with("arn:") && text.ends_with('*') && text.split(':').nth(2).is_none_or(kms),
    }
}

fn conditions(json: &Json, at: &str) -> Result<Vec<Condition>> {
    let mut conditions = Vec::new();
    let operators = object(json, at)?;
    not_empty(operators.len(), at)?;
    for (name, keys) in operators {
        let operator = Operator::parse(name, at)?;
        let at = format!("{at}.{operator}");
        let keys = object(keys, &at)?;
        not_empty(keys.len(), &at)?;
        let mut seen = HashSet::new();
        for (name, values) in keys {
            let key = Key::parse(name, &at)?;
            if !seen.insert(key.folded()) {
                return refuse(
                    &at,
                    format!("{} stands here twice; upper and lower case are one", key.shown()),
                );
            }
            conditions.push(condition(operator, key, values, &at)?);
            bounded(conditions.len(), MAX_CONDITIONS, "conditions", &at)?;
        }
    }
    Ok(conditions)
}

fn condition(operator: Operator, key: Key, values: &Json, at: &str) -> Result<Condition> {
    let at = format!("{at}.{}", key.shown());
    let kind = operator.kind();
    if kind != Kind::Presence && kind != key.kind() {
        let fitting = match key.kind() {
            Kind::Date => "the Date operators",
            Kind::Bool => "Bool",
            Kind::Text | Kind::Presence => "the String operators",
        };
        return refuse(&at, format!("{operator} does not fit this key; {fitting} do, and Null"));
    }
    if key.is_set() && operator.quantifier == Quantifier::None && kind != Kind::Presence {
        return refuse(
            &at,
            format!("this key has several values; write ForAnyValue:{operator} or ForAllValues:{operator}"),
        );
    }
    if !key.is_set() && operator.quantifier != Quantifier::None {
        return refuse(
            &at,
            "this key has one value; ForAllValues and ForAnyValue are for kms:EncryptionContextKeys"
                .to_owned(),
        );
    }
    let values = one_or_many(values);
    not_empty(values.len(), &at)?;
    bounded(values.len(), MAX_VALUES, "values", &at)?;
    let values = Values::parse(operator, &key, values, &at)?;
    Ok(Condition { operator, key, values })
}

fn refuse<T>(at: &str, problem: String) -> Result<T> {
    Err(PolicyError::new(at, problem))
}

fn object<'a>(json: &'a Json, at: &str) -> Result<&'a Members> {
    match json {
        Json::Object(members) => Ok(members),
        other => refuse(at, format!("an object belongs here, and here is {}", other.kind())),
    }
}

fn text<'a>(json: &'a Json, at: &str) -> Result<&'a str> {
    match json {
        Json::Text(text) => Ok(text),
        other => refuse(at, format!("a text belongs here, and here is {}", other.kind())),
    }
}

/// One text or several.
fn texts<'a>(json: &'a Json, at: &str) -> Result<Vec<&'a str>> {
    let list = one_or_many(json);
    not_empty(list.len(), at)?;
    bounded(list.len(), MAX_VALUES, "values", at)?;
    list.iter().map(|json| text(json, at)).collect()
}

fn one_or_many(json: &Json) -> &[Json] {
    match json {
        Json::Array(list) => list,
        one => core::slice::from_ref(one),
    }
}

fn member<'a>(members: &'a Members, name: &str) -> Option<&'a Json> {
    members.iter().find(|(member, _)| member == name).map(|(_, json)| json)
}

fn known(members: &Members, names: &[&str], at: &str) -> Result<()> {
    match members.iter().find(|(name, _)| !names.contains(&name.as_str())) {
        None => Ok(()),
        Some((name, _)) => {
            let advice = suggestion(name, names.iter().copied());
            refuse(at, format!("the element {} is not known here{advice}", quoted(name)))
        }
    }
}

fn not_empty(count: usize, at: &str) -> Result<()> {
    if count == 0 { refuse(at, "empty; fill it, or leave it out".to_owned()) } else { Ok(()) }
}

fn bounded(count: usize, most: usize, what: &str, at: &str) -> Result<()> {
    if count > most { refuse(at, format!("more than {most} {what}")) } else { Ok(()) }
}
