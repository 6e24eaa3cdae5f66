//! Policies as their authors see them: what is refused, what is decided, what is explained, what lint finds.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod conditions;
mod decisions;
mod explanations;
mod limits;
mod lint;
mod refusals;
mod support;
