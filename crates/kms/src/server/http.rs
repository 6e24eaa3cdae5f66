//! One request: read within its limits, authenticated, answered.
//!
//! The protocol is AWS's JSON 1.1: `POST /` with `Content-Type: application/x-amz-json-1.1` and `X-Amz-Target: TrentService.OPERATION`,
//! signed with SigV4. Nothing is answered to anybody who has not signed, whichever listener he came by.
//! Specification: <https://smithy.io/2.0/aws/protocols/aws-json-1_1-protocol.html>.

use std::sync::Arc;
use std::time::SystemTime;

use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Bytes, Incoming};
use hyper::header::{CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use kms_protocol::sigv4;
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::Shared;
use super::errors::Refusal;
use super::limits::{Limits, MAX_BODY_LEN};
use super::notices::Notice;
use crate::error::{ErrorKind, KmsError};
use crate::operations::Caller;

/// What a request's body and an answer's are.
const JSON: &str = "application/x-amz-json-1.1";
/// The name of KMS in `X-Amz-Target`, from before it was called KMS.
const TARGET_PREFIX: &str = "TrentService.";
const TARGET: HeaderName = HeaderName::from_static("x-amz-target");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-amzn-requestid");
/// How much more than [`MAX_BODY_LEN`] is read of a body that is too long, so that its sender can read why it is refused: a connection
/// that is closed while bytes arrive takes the answer with it.
const MAX_DISCARDED: usize = 4 * MAX_BODY_LEN;

/// A request as authentication and operations need it.
struct Received {
    headers: Vec<(String, String)>,
    operation: String,
    body: Zeroizing<Vec<u8>>,
}

/// Answers one request. Whatever happens there is an answer, and it has a request id.
pub(super) async fn answer(
    request: Request<Incoming>,
    source: &Arc<str>,
    shared: &Arc<Shared>,
) -> Response<Full<Bytes>> {
    let Ok(request_id) = request_id() else {
        let failure = refused(ErrorKind::KmsInternal, "The service has no randomness.");
        return respond(Err(failure), "00000000-0000-0000-0000-000000000000");
    };
    let result = handle(request, source, &request_id, shared).await;
    respond(result, &request_id)
}

/// A random UUID, as AWS's are.
fn request_id() -> Result<String, getrandom::Error> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)?;
    Ok(uuid::Builder::from_random_bytes(bytes).into_uuid().as_hyphenated().to_string())
}

async fn handle(
    request: Request<Incoming>,
    source: &Arc<str>,
    request_id: &str,
    shared: &Arc<Shared>,
) -> Result<Zeroizing<Vec<u8>>, Refusal> {
    let (head, body) = request.into_parts();
    let checked = check_head(&head);
    let body = receive(body, checked.is_ok(), &shared.limits).await?;
    let (operation, headers) = checked?;
    let received = Received { headers, operation, body };

    let turn = timeout(shared.limits.turn_time, Arc::clone(&shared.turns).acquire_owned()).await;
    let Ok(Ok(turn)) = turn else {
        return Err(refused(ErrorKind::Throttling, "Too many requests are being answered; try again."));
    };
    let (shared, source, request_id) = (Arc::clone(shared), Arc::clone(source), request_id.to_owned());
    let work = move || {
        let _turn = turn;
        decide(&received, &source, &request_id, &shared)
    };
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(_) => Err(refused(ErrorKind::KmsInternal, "The service failed; its operator can read why.")),
    }
}

/// Who asks, and what the operation says.
fn decide(
    received: &Received,
    source: &str,
    request_id: &str,
    shared: &Shared,
) -> Result<Zeroizing<Vec<u8>>, Refusal> {
    let now = SystemTime::now();
    let headers: Vec<(&str, &str)> =
        received.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let request =
        sigv4::Request { method: "POST", path: "/", query: "", headers: &headers, body: &received.body };
    let principals = shared.principals();
    let principal = principals.authenticate(&request, &shared.scope, now).map_err(|error| {
        shared.notices.tell(&Notice::Unauthenticated {
            source: source.to_owned(),
            request_id: request_id.to_owned(),
            why: error.to_string(),
        });
        Refusal::from(error)
    })?;
    let caller = Caller { principal, request_id, source };
    Ok(shared.operations.handle(&caller, &received.operation, &received.body, now)?)
}

/// The operation that is asked for, and the header fields.
fn check_head(head: &Parts) -> Result<(String, Vec<(String, String)>), Refusal> {
    let unknown = |message: &str| refused(ErrorKind::UnknownOperation, message);
    if head.method != Method::POST || head.uri.path() != "/" || head.uri.query().is_some() {
        return Err(unknown("Requests are POST / without a query."));
    }
    if single(&head.headers, &CONTENT_TYPE).is_none_or(|value| !value.eq_ignore_ascii_case(JSON)) {
        return Err(unknown("The Content-Type of requests is application/x-amz-json-1.1."));
    }
    let operation = single(&head.headers, &TARGET)
        .and_then(|target| target.strip_prefix(TARGET_PREFIX))
        .filter(|name| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric()))
        .ok_or_else(|| unknown("X-Amz-Target names no operation of TrentService."))?;
    let text = |(name, value): (&HeaderName, &HeaderValue)| {
        Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned()))
    };
    let headers: Option<Vec<_>> = head.headers.iter().map(text).collect();
    let headers = headers
        .ok_or_else(|| refused(ErrorKind::IncompleteSignature, "A header field holds more than ASCII."))?;
    Ok((operation.to_owned(), headers))
}

/// The value of a field that is there once.
fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value)
}

/// Reads a body to its end; what is not `wanted` is not kept.
async fn receive(body: Incoming, wanted: bool, limits: &Limits) -> Result<Zeroizing<Vec<u8>>, Refusal> {
    match timeout(limits.body_time, read(body, wanted)).await {
        Ok(result) => result,
        Err(_) => Err(Refusal::body_too_slow()),
    }
}

async fn read(mut body: Incoming, wanted: bool) -> Result<Zeroizing<Vec<u8>>, Refusal> {
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if announced > MAX_BODY_LEN.saturating_add(MAX_DISCARDED) {
        return Err(Refusal::body_too_long(MAX_BODY_LEN));
    }
    // Not to grow, which would leave a part of it behind.
    let room = if wanted && announced <= MAX_BODY_LEN { announced } else { 0 };
    let mut kept = Zeroizing::new(Vec::with_capacity(room));
    let mut length = 0_usize;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Refusal::body_broken())?;
        let Some(data) = frame.data_ref() else { continue };
        length = length.saturating_add(data.len());
        if length > MAX_BODY_LEN.saturating_add(MAX_DISCARDED) {
            break;
        }
        if wanted && length <= MAX_BODY_LEN {
            kept.extend_from_slice(data);
        }
    }
    if length > MAX_BODY_LEN {
        return Err(Refusal::body_too_long(MAX_BODY_LEN));
    }
    Ok(kept)
}

fn respond(result: Result<Zeroizing<Vec<u8>>, Refusal>, request_id: &str) -> Response<Full<Bytes>> {
    let (status, closes, body) = match result {
        // Wiped when it has been sent: it may hold a secret.
        Ok(json) => (StatusCode::OK, false, Bytes::from_owner(json)),
        Err(refusal) => (refusal.status(), refusal.closes(), Bytes::from(refusal.to_json())),
    };
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(JSON));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, no-store"));
    if let Ok(id) = HeaderValue::from_str(request_id) {
        headers.insert(REQUEST_ID, id);
    }
    if closes {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

fn refused(kind: ErrorKind, message: &str) -> Refusal {
    Refusal::from(KmsError::new(kind, message))
}
