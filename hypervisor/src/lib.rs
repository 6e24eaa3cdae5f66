//! The enclave's three processes: supervisor, virtual machine, security module.
