//! Mistakes in the conditions of one statement.

use attestation::policy::Policy;

use super::super::action::{ATTESTABLE, ActionPattern};
use super::super::condition::Condition;
use super::super::condition::operator::{Comparison, Quantifier};
use super::super::condition::values::Values;
use super::super::document::{Effect, Listed, Statement};
use super::{Findings, Severity};

/// Registers that a debug enclave leaves at zero.
const MEASURED: [u8; 3] = [0, 1, 2];

pub(super) fn check(index: usize, statement: &Statement, findings: &mut Findings<'_>) {
    for condition in &statement.conditions {
        let mut add = |severity, what: String, advice: &str| {
            let what = format!("{} {}: {what}", condition.operator, condition.key.shown());
            findings.add(severity, Some(index), what, advice);
        };
        if let Some(register) = condition.key.register() {
            upper_case(condition, &mut add);
            if statement.effect == Effect::Allow {
                passes_without_document(condition, &mut add);
                zeros(register, condition, &mut add);
                wildcards(condition, &mut add);
            }
        }
        if statement.effect == Effect::Allow && condition.operator.quantifier == Quantifier::ForAll {
            for_all(statement, condition, &mut add);
        }
    }
    if statement.effect == Effect::Allow && statement.is_attested() {
        what_is_pinned(index, statement, findings);
        unattestable_actions(index, statement, findings);
        unbound_context(index, statement, findings);
    }
}

type Add<'a> = &'a mut dyn FnMut(Severity, String, &str);

fn upper_case(condition: &Condition, add: Add<'_>) {
    let folds = matches!(condition.values, Values::Folded { .. } | Values::Null(_));
    let upper = condition.values.texts().iter().any(|text| text.contains(|c: char| c.is_ascii_uppercase()));
    if !folds && upper {
        add(
            Severity::Error,
            "an upper-case digit never matches: the registers of a request are in lower case".to_owned(),
            "write the value in lower case, or use StringEqualsIgnoreCase",
        );
    }
}

fn passes_without_document(condition: &Condition, add: Add<'_>) {
    if !condition.holds_without_document() {
        return;
    }
    let why = if condition.operator.if_exists {
        "IfExists holds when the key is absent"
    } else if condition.operator.comparison == Comparison::Null {
        "Null \"true\" asks for a request without a document"
    } else {
        "a negated operator holds when the key is absent"
    };
    add(
        Severity::Error,
        format!("{why}: a caller without any document passes"),
        "in an Allow, say which values pass, with StringEqualsIgnoreCase and without IfExists",
    );
}

fn zeros(register: u8, condition: &Condition, add: Add<'_>) {
    let zeros =
        condition.values.texts().iter().any(|text| text.len() == 96 && text.bytes().all(|byte| byte == b'0'));
    if !condition.pins() || !zeros {
        return;
    }
    if MEASURED.contains(&register) {
        add(
            Severity::Error,
            "all zeros is the value of every debug enclave, whatever it runs, with its console open to the host".to_owned(),
            "write the image's own value (`enclave eif measure`), and run the enclave without --debug",
        );
    } else if is_signer(register) {
        add(
            Severity::Warning,
            "all zeros is the value of every image that nobody signed, and of every debug enclave".to_owned(),
            "write the signer's value (`enclave eif measure --sign-cert CERT`), or ask for the image's own PCR0",
        );
    }
}

/// The register of an image's signer.
fn is_signer(register: u8) -> bool {
    u64::from(register) == Policy::SIGNER_PCR
}

fn wildcards(condition: &Condition, add: Add<'_>) {
    let wild = match &condition.values {
        Values::Like { patterns, .. } => patterns.iter().any(|pattern| pattern.is_wild()),
        _ => false,
    };
    if condition.pins() && wild {
        add(
            Severity::Warning,
            "a wildcard in a register's value lets in whatever shares the rest, and one star every enclave"
                .to_owned(),
            "write whole values; several of them stand in an array",
        );
    }
}

fn for_all(statement: &Statement, condition: &Condition, add: Add<'_>) {
    let required = statement
        .conditions
        .iter()
        .any(|other| other.key == condition.key && matches!(other.values, Values::Null(false)));
    if !required {
        add(
            Severity::Warning,
            "ForAllValues holds for a request that has no value at all".to_owned(),
            "add \"Null\": {\"kms:EncryptionContextKeys\": \"false\"}",
        );
    }
}

/// Attested, but by what?
fn what_is_pinned(index: usize, statement: &Statement, findings: &mut Findings<'_>) {
    let pinned: Vec<u8> = statement
        .conditions
        .iter()
        .filter(|condition| condition.pins())
        .filter_map(|condition| condition.key.register())
        .collect();
    let image = pinned.contains(&0) || (pinned.contains(&1) && pinned.contains(&2));
    if pinned.is_empty() {
        findings.add(
            Severity::Warning,
            Some(index),
            "a document is asked for, but not which: every enclave passes, debug ones too",
            "add StringEqualsIgnoreCase on kms:RecipientAttestation:ImageSha384",
        );
    } else if !image && pinned.iter().copied().any(is_signer) {
        findings.add(
            Severity::Note,
            Some(index),
            "PCR8 names the signer alone: every image with that signature passes, old versions too",
            "to let in one image, add kms:RecipientAttestation:ImageSha384",
        );
    } else if !image {
        let list = pinned.iter().map(|register| format!("PCR{register}")).collect::<Vec<_>>().join(", ");
        findings.add(
            Severity::Warning,
            Some(index),
            format!("{list} without PCR0 leaves a part of the image open"),
            "add kms:RecipientAttestation:ImageSha384, or PCR8 for a signer",
        );
    }
}

/// A condition that their requests cannot meet.
fn unattestable_actions(index: usize, statement: &Statement, findings: &mut Findings<'_>) {
    let Listed::These(actions) = &statement.actions else { return };
    let never = actions.iter().filter(|action| !ATTESTABLE.iter().any(|name| action.matches(name)));
    let list = never.map(ActionPattern::as_str).collect::<Vec<_>>();
    if !list.is_empty() {
        findings.add(
            Severity::Warning,
            Some(index),
            format!(
                "{}: such requests carry no document, so this statement never allows them",
                list.join(", ")
            ),
            "allow them in a statement of their own, without a Condition on attestation",
        );
    }
}

fn unbound_context(index: usize, statement: &Statement, findings: &mut Findings<'_>) {
    use super::super::condition::key::{Key, Named};
    let bound = statement.conditions.iter().any(|condition| {
        matches!(condition.key, Key::EncryptionContext(_) | Key::Named(Named::EncryptionContextKeys))
    });
    if statement.covers("kms:Decrypt") && !bound {
        findings.add(
            Severity::Note,
            Some(index),
            "kms:Decrypt is not bound to an encryption context: the enclave may open everything under this key",
            "if the key is for several purposes, add a Condition on kms:EncryptionContext:<key>",
        );
    }
}
