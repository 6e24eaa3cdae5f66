//! What depends on the processor architecture: boot protocol, firmware tables, CPUID, interrupts.
//!
//! The rest of the hypervisor uses the names re-exported here and never names an architecture.

#[cfg(target_arch = "x86_64")]
pub mod x86_64;

#[cfg(target_arch = "x86_64")]
pub use x86_64::{boot, layout, platform, ports, processor};
