//! Signatures that others made, every change to one, and headers of any form.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failed assumption is a failed test"
)]

mod changes;
mod header;
mod known;
mod signing;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use kms_protocol::sigv4::{
    Authorization, Credentials, MAX_ACCESS_KEY_ID, MAX_AUTHORIZATION, MAX_HEADERS, MAX_SCOPE_NAME,
    MAX_SIGNED_HEADERS, Request, Scope, SigV4Error, SignError, sign, verify_session_token,
};
use proptest::prelude::*;

/// The credentials and the time of AWS's published test suite for Signature Version 4.
const KEY_ID: &str = "AKIDEXAMPLE";
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
/// 2015-08-30, 12:36:00 UTC.
const SIGNED_AT: u64 = 1_440_938_160;
const DATE: &str = "20150830T123600Z";
const SKEW: Duration = Duration::from_secs(300);

/// A request to KMS as botocore 1.44.5 signs it: `SigV4Auth(credentials, "kms", "us-east-1").add_auth(request)` at that time, with
/// the token below for the second signature.
const TARGET: (&str, &str) = ("X-Amz-Target", "TrentService.ListKeys");
const CONTENT_TYPE: (&str, &str) = ("Content-Type", "application/x-amz-json-1.1");
const HOST: (&str, &str) = ("Host", "kms.us-east-1.amazonaws.com");
const BODY: &[u8] = b"{}";
const NAMES: &str = "content-type;host;x-amz-date;x-amz-target";
const SIGNATURE: &str = "07499af8ab2ef3d35030bf049520b6c0de4a040bfc6c24cd89fc4dab8a531f56";
const TOKEN: &str = "AQoEXAMPLEH4aoAH0gNCAPy==";
const NAMES_WITH_TOKEN: &str = "content-type;host;x-amz-date;x-amz-security-token;x-amz-target";
const SIGNATURE_WITH_TOKEN: &str = "01dbe5bc77eb90b654ca40c72327cbc4f32d539c9464b7e7095775f4c7e6a0d0";

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

fn scope(region: &str, service: &str) -> Scope {
    Scope { region: region.into(), service: service.into() }
}

fn credentials(token: Option<&str>) -> Credentials {
    Credentials {
        access_key_id: KEY_ID.into(),
        secret_access_key: SECRET.to_owned().into(),
        session_token: token.map(Into::into),
    }
}

fn header(names: &str, signature: &str) -> String {
    let scope = "20150830/us-east-1/kms/aws4_request";
    format!("AWS4-HMAC-SHA256 Credential={KEY_ID}/{scope}, SignedHeaders={names}, Signature={signature}")
}

/// A request in parts that a test changes one of.
#[derive(Clone)]
struct Signed {
    method: String,
    path: String,
    query: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    authorization: String,
}

impl Signed {
    /// The request that botocore signed.
    fn by_botocore() -> Self {
        let headers = [HOST, CONTENT_TYPE, TARGET, ("X-Amz-Date", DATE)];
        Self {
            method: "POST".into(),
            path: "/".into(),
            query: String::new(),
            headers: headers.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect(),
            body: BODY.to_vec(),
            authorization: header(NAMES, SIGNATURE),
        }
    }

    fn set(mut self, name: &str, value: &str) -> Self {
        let entry = self.headers.iter_mut().find(|(other, _)| other == name);
        entry.unwrap().1 = value.into();
        self
    }

    fn add(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(other, _)| other != name);
        self
    }

    fn authorized_by(mut self, authorization: String) -> Self {
        self.authorization = authorization;
        self
    }

    fn with<T>(&self, check: impl FnOnce(&Request<'_>) -> T) -> T {
        let headers: Vec<_> =
            self.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        check(&Request {
            method: &self.method,
            path: &self.path,
            query: &self.query,
            headers: &headers,
            body: &self.body,
        })
    }

    fn verify_as(&self, secret: &str, scope: &Scope, now: SystemTime) -> Result<(), SigV4Error> {
        let authorization = Authorization::parse(&self.authorization)?;
        self.with(|request| authorization.verify(request, secret, scope, now, SKEW))
    }

    fn verify(&self) -> Result<(), SigV4Error> {
        self.verify_as(SECRET, &scope("us-east-1", "kms"), at(SIGNED_AT))
    }

    fn refused(&self) -> SigV4Error {
        self.verify().unwrap_err()
    }
}
