//! The bodies of this crate's fuzz targets. The same bodies replay the corpora in ordinary tests.
//!
//! - [`envelope`]: any bytes as an envelope, and as a recipient's public key.
//! - [`signed_request`]: any text as an HTTP request, of which only those in the corpus that somebody with the secret signed
//!   are accepted.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    clippy::panic,
    reason = "test code: a failed assumption is a failed test"
)]

#[cfg(test)]
mod tests;

use std::sync::LazyLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rsa::RsaPrivateKey;
use rsa::pkcs8::DecodePrivateKey;

use crate::cms::{self, CmsError, RecipientKey};
use crate::sigv4::{Authorization, Credentials, Request, Scope, sign};

/// The key to the answer of AWS KMS in the corpus (`crates/kms-protocol/tests/cms/kms_answer.rs` says whence), for which the other seeds are
/// sealed too.
static KEY: LazyLock<RsaPrivateKey> = LazyLock::new(|| {
    let key = include_bytes!("../tests/cms/data/kms-answer.key.der");
    RsaPrivateKey::from_pkcs8_der(key).expect("a key")
});

/// Takes bytes for an envelope and for a public key. True if they are an envelope that opens.
///
/// # Panics
/// It opens in two ways, or is read back from what we write as something else.
pub fn envelope(bytes: &[u8]) -> bool {
    if let Ok(key) = RecipientKey::from_spki_der(bytes) {
        assert_eq!(RecipientKey::from_spki_der(bytes).as_ref(), Ok(&key));
    }
    if !cms::reads_back(bytes) {
        assert!(matches!(cms::open(&KEY, bytes), Err(CmsError::Structure(_))));
        return false;
    }
    let opened = cms::open(&KEY, bytes);
    assert_eq!(cms::open(&KEY, bytes), opened, "an envelope opens in two ways");
    opened.is_ok_and(|plaintext| plaintext.len() < bytes.len())
}

const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
const GENUINE: [&str; 2] = [
    include_str!("../../../fuzz/corpus/sigv4/botocore"),
    include_str!("../../../fuzz/corpus/sigv4/botocore-with-token"),
];

/// The time at which the requests of the corpus are signed: 2015-08-30, 12:36:00 UTC.
fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_440_938_160)
}

fn scope() -> Scope {
    Scope { region: "us-east-1".into(), service: "kms".into() }
}

/// An HTTP request as text: the request line, a line for each header, an empty one, the body.
struct Text<'a> {
    method: &'a str,
    path: &'a str,
    query: &'a str,
    headers: Vec<(&'a str, &'a str)>,
    body: &'a [u8],
}

impl<'a> Text<'a> {
    fn read(text: &'a str) -> Option<Self> {
        let (head, body) = text.split_once("\n\n")?;
        let (line, headers) = head.split_once('\n').unwrap_or((head, ""));
        let (method, target) = line.split_once(' ')?;
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let header =
            |line: &'a str| line.split_once(':').map(|(name, value)| (name, value.trim_matches([' ', '\t'])));
        let headers = headers.lines().map(header).collect::<Option<_>>()?;
        Some(Self { method, path, query, headers, body: body.as_bytes() })
    }

    fn request(&self) -> Request<'_> {
        let Self { method, path, query, headers, body } = self;
        Request { method, path, query, headers, body }
    }

    /// What a signature is over, but for the form in which it is hashed.
    fn meaning(&self, signed: &[String]) -> impl PartialEq + core::fmt::Debug + use<'a> {
        let mut pairs: Vec<&str> = self.query.split('&').map(|pair| pair.trim_end_matches('=')).collect();
        pairs.sort_unstable();
        let value = |name: &String| {
            let value = self
                .headers
                .iter()
                .find(|(other, _)| other.eq_ignore_ascii_case(name))
                .map(|(_, value)| value);
            let words = value
                .map(|value| value.split([' ', '\t']).filter(|word| !word.is_empty()).collect::<Vec<_>>());
            (name.clone(), words)
        };
        (self.method, self.path, pairs, signed.iter().map(value).collect::<Vec<_>>(), self.body)
    }
}

/// Takes bytes for a signed request and for an `Authorization` header. True if it is one that somebody with the secret
/// signed.
///
/// # Panics
/// It is accepted although nobody signed it, or refused after we sign it.
pub fn signed_request(bytes: &[u8]) -> bool {
    let Ok(text) = core::str::from_utf8(bytes) else { return false };
    header(text);
    let Some(read) = Text::read(text) else { return false };
    let request = read.request();
    signs(&request);
    let Ok(authorization) = Authorization::of(&request) else { return false };
    let verified = authorization.verify(&request, SECRET, &scope(), now(), Duration::from_secs(300)).is_ok();
    if verified {
        let meaning = read.meaning(authorization.signed_headers());
        let genuine = GENUINE.iter().any(|genuine| {
            let genuine = Text::read(genuine).expect("a request");
            genuine.meaning(authorization.signed_headers()) == meaning
        });
        assert!(genuine, "a request is accepted that nobody signed: {meaning:?}");
    }
    verified
}

/// A header that is read says the same when it is written again.
fn header(text: &str) {
    for header in [text, &format!("AWS4-HMAC-SHA256 {text}")] {
        let Ok(read) = Authorization::parse(header) else { continue };
        let scope = format!("{}/{}/{}/aws4_request", read.date(), read.region(), read.service());
        let names = read.signed_headers().join(";");
        let signature = hex::encode(read.signature());
        let id = read.access_key_id();
        let again =
            format!("AWS4-HMAC-SHA256 Credential={id}/{scope}, SignedHeaders={names}, Signature={signature}");
        assert_eq!(Authorization::parse(&again), Ok(read));
    }
}

/// What we sign is accepted.
fn signs(request: &Request<'_>) {
    let credentials = Credentials {
        access_key_id: "AKIDEXAMPLE".into(),
        secret_access_key: SECRET.to_owned().into(),
        session_token: None,
    };
    let added = ["x-amz-date", "x-amz-security-token", "authorization"];
    let is_new = |name: &str| !added.iter().any(|other| name.eq_ignore_ascii_case(other));
    let headers: Vec<_> = request.headers.iter().copied().filter(|(name, _)| is_new(name)).collect();
    let request = Request { headers: &headers, ..*request };
    let Ok(added) = sign(&request, &credentials, &scope(), now()) else { return };
    let added = added.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let headers: Vec<_> = headers.iter().copied().chain(added).collect();
    let request = Request { headers: &headers, ..request };
    let verified = Authorization::of(&request)
        .and_then(|read| read.verify(&request, SECRET, &scope(), now(), Duration::ZERO));
    assert_eq!(verified, Ok(()), "what we signed is refused");
}
