//! Container images for tests: layouts made by umoci, buildah and skopeo, and Debian's docker-registry that serves them.
//! The tools are Debian packages that `tools/setup` installs. Never part of a shipped program.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    clippy::panic,
    clippy::unwrap_used,
    reason = "test code: a failed assumption is a failed test"
)]

pub mod layout;
pub mod registry;
pub mod tool;

pub use layout::Layout;
pub use registry::Registry;
