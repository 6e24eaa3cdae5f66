//! Container image, archive or root folder to enclave image, reproducibly.
//!
//! The same kernel, init, content and options give the same image byte for byte, wherever and whenever it is built:
//! see [`cpio`] for how archives are made the same, and [`builder::BuildPlan::build_time`] for the one date in an image.
//! No container tool, no daemon, no root needed; nothing is loaded into memory whole.
//!
//! The other way round: [`contents`] looks into an image, [`newc`] into its ramdisks; [`diff`] says why two images have
//! different PCRs, [`extract`] takes one apart, [`signing`] signs the file.

// Beside the lints of the workspace; tests may.
#![cfg_attr(not(test), warn(clippy::string_slice))]

pub mod archive;
pub mod attributes;
pub mod bootstrap;
pub mod builder;
pub mod compare;
pub mod compress;
pub mod container;
pub mod contents;
pub mod cpio;
pub mod diff;
pub mod digest;
pub mod dockerfile;
pub mod error;
pub mod extent;
pub mod extract;
pub mod file_error;
pub mod folder;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
pub mod kernel;
pub mod layer;
pub mod limits;
pub mod newc;
mod output;
pub mod ramdisk;
#[cfg(feature = "registry")]
pub mod registry;
pub mod root;
pub mod scratch;
pub mod signing;
pub mod tree;
