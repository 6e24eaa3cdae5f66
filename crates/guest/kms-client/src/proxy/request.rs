//! What an SDK asks: read, bounded, and signed by who has the credentials.

use std::time::{Duration, SystemTime};

use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::Request;
use hyper::body::{Bytes, Incoming};
use hyper::http::request::Parts;
use kms_protocol::sigv4::{self, Authorization, Scope, SigV4Error};
use serde_json::{Map, Value};
use tokio::time::timeout;

use super::answer::Fault;
use super::limits::MAX_BODY;
use crate::client::SERVICE;
use crate::operation::TARGET_PREFIX;

/// Header with the operation.
const TARGET: &str = "x-amz-target";

/// Longest name of an operation; the longest that KMS has is half of it.
const MAX_OPERATION: usize = 64;

/// A request of the KMS API.
#[derive(Debug)]
pub(super) struct ApiRequest {
    /// The operation's name.
    pub(super) operation: String,
    /// As it came.
    pub(super) body: Bytes,
    authorization: Authorization,
    headers: Vec<(String, String)>,
}

impl ApiRequest {
    /// Reads all of it, or says what is wrong in AWS's form. Whether the signature is good, [`Self::verify`] says.
    pub(super) async fn read(request: Request<Incoming>, body_time: Duration) -> Result<Self, Fault> {
        let (head, body) = request.into_parts();
        let headers = headers(&head)?;
        let operation = operation(&headers)?;
        let authorization = signed(&headers, b"", Authorization::of)?;
        let body = whole(body, body_time).await?;
        Ok(Self { operation, body, authorization, headers })
    }

    /// Whose signature it says that it has.
    pub(super) fn access_key_id(&self) -> &str {
        self.authorization.access_key_id()
    }

    /// The region that it is signed for.
    pub(super) fn region(&self) -> &str {
        self.authorization.region()
    }

    /// Refuses what was not signed with this secret, for the key service of any region, now.
    pub(super) fn verify(&self, secret: &str, now: SystemTime) -> Result<(), Fault> {
        let scope = Scope { region: self.region().to_owned(), service: SERVICE.to_owned() };
        signed(&self.headers, &self.body, |request| {
            self.authorization.verify(request, secret, &scope, now, sigv4::MAX_SKEW)
        })?;
        Ok(())
    }

    /// The request's members, if it brings no recipient of its own.
    pub(super) fn without_recipient(&self) -> Result<Option<Map<String, Value>>, Fault> {
        let members: Map<String, Value> = serde_json::from_slice(&self.body)
            .map_err(|_| Fault::new(400, "SerializationException", "the request's body is no JSON object"))?;
        let brings_one = members.get("Recipient").is_some_and(|recipient| !recipient.is_null());
        Ok((!brings_one).then_some(members))
    }
}

impl From<SigV4Error> for Fault {
    fn from(error: SigV4Error) -> Self {
        Self::new(400, error.aws_name(), error.to_string())
    }
}

/// The header fields, names in small letters.
fn headers(head: &Parts) -> Result<Vec<(String, String)>, Fault> {
    let fields = head.headers.iter();
    fields
        .map(|(name, value)| Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned())))
        .collect::<Option<_>>()
        .ok_or_else(|| {
            Fault::new(400, "IncompleteSignatureException", "a header field holds more than ASCII")
        })
}

/// The operation that is asked for, once.
fn operation(headers: &[(String, String)]) -> Result<String, Fault> {
    let mut targets = headers.iter().filter(|(name, _)| name == TARGET).map(|(_, value)| value);
    let operation = match (targets.next(), targets.next()) {
        (Some(target), None) => target.strip_prefix(TARGET_PREFIX).filter(|name| is_operation(name)),
        _ => None,
    };
    operation
        .map(str::to_owned)
        .ok_or_else(|| Fault::new(400, "UnknownOperationException", "X-Amz-Target names no operation of KMS"))
}

/// Has what the signature is over looked at. The proxy takes requests for `/` without a query, and no others.
fn signed<T>(headers: &[(String, String)], body: &[u8], then: impl FnOnce(&sigv4::Request<'_>) -> T) -> T {
    let headers: Vec<(&str, &str)> =
        headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    then(&sigv4::Request { method: "POST", path: "/", query: "", headers: &headers, body })
}

async fn whole(body: Incoming, limit: Duration) -> Result<Bytes, Fault> {
    let Ok(read) = timeout(limit, Limited::new(body, MAX_BODY).collect()).await else {
        return Err(Fault::new(408, "RequestTimeoutException", "the request's body did not come in time"));
    };
    read.map(|body| body.to_bytes()).map_err(|error| {
        if error.is::<LengthLimitError>() {
            let message = format!("the request has more than {MAX_BODY} bytes");
            return Fault::new(413, "RequestEntityTooLargeException", message);
        }
        Fault::new(400, "SerializationException", "the request's body broke off")
    })
}

fn is_operation(name: &str) -> bool {
    !name.is_empty() && name.len() <= MAX_OPERATION && name.bytes().all(|byte| byte.is_ascii_alphanumeric())
}
