//! The first process in an enclave; what it does is in `enclave_init::boot`.
//!
//! The C entry point replaces Rust's: the standard library's start-up aborts when the standard streams are
//! closed and /dev/null does not exist, which is how a kernel without an initial console starts process 1.
#![no_main]
#![expect(unsafe_code, reason = "the C runtime finds the entry point by its unmangled name")]

/// Entry point, called by the C runtime.
// SAFETY: no other symbol of this name is linked, and the signature is what the C runtime calls (it ignores
// that the arguments are not declared).
#[unsafe(no_mangle)]
pub extern "C" fn main() -> core::ffi::c_int {
    enclave_init::boot::run()
}
