//! What an SDK gets: the service's answer, opened, or an error in AWS's form.

use base64ct::{Base64, Encoding};
use http_body_util::Full;
use hyper::Response;
use hyper::body::Bytes;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::json;
use zeroize::Zeroizing;

use crate::client::{ClientError, Opened};
use crate::console::{self, NAME};
use crate::endpoint::{CONTENT_TYPE_JSON, REQUEST_ID, Raw};
use crate::operation::SecretOperation;

/// An answer.
pub(super) type Reply = Response<Full<Bytes>>;

/// An error of the helper's own.
#[derive(Debug)]
pub(super) struct Fault {
    status: u16,
    kind: &'static str,
    message: String,
}

impl Fault {
    /// An error by AWS's name.
    pub(super) fn new(status: u16, kind: &'static str, message: impl Into<String>) -> Self {
        Self { status, kind, message: message.into() }
    }
}

/// What may pass has a status at which SDKs try again.
impl From<ClientError> for Fault {
    fn from(error: ClientError) -> Self {
        let status = match error {
            ClientError::Exchange(_) | ClientError::Credentials(_) => 503,
            _ => 502,
        };
        // Also where nobody looks at the answer.
        console::tell(&error);
        Self::new(status, "KMSInternalException", format!("{NAME}: {error}"))
    }
}

/// In AWS's form.
impl From<Fault> for Reply {
    fn from(fault: Fault) -> Self {
        let body = json!({ "__type": fault.kind, "message": fault.message }).to_string();
        reply(fault.status, CONTENT_TYPE_JSON, None, Zeroizing::new(body.into_bytes()))
    }
}

/// The members of an answer with the secret among them, where it is when there is no recipient.
struct WithSecret<'a> {
    opened: &'a Opened,
    member: &'static str,
    secret: &'a str,
}

impl Serialize for WithSecret<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (name, value) in &self.opened.members {
            map.serialize_entry(name, value)?;
        }
        map.serialize_entry(self.member, self.secret)?;
        map.end()
    }
}

/// A normal answer with a secret.
pub(super) fn opened(operation: SecretOperation, opened: &Opened) -> Reply {
    let secret = Zeroizing::new(Base64::encode_string(&opened.secret));
    let members = WithSecret { opened, member: operation.secret_member(), secret: &secret };
    let others: usize = serde_json::to_string(&opened.members).map_or(0, |text| text.len());
    // Room for all of it at once: a vector that grows leaves copies behind.
    let room = others.saturating_add(secret.len()).saturating_add(64);
    let mut body = Zeroizing::new(Vec::with_capacity(room));
    if serde_json::to_writer(&mut *body, &members).is_err() {
        return Fault::new(500, "KMSInternalException", format!("{NAME}: the answer cannot be written"))
            .into();
    }
    reply(200, CONTENT_TYPE_JSON, opened.request_id.as_deref(), body)
}

/// The service's answer as it is.
pub(super) fn passed(raw: Raw) -> Reply {
    reply(raw.status, CONTENT_TYPE_JSON, raw.request_id.as_deref(), raw.body)
}

/// The credentials, which nobody shall keep.
pub(super) fn credentials(body: Zeroizing<Vec<u8>>) -> Reply {
    let mut answer = reply(200, "application/json", None, body);
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

fn reply(
    status: u16,
    content_type: &'static str,
    request_id: Option<&str>,
    body: Zeroizing<Vec<u8>>,
) -> Reply {
    // The body's memory is overwritten once it has been sent.
    let mut answer = Response::new(Full::new(Bytes::from_owner(body)));
    // The client's side has refused what is no status.
    *answer.status_mut() = hyper::StatusCode::from_u16(status).unwrap_or(hyper::StatusCode::BAD_GATEWAY);
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    if let Some(id) = request_id.and_then(|id| HeaderValue::from_str(id).ok()) {
        headers.insert(REQUEST_ID, id);
    }
    answer
}
