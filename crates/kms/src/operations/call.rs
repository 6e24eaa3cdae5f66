//! One request on its way: finding keys, having the policies decide, writing down what they decided.

use core::fmt::Display;
use std::time::SystemTime;

use serde::Deserialize;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::name::{AliasName, KeyName};
use super::policies::Unfit;
use super::wire::{Blob, Context, MAX_DOCUMENT, invalid};
use super::{Caller, Service};
use crate::audit::Entry;
use crate::error::{ErrorKind, KmsError};
use crate::key::{KeyId, KeyMetadata, KeySpec, KeyState, KeyUsage};
use crate::policy::{self, Policy, Request};
use crate::recipient::Recipient;
use crate::store::StoreError;

/// `Recipient`: for whom the answer is to be sealed.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(super) struct RecipientInfo {
    key_encryption_algorithm: KeyEncryptionAlgorithm,
    attestation_document: Blob<MAX_DOCUMENT>,
}

/// How the answer's key is to be encrypted: there is one way.
#[derive(Deserialize)]
enum KeyEncryptionAlgorithm {
    #[serde(rename = "RSAES_OAEP_SHA_256")]
    RsaesOaepSha256,
}

/// A request that is being answered.
pub(super) struct Call<'a> {
    pub(super) service: &'a Service,
    pub(super) caller: &'a Caller<'a>,
    pub(super) now: SystemTime,
}

/// A key that was found. Whether the caller may use it is another question.
pub(super) struct Key {
    pub(super) metadata: KeyMetadata,
    pub(super) arn: String,
    pub(super) material: Zeroizing<Vec<u8>>,
    pub(super) policy_text: String,
    policy: Policy,
    /// By which alias the request named it.
    alias: Option<AliasName>,
}

/// What the policies are asked beside who asks and when.
pub(super) struct Question<'a> {
    action: &'static str,
    resource: &'a str,
    key: Option<&'a Key>,
    spec: Option<(KeySpec, KeyUsage)>,
    context: &'a Context,
    recipient: Option<&'a Recipient>,
    /// What is asked for makes or ends a key, or changes who may use it.
    lasting: bool,
    /// The ARN of the key that is made if it is allowed.
    new_key: Option<&'a str>,
    /// The policy that is put if it is allowed.
    new_policy: Option<&'a str>,
}

impl<'a> Question<'a> {
    /// May the caller do this with the key?
    pub(super) fn on_key(action: &'static str, key: &'a Key) -> Self {
        let spec = Some((key.metadata.spec, key.metadata.usage));
        Self { key: Some(key), spec, ..Self::without_key(action, &key.arn) }
    }

    /// May the caller do this, which no key's policy has a say in? `resource` is the ARN of an alias, or `*`.
    pub(super) fn without_key(action: &'static str, resource: &'a str) -> Self {
        Self {
            action,
            resource,
            key: None,
            spec: None,
            context: const { &Context::EMPTY },
            recipient: None,
            lasting: false,
            new_key: None,
            new_policy: None,
        }
    }

    pub(super) fn with_context(self, context: &'a Context) -> Self {
        Self { context, ..self }
    }

    pub(super) fn with_recipient(self, recipient: Option<&'a Recipient>) -> Self {
        Self { recipient, ..self }
    }

    /// The decision is on the disk before anything is done, as what is done will be.
    pub(super) fn lasting(self) -> Self {
        Self { lasting: true, ..self }
    }

    /// The log names the key that is made.
    pub(super) fn making(self, new_key: &'a str) -> Self {
        Self { new_key: Some(new_key), ..self }
    }

    /// The log says which policy is put, if one is.
    pub(super) fn putting(self, new_policy: Option<&'a str>) -> Self {
        Self { new_policy, ..self }
    }

    pub(super) fn with_spec(self, spec: KeySpec, usage: KeyUsage) -> Self {
        Self { spec: Some((spec, usage)), ..self }
    }
}

impl Call<'_> {
    /// The key of this name: id, ARN, alias or ARN of an alias.
    pub(super) fn key(&self, name: &str) -> Result<Key, KmsError> {
        let (id, alias) = match self.service.place.parse(name)? {
            KeyName::Id(id) => (id, None),
            KeyName::Alias(alias) => (self.target(&alias)?, Some(alias)),
        };
        let key = self.find(&id, alias)?;
        key.ok_or_else(|| self.no_such_key(&id))
    }

    /// The key of this id or ARN.
    pub(super) fn key_without_alias(&self, name: &str) -> Result<Key, KmsError> {
        let id = self.service.place.parse_without_alias(name)?;
        self.find(&id, None)?.ok_or_else(|| self.no_such_key(&id))
    }

    /// The key of this id, if there is one. A key whose time has come is gone, whether or not it has been destroyed yet.
    pub(super) fn find(&self, id: &KeyId, alias: Option<AliasName>) -> Result<Option<Key>, KmsError> {
        let Some(stored) = self.service.store.key(id).map_err(|error| failed(&error))? else {
            return Ok(None);
        };
        if matches!(stored.metadata.state, KeyState::PendingDeletion { at } if at <= self.now) {
            self.service.housekeeping(self.now)?;
            return Ok(None);
        }
        let policy = Policy::parse(&stored.policy).map_err(|error| internal(&error))?;
        Ok(Some(Key {
            arn: self.service.place.key_arn(id),
            metadata: stored.metadata,
            material: stored.material,
            policy_text: stored.policy,
            policy,
            alias,
        }))
    }

    /// Which key an alias stands for.
    pub(super) fn target(&self, alias: &AliasName) -> Result<KeyId, KmsError> {
        let target = self.service.store.alias(alias.as_str()).map_err(|error| failed(&error))?;
        target.ok_or_else(|| no_such_alias(&self.service.place.alias_arn(alias)))
    }

    fn no_such_key(&self, id: &KeyId) -> KmsError {
        let arn = self.service.place.key_arn(id);
        KmsError::new(ErrorKind::NotFound, format!("Key '{arn}' does not exist"))
    }

    /// Verifies the document of a request, if it has one. The question that will be asked of it is told to the log if it fails.
    pub(super) fn recipient(
        &self,
        info: Option<&RecipientInfo>,
        question: &Question<'_>,
    ) -> Result<Option<Recipient>, KmsError> {
        let Some(info) = info else { return Ok(None) };
        let KeyEncryptionAlgorithm::RsaesOaepSha256 = info.key_encryption_algorithm;
        match self.service.verifier().verify(info.attestation_document.as_bytes(), self.now) {
            Ok(recipient) => Ok(Some(recipient)),
            Err(error) => {
                let reason = format!("attestation document refused: {error}");
                self.record(question, false, &reason)?;
                self.tell_denied(question, &reason);
                Err(invalid(
                    "the attestation document in Recipient is not valid; the log of the service says why",
                ))
            }
        }
    }

    /// Has the policies decide, and writes down what they decided. To be called before anything is done.
    ///
    /// The caller learns that it was denied, and never why.
    pub(super) fn authorize(&self, question: &Question<'_>) -> Result<(), KmsError> {
        let principal = self.caller.principal;
        let request = self.policy_request(question);
        let key_policy = question.key.map(|key| &key.policy);
        let decision = policy::decide(key_policy, principal.identity_policy.as_ref(), &request);
        if decision.allowed() {
            return self.record(question, true, decision.reason());
        }
        self.record(question, false, &decision.to_string())?;
        self.tell_denied(question, decision.reason());
        Err(KmsError::new(
            ErrorKind::AccessDenied,
            format!(
                "User: {} is not authorized to perform: {} on resource: {}",
                principal.arn, question.action, question.resource
            ),
        ))
    }

    /// One line for the operator's eyes; what each statement had to do with it is in the log of decisions.
    fn tell_denied(&self, question: &Question<'_>, reason: &str) {
        tracing::warn!(
            principal = self.caller.principal.arn,
            action = question.action,
            resource = question.resource,
            request_id = self.caller.request_id,
            source = self.caller.source,
            enclave = question.recipient.map(Recipient::module_id),
            "denied: {reason}"
        );
    }

    /// Refuses a policy under which the caller could not change it again, as AWS does.
    pub(super) fn check_lockout(&self, policy: &Policy, question: &Question<'_>) -> Result<(), Unfit> {
        policy::check_lockout(policy, &self.policy_request(question))
            .map_err(|decision| Unfit::LocksOut(decision.reason().to_owned()))
    }

    /// What a caller hears who may put policies, and the operator of one that locks its author out.
    pub(super) fn unfit(&self, unfit: Unfit) -> KmsError {
        let message = match unfit {
            Unfit::Malformed(why) => why,
            Unfit::LocksOut(why) => {
                tracing::warn!(
                    principal = self.caller.principal.arn,
                    request_id = self.caller.request_id,
                    source = self.caller.source,
                    "policy refused, it locks its author out: {why}"
                );
                "The new key policy will not allow you to update the key policy in the future.".to_owned()
            }
        };
        KmsError::new(ErrorKind::MalformedPolicyDocument, message)
    }

    fn policy_request<'q>(&'q self, question: &Question<'q>) -> Request<'q> {
        let alias = question.key.and_then(|key| key.alias.as_ref());
        Request {
            principal: &self.caller.principal.arn,
            account: &self.service.account,
            action: question.action,
            resource: question.resource,
            time: self.now,
            encryption_context: question.context.pairs(),
            attestation: question.recipient.map(Recipient::attestation),
            key_spec: question.spec.map(|(spec, _)| spec.aws_name()),
            key_usage: question.spec.map(|(_, usage)| usage.aws_name()),
            request_alias: alias.map(AliasName::as_str),
        }
    }

    /// Writes one line of the log. If it cannot be written, nothing is done.
    pub(super) fn record(
        &self,
        question: &Question<'_>,
        allowed: bool,
        reason: &str,
    ) -> Result<(), KmsError> {
        // What was denied is neither made nor put.
        let new_key = question.new_key.filter(|_| allowed);
        let new_policy = question.new_policy.filter(|_| allowed);
        let entry = Entry {
            time: self.now,
            principal: &self.caller.principal.arn,
            operation: question.action,
            key: new_key.or(Some(question.resource).filter(|resource| *resource != "*")),
            policy_sha256: new_policy.map(|text| Sha256::digest(text).into()),
            allowed,
            reason,
            request_id: self.caller.request_id,
            source: self.caller.source,
        };
        let log = &self.service.audit;
        let written = if question.lasting { log.append_durably(&entry) } else { log.append(&entry) };
        written.map_err(|error| internal(&error))
    }
}

impl Key {
    pub(super) fn id(&self) -> &KeyId {
        &self.metadata.id
    }

    /// Refuses a key that is of another kind than the operation works with.
    pub(super) fn check_usage(&self, usage: KeyUsage) -> Result<(), KmsError> {
        if self.metadata.usage == usage {
            return Ok(());
        }
        Err(KmsError::new(
            ErrorKind::InvalidKeyUsage,
            format!("{} key usage is {}, not {}", self.arn, self.metadata.usage.aws_name(), usage.aws_name()),
        ))
    }

    /// Refuses a key that may not be used now.
    pub(super) fn check_enabled(&self) -> Result<(), KmsError> {
        match self.metadata.state {
            KeyState::Enabled => Ok(()),
            KeyState::Disabled => {
                Err(KmsError::new(ErrorKind::Disabled, format!("{} is disabled.", self.arn)))
            }
            KeyState::PendingDeletion { .. } => Err(self.pending()),
        }
    }

    /// Refuses a key that is going to be destroyed.
    pub(super) fn check_kept(&self) -> Result<(), KmsError> {
        if matches!(self.metadata.state, KeyState::PendingDeletion { .. }) {
            return Err(self.pending());
        }
        Ok(())
    }

    fn pending(&self) -> KmsError {
        KmsError::new(ErrorKind::KmsInvalidState, format!("{} is pending deletion.", self.arn))
    }
}

pub(super) fn no_such_alias(arn: &str) -> KmsError {
    KmsError::new(ErrorKind::NotFound, format!("Alias {arn} is not found."))
}

/// A failure of the store. A key or an alias that went away while it was looked at is not found.
pub(super) fn failed(error: &StoreError) -> KmsError {
    match error {
        StoreError::NoSuchKey(_) | StoreError::NoSuchAlias(_) => {
            KmsError::new(ErrorKind::NotFound, error.to_string())
        }
        error => internal(error),
    }
}

/// A failure of the service itself: the log says what, the caller learns nothing of it.
pub(super) fn internal(error: &dyn Display) -> KmsError {
    tracing::error!("{error}");
    KmsError::new(ErrorKind::KmsInternal, "the service failed; its log says why")
}
