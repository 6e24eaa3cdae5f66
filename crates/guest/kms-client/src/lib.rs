//! What an enclave needs to have a key service open its secrets: AWS's KMS or this project's, through the host, which sees neither.
//!
//! The service encrypts what it answers for a key whose public half is in an attestation document (`Recipient`, [AWS's description]).
//! That key is made here and never leaves ([`recipient`]). Between here and the service is TLS, through a vsock port of the host
//! ([`route`], [`endpoint`]): the host forwards bytes that it cannot read.
//!
//! * [`Client`]: the library. One call for each operation that carries a recipient.
//! * [`proxy`]: the same for programs that know nothing of it: a local endpoint for any AWS SDK. Program `enclave-kms-proxy`.
//! * [`credentials`]: what requests are signed with.
//! * [`application`]: a program that is started with that endpoint.
//! * [`console`]: what that helper says.
//! * Program `kmstool-enclave-cli`: AWS's command, with its options and its output.
//!
//! [AWS's description]: https://docs.aws.amazon.com/kms/latest/developerguide/services-nitro-enclaves.html

pub mod application;
pub mod attester;
pub mod client;
pub mod console;
pub mod credentials;
pub mod endpoint;
pub mod operation;
pub mod proxy;
pub mod recipient;
pub mod route;

pub use self::client::{Client, ClientError};
