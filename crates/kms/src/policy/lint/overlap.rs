//! Mistakes between statements: what one asks for, another gives away.

use super::super::action::ATTESTABLE;
use super::super::arn::Arn;
use super::super::document::{Effect, Listed, Statement};
use super::super::principals::Principal;
use super::{Findings, Severity};

const PUT_KEY_POLICY: &str = "kms:PutKeyPolicy";
const DECRYPT: &str = "kms:Decrypt";
const RE_ENCRYPT_FROM: &str = "kms:ReEncryptFrom";

/// An Allow that needs no document, beside one for the same that does.
pub(super) fn beside_attested(statements: &[Statement], findings: &mut Findings<'_>) {
    let allows = || statements.iter().enumerate().filter(|(_, statement)| statement.effect == Effect::Allow);
    for (index, open) in allows().filter(|(_, statement)| !statement.is_attested()) {
        for (other, attested) in allows().filter(|(_, statement)| statement.is_attested()) {
            let Some(overlap) = overlap(open, attested) else { continue };
            let leaks = |action: &&&str| {
                open.covers(action) && attested.covers(action) && !is_guarded(statements, open, action)
            };
            let actions: Vec<&str> = ATTESTABLE.iter().filter(leaks).copied().collect();
            if !actions.is_empty() {
                report(index, other, &actions, overlap, findings);
                continue;
            }
            let moves = open.covers(RE_ENCRYPT_FROM) && attested.covers(DECRYPT);
            if moves && !is_guarded(statements, open, RE_ENCRYPT_FROM) {
                findings.add(
                    Severity::Warning,
                    Some(index),
                    format!(
                        "{RE_ENCRYPT_FROM} without a document, beside Statement[{other}] that asks for one to decrypt: who may move \
                         a ciphertext to a key of their own can read it there"
                    ),
                    "leave kms:ReEncryptFrom to those who may read the plaintext",
                );
            }
        }
    }
}

fn report(index: usize, other: usize, actions: &[&str], overlap: Overlap, findings: &mut Findings<'_>) {
    let list = actions.join(", ");
    match overlap {
        Overlap::Caller => findings.add(
            Severity::Error,
            Some(index),
            format!("allows {list} without a document, beside Statement[{other}] that asks for one: the open one wins"),
            format!("leave {list} out of this statement, or deny requests without the right document: Effect Deny, \
                 StringNotEqualsIgnoreCase on kms:RecipientAttestation:ImageSha384"),
        ),
        Overlap::Account => findings.add(
            Severity::Warning,
            Some(index),
            format!(
                "leaves {list} to the account's identity policies, beside Statement[{other}] that asks for a document: an \
                 identity policy that allows it needs none"
            ),
            "list under Action what administrators need, instead of kms:*",
        ),
    }
}

/// A policy that nobody could change again. AWS refuses it; [`super::super::check_lockout`] does here.
pub(super) fn lockout(statements: &[Statement], findings: &mut Findings<'_>) {
    let open = statements.iter().any(|statement| {
        statement.effect == Effect::Allow
            && statement.covers(PUT_KEY_POLICY)
            && !statement.is_attested()
            && !is_guarded(statements, statement, PUT_KEY_POLICY)
    });
    if !open {
        findings.add(
            Severity::Error,
            None,
            "nobody may call kms:PutKeyPolicy: the key's policy could never be changed again",
            "allow it to an administrator or to the account, and leave it out of Deny",
        );
    }
}

/// How two statements come to be about one caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Overlap {
    /// The first allows an account, which leaves it to identity policies.
    Account,
    /// The first allows the caller.
    Caller,
}

fn overlap(open: &Statement, attested: &Statement) -> Option<Overlap> {
    if !resources_overlap(open, attested) {
        return None;
    }
    // Of one caller's own policy.
    if open.principals.is_empty() {
        return Some(Overlap::Caller);
    }
    let pairs =
        open.principals.iter().flat_map(|one| attested.principals.iter().map(move |other| (one, other)));
    let found = pairs.filter_map(|(one, other)| match (one, other) {
        (Principal::Everyone, _) => Some(Overlap::Caller),
        (Principal::Account(_), Principal::Everyone) => Some(Overlap::Account),
        (Principal::Account(one), Principal::Account(other)) => (one == other).then_some(Overlap::Account),
        (Principal::Account(account), Principal::Arn(arn)) => {
            in_account(arn, account).then_some(Overlap::Account)
        }
        (Principal::Arn(_), Principal::Everyone) => Some(Overlap::Caller),
        (Principal::Arn(arn), Principal::Account(account)) => {
            in_account(arn, account).then_some(Overlap::Caller)
        }
        (Principal::Arn(arn), Principal::Arn(_)) => {
            (one == other || other.matches(arn).is_some() || matches_arn(one, other))
                .then_some(Overlap::Caller)
        }
    });
    found.max()
}

fn matches_arn(one: &Principal, other: &Principal) -> bool {
    matches!(other, Principal::Arn(arn) if one.matches(arn).is_some())
}

fn in_account(arn: &str, account: &str) -> bool {
    Arn::parse(arn).is_some_and(|arn| arn.account == account)
}

/// Lists without wildcards that share nothing do not overlap.
fn resources_overlap(one: &Statement, other: &Statement) -> bool {
    let (Listed::These(one), Listed::These(other)) = (&one.resources, &other.resources) else { return true };
    one.iter().any(|one| one.is_wild() || other.iter().any(|other| other.is_wild() || one == other))
}

/// True if a Deny takes from every principal of an Allow what it gives to requests without a document.
fn is_guarded(statements: &[Statement], allow: &Statement, action: &str) -> bool {
    let whole = |deny: &Statement| match &deny.resources {
        Listed::These(list) => list.iter().any(|pattern| pattern.as_str() == "*"),
        Listed::AllBut(_) => false,
    };
    statements
        .iter()
        .filter(|deny| {
            deny.effect == Effect::Deny
                && deny.covers(action)
                && deny.always_without_document()
                && whole(deny)
        })
        .any(|deny| allow.principals.iter().all(|principal| denies(deny, principal)))
}

fn denies(deny: &Statement, principal: &Principal) -> bool {
    deny.principals.iter().any(|denied| match (denied, principal) {
        (Principal::Everyone, _) => true,
        (Principal::Account(account), Principal::Arn(arn)) => in_account(arn, account),
        (denied, principal) => denied == principal,
    })
}
