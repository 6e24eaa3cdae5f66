//! The evaluation of policies.
//!
//! Specification: AWS IAM user guide, "Policy evaluation logic", "Cross-account policy evaluation logic"; AWS KMS developer guide,
//! "Determining access to AWS KMS keys", "Default key policy".

use std::collections::BTreeMap;

use super::arn::Arn;
use super::condition::key::is_judgeable;
use super::decision::{Decision, Mismatch, Outcome, Source, StatementReport};
use super::document::{Effect, IdentityPolicy, Listed, Policy, Statement};
use super::principals::{Match, Principal};
use super::request::Request;
use super::text::{listed, quoted, unquoted};

/// A key's policy and the caller's identity policy together, as KMS combines them.
///
/// - An explicit Deny in either refuses.
/// - An Allow for the caller in the key policy suffices; one for the caller's account leaves it to the identity policy.
/// - A caller of another account needs both.
/// - Operations without a key (`key` is `None`) are decided by the identity policy alone.
#[must_use]
pub fn decide(key: Option<&Policy>, identity: Option<&IdentityPolicy>, request: &Request<'_>) -> Decision {
    let Some(caller) = Arn::parse(request.principal) else {
        return Decision::new(
            false,
            format!("the caller {} has no ARN", quoted(request.principal)),
            Vec::new(),
        );
    };
    if !is_judgeable(request) {
        return Decision::new(false, "the clock shows a time that cannot be compared".to_owned(), Vec::new());
    }
    let key_reports = key.map(|policy| reports(Source::Key, &policy.statements, request));
    let identity_reports = identity.map(|policy| reports(Source::Identity, &policy.statements, request));
    let foreign = caller.account != request.account;
    let verdict =
        verdict(key_reports.as_deref(), identity_reports.as_deref().unwrap_or_default(), foreign, request);
    let all = key_reports.into_iter().chain(identity_reports).flatten().collect();
    match verdict {
        Ok(reason) => Decision::new(true, reason, all),
        Err(reason) => Decision::new(false, reason, all),
    }
}

/// What CreateKey and PutKeyPolicy ask before they take a policy, unless BypassPolicyLockoutSafetyCheck is set: may the caller
/// change it again? Being named, or the account being named, suffices. `request` is theirs; its action is not looked at.
///
/// # Errors
/// The decision that would keep the caller out.
pub fn check_lockout(policy: &Policy, request: &Request<'_>) -> Result<(), Box<Decision>> {
    let nothing = BTreeMap::new();
    let later = Request {
        action: "kms:PutKeyPolicy",
        encryption_context: &nothing,
        attestation: None,
        request_alias: None,
        ..*request
    };
    let decision = decide(Some(policy), None, &later);
    let denied = decision.statements().iter().any(|report| applies(report, Effect::Deny));
    let named = decision.statements().iter().any(|report| applies(report, Effect::Allow));
    if named && !denied { Ok(()) } else { Err(Box::new(decision)) }
}

/// The reason for or against.
fn verdict(
    key: Option<&[StatementReport]>,
    identity: &[StatementReport],
    foreign: bool,
    request: &Request<'_>,
) -> Result<String, String> {
    let mut statements = key.unwrap_or_default().iter().chain(identity);
    if let Some(deny) = statements.find(|report| applies(report, Effect::Deny)) {
        return Err(format!("{} denies it", deny.name()));
    }
    let by_identity = identity.iter().find(|report| applies(report, Effect::Allow));
    let Some(key) = key else {
        return by_identity.map(allows).ok_or_else(|| nothing_allows(identity, request));
    };
    let allow =
        |outcome| key.iter().find(|report| report.effect == Effect::Allow && report.outcome == outcome);
    let (direct, delegated) = (allow(Outcome::Matched), allow(Outcome::Delegated));
    match (direct, delegated, by_identity) {
        (Some(direct), ..) if !foreign => Ok(allows(direct)),
        (Some(by_key), _, Some(by_identity)) | (None, Some(by_key), Some(by_identity)) => {
            Ok(format!("{} and {} allow it together", by_key.name(), by_identity.name()))
        }
        // What fails by a condition came nearer than what only leaves it to others.
        (None, Some(by_key), None) if nearest(identity).is_none() && nearest(key).is_some() => Err(format!(
            "{} ({} leaves it to the identity policy, which does not allow it)",
            nothing_allows(key, request),
            by_key.name()
        )),
        (Some(by_key), _, None) | (None, Some(by_key), None) => Err(format!(
            "{} leaves it to the identity policy: {}",
            by_key.name(),
            nothing_allows(identity, request)
        )),
        (None, None, _) => Err(nothing_allows(key, request)),
    }
}

fn applies(report: &StatementReport, effect: Effect) -> bool {
    report.effect == effect && report.outcome != Outcome::Unmatched
}

fn allows(report: &StatementReport) -> String {
    format!("{} allows it", report.name())
}

/// What came nearest: the first Allow that fails by its conditions alone.
fn nearest(reports: &[StatementReport]) -> Option<(&StatementReport, &Mismatch)> {
    reports.iter().filter(|report| report.effect == Effect::Allow).find_map(|report| {
        Some((report, report.mismatches.first().filter(|one| one.element.starts_with("Condition"))?))
    })
}

fn nothing_allows(reports: &[StatementReport], request: &Request<'_>) -> String {
    match nearest(reports) {
        Some((report, mismatch)) => format!("no statement allows it; {}: {mismatch}", report.name()),
        None => format!("no statement allows {} to this caller", unquoted(request.action)),
    }
}

fn reports(policy: Source, statements: &[Statement], request: &Request<'_>) -> Vec<StatementReport> {
    let each = statements.iter().enumerate().map(|(index, statement)| {
        let (outcome, mismatches) = match matching(policy, statement, request) {
            Ok(Match::Direct) => (Outcome::Matched, Vec::new()),
            // A Deny has nothing to leave to others: it is for every caller of the account.
            Ok(Match::Account) if statement.effect == Effect::Deny => (Outcome::Matched, Vec::new()),
            Ok(Match::Account) => (Outcome::Delegated, Vec::new()),
            Err(mismatches) => (Outcome::Unmatched, mismatches),
        };
        StatementReport {
            policy,
            statement: index,
            sid: statement.sid.clone(),
            effect: statement.effect,
            outcome,
            mismatches,
        }
    });
    each.collect()
}

/// How a statement matches a request, or every reason why not: the first element that fails, or else each condition that does.
fn matching(policy: Source, statement: &Statement, request: &Request<'_>) -> Result<Match, Vec<Mismatch>> {
    let by = match policy {
        Source::Identity => Match::Direct,
        Source::Key => principal(&statement.principals, request)?,
    };
    if !statement.actions.covers(|pattern| pattern.matches(request.action)) {
        return Err(element("Action", &statement.actions, request.action, |pattern| pattern.as_str()));
    }
    if !statement.resources.covers(|pattern| pattern.matches(request.resource)) {
        return Err(element("Resource", &statement.resources, request.resource, |pattern| pattern.as_str()));
    }
    let failed = statement.conditions.iter().filter(|condition| !condition.holds(request, statement.effect));
    let failed: Vec<_> = failed.map(|condition| condition.mismatch(request)).collect();
    if failed.is_empty() { Ok(by) } else { Err(failed) }
}

/// The closest way in which the principals stand for the caller.
fn principal(principals: &[Principal], request: &Request<'_>) -> Result<Match, Vec<Mismatch>> {
    let found = || principals.iter().filter_map(|principal| principal.matches(request.principal));
    if found().any(|by| by == Match::Direct) {
        return Ok(Match::Direct);
    }
    found().next().ok_or_else(|| {
        let expected = listed(principals.iter().map(ToString::to_string));
        vec![Mismatch { element: "Principal".to_owned(), expected, presented: quoted(request.principal) }]
    })
}

fn element<T>(name: &str, list: &Listed<T>, presented: &str, text: impl Fn(&T) -> &str) -> Vec<Mismatch> {
    let (name, expected) = match list {
        Listed::These(list) => (name.to_owned(), listed(list.iter().map(text))),
        Listed::AllBut(list) => {
            (format!("Not{name}"), format!("anything but {}", listed(list.iter().map(text))))
        }
    };
    vec![Mismatch { element: name, expected, presented: quoted(presented) }]
}
