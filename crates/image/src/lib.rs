//! Container image, archive or root folder to enclave image, reproducibly.
//!
//! The same kernel, init, content and options give the same image byte for byte, wherever and whenever it is built:
//! see [`cpio`] for how archives are made the same, and [`builder::BuildPlan::build_time`] for the one date in an image.
//! No container tool, no daemon, no root needed; nothing is loaded into memory whole.

// Beside the lints of the workspace; tests may.
#![cfg_attr(not(test), warn(clippy::string_slice))]

pub mod archive;
pub mod attributes;
pub mod bootstrap;
pub mod builder;
pub mod compare;
pub mod compress;
pub mod container;
pub mod cpio;
pub mod digest;
pub mod error;
pub mod extent;
pub mod folder;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
pub mod kernel;
pub mod layer;
pub mod limits;
mod output;
pub mod ramdisk;
pub mod root;
pub mod tree;
