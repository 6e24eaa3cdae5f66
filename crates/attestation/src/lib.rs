//! PCR arithmetic, attestation documents, certificates, and their verification.
//!
//! Pure computation: no I/O, no clock, no unsafe code. Callers pass time and randomness in.
//!
//! - [`pcr`]: register values, the extend operation, what an image measures to.
//! - [`identity`]: the names of a host and of one enclave, from which PCR 3, PCR 4 and `module_id` follow.
//! - [`document`] and [`cose`]: the attestation document and the signed envelope it travels in.
//! - [`certificate`] and [`path`]: strict reading of certificates and the checks between them.
//! - [`pki`]: the root of trust of your own: root, host, enclave CA and leaf certificates.
//! - [`roots`] and [`policy`]: whom a relying party trusts, and what it expects.
//! - [`verify`]: the whole verification of a document, step by step.
//! - [`report`]: the account of a verification, made also when it fails.
//!
//! A relying party pins a root, says what it expects, and reads what was proven. The document is one of AWS's of 2025:
//!
//! ```
//! use std::time::{Duration, SystemTime};
//!
//! use attestation::certificate::Certificate;
//! use attestation::policy::PcrSet;
//! use attestation::pcr::PcrIndex;
//! use attestation::verify::{Policy, verify};
//!
//! let document = include_bytes!("../../../fuzz/corpus/document/aws-production");
//! let root = Certificate::from_der(include_bytes!("../../../fuzz/corpus/document/aws-root"))?;
//! // Here SystemTime::now() in a real program.
//! let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_736_179_625);
//!
//! let pcr0 = "8bb159f202bb95d6d4d98e0e103918246cea734f1d57cd263e4fd56075ed53f6fa8c68854817a32749a241e11874c26b".parse()?;
//! let release = [(PcrIndex::new(0).ok_or("no such register")?, pcr0)];
//! let release = PcrSet::new("v1.4", release.into()).ok_or("a set without registers would match everything")?;
//! let policy = Policy { accept: vec![release], ..Policy::default() };
//!
//! let verified = verify(document, &root, time, &policy)?;
//! assert_eq!(verified.matched.as_deref(), Some("v1.4"));
//! assert!(verified.document.public_key.is_some());
//!
//! // Asked with a nonce, the same document is refused: it was made for nobody's.
//! let asked = Policy { nonce: Some(b"mine".to_vec()), ..policy };
//! assert!(verify(document, &root, time, &asked).is_err());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

// Beside the lints of the workspace; tests may.
#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects, clippy::string_slice))]

pub mod cbor;
pub mod certificate;
pub mod cose;
pub mod document;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
pub mod identity;
pub mod key;
pub mod path;
pub mod pcr;
pub mod pki;
pub mod policy;
pub mod report;
pub mod roots;
pub mod verify;
