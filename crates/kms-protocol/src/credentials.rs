//! Credentials as AWS's tools write them: one JSON object, in either of two forms.
//!
//! | | the session token is called |
//! |---|---|
//! | `credential_process`, `aws configure export-credentials` ([reference]) | `SessionToken` |
//! | container and instance endpoints | `Token` |
//!
//! Both have `AccessKeyId`, `SecretAccessKey` and `Expiration` (ISO 8601; none: they stay good).
//!
//! [reference]: https://docs.aws.amazon.com/cli/latest/userguide/cli-configure-sourcing-external.html

use std::time::SystemTime;

use jiff::Timestamp;
use serde::Deserialize;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::sigv4;

/// Longest text in bytes; session tokens have some hundred to a few thousand.
pub const MAX_LEN: usize = 64 << 10;

/// The only version of the first form (the reference, in 2026).
const VERSION: u64 = 1;

/// Why a text holds no credentials. Never the text itself, which may hold secrets.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CredentialsError {
    /// It is longer than any.
    #[error("longer than {MAX_LEN} bytes")]
    TooLong,
    /// It is none.
    #[error("no JSON, from line {line}, column {column} on")]
    Json {
        /// Where, from 1.
        line: usize,
        /// Where, from 1; 0 is before the first character.
        column: usize,
    },
    /// Members are missing or of another kind.
    #[error("no JSON object with the texts AccessKeyId and SecretAccessKey")]
    Members,
    /// Another form.
    #[error("Version is not 1")]
    Version,
    /// Nothing to sign with.
    #[error("AccessKeyId or SecretAccessKey is empty")]
    Empty,
    /// No date.
    #[error("Expiration is no time in ISO 8601")]
    Expiration,
}

/// Credentials, and until when.
#[derive(Debug, Clone)]
pub struct Issued {
    /// What to sign with.
    pub keys: sigv4::Credentials,
    /// Until when they are good; `None` is for ever.
    pub expiration: Option<SystemTime>,
}

impl Issued {
    /// Whether they are good then.
    #[must_use]
    pub fn is_good_at(&self, time: SystemTime) -> bool {
        self.expiration.is_none_or(|end| time < end)
    }
}

/// The forms in which they come.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Document {
    version: Option<u64>,
    access_key_id: String,
    secret_access_key: String,
    #[serde(alias = "Token")]
    session_token: Option<String>,
    expiration: Option<String>,
}

/// Reads credentials in either form.
///
/// # Errors
/// [`CredentialsError`] says why the text holds none.
pub fn parse(json: &[u8]) -> Result<Issued, CredentialsError> {
    if json.len() > MAX_LEN {
        return Err(CredentialsError::TooLong);
    }
    // The error's own text may repeat values.
    let document: Document = serde_json::from_slice(json).map_err(|error| match error.classify() {
        serde_json::error::Category::Data => CredentialsError::Members,
        _ => CredentialsError::Json { line: error.line(), column: error.column() },
    })?;
    let secret_access_key = Zeroizing::new(document.secret_access_key);
    if document.version.is_some_and(|version| version != VERSION) {
        return Err(CredentialsError::Version);
    }
    if document.access_key_id.is_empty() || secret_access_key.is_empty() {
        return Err(CredentialsError::Empty);
    }
    let time = |text: String| text.parse::<Timestamp>().map(SystemTime::from);
    let expiration = document.expiration.map(time).transpose().map_err(|_| CredentialsError::Expiration)?;
    Ok(Issued {
        keys: sigv4::Credentials {
            access_key_id: document.access_key_id,
            secret_access_key,
            session_token: document.session_token.filter(|token| !token.is_empty()),
        },
        expiration,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn both_of_awss_forms_are_read() {
        let process = r#"{"Version":1,"AccessKeyId":"A","SecretAccessKey":"s","SessionToken":"t","Expiration":"2030-01-02T03:04:05+00:00"}"#;
        let container = r#"{"RoleArn":"r","AccessKeyId":"A","SecretAccessKey":"s","Token":"t","Expiration":"2030-01-02T03:04:05Z"}"#;
        // `date -u -d 2030-01-02T03:04:05 +%s`
        let end = SystemTime::UNIX_EPOCH + Duration::from_secs(1_893_553_445);
        for text in [process, container] {
            let issued = parse(text.as_bytes()).unwrap();
            assert_eq!(issued.keys.access_key_id, "A");
            assert_eq!(*issued.keys.secret_access_key, "s");
            assert_eq!(issued.keys.session_token.as_deref(), Some("t"));
            assert_eq!(issued.expiration, Some(end));
            assert!(issued.is_good_at(end - Duration::from_secs(1)) && !issued.is_good_at(end));
        }
        let lasting = parse(br#"{"Version":1,"AccessKeyId":"A","SecretAccessKey":"s"}"#).unwrap();
        assert_eq!((lasting.expiration, &lasting.keys.session_token), (None, &None));
        assert!(lasting.is_good_at(end));
    }

    #[test]
    fn what_are_no_credentials_is_refused_without_repeating_it() {
        for (text, words) in [
            ("", "no JSON"),
            ("An error occurred (ExpiredToken)", "no JSON"),
            ("-----BEGIN PRIVATE KEY-----\nhidden", "no JSON"),
            ("[]", "no JSON object"),
            (r#""hidden""#, "no JSON object"),
            (r#"{"AccessKeyId":"A"}"#, "SecretAccessKey"),
            (r#"{"AccessKeyId":"A","SecretAccessKey":5550155}"#, "texts"),
            (r#"{"AccessKeyId":"A","SecretAccessKey":"hidden","SecretAccessKey":"hidden"}"#, "texts"),
            (r#"{"AccessKeyId":"","SecretAccessKey":"hidden"}"#, "empty"),
            (r#"{"AccessKeyId":"A","SecretAccessKey":""}"#, "empty"),
            (r#"{"Version":2,"AccessKeyId":"A","SecretAccessKey":"hidden"}"#, "Version"),
            (r#"{"AccessKeyId":"A","SecretAccessKey":"hidden","Expiration":"soon"}"#, "Expiration"),
            (r#"{"AccessKeyId":"A","SecretAccessKey":"hidden"} and more"#, "no JSON"),
        ] {
            let why = parse(text.as_bytes()).unwrap_err().to_string();
            assert!(why.contains(words), "{text}: {why}");
            assert!(!why.contains("hidden") && !why.contains("5550155"), "{why}");
        }
    }

    #[test]
    fn the_longest_text_is_read_and_one_byte_more_refused() {
        let mut text = br#"{"AccessKeyId":"A","SecretAccessKey":"s"}"#.to_vec();
        text.resize(65_536, b' ');
        assert_eq!(parse(&text).unwrap().keys.access_key_id, "A");
        text.push(b' ');
        assert_eq!(parse(&text).unwrap_err(), CredentialsError::TooLong);
    }
}
