//! What runs inside an enclave beside init: the security module's client and small helpers.
//!
//! * [`nsm`]: requests to the security module through the kernel's /dev/nsm.
//! * [`vsock`]: the only network that an enclave has.
//!
//! Both speak to the kernel's interfaces, so they work on AWS and on this project's hypervisor alike.

pub mod nsm;
pub mod vsock;
