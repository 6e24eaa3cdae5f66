//! What a guest asks of its security module.

use attestation::cbor::Writer;
use thiserror::Error;

use super::MAX_REQUEST_LEN;
use super::fields::{Fields, Message};
use super::response::ErrorCode;

/// A request. Indices are as the guest wrote them: registers that do not exist are refused later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Read one PCR and its lock.
    DescribePcr {
        /// Which register.
        index: u16,
    },
    /// Extend one PCR.
    ExtendPcr {
        /// Which register.
        index: u16,
        /// What to extend it with; any length.
        data: Vec<u8>,
    },
    /// Lock one PCR.
    LockPcr {
        /// Which register.
        index: u16,
    },
    /// Lock every PCR below a number.
    LockPcrs {
        /// The first register that is left alone.
        range: u16,
    },
    /// Ask for the module's version, name and locks.
    DescribeNsm,
    /// Ask for an attestation document.
    Attestation {
        /// To be echoed in the document.
        user_data: Option<Vec<u8>>,
        /// To be echoed in the document.
        nonce: Option<Vec<u8>>,
        /// To be echoed in the document.
        public_key: Option<Vec<u8>>,
    },
    /// Ask for random bytes.
    GetRandom,
}

/// Why bytes are not a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum DecodeRequestError {
    /// Longer than a request may be.
    #[error("the request is longer than {MAX_REQUEST_LEN} bytes")]
    TooLong,
    /// Not CBOR, of the wrong form, with a field missing or of the wrong type, or of an unknown name.
    #[error("the request is not one that is known")]
    Unknown,
    /// The number of a register is larger than any could be.
    #[error("there is no PCR with so large a number")]
    Index,
}

impl DecodeRequestError {
    /// What the guest is answered.
    #[must_use]
    pub fn error_code(self) -> ErrorCode {
        match self {
            Self::TooLong => ErrorCode::InputTooLarge,
            Self::Unknown => ErrorCode::InvalidOperation,
            Self::Index => ErrorCode::InvalidIndex,
        }
    }
}

impl Request {
    /// The request as bytes. It may come out longer than [`MAX_REQUEST_LEN`]: then no module accepts it.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        match self {
            Self::DescribePcr { index } => {
                writer.map(1).text("DescribePCR").map(1).text("index").unsigned(u64::from(*index));
            }
            Self::ExtendPcr { index, data } => {
                writer.map(1).text("ExtendPCR").map(2);
                writer.text("index").unsigned(u64::from(*index)).text("data").bytes(data);
            }
            Self::LockPcr { index } => {
                writer.map(1).text("LockPCR").map(1).text("index").unsigned(u64::from(*index));
            }
            Self::LockPcrs { range } => {
                writer.map(1).text("LockPCRs").map(1).text("range").unsigned(u64::from(*range));
            }
            Self::DescribeNsm => _ = writer.text("DescribeNSM"),
            Self::Attestation { user_data, nonce, public_key } => {
                writer.map(1).text("Attestation").map(3);
                writer.text("user_data").optional_bytes(user_data.as_deref());
                writer.text("nonce").optional_bytes(nonce.as_deref());
                writer.text("public_key").optional_bytes(public_key.as_deref());
            }
            Self::GetRandom => _ = writer.text("GetRandom"),
        }
        writer.finish()
    }

    /// Reads a request that somebody else wrote.
    ///
    /// # Errors
    /// [`DecodeRequestError`], which knows the answer to give.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeRequestError> {
        if bytes.len() > MAX_REQUEST_LEN {
            return Err(DecodeRequestError::TooLong);
        }
        match Message::read(bytes) {
            Some(Message::Unit(name)) => match name.as_str() {
                "DescribeNSM" => Ok(Self::DescribeNsm),
                "GetRandom" => Ok(Self::GetRandom),
                _ => Err(DecodeRequestError::Unknown),
            },
            Some(Message::Fields(name, fields)) => Self::from_fields(&name, fields),
            Some(Message::Text(..)) | None => Err(DecodeRequestError::Unknown),
        }
    }

    fn from_fields(name: &str, mut fields: Fields) -> Result<Self, DecodeRequestError> {
        let unknown = DecodeRequestError::Unknown;
        match name {
            "DescribePCR" => Ok(Self::DescribePcr { index: number(&mut fields, "index")? }),
            "ExtendPCR" => {
                // A missing field is the graver error, so it is looked for first.
                let data = fields.bytes("data").ok_or(unknown)?;
                Ok(Self::ExtendPcr { index: number(&mut fields, "index")?, data })
            }
            "LockPCR" => Ok(Self::LockPcr { index: number(&mut fields, "index")? }),
            "LockPCRs" => Ok(Self::LockPcrs { range: number(&mut fields, "range")? }),
            "Attestation" => Ok(Self::Attestation {
                user_data: fields.optional_bytes("user_data").ok_or(unknown)?,
                nonce: fields.optional_bytes("nonce").ok_or(unknown)?,
                public_key: fields.optional_bytes("public_key").ok_or(unknown)?,
            }),
            _ => Err(unknown),
        }
    }
}

fn number(fields: &mut Fields, name: &str) -> Result<u16, DecodeRequestError> {
    let number = fields.unsigned(name).ok_or(DecodeRequestError::Unknown)?;
    u16::try_from(number).map_err(|_| DecodeRequestError::Index)
}
