//! What runs inside an enclave beside init: the security module's client and small helpers.
