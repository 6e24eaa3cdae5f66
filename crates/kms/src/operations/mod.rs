//! What the service does: one module for each group of operations.
//!
//! Each operation reads its request, finds the key, has the policies decide, looks at the key's state, and then does what it was
//! asked for. Nothing is done before the decision is in the log. Members and errors are those of the AWS KMS API reference
//! (version 2014-11-01); what of it we do not have is refused by name, never ignored.

mod agreement;
mod aliases;
mod call;
mod ciphertext;
mod data_keys;
mod encryption;
mod key_pairs;
mod keys;
mod lifecycle;
mod name;
mod policies;
mod random;
mod wire;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::SystemTime;

use zeroize::Zeroizing;

use crate::audit::AuditLog;
use crate::error::KmsError;
use crate::principal::Principal;
use crate::recipient::Verifier;
use crate::store::Store;
use call::Call;
use key_pairs::Generators;
use name::Place;

/// Who asks, as the server found out.
#[derive(Debug, Clone, Copy)]
pub struct Caller<'a> {
    /// Whose signature the request bears.
    pub principal: &'a Principal,
    /// The id of this request, in its answer and in the log.
    pub request_id: &'a str,
    /// Where it came from: `tcp 127.0.0.1:4711`, `unix`, `vsock 16`.
    pub source: &'a str,
}

/// What a [`Service`] is made of.
#[derive(Debug)]
pub struct Parts {
    /// The keys.
    pub store: Store,
    /// The verifier of documents.
    pub verifier: Verifier,
    /// The log of decisions.
    pub audit: AuditLog,
    /// The account in every ARN: 12 digits.
    pub account: String,
    /// The region in every ARN.
    pub region: String,
}

/// The key service, without its network.
#[derive(Debug)]
pub struct Service {
    store: Store,
    verifier: RwLock<Arc<Verifier>>,
    audit: AuditLog,
    account: String,
    place: Place,
    generators: Generators,
    /// Held while a key or an alias is looked at and then changed.
    changes: Mutex<()>,
}

impl Service {
    /// A service of these parts.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        Self {
            store: parts.store,
            verifier: RwLock::new(Arc::new(parts.verifier)),
            audit: parts.audit,
            place: Place::new(&parts.region, &parts.account),
            account: parts.account,
            generators: Generators::default(),
            changes: Mutex::new(()),
        }
    }

    /// Answers one request: `operation` is what follows `TrentService.` in X-Amz-Target, `body` its JSON, `now` the time by which it
    /// is judged. The answer is JSON, empty for operations that answer nothing, and wiped when dropped: it may hold a secret.
    ///
    /// Synchronous; an RSA key pair takes seconds. Not for an async thread.
    ///
    /// # Errors
    /// What the caller is to be told.
    pub fn handle(
        &self,
        caller: &Caller<'_>,
        operation: &str,
        body: &[u8],
        now: SystemTime,
    ) -> Result<Zeroizing<Vec<u8>>, KmsError> {
        match OPERATIONS.iter().find(|(name, _)| *name == operation) {
            Some((_, run)) => run(&Call { service: self, caller, now }, body),
            None => Err(wire::unsupported("this service does not have that operation")),
        }
    }

    /// From now on documents are verified by another verifier. Requests that run keep the one they began with.
    pub fn replace_verifier(&self, verifier: Verifier) {
        *self.verifier.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(verifier);
    }

    fn verifier(&self) -> Arc<Verifier> {
        Arc::clone(&self.verifier.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// What has to be done from time to time, once a minute say: destroys the keys whose deletion is due.
    ///
    /// # Errors
    /// The store fails.
    pub fn housekeeping(&self, now: SystemTime) -> Result<(), KmsError> {
        for key in self.store.destroy_due(now).map_err(|error| call::failed(&error))? {
            tracing::info!(key = self.place.key_arn(&key), "destroyed: its waiting period is over");
        }
        Ok(())
    }

    /// Keeps others from changing anything until it is dropped.
    fn changing(&self) -> MutexGuard<'_, ()> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Answers one request: reads its JSON, writes that of the answer.
type Operation = fn(&Call<'_>, &[u8]) -> Result<Zeroizing<Vec<u8>>, KmsError>;

/// Every operation that there is.
const OPERATIONS: [(&str, Operation); 25] = [
    ("CancelKeyDeletion", lifecycle::cancel_key_deletion),
    ("CreateAlias", aliases::create_alias),
    ("CreateKey", keys::create_key),
    ("Decrypt", encryption::decrypt),
    ("DeleteAlias", aliases::delete_alias),
    ("DeriveSharedSecret", agreement::derive_shared_secret),
    ("DescribeKey", keys::describe_key),
    ("DisableKey", lifecycle::disable_key),
    ("EnableKey", lifecycle::enable_key),
    ("Encrypt", encryption::encrypt),
    ("GenerateDataKey", data_keys::generate_data_key),
    ("GenerateDataKeyPair", key_pairs::generate_data_key_pair),
    ("GenerateDataKeyPairWithoutPlaintext", key_pairs::generate_data_key_pair_without_plaintext),
    ("GenerateDataKeyWithoutPlaintext", data_keys::generate_data_key_without_plaintext),
    ("GenerateRandom", random::generate_random),
    ("GetKeyPolicy", policies::get_key_policy),
    ("GetPublicKey", agreement::get_public_key),
    ("ListAliases", aliases::list_aliases),
    ("ListKeyPolicies", policies::list_key_policies),
    ("ListKeys", keys::list_keys),
    ("PutKeyPolicy", policies::put_key_policy),
    ("ReEncrypt", encryption::re_encrypt),
    ("ScheduleKeyDeletion", lifecycle::schedule_key_deletion),
    ("UpdateAlias", aliases::update_alias),
    ("UpdateKeyDescription", keys::update_key_description),
];
