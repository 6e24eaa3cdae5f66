//! What the `enclave` command does with enclaves: start them, find them, talk to them, end them.
//!
//! There is no daemon. An enclave's supervisor is reached through its folder under the [`RunRoot`]; what a killed
//! supervisor left there is cleaned by the next command ([`clean_stale`]).

mod clean;
mod connect;
mod conversation;
mod error;
mod find;
mod launch;
mod metadata;

pub use clean::{Cleaned, EXITED_KEPT_FOR, clean_stale};
pub use connect::connect;
pub use conversation::{console, logs, start, terminate, wait};
pub use error::{ClientError, LaunchError};
pub use find::{find, list};
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use launch::follow;
pub use launch::{Supervisor, supervisor_program};
pub use metadata::{MAX_KEPT_METADATA, keep_metadata, metadata};

pub use crate::console_log::LogReader;
pub use crate::run_dir::RunRoot;
