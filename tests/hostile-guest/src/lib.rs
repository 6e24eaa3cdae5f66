//! What hostile guests of the tests do to their devices, as a sequence of accesses that follows from a seed.
//!
//! One sequence, two guests that carry it out: a bare one of a few instructions (`hypervisor/tests/bare_guests/hostile.rs`), on
//! whatever /dev/kvm there is, and a program in a Linux guest (`main.rs` here), through /dev/mem, beside the kernel's own drivers or
//! instead of them. Neither is part of any image but those of the tests.

pub mod action;
pub mod driver;
pub mod place;
pub mod random;

mod message;

pub use action::{Action, Width};
pub use driver::Driver;
pub use place::{AREA, Place};
