//! What a security module answers.

use core::fmt;

use attestation::cbor::Writer;
use attestation::pcr::{PCR_LEN, Pcr};
use serde::Serialize;
use thiserror::Error;

use super::MAX_RESPONSE_LEN;
use super::fields::{Fields, Message};

/// A response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Response {
    /// One PCR.
    DescribePcr {
        /// True if it is locked.
        lock: bool,
        /// Its value.
        data: Pcr,
    },
    /// A PCR was extended.
    ExtendPcr {
        /// Its new value.
        data: Pcr,
    },
    /// A PCR was locked.
    LockPcr,
    /// PCRs were locked.
    LockPcrs,
    /// What the module is.
    DescribeNsm(Description),
    /// An attestation document.
    Attestation {
        /// The signed document: untagged COSE_Sign1.
        document: Vec<u8>,
    },
    /// Random bytes.
    GetRandom {
        /// 256 bytes from our module, 1 to 256 from others.
        random: Vec<u8>,
    },
    /// The request was refused.
    Error(ErrorCode),
}

/// What a security module is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Description {
    /// Major version of the interface.
    pub version_major: u16,
    /// Minor version of the interface.
    pub version_minor: u16,
    /// Patch level of the interface.
    pub version_patch: u16,
    /// The enclave's id, as in documents.
    pub module_id: String,
    /// How many PCRs there are.
    pub max_pcrs: u16,
    /// Which of them are locked, ascending.
    pub locked_pcrs: Vec<u16>,
    /// The digest algorithm of PCRs.
    pub digest: String,
}

/// Why a module refused a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum ErrorCode {
    /// No error. Modules do not send it; AWS's interface has it.
    Success,
    /// An argument is wrong.
    InvalidArgument,
    /// There is no such PCR.
    InvalidIndex,
    /// The response is not the one that belongs to the request.
    InvalidResponse,
    /// The PCR is locked.
    ReadOnlyIndex,
    /// The request is not one that can be served, or not now.
    InvalidOperation,
    /// The buffer for the response is too small.
    BufferTooSmall,
    /// The request, or what the document would have to hold, is too large.
    InputTooLarge,
    /// The module failed.
    InternalError,
}

/// Every error code with its name on the wire.
const ERROR_NAMES: [(ErrorCode, &str); 9] = [
    (ErrorCode::Success, "Success"),
    (ErrorCode::InvalidArgument, "InvalidArgument"),
    (ErrorCode::InvalidIndex, "InvalidIndex"),
    (ErrorCode::InvalidResponse, "InvalidResponse"),
    (ErrorCode::ReadOnlyIndex, "ReadOnlyIndex"),
    (ErrorCode::InvalidOperation, "InvalidOperation"),
    (ErrorCode::BufferTooSmall, "BufferTooSmall"),
    (ErrorCode::InputTooLarge, "InputTooLarge"),
    (ErrorCode::InternalError, "InternalError"),
];

/// Bytes that are not a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum DecodeResponseError {
    /// Longer than a response may be.
    #[error("the response is longer than {MAX_RESPONSE_LEN} bytes")]
    TooLong,
    /// Not CBOR, of the wrong form, with a field missing or of the wrong type, or of an unknown name.
    #[error("the response is not one that is known")]
    Unknown,
}

impl ErrorCode {
    /// The name on the wire.
    #[must_use]
    pub fn name(self) -> &'static str {
        ERROR_NAMES.iter().find(|(code, _)| *code == self).map_or("InternalError", |(_, name)| name)
    }

    fn from_name(name: &str) -> Option<Self> {
        ERROR_NAMES.iter().find(|(_, known)| *known == name).map(|(code, _)| *code)
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Response {
    /// The response as bytes, in definite lengths.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        match self {
            Self::DescribePcr { lock, data } => {
                writer.map(1).text("DescribePCR").map(2);
                writer.text("lock").boolean(*lock).text("data").bytes(data.as_bytes());
            }
            Self::ExtendPcr { data } => {
                writer.map(1).text("ExtendPCR").map(1).text("data").bytes(data.as_bytes());
            }
            Self::LockPcr => _ = writer.text("LockPCR"),
            Self::LockPcrs => _ = writer.text("LockPCRs"),
            Self::DescribeNsm(description) => {
                writer.map(1).text("DescribeNSM");
                description.encode(&mut writer);
            }
            Self::Attestation { document } => {
                writer.map(1).text("Attestation").map(1).text("document").bytes(document);
            }
            Self::GetRandom { random } => {
                writer.map(1).text("GetRandom").map(1).text("random").bytes(random);
            }
            Self::Error(code) => _ = writer.map(1).text("Error").text(code.name()),
        }
        writer.finish()
    }

    /// Reads a response that a module wrote.
    ///
    /// # Errors
    /// [`DecodeResponseError`] if it is none. An error sent by the module is a response: [`Response::Error`].
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeResponseError> {
        if bytes.len() > MAX_RESPONSE_LEN {
            return Err(DecodeResponseError::TooLong);
        }
        let response = match Message::read(bytes) {
            Some(Message::Unit(name)) => match name.as_str() {
                "LockPCR" => Some(Self::LockPcr),
                "LockPCRs" => Some(Self::LockPcrs),
                _ => None,
            },
            Some(Message::Fields(name, fields)) => Self::from_fields(&name, fields),
            Some(Message::Text(name, code)) if name == "Error" => {
                ErrorCode::from_name(&code).map(Self::Error)
            }
            Some(Message::Text(..)) | None => None,
        };
        response.ok_or(DecodeResponseError::Unknown)
    }

    fn from_fields(name: &str, mut fields: Fields) -> Option<Self> {
        match name {
            "DescribePCR" => {
                Some(Self::DescribePcr { lock: fields.boolean("lock")?, data: pcr(&mut fields)? })
            }
            "ExtendPCR" => Some(Self::ExtendPcr { data: pcr(&mut fields)? }),
            "DescribeNSM" => Description::from_fields(fields).map(Self::DescribeNsm),
            "Attestation" => Some(Self::Attestation { document: fields.bytes("document")? }),
            "GetRandom" => Some(Self::GetRandom { random: fields.bytes("random")? }),
            _ => None,
        }
    }
}

impl Description {
    fn encode(&self, writer: &mut Writer) {
        writer.map(7);
        writer.text("version_major").unsigned(u64::from(self.version_major));
        writer.text("version_minor").unsigned(u64::from(self.version_minor));
        writer.text("version_patch").unsigned(u64::from(self.version_patch));
        writer.text("module_id").text(&self.module_id);
        writer.text("max_pcrs").unsigned(u64::from(self.max_pcrs));
        writer.text("locked_pcrs").array(self.locked_pcrs.len());
        for index in &self.locked_pcrs {
            writer.unsigned(u64::from(*index));
        }
        writer.text("digest").text(&self.digest);
    }

    fn from_fields(mut fields: Fields) -> Option<Self> {
        let locked = fields.array("locked_pcrs")?;
        let locked = locked.into_iter().map(|index| u16::try_from(index.as_integer()?).ok());
        Some(Self {
            version_major: u16::try_from(fields.unsigned("version_major")?).ok()?,
            version_minor: u16::try_from(fields.unsigned("version_minor")?).ok()?,
            version_patch: u16::try_from(fields.unsigned("version_patch")?).ok()?,
            module_id: fields.text("module_id")?,
            max_pcrs: u16::try_from(fields.unsigned("max_pcrs")?).ok()?,
            locked_pcrs: locked.collect::<Option<_>>()?,
            digest: fields.text("digest")?,
        })
    }
}

fn pcr(fields: &mut Fields) -> Option<Pcr> {
    <[u8; PCR_LEN]>::try_from(fields.bytes("data")?).ok().map(Pcr::from_bytes)
}
