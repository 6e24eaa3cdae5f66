//! The library: requests with a recipient, signed, and their answers opened.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use base64ct::{Base64, Encoding};
use hyper::body::Bytes;
use kms_protocol::cms::CmsError;
use kms_protocol::sigv4::{self, SignError};
use serde_json::{Map, Value};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::credentials::{CredentialsError, Source};
use crate::endpoint::{CONTENT_TYPE_JSON, Endpoint, ExchangeError, Raw};
use crate::operation::{SecretOperation, TARGET_PREFIX};
use crate::recipient::{Recipient, RecipientError};

/// The service's name in signatures.
pub const SERVICE: &str = "kms";

/// Request parameter with the document and the way of encrypting.
const RECIPIENT: &str = "Recipient";

/// Member of an answer with the envelope.
const ENVELOPE: &str = "CiphertextForRecipient";

/// Status of an answer that is no error.
const OK: u16 = 200;

/// Why there is no secret.
#[derive(Debug, Error)]
pub enum ClientError {
    /// No document or key.
    #[error(transparent)]
    Recipient(#[from] RecipientError),
    /// Nothing to sign with.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// The request cannot be signed.
    #[error("cannot sign the request: {0}")]
    Sign(#[from] SignError),
    /// No answer.
    #[error(transparent)]
    Exchange(#[from] ExchangeError),
    /// The service refused.
    #[error("the key service refused: {kind}: {message}")]
    Refused {
        /// AWS's name of the error, such as `AccessDeniedException`.
        kind: String,
        /// What the service says.
        message: String,
    },
    /// The answer is not as the API reference has it.
    #[error("the key service's answer {0}")]
    Answer(&'static str),
    /// The service ignored the recipient: what it sends could be read by whoever ends its TLS, and tells that nothing was checked.
    #[error(
        "the key service answered {0} in the clear although it was asked to encrypt it for this enclave; refused"
    )]
    InTheClear(&'static str),
    /// The envelope is not for this enclave.
    #[error("cannot open what the key service encrypted for this enclave: {0}")]
    Envelope(#[from] CmsError),
}

/// A key service's client. Threads may share it.
#[derive(Debug)]
pub struct Client {
    endpoint: Endpoint,
    recipient: Arc<Recipient>,
    credentials: Source,
}

/// An answer with a secret.
#[derive(Debug)]
pub struct Opened {
    /// Everything but the secret.
    pub members: Map<String, Value>,
    /// The secret.
    pub secret: Zeroizing<Vec<u8>>,
    /// The service's id of the request.
    pub request_id: Option<String>,
}

/// What a call with a recipient brought.
#[derive(Debug)]
pub enum Answer {
    /// The secret.
    Opened(Opened),
    /// An error of the service, as it is.
    Refused(Raw),
}

/// A data key.
#[derive(Debug)]
pub struct DataKey {
    /// The key.
    pub plaintext: Zeroizing<Vec<u8>>,
    /// The same under the key service's key, to be kept.
    pub ciphertext: Vec<u8>,
}

/// A data key pair.
#[derive(Debug)]
pub struct DataKeyPair {
    /// The private key, PKCS#8 in DER.
    pub private_key: Zeroizing<Vec<u8>>,
    /// The same under the key service's key, to be kept.
    pub ciphertext: Vec<u8>,
    /// The public key, SubjectPublicKeyInfo in DER.
    pub public_key: Vec<u8>,
}

/// Key and values of an encryption context.
pub type EncryptionContext = BTreeMap<String, String>;

impl Client {
    /// A client of this endpoint.
    #[must_use]
    pub const fn new(endpoint: Endpoint, recipient: Arc<Recipient>, credentials: Source) -> Self {
        Self { endpoint, recipient, credentials }
    }

    /// What requests are signed with.
    #[must_use]
    pub const fn credentials(&self) -> &Source {
        &self.credentials
    }

    /// `Decrypt`. `key` may be left out for symmetric keys; naming it keeps whoever brings the ciphertext from choosing another.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn decrypt(
        &self,
        region: &str,
        key: Option<&str>,
        ciphertext: &[u8],
        context: &EncryptionContext,
    ) -> Result<Zeroizing<Vec<u8>>, ClientError> {
        let mut request = Map::new();
        request.insert("CiphertextBlob".to_owned(), Base64::encode_string(ciphertext).into());
        add_key_and_context(&mut request, key, context);
        Ok(self.secret(region, SecretOperation::Decrypt, request).await?.secret)
    }

    /// `GenerateDataKey`; `spec` is `AES_256` or `AES_128`.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn generate_data_key(
        &self,
        region: &str,
        key: &str,
        spec: &str,
        context: &EncryptionContext,
    ) -> Result<DataKey, ClientError> {
        let mut request = Map::new();
        request.insert("KeySpec".to_owned(), spec.into());
        add_key_and_context(&mut request, Some(key), context);
        let opened = self.secret(region, SecretOperation::GenerateDataKey, request).await?;
        Ok(DataKey { ciphertext: blob(&opened.members, "CiphertextBlob")?, plaintext: opened.secret })
    }

    /// `GenerateDataKeyPair`; `spec` such as `ECC_NIST_P256` or `RSA_2048`.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn generate_data_key_pair(
        &self,
        region: &str,
        key: &str,
        spec: &str,
        context: &EncryptionContext,
    ) -> Result<DataKeyPair, ClientError> {
        let mut request = Map::new();
        request.insert("KeyPairSpec".to_owned(), spec.into());
        add_key_and_context(&mut request, Some(key), context);
        let opened = self.secret(region, SecretOperation::GenerateDataKeyPair, request).await?;
        Ok(DataKeyPair {
            ciphertext: blob(&opened.members, "PrivateKeyCiphertextBlob")?,
            public_key: blob(&opened.members, "PublicKey")?,
            private_key: opened.secret,
        })
    }

    /// `GenerateRandom`, 1 to 1024 bytes.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn generate_random(
        &self,
        region: &str,
        length: u32,
    ) -> Result<Zeroizing<Vec<u8>>, ClientError> {
        let mut request = Map::new();
        request.insert("NumberOfBytes".to_owned(), length.into());
        Ok(self.secret(region, SecretOperation::GenerateRandom, request).await?.secret)
    }

    /// `DeriveSharedSecret` by ECDH with somebody's public key, SubjectPublicKeyInfo in DER.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn derive_shared_secret(
        &self,
        region: &str,
        key: &str,
        public_key: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, ClientError> {
        let mut request = Map::new();
        request.insert("KeyAgreementAlgorithm".to_owned(), "ECDH".into());
        request.insert("PublicKey".to_owned(), Base64::encode_string(public_key).into());
        add_key_and_context(&mut request, Some(key), &EncryptionContext::new());
        Ok(self.secret(region, SecretOperation::DeriveSharedSecret, request).await?.secret)
    }

    /// Any of the five operations: the recipient is added to the request, the answer opened. Whatever brings no secret is an error.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn secret(
        &self,
        region: &str,
        operation: SecretOperation,
        request: Map<String, Value>,
    ) -> Result<Opened, ClientError> {
        match self.call(region, operation, request).await? {
            Answer::Opened(opened) => Ok(opened),
            Answer::Refused(raw) => Err(refusal(&raw)),
        }
    }

    /// As [`Self::secret`], for who passes on what the service answers: its refusal is an answer too.
    ///
    /// # Errors
    /// Any [`ClientError`] but [`ClientError::Refused`].
    pub async fn call(
        &self,
        region: &str,
        operation: SecretOperation,
        mut request: Map<String, Value>,
    ) -> Result<Answer, ClientError> {
        let recipient = Arc::clone(&self.recipient);
        let parameter = blocking(move || recipient.parameter()).await??;
        request.insert(RECIPIENT.to_owned(), parameter);
        let body = serde_json::to_vec(&request).map_err(|_| ClientError::Answer("was never asked for"))?;
        let raw = self.forward(region, operation.name(), Bytes::from(body)).await?;
        if raw.status != OK {
            return Ok(Answer::Refused(raw));
        }
        let mut members = object(&raw.body)?;
        let secret_member = operation.secret_member();
        if members.remove(secret_member).is_some_and(|value| !value.is_null()) {
            return Err(ClientError::InTheClear(secret_member));
        }
        let envelope = blob(&members, ENVELOPE)?;
        members.remove(ENVELOPE);
        let recipient = Arc::clone(&self.recipient);
        let secret = blocking(move || recipient.open(&envelope)).await??;
        Ok(Answer::Opened(Opened { members, secret, request_id: raw.request_id }))
    }

    /// Any operation: the body as it is, signed.
    ///
    /// # Errors
    /// [`ClientError::Credentials`], [`ClientError::Sign`], [`ClientError::Exchange`].
    pub async fn forward(&self, region: &str, operation: &str, body: Bytes) -> Result<Raw, ClientError> {
        let target = format!("{TARGET_PREFIX}{operation}");
        let issued = self.credentials.current().await?;
        let headers = [
            ("host", self.endpoint.host()),
            ("content-type", CONTENT_TYPE_JSON),
            ("x-amz-target", target.as_str()),
        ];
        let request = sigv4::Request { method: "POST", path: "/", query: "", headers: &headers, body: &body };
        let scope = sigv4::Scope { region: region.to_owned(), service: SERVICE.to_owned() };
        let mut signed = sigv4::sign(&request, &issued.keys, &scope, SystemTime::now())?;
        // The exchange says whose host it is.
        let others = headers.iter().filter(|(name, _)| *name != "host");
        signed.extend(others.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        Ok(self.endpoint.post(&signed, body).await?)
    }
}

/// Runs what takes the processor for milliseconds where it holds up no connection.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, ClientError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| ClientError::Answer("could not be worked on: the process is ending"))
}

fn add_key_and_context(request: &mut Map<String, Value>, key: Option<&str>, context: &EncryptionContext) {
    if let Some(key) = key {
        request.insert("KeyId".to_owned(), key.into());
    }
    if !context.is_empty() {
        let context = context.iter().map(|(name, value)| (name.clone(), Value::from(value.as_str())));
        request.insert("EncryptionContext".to_owned(), Value::Object(context.collect()));
    }
}

fn object(body: &[u8]) -> Result<Map<String, Value>, ClientError> {
    serde_json::from_slice(body).map_err(|_| ClientError::Answer("is no JSON object"))
}

fn blob(members: &Map<String, Value>, name: &'static str) -> Result<Vec<u8>, ClientError> {
    let text = members.get(name).and_then(Value::as_str);
    let text = text.ok_or(ClientError::Answer(match name {
        ENVELOPE => "has no CiphertextForRecipient: it knows nothing of attestation",
        _ => "lacks a member that the operation always has",
    }))?;
    Base64::decode_vec(text).map_err(|_| ClientError::Answer("has a member that is not base64"))
}

/// An error of the service, in AWS's form.
fn refusal(raw: &Raw) -> ClientError {
    let members = object(&raw.body).unwrap_or_default();
    let text = |names: [&str; 2]| {
        names.iter().find_map(|name| members.get(*name)?.as_str()).unwrap_or_default().to_owned()
    };
    let kind = text(["__type", "code"]);
    // Some services put a namespace before it.
    let kind = kind.rsplit('#').next().unwrap_or_default().to_owned();
    let kind = if kind.is_empty() { format!("HTTP status {}", raw.status) } else { kind };
    ClientError::Refused { kind, message: text(["message", "Message"]) }
}
