//! A key, callers, requests, and policies around a single statement.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use attestation::pcr::Pcr;
use kms::policy::{Attestation, Decision, IdentityPolicy, Policy, Request, decide};
use serde_json::{Value, json};

pub(crate) const ACCOUNT: &str = "123456789012";
pub(crate) const APP: &str = "arn:aws:iam::123456789012:role/App";
pub(crate) const ADMIN: &str = "arn:aws:iam::123456789012:user/Admin";
pub(crate) const STRANGER: &str = "arn:aws:iam::210987654321:user/Stranger";
pub(crate) const KEY: &str = "arn:aws:kms:local-1:123456789012:key/11111111-2222-3333-4444-555555555555";
pub(crate) const IMAGE: &str = "kms:RecipientAttestation:ImageSha384";
pub(crate) const PCR0: &str = "kms:RecipientAttestation:PCR0";
pub(crate) const PCR8: &str = "kms:RecipientAttestation:PCR8";
/// 2026-11-22T12:00:00Z, by `date -u -d @1795348800`.
pub(crate) const NOON: u64 = 1_795_348_800;

/// A register full of one digit.
pub(crate) fn register(digit: char) -> String {
    digit.to_string().repeat(96)
}

pub(crate) fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

/// A request, to be changed and decided.
#[derive(Clone)]
pub(crate) struct Asked {
    pub(crate) principal: &'static str,
    pub(crate) action: &'static str,
    pub(crate) resource: &'static str,
    pub(crate) time: SystemTime,
    pub(crate) context: BTreeMap<String, String>,
    pub(crate) pcrs: Option<BTreeMap<u8, Pcr>>,
    pub(crate) key_spec: Option<&'static str>,
    pub(crate) alias: Option<&'static str>,
}

/// Decrypt by the application's role, without a document.
pub(crate) fn decrypt() -> Asked {
    Asked {
        principal: APP,
        action: "kms:Decrypt",
        resource: KEY,
        time: at(NOON),
        context: BTreeMap::new(),
        pcrs: None,
        key_spec: Some("SYMMETRIC_DEFAULT"),
        alias: None,
    }
}

impl Asked {
    pub(crate) fn by(self, principal: &'static str) -> Self {
        Self { principal, ..self }
    }

    pub(crate) fn action(self, action: &'static str) -> Self {
        Self { action, ..self }
    }

    pub(crate) fn context(mut self, key: &str, value: &str) -> Self {
        self.context.insert(key.to_owned(), value.to_owned());
        self
    }

    /// With a document that has this register beside those given already.
    pub(crate) fn pcr(mut self, index: u8, digit: char) -> Self {
        self.pcrs.get_or_insert_default().insert(index, register(digit).parse().unwrap());
        self
    }

    pub(crate) fn with<T>(&self, ask: impl FnOnce(&Request<'_>) -> T) -> T {
        ask(&Request {
            principal: self.principal,
            account: ACCOUNT,
            action: self.action,
            resource: self.resource,
            time: self.time,
            encryption_context: &self.context,
            attestation: self.pcrs.as_ref().map(|pcrs| Attestation { pcrs }),
            key_spec: self.key_spec,
            key_usage: None,
            request_alias: self.alias,
        })
    }

    pub(crate) fn decide(&self, key: &Value) -> Decision {
        self.with(|request| decide(Some(&policy(key)), None, request))
    }

    pub(crate) fn decide_both(&self, key: Option<&Value>, identity: Option<&Value>) -> Decision {
        let (key, identity) = (key.map(policy), identity.map(identity_policy));
        self.with(|request| decide(key.as_ref(), identity.as_ref(), request))
    }

    /// Whether an Allow for everyone under this condition lets it pass.
    pub(crate) fn passes(&self, condition: Value) -> bool {
        self.decide(&one(json!({"Condition": condition}))).allowed()
    }
}

pub(crate) fn policy(json: &Value) -> Policy {
    Policy::parse(&json.to_string()).unwrap_or_else(|error| panic!("{error}\n{json}"))
}

pub(crate) fn identity_policy(json: &Value) -> IdentityPolicy {
    IdentityPolicy::parse(&json.to_string()).unwrap_or_else(|error| panic!("{error}\n{json}"))
}

/// An Allow of kms:Decrypt to everyone, with these elements in place of or beside its own; null takes one out.
pub(crate) fn statement(changes: Value) -> Value {
    let mut statement =
        json!({"Effect": "Allow", "Principal": "*", "Action": "kms:Decrypt", "Resource": "*"});
    let members = statement.as_object_mut().unwrap();
    for (name, value) in changes.as_object().unwrap() {
        if value.is_null() {
            members.remove(name);
        } else {
            members.insert(name.clone(), value.clone());
        }
    }
    statement
}

/// A policy of these statements.
pub(crate) fn several(statements: &[Value]) -> Value {
    json!({"Version": "2012-10-17", "Statement": statements})
}

/// A policy of one [`statement`].
pub(crate) fn one(changes: Value) -> Value {
    several(&[statement(changes)])
}
