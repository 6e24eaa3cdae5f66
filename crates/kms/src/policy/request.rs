//! What a policy is asked about.

use std::collections::BTreeMap;
use std::time::SystemTime;

use attestation::pcr::Pcr;

/// The registers of a document that was verified already. PCR 0 is what AWS calls `ImageSha384` as well.
#[derive(Debug, Clone, Copy)]
pub struct Attestation<'a> {
    /// The registers in the document, by number. One that is not in it is absent for conditions too.
    pub pcrs: &'a BTreeMap<u8, Pcr>,
}

/// One request, as far as policies can see it. Everything in it must be true: conditions believe it.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The caller's ARN.
    pub principal: &'a str,
    /// The account that owns the keys: the service's, 12 digits.
    pub account: &'a str,
    /// The permission, such as `kms:Decrypt`. ReEncrypt asks twice: `kms:ReEncryptFrom` and `kms:ReEncryptTo`.
    pub action: &'a str,
    /// The ARN of the key (or alias), or `*` for an operation on neither.
    pub resource: &'a str,
    /// When the request is judged.
    pub time: SystemTime,
    /// The encryption context; empty if there is none.
    pub encryption_context: &'a BTreeMap<String, String>,
    /// The verified document of `Recipient`, if the request carried one.
    pub attestation: Option<Attestation<'a>>,
    /// The key's `KeySpec` (in CreateKey: the one asked for).
    pub key_spec: Option<&'a str>,
    /// The key's `KeyUsage` (in CreateKey: the one asked for).
    pub key_usage: Option<&'a str>,
    /// The alias by which the request named the key: `alias/NAME`.
    pub request_alias: Option<&'a str>,
}
