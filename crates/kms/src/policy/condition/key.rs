//! Condition keys: what of a request conditions can look at. Upper and lower case are one in their names.

use std::borrow::Cow;
use std::time::UNIX_EPOCH;

use attestation::pcr::PcrIndex;

use super::super::arn::Arn;
use super::super::error::PolicyError;
use super::super::request::Request;
use super::super::text::{quoted, suggestion, unquoted};
use super::operator::Kind;
use super::time_text;

/// A condition key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) enum Key {
    /// `kms:RecipientAttestation:ImageSha384`, which is PCR 0.
    ImageSha384,
    /// `kms:RecipientAttestation:PCR<n>`.
    Pcr(u8),
    /// `kms:EncryptionContext:<key>`, the key as written.
    EncryptionContext(String),
    /// Any of those with one name each.
    Named(Named),
}

/// Keys with one name each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Named {
    EncryptionContextKeys,
    PrincipalArn,
    PrincipalAccount,
    CallerAccount,
    CurrentTime,
    EpochTime,
    KeySpec,
    KeyUsage,
    RequestAlias,
    ViaService,
    GrantIsForAwsResource,
}

/// What a request has for a key.
#[derive(Debug)]
pub(in super::super) enum Presented<'a> {
    /// At least one value.
    Values(Vec<Cow<'a, str>>),
    /// None, and why.
    Absent(Cow<'static, str>),
}

impl<'a> Presented<'a> {
    pub(super) fn values(&self) -> &[Cow<'a, str>] {
        match self {
            Self::Values(values) => values,
            Self::Absent(_) => &[],
        }
    }

    fn one(value: Option<&'a str>, absent: &'static str) -> Self {
        value.map_or(Self::Absent(absent.into()), |value| Self::Values(vec![value.into()]))
    }
}

const ATTESTATION: &str = "kms:RecipientAttestation:";
const ENCRYPTION_CONTEXT: &str = "kms:EncryptionContext:";
const IMAGE_SHA384: &str = "kms:RecipientAttestation:ImageSha384";
const NO_DOCUMENT: &str = "the request carried no attestation document";

impl Named {
    const ALL: [Self; 11] = [
        Self::EncryptionContextKeys,
        Self::PrincipalArn,
        Self::PrincipalAccount,
        Self::CallerAccount,
        Self::CurrentTime,
        Self::EpochTime,
        Self::KeySpec,
        Self::KeyUsage,
        Self::RequestAlias,
        Self::ViaService,
        Self::GrantIsForAwsResource,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::EncryptionContextKeys => "kms:EncryptionContextKeys",
            Self::PrincipalArn => "aws:PrincipalArn",
            Self::PrincipalAccount => "aws:PrincipalAccount",
            Self::CallerAccount => "kms:CallerAccount",
            Self::CurrentTime => "aws:CurrentTime",
            Self::EpochTime => "aws:EpochTime",
            Self::KeySpec => "kms:KeySpec",
            Self::KeyUsage => "kms:KeyUsage",
            Self::RequestAlias => "kms:RequestAlias",
            Self::ViaService => "kms:ViaService",
            Self::GrantIsForAwsResource => "kms:GrantIsForAWSResource",
        }
    }

    fn presented<'a>(self, request: &Request<'a>) -> Presented<'a> {
        let arn = Arn::parse(request.principal);
        match self {
            Self::EncryptionContextKeys if request.encryption_context.is_empty() => {
                Presented::Absent("the request has no encryption context".into())
            }
            Self::EncryptionContextKeys => {
                Presented::Values(request.encryption_context.keys().map(|key| key.as_str().into()).collect())
            }
            Self::PrincipalArn => Presented::Values(vec![principal_arn(request.principal)]),
            Self::PrincipalAccount | Self::CallerAccount => {
                Presented::one(arn.map(|arn| arn.account), "the caller has no account")
            }
            Self::CurrentTime | Self::EpochTime => Presented::Values(vec![time_text(request.time).into()]),
            Self::KeySpec => Presented::one(request.key_spec, "the request is about no key"),
            Self::KeyUsage => Presented::one(request.key_usage, "the request is about no key"),
            Self::RequestAlias => Presented::one(request.request_alias, "the request names no alias"),
            Self::ViaService => Presented::Absent("no AWS service makes requests here".into()),
            Self::GrantIsForAwsResource => Presented::Absent("there are no grants here".into()),
        }
    }
}

impl Key {
    /// Refuses a key that AWS does not have or this service does not know.
    pub(in super::super) fn parse(text: &str, at: &str) -> Result<Self, PolicyError> {
        let refuse = |problem: String| Err(PolicyError::new(at, problem));
        if let Some(named) = Named::ALL.into_iter().find(|named| named.name().eq_ignore_ascii_case(text)) {
            return Ok(Self::Named(named));
        }
        if text.eq_ignore_ascii_case(IMAGE_SHA384) {
            return Ok(Self::ImageSha384);
        }
        if let Some(key) = strip_prefix_ignoring_case(text, ENCRYPTION_CONTEXT) {
            if key.is_empty() {
                return refuse(format!("{} lacks the encryption context's key", quoted(text)));
            }
            return Ok(Self::EncryptionContext(key.to_owned()));
        }
        if let Some(register) = strip_prefix_ignoring_case(text, ATTESTATION) {
            return match register_number(register) {
                Some(index) => Ok(Self::Pcr(index)),
                None => refuse(format!(
                    "{} names no register of an enclave; write kms:RecipientAttestation:ImageSha384, or ...:PCR0 to ...:PCR31",
                    quoted(text)
                )),
            };
        }
        let names = Named::ALL.into_iter().map(Named::name).chain([IMAGE_SHA384]);
        refuse(format!("the condition key {} is not known here{}", quoted(text), suggestion(text, names)))
    }

    /// The register that an attestation key stands for.
    pub(in super::super) const fn register(&self) -> Option<u8> {
        match self {
            Self::ImageSha384 => Some(0),
            Self::Pcr(index) => Some(*index),
            _ => None,
        }
    }

    /// True for the one key that has several values.
    pub(in super::super) const fn is_set(&self) -> bool {
        matches!(self, Self::Named(Named::EncryptionContextKeys))
    }

    pub(in super::super) const fn kind(&self) -> Kind {
        match self {
            Self::Named(Named::CurrentTime | Named::EpochTime) => Kind::Date,
            Self::Named(Named::GrantIsForAwsResource) => Kind::Bool,
            _ => Kind::Text,
        }
    }

    /// The name by which the same key in other spelling is recognised.
    pub(in super::super) fn folded(&self) -> String {
        self.name().to_lowercase()
    }

    fn name(&self) -> String {
        match self {
            Self::ImageSha384 => IMAGE_SHA384.to_owned(),
            Self::Pcr(index) => format!("{ATTESTATION}PCR{index}"),
            Self::EncryptionContext(key) => format!("{ENCRYPTION_CONTEXT}{key}"),
            Self::Named(named) => named.name().to_owned(),
        }
    }

    /// The name for messages.
    pub(in super::super) fn shown(&self) -> String {
        match self {
            // The rest of the name is the author's.
            Self::EncryptionContext(key) => format!("{ENCRYPTION_CONTEXT}{}", unquoted(key)),
            _ => self.name(),
        }
    }

    /// What the request has for this key.
    pub(super) fn presented<'a>(&self, request: &Request<'a>) -> Presented<'a> {
        match self {
            Self::Named(named) => named.presented(request),
            Self::EncryptionContext(wanted) => encryption_context(wanted, request),
            Self::ImageSha384 => register(0, request),
            Self::Pcr(index) => register(*index, request),
        }
    }
}

fn register<'a>(index: u8, request: &Request<'a>) -> Presented<'a> {
    let Some(attestation) = request.attestation else { return Presented::Absent(NO_DOCUMENT.into()) };
    match attestation.pcrs.get(&index) {
        Some(value) => Presented::Values(vec![value.to_string().into()]),
        None => Presented::Absent(format!("the attestation document has no PCR {index}").into()),
    }
}

fn encryption_context<'a>(wanted: &str, request: &Request<'a>) -> Presented<'a> {
    let same = |key: &str| key.to_lowercase() == wanted.to_lowercase();
    let found = request.encryption_context.iter().filter(|(key, _)| same(key));
    let values: Vec<Cow<'a, str>> = found.map(|(_, value)| value.as_str().into()).collect();
    if values.is_empty() {
        return Presented::Absent("the encryption context has no such key".into());
    }
    Presented::Values(values)
}

/// For a session of a role the role's ARN, as on AWS; the session does not say the role's path.
fn principal_arn(principal: &str) -> Cow<'_, str> {
    let role = Arn::parse(principal).and_then(|arn| Some((arn, arn.assumed_role()?)));
    match role {
        Some((arn, role)) => format!("arn:{}:iam::{}:role/{role}", arn.partition, arn.account).into(),
        None => principal.into(),
    }
}

/// `PCR0` to `PCR31`.
fn register_number(text: &str) -> Option<u8> {
    let digits = strip_prefix_ignoring_case(text, "PCR")?;
    let canonical =
        digits.bytes().all(|byte| byte.is_ascii_digit()) && (digits == "0" || !digits.starts_with('0'));
    let index = digits.parse().ok().filter(|_| canonical).and_then(PcrIndex::new)?;
    Some(index.get())
}

fn strip_prefix_ignoring_case<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let (start, rest) = text.split_at_checked(prefix.len())?;
    start.eq_ignore_ascii_case(prefix).then_some(rest)
}

/// Seconds since 1970 of a time that [`time_text`] wrote, or that a policy's author did.
pub(super) fn timestamp(text: &str) -> Option<jiff::Timestamp> {
    text.parse().ok()
}

/// True if the clock can be compared at all.
pub(in super::super) fn is_judgeable(request: &Request<'_>) -> bool {
    request.time >= UNIX_EPOCH && !time_text(request.time).is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> String {
        Key::parse(text, "Condition").expect_err(text).to_string()
    }

    #[test]
    fn a_key_that_is_not_known_is_refused_with_the_one_that_was_meant() {
        assert!(refusal("aws:PrincipalARNs").ends_with("did you mean aws:PrincipalArn?"));
        assert!(refusal("kms:RecipientAttestation:ImageSHA256").contains("names no register"));
        for text in [
            "",
            "aws:SourceIp",
            "aws:SecureTransport",
            "aws:PrincipalTag/team",
            "kms:EncryptionAlgorithm",
            "PCR0",
        ] {
            assert!(refusal(text).contains("is not known here"), "{text}");
        }
    }

    #[test]
    fn a_register_that_does_not_exist_is_refused() {
        for register in [
            "PCR32",
            "PCR256",
            "PCR",
            "PCR-1",
            "PCR+1",
            "PCR01",
            "PCR00",
            "PCR 0",
            "PCR0 ",
            "NitroTPMPCR0",
            "0",
        ] {
            assert!(
                refusal(&format!("kms:RecipientAttestation:{register}")).contains("names no register"),
                "{register}"
            );
        }
        assert_eq!(Key::parse("kms:RecipientAttestation:PCR31", ""), Ok(Key::Pcr(31)));
        assert_eq!(Key::parse("KMS:recipientattestation:pcr0", ""), Ok(Key::Pcr(0)));
    }

    #[test]
    fn a_key_of_an_encryption_context_is_shown_without_quotation_marks_of_ours() {
        let shown = |key: &str| Key::EncryptionContext(key.to_owned()).shown();
        assert_eq!(shown("app"), "kms:EncryptionContext:app");
        assert_eq!(shown("a\""), "kms:EncryptionContext:a\\\"");
        let long = format!("kms:EncryptionContext:{}\u{2026} (300 characters)", "k".repeat(200));
        assert_eq!(shown(&"k".repeat(300)), long);
    }

    #[test]
    fn an_encryption_context_without_a_key_is_refused() {
        assert!(refusal("kms:EncryptionContext:").contains("lacks the encryption context's key"));
        assert!(refusal("kms:EncryptionContext").contains("is not known here"));
    }
}
