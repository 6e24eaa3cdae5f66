//! `enclave kms explain`: what the service would decide, and why, without the service.

use std::collections::BTreeMap;
use std::time::SystemTime;

use attestation::pcr::Pcr;
use attestation::roots::Roots;
use attestation::verify::{Policy as Expected, verify_against};
use kms::policy::{Attestation, Decision, Policy, Request, account_of, canonical_action, decide};
use serde::Serialize;

use super::policies::{STATUS_TROUBLE, identity_policy, key_policy};
use crate::args::{KmsExplainArgs, Time};
use crate::commands::attest::time_to_judge;
use crate::error::{Failure, Result};
use crate::output::{self, Fields, printable};
use crate::{input, pki, time};

/// Exit status if the request would be denied.
const STATUS_DENIED: u8 = 1;
/// The account of a caller that a policy does not tell.
const SOME_ACCOUNT: &str = "000000000000";
/// The key that stands for any.
const SOME_KEY: &str = "key/00000000-0000-0000-0000-000000000000";

/// Decides; the value is the exit status.
pub(super) fn explain(args: &KmsExplainArgs) -> Result<u8> {
    let report = report(args).map_err(|failure| failure.with_status(STATUS_TROUBLE))?;
    output::print(args.output.format, &report, Report::text)?;
    Ok(if report.decision.allowed() { 0 } else { STATUS_DENIED })
}

fn report(args: &KmsExplainArgs) -> Result<Report> {
    let key = args.policy.as_deref().map(key_policy).transpose()?;
    let identity = args.identity_policy.as_deref().map(identity_policy).transpose()?;
    let action = canonical_action(&args.action).map_err(|error| {
        Failure::new(error, "give an action as policies name it, such as kms:Decrypt or kms:GenerateDataKey")
    })?;
    let principal = principal(args, key.as_ref())?;
    let account = account_of(&principal).ok_or_else(|| {
        Failure::new(
            format_args!("{} is no caller", printable(&principal)),
            "write an ARN with an account of 12 digits, such as arn:aws:iam::000000000000:user/NAME",
        )
    })?;
    let (owner, resource) = resource(args, key.as_ref(), account)?;
    let (now, pcrs) = document(args)?;
    let context = context(args)?;
    let request = Request {
        principal: &principal,
        account: &owner,
        action: &action,
        resource: &resource,
        time: now,
        encryption_context: &context,
        attestation: pcrs.as_ref().map(|pcrs| Attestation { pcrs }),
        key_spec: args.key_spec.as_deref(),
        key_usage: args.key_usage.as_deref(),
        request_alias: args.alias.as_deref(),
    };
    let decision = decide(key.as_ref(), identity.as_ref(), &request);
    Ok(Report { principal, action, resource, time: time::text(now), pcrs, decision })
}

/// The caller: the one given, or the one that the key's policy is about.
fn principal(args: &KmsExplainArgs, key: Option<&Policy>) -> Result<String> {
    if let Some(principal) = &args.principal {
        return Ok(principal.clone());
    }
    let named = key.map(Policy::callers).unwrap_or_default();
    match named.as_slice() {
        [] => {
            let account = key.and_then(Policy::account).unwrap_or(SOME_ACCOUNT);
            Ok(format!("arn:aws:iam::{account}:user/somebody"))
        }
        [one] => Ok((*one).to_owned()),
        several => Err(Failure::new(
            "the policy names several callers",
            format_args!("say who asks with --principal: {}", printable(&several.join(", "))),
        )),
    }
}

/// The account that owns the key, and what is asked for.
fn resource(args: &KmsExplainArgs, key: Option<&Policy>, account: &str) -> Result<(String, String)> {
    match (&args.key, key) {
        (Some(arn), _) => {
            let owner = account_of(arn).ok_or_else(|| {
                Failure::new(
                    format_args!("{} is no key", printable(arn)),
                    "write the key's ARN, such as arn:aws:kms:local-1:000000000000:key/ID",
                )
            })?;
            Ok((owner.to_owned(), arn.clone()))
        }
        (None, Some(_)) => Ok((account.to_owned(), format!("arn:aws:kms:local-1:{account}:{SOME_KEY}"))),
        (None, None) => Ok((account.to_owned(), "*".to_owned())),
    }
}

/// The time to judge at, and the registers of the document, verified as of then.
fn document(args: &KmsExplainArgs) -> Result<(SystemTime, Option<BTreeMap<u8, Pcr>>)> {
    let Some(path) = &args.document else {
        if args.at == Some(Time::OfDocument) {
            return Err(Failure::new(
                "--at document, but there is no document",
                "give the document as --doc, or a time",
            ));
        }
        return Ok((time_to_judge(args.at, &[]), None));
    };
    let signed = input::document(path)?;
    let time = time_to_judge(args.at, &signed);
    let verified = verify_against(&signed, &roots(args)?, time, &expected()).map_err(|error| {
        Failure::new(
            format_args!("the document is refused: {error}"),
            "the service would refuse it before any policy is asked; `enclave attest verify` tells more",
        )
    })?;
    let pcrs = verified.document.pcrs.iter().map(|(index, value)| (index.get(), *value)).collect();
    Ok((time, Some(pcrs)))
}

/// As the service does it: a debug enclave's document is genuine, its registers are zeros, and the policy decides.
fn expected() -> Expected {
    Expected { allow_debug: true, ..Expected::default() }
}

fn roots(args: &KmsExplainArgs) -> Result<Roots> {
    let mut roots = Roots::new();
    for path in &args.root {
        roots.trust(&input::root_certificate(path)?);
    }
    if args.root.is_empty() {
        let own = pki::load()?.ok_or_else(|| {
            Failure::new(
                "this host has no root of trust yet",
                "give the root of the host that made the document as --root (`enclave pki export-root` there)",
            )
        })?;
        roots.trust(&own.root);
    }
    Ok(roots)
}

fn context(args: &KmsExplainArgs) -> Result<BTreeMap<String, String>> {
    let mut context = BTreeMap::new();
    for pair in &args.context {
        if context.insert(pair.key.clone(), pair.value.clone()).is_some() {
            return Err(Failure::new(
                format_args!("--context gives {} twice", printable(&pair.key)),
                "give one value for each key",
            ));
        }
    }
    Ok(context)
}

/// The request as it was judged, and the decision.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Report {
    principal: String,
    action: String,
    resource: String,
    time: String,
    #[serde(rename = "PCRs")]
    pcrs: Option<BTreeMap<u8, Pcr>>,
    #[serde(flatten)]
    decision: Decision,
}

impl Report {
    fn text(&self) -> String {
        let mut fields = Fields::default();
        fields.add("Action", &self.action).add("Principal", printable(&self.principal));
        fields.add("Key", printable(&self.resource)).add("At", &self.time);
        match &self.pcrs {
            None => {
                fields.add("Document", "none");
            }
            Some(pcrs) => {
                let shown = pcrs.iter().filter(|(index, value)| **index == 0 || !value.is_zero());
                for (index, value) in shown {
                    fields.add(format!("PCR{index}"), value);
                }
            }
        }
        format!("{}{}\n", fields.render(0), self.decision)
    }
}
