//! NSM requests and responses as CBOR, in both directions.
//!
//! Encodings are those of AWS's `aws-nitro-enclaves-nsm-api` crate, byte for byte: a request or response
//! without fields is its name, one with fields is a map from its name to a map of them. Reading is lenient:
//! order of fields, width of integers, fields nobody knows, absent optional fields.

mod fields;
mod request;
mod response;

pub use request::{DecodeRequestError, Request};
pub use response::{DecodeResponseError, Description, ErrorCode, Response};

/// Longest request, in bytes. The kernel's driver refuses longer ones.
pub const MAX_REQUEST_LEN: usize = 0x1000;
/// Longest response, in bytes. The kernel's driver offers a buffer of this size.
pub const MAX_RESPONSE_LEN: usize = 0x3000;
