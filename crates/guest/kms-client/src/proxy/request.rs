//! What an SDK asks, read and bounded.

use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::Request;
use hyper::body::{Bytes, Incoming};
use hyper::header::AUTHORIZATION;
use kms_protocol::sigv4::Authorization;
use serde_json::{Map, Value};
use tokio::time::timeout;

use super::answer::Fault;
use super::limits::{BODY_LIMIT, MAX_BODY};
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
    /// Of the signature.
    pub(super) access_key_id: String,
    /// Of the signature.
    pub(super) region: String,
    /// As it came.
    pub(super) body: Bytes,
}

impl ApiRequest {
    /// Reads all of it, or says what is wrong in AWS's form.
    pub(super) async fn read(request: Request<Incoming>) -> Result<Self, Fault> {
        let (parts, body) = request.into_parts();
        let header = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok());
        let operation = header(TARGET).and_then(|target| target.strip_prefix(TARGET_PREFIX));
        let operation = operation.filter(|name| is_operation(name)).ok_or_else(|| {
            Fault::new(400, "UnknownOperationException", "X-Amz-Target names no operation of KMS")
        })?;
        let authorization = header(AUTHORIZATION.as_str()).ok_or_else(|| {
            Fault::new(400, "MissingAuthenticationTokenException", "the request is not signed")
        })?;
        let authorization = Authorization::parse(authorization)
            .map_err(|error| Fault::new(400, error.aws_name(), error.to_string()))?;
        if authorization.service() != SERVICE {
            let message = "the signature is for another service than kms";
            return Err(Fault::new(400, "InvalidSignatureException", message));
        }
        let body = whole(body).await?;
        Ok(Self {
            operation: operation.to_owned(),
            access_key_id: authorization.access_key_id().to_owned(),
            region: authorization.region().to_owned(),
            body,
        })
    }

    /// The request's members, if it brings no recipient of its own.
    pub(super) fn without_recipient(&self) -> Result<Option<Map<String, Value>>, Fault> {
        let members: Map<String, Value> = serde_json::from_slice(&self.body)
            .map_err(|_| Fault::new(400, "SerializationException", "the request's body is no JSON object"))?;
        let brings_one = members.get("Recipient").is_some_and(|recipient| !recipient.is_null());
        Ok((!brings_one).then_some(members))
    }
}

async fn whole(body: Incoming) -> Result<Bytes, Fault> {
    let Ok(read) = timeout(BODY_LIMIT, Limited::new(body, MAX_BODY).collect()).await else {
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
