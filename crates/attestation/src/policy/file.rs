//! The policy as operators write it.
