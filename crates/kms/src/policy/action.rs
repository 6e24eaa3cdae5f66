//! Actions: what policies give permission to.

use super::error::PolicyError;
use super::pattern::Pattern;
use super::text::{quoted, suggestion};

/// Every action of AWS KMS. Source: service authorization reference, "Actions, resources, and condition keys
/// for AWS Key Management Service". A policy may name those that this service does not have.
pub(super) const ACTIONS: [&str; 56] = [
    "kms:CancelKeyDeletion",
    "kms:ConnectCustomKeyStore",
    "kms:CreateAlias",
    "kms:CreateCustomKeyStore",
    "kms:CreateGrant",
    "kms:CreateKey",
    "kms:Decrypt",
    "kms:DeleteAlias",
    "kms:DeleteCustomKeyStore",
    "kms:DeleteImportedKeyMaterial",
    "kms:DeriveSharedSecret",
    "kms:DescribeCustomKeyStores",
    "kms:DescribeKey",
    "kms:DisableKey",
    "kms:DisableKeyRotation",
    "kms:DisconnectCustomKeyStore",
    "kms:EnableKey",
    "kms:EnableKeyRotation",
    "kms:Encrypt",
    "kms:GenerateDataKey",
    "kms:GenerateDataKeyPair",
    "kms:GenerateDataKeyPairWithoutPlaintext",
    "kms:GenerateDataKeyWithoutPlaintext",
    "kms:GenerateMac",
    "kms:GenerateRandom",
    "kms:GetKeyLastUsage",
    "kms:GetKeyPolicy",
    "kms:GetKeyRotationStatus",
    "kms:GetParametersForImport",
    "kms:GetPublicKey",
    "kms:ImportKeyMaterial",
    "kms:ListAliases",
    "kms:ListGrants",
    "kms:ListKeyPolicies",
    "kms:ListKeyRotations",
    "kms:ListKeys",
    "kms:ListResourceTags",
    "kms:ListRetirableGrants",
    "kms:PutKeyPolicy",
    "kms:ReEncryptFrom",
    "kms:ReEncryptTo",
    "kms:ReplicateKey",
    "kms:RetireGrant",
    "kms:RevokeGrant",
    "kms:RotateKeyOnDemand",
    "kms:ScheduleKeyDeletion",
    "kms:Sign",
    "kms:SynchronizeMultiRegionKey",
    "kms:TagResource",
    "kms:UntagResource",
    "kms:UpdateAlias",
    "kms:UpdateCustomKeyStore",
    "kms:UpdateKeyDescription",
    "kms:UpdatePrimaryRegion",
    "kms:Verify",
    "kms:VerifyMac",
];

/// Actions whose operations carry `Recipient`. Source: AWS KMS developer guide, "Condition keys for attested platforms".
pub(super) const ATTESTABLE: [&str; 5] = [
    "kms:Decrypt",
    "kms:DeriveSharedSecret",
    "kms:GenerateDataKey",
    "kms:GenerateDataKeyPair",
    "kms:GenerateRandom",
];

/// The service's prefix.
const PREFIX: &str = "kms:";

/// An action as AWS spells it, for one in any case.
///
/// # Errors
/// There is no such action.
pub fn canonical_action(text: &str) -> Result<String, PolicyError> {
    match ACTIONS.iter().find(|name| name.eq_ignore_ascii_case(text)) {
        Some(name) => Ok((*name).to_owned()),
        None => Err(ActionPattern::parse(text, "action").err().unwrap_or_else(|| {
            PolicyError::new("action", format!("{} stands for several actions", quoted(text)))
        })),
    }
}

/// One action of a statement, wildcards included. Actions do not tell upper from lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ActionPattern {
    text: String,
    lower: Pattern,
}

impl ActionPattern {
    /// Refuses what names no action of KMS.
    pub(super) fn parse(text: &str, at: &str) -> Result<Self, PolicyError> {
        let lower = text.to_ascii_lowercase();
        if lower != "*" && !lower.starts_with(PREFIX) {
            return Err(PolicyError::new(
                at,
                format!("{} is not an action of the key service; actions here begin with kms:", quoted(text)),
            ));
        }
        let pattern = Self { text: text.to_owned(), lower: Pattern::new(lower) };
        if ACTIONS.iter().any(|name| pattern.matches(name)) {
            return Ok(pattern);
        }
        let advice = if pattern.lower.as_str() == "kms:reencrypt" {
            "; ReEncrypt asks for kms:ReEncryptFrom and kms:ReEncryptTo, which kms:ReEncrypt* stands for"
                .to_owned()
        } else {
            suggestion(text, ACTIONS)
        };
        Err(PolicyError::new(at, format!("{} names no action of KMS{advice}", quoted(text))))
    }

    pub(super) fn as_str(&self) -> &str {
        &self.text
    }

    pub(super) fn matches(&self, action: &str) -> bool {
        self.lower.matches(&action.to_ascii_lowercase())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<ActionPattern, PolicyError> {
        ActionPattern::parse(text, "Action")
    }

    #[test]
    fn an_action_that_does_not_exist_is_refused_with_the_one_that_was_meant() {
        assert_eq!(
            parse("kms:Decypt").unwrap_err().to_string(),
            "Action: \"kms:Decypt\" names no action of KMS; did you mean kms:Decrypt?"
        );
    }

    #[test]
    fn the_operation_re_encrypt_is_refused_with_the_actions_it_asks_for() {
        assert!(
            parse("kms:ReEncrypt").unwrap_err().to_string().contains("kms:ReEncryptFrom and kms:ReEncryptTo")
        );
    }

    #[test]
    fn a_wildcard_that_stands_for_no_action_is_refused() {
        for text in ["kms:Decypt*", "kms:?", "kms:", "kms:* "] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_action_of_another_service_is_refused() {
        for text in ["s3:GetObject", "Decrypt", "k*:Decrypt", "*:*", "", "**"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn case_does_not_matter_and_wildcards_count() {
        assert!(parse("KMS:decrypt").unwrap().matches("kms:Decrypt"));
        assert!(parse("*").unwrap().matches("kms:Decrypt"));
        assert!(parse("kms:*").unwrap().matches("kms:Decrypt"));
        assert!(parse("kms:GenerateDataKey*").unwrap().matches("kms:GenerateDataKeyPair"));
        assert!(!parse("kms:GenerateDataKey").unwrap().matches("kms:GenerateDataKeyPair"));
        assert!(!parse("kms:De?rypt").unwrap().matches("kms:Encrypt"));
    }
}
